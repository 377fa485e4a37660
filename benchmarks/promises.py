"""Do certificates keep their word? Draw samples from a population, certify, compare with the truth.

The stored outputs of a world are the population. Each draw takes n samples with replacement,
certifies on them, and looks the chosen committee up on the whole population. Beside it stand what
a user would do instead, on every fifth draw: the cheapest member of the front that matches on the
draw (naive), or matches by two paired standard errors; tests of every member of a third's front on
the other samples (Bonferroni); and MAPIE's fixed sequence over them (``pip install mapie``).

    python benchmarks/promises.py --draws 200 --world imagenet        # rows are appended to --out
    python benchmarks/promises.py --table                             # writes docs/promises.md
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

import committee as cm
import worlds
from committee.certificates.candidates import rules_to_try
from committee.certificates.exact_tests import paired_p_value
from committee.certificates.procedure import divided, tested_paths
from committee.certificates.promised import Promised
from committee.pool.metrics import TOP_1
from committee.selection.evaluate_many import values_on
from result_rows import append, read, write_tables

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "promises.md"
OURS = "committee"
# The same where the whole population chooses what three quarters of a draw then test.
KNOWN = "choice known"
# World, reference and unit of cost.
REFERENCES = [
    ("imagenet", "efficientnet_b3a", "macs"),
    ("imagenet", "efficientnet_b3a", "gpu_ms"),
    ("imagenet", "gluon_senet154", "macs"),
    ("eight_sizes", "phi7-seed0", "macs"),
    ("cifar10", "resnet56", "macs"),
    ("embedded", "large", "macs"),
    ("compound_scaling", "phi7-seed0", "macs"),
]
NUMBERS = (1000, 2500, 5000, 10_000, 25_000)
LEVELS = (0.9, 0.95)
# Promise and within. That of a cost, nine tenths of the reference's, stands beside a "within".
PROMISES = [
    ("within", 0.0), ("within", 0.005), ("within", 0.01), ("at least", 0.02),
    ("agreement", 0.005), ("agreement", 0.01), ("cost", 0.005),
]  # fmt: skip
# World, reference, unit, within, n and the speedup to reach, at level 0.9.
GOALS = {
    ("imagenet", "efficientnet_b3a", "macs", 0.005, 2500): 1.45,
    ("imagenet", "efficientnet_b3a", "macs", 0.005, 5000): 1.8,
    ("imagenet", "efficientnet_b3a", "macs", 0.005, 10_000): 1.95,
    ("imagenet", "efficientnet_b3a", "gpu_ms", 0.005, 2500): 1.45,
    ("imagenet", "efficientnet_b3a", "gpu_ms", 0.005, 5000): 1.75,
    ("imagenet", "efficientnet_b3a", "gpu_ms", 0.005, 10_000): 2.05,
    ("imagenet", "gluon_senet154", "macs", 0.005, 10_000): 24,
    ("eight_sizes", "phi7-seed0", "macs", 0.005, 10_000): 5,
    ("eight_sizes", "phi7-seed0", "macs", 0.01, 10_000): 8.5,
    ("cifar10", "resnet56", "macs", 0.005, 5000): 2.5,
    ("cifar10", "resnet56", "macs", 0.01, 5000): 2.75,
}
# Rivals see every so many draws, and what is slow even fewer.
EVERY, EVERY_KNOWN = 5, 10


@dataclass(frozen=True)
class Setting:
    """A world, a reference and a promise."""

    world: str
    reference: str
    unit: str
    promise: str
    within: float
    n: int
    level: float

    @property
    def goal(self) -> float | None:
        """The speedup to reach, if there is one."""
        key = (self.world, self.reference, self.unit, self.within, self.n)
        return GOALS.get(key) if (self.promise, self.level) == ("within", 0.9) else None


@dataclass(frozen=True)
class Row(Setting):
    """What the draws of a setting gave by one method.

    Args:
        method: ``committee``, or what stands beside it.
        draws: Draws.
        missed: Those whose promise is false on the population.
        kept: Those that kept the reference.
        speedup: Mean of the reference's true cost over that of the choice.
        oracle: The reference's cost over that of the cheapest committee that keeps the promise.
        over_oracle: Mean of the choice's true cost over the oracle's.
        seconds: A draw took.
    """

    method: str
    draws: int
    missed: int
    kept: int
    speedup: float
    oracle: float
    over_oracle: float
    seconds: float


@dataclass(frozen=True)
class Truth:
    """What is true on a population: of a reference, and of the cascades of a promise."""

    population: cm.Pool
    setting: Setting
    reference: cm.Evaluation
    known: dict[str, cm.Evaluation] = field(default_factory=dict)

    @classmethod
    def of(cls, population: cm.Pool, setting: Setting) -> Truth:
        """Return the truth for the promise of a setting."""
        if setting.promise == "agreement":
            population = population.labelled_by(setting.reference)
        alone = cm.Cascade.of([setting.reference], combine=_combine(population))
        return cls(population, setting, cm.evaluate(alone, population, setting.unit))

    @property
    def max_cost(self) -> float:
        """The cost that the promise of a cost names."""
        return 0.9 * self.reference.average_cost

    def evaluation(self, cascade: cm.Cascade) -> cm.Evaluation:
        """Return the true evaluation of a cascade."""
        key = repr((cascade.models_of_stages, cascade.thresholds, cascade.combine))
        if key not in self.known:
            self.known[key] = cm.evaluate(cascade, self.population, self.setting.unit)
        return self.known[key]

    def oracle(self) -> float:
        """Return the cost of the cheapest committee that keeps the promise, of those tried."""
        rules = dict.fromkeys((_combine(self.population), "last"))
        own, most = self.setting, min(3, len(self.population.names))
        fronts = [cm.search(self.population, most, unit=own.unit, combine=rule) for rule in rules]
        goal = self.reference.accuracy - own.within - 1e-12
        return min(
            member.evaluation.average_cost
            for member in itertools.chain.from_iterable(fronts)
            if member.evaluation.accuracy >= goal
        )

    def keeps(self, own: cm.Evaluation) -> bool:
        """Return True if the promise is true."""
        costly = self.setting.promise == "cost" and own.average_cost > self.max_cost * (1 + 1e-12)
        return not costly and own.accuracy >= self.reference.accuracy - self.setting.within - 1e-12


@dataclass
class Draws:
    """The draws of a setting by one method so far."""

    missed: int = 0
    kept: int = 0
    seconds: float = 0.0
    costs: list[float] = field(default_factory=list)

    def add(self, truth: Truth, cascade: cm.Cascade | None, seconds: float) -> None:
        """Add a draw; None kept the reference."""
        own = truth.reference if cascade is None else truth.evaluation(cascade)
        self.missed += not truth.keeps(own) and cascade is not None
        self.kept += cascade is None or cascade.names == (truth.setting.reference,)
        self.costs.append(own.average_cost)
        self.seconds += seconds

    def row(self, setting: Setting, method: str, truth: Truth, oracle: float) -> Row:
        """Return what the draws gave."""
        costs, draws = np.array(self.costs), len(self.costs)
        single = truth.reference.average_cost
        return Row(
            **asdict(setting), method=method, draws=draws, missed=self.missed, kept=self.kept,
            speedup=float((single / costs).mean()), oracle=single / oracle,
            over_oracle=float((costs / oracle).mean()), seconds=self.seconds / draws,
        )  # fmt: skip


def _combine(pool: cm.Pool) -> str:
    return "last" if pool.kind == "decisions" else "mean_logits"


def drawn(population: cm.Pool, unit: str, rows: np.ndarray) -> cm.Pool:
    """Return the samples of some rows, which may repeat, as a pool."""
    outputs = {
        name: (own.values[rows], own.confidence[rows]) if own.confidence is not None
        else own.values[rows]
        for name, own in population.outputs.items()
    }  # fmt: skip
    labels = population.samples.labels[rows]
    costs = population.prices(unit)
    return cm.Pool.from_arrays(labels, outputs, kind=population.kind, costs=costs, unit=unit)


def ours(pool: cm.Pool, truth: Truth) -> cm.Cascade | None:
    """Return what is certified on a draw; None if nothing can be."""
    own = truth.setting
    if own.promise == "at least":
        promised = {"min_accuracy": truth.reference.accuracy - own.within}
    elif own.promise == "agreement":
        promised = {"agree_with": own.reference, "within": own.within}
    else:
        cost = {"max_cost": truth.max_cost} if own.promise == "cost" else {}
        promised = {"match": own.reference, "within": own.within, **cost}
    try:
        return cm.certify(pool, **promised, level=own.level, threads=1).cascade
    except cm.Infeasible:
        return None


def known_choice(pool: cm.Pool, truth: Truth) -> cm.Cascade | None:
    """Return what a draw certifies of the committees that are the best in truth."""
    own = truth.setting
    alone = cm.Cascade.of([own.reference], combine=_combine(pool))
    promised = Promised("within", own.within, own.level, alone, TOP_1, None, own.unit)
    testing = pool.rows(divided(len(pool), 0)[1], "val")
    parts = truth.population, testing
    rules = rules_to_try(*parts, promised, min(3, len(pool.names)))
    most = truth.reference.average_cost
    hypotheses = map(promised.hypothesis, parts)
    tested = tested_paths(rules, *hypotheses, own.unit, 1 - own.level, most, 1, None)
    return next((each.path.cascade(each.step) for each in tested.passed), None)


class Rivals:
    """What else a user could do with a draw, for the promise *within*."""

    def __init__(self, pool: cm.Pool, reference: str, rng: np.random.Generator):
        order, third = rng.permutation(len(pool)), len(pool) // 3
        most = min(3, len(pool.names))
        choosing, testing = pool.rows(order[:third], "a"), pool.rows(order[third:], "b")
        whole, part = (cm.search(own, most, threads=1) for own in (pool, choosing))
        limit = cm.evaluate(part.alone(reference), choosing).average_cost
        self.whole = [(m.cascade, _gains(m.cascade, whole, reference, pool)) for m in whole]
        self.part = [
            (m.cascade, *(_gains(m.cascade, part, reference, own) for own in (choosing, testing)))
            for m in part
            if m.evaluation.average_cost < limit
        ]

    def naive(self, setting: Setting, errors: float = 0.0) -> cm.Cascade | None:
        """Return the cheapest that matches on the whole draw by some standard errors."""
        for cascade, gain in self.whole:
            if gain.mean() - errors * _error(gain) >= -setting.within:
                return cascade
        return None

    def bonferroni(self, setting: Setting) -> cm.Cascade | None:
        """Return the cheapest of the front that passes, each member at its share of the level."""
        share = (1 - setting.level) / max(len(self.part), 1)
        for cascade, _, gain in self.part:
            # The p-value is slow; a normal one ten times above the share saves it.
            if gain.mean() + setting.within < 1.5 * _error(gain):
                continue
            wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
            p_value = paired_p_value(wins, losses, len(gain), setting.within, 1 - share)
            if p_value <= share:
                return cascade
        return None

    def mapie(self, setting: Setting) -> cm.Cascade | None:
        """Return the last that MAPIE's fixed sequence accepts, from the safest to the cheapest."""
        from mapie.risk_control.fwer_control import control_fwer
        from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

        margins = [
            (gain.mean() + setting.within) / max(_error(gain), 1e-9) for _, gain, _ in self.part
        ]
        if not margins:
            return None
        chain: list[int] = []
        for place in np.argsort(margins)[::-1]:
            # The front rises in cost: earlier is cheaper.
            if not chain or place < chain[-1]:
                chain.append(int(place))
        gains = [self.part[place][2] for place in chain]
        risks = np.array([(1 - gain.mean()) / 2 for gain in gains])
        p_values = compute_hoeffding_bentkus_p_value(risks, len(gains[0]), (1 + setting.within) / 2)
        passed = control_fwer(p_values.ravel(), 1 - setting.level, "fixed_sequence")
        return self.part[chain[passed[-1]]][0] if len(passed) else None


def _gains(cascade: cm.Cascade, front: cm.Front, reference: str, pool: cm.Pool) -> np.ndarray:
    alone = values_on(front.alone(reference), pool).astype(np.int64)
    return values_on(cascade, pool).astype(np.int64) - alone


def _error(gain: np.ndarray) -> float:
    return float(gain.std() / len(gain) ** 0.5)


METHODS = {
    "naive": Rivals.naive,
    "naive - 2 SE": lambda own, setting: own.naive(setting, 2.0),
    "Bonferroni": Rivals.bonferroni,
    "MAPIE": Rivals.mapie,
}


def measured(
    cells: Sequence[tuple[Setting, str]],
    population: cm.Pool,
    draws: int,
    oracles: dict[tuple, float],
) -> Iterator[Row]:
    """Yield what draws give, by some methods, for settings of the same reference and n."""
    first = cells[0][0]
    truths = {setting: Truth.of(population, setting) for setting, _ in cells}
    found: dict[tuple[Setting, str], Draws] = defaultdict(Draws)
    rng = np.random.default_rng([15, first.n])
    for draw in range(draws):
        pool = drawn(population, first.unit, rng.integers(len(population), size=first.n))
        seen = [cell for cell in cells if cell[1] == OURS or draw % EVERY == 0]
        seen = [cell for cell in seen if cell[1] != KNOWN or draw % EVERY_KNOWN == 0]
        others = any(method in METHODS for _, method in seen)
        rivals = Rivals(pool, first.reference, np.random.default_rng(draw)) if others else None
        for setting, method in seen:
            truth, begun = truths[setting], time.perf_counter()
            if method in METHODS:
                chosen = METHODS[method](rivals, setting)
            else:
                chosen = (ours if method == OURS else known_choice)(pool, truth)
            found[setting, method].add(truth, chosen, time.perf_counter() - begun)
    for (setting, method), own in found.items():
        truth = truths[setting]
        key = (setting.reference, setting.unit, setting.promise == "agreement", setting.within)
        if key not in oracles:
            oracles[key] = truth.oracle()
        yield own.row(setting, method, truth, oracles[key])


def cells_of(setting: Setting) -> Iterator[tuple[Setting, str]]:
    """Yield a setting with each method that can answer it here."""
    yield setting, OURS
    if setting.goal is not None:
        yield setting, KNOWN
    if setting.promise == "within":
        for name in METHODS:
            if name != "MAPIE" or find_spec("mapie") is not None:
                yield setting, name


def groups(world: str, draws: int) -> Iterator[tuple[list[Setting], int]]:
    """Yield settings that share their draws, and how many; those with a goal come first."""
    every = [
        Setting(own, reference, unit, promise, within, n, level)
        for (own, reference, unit), n, (promise, within), level in itertools.product(
            REFERENCES, NUMBERS, PROMISES, LEVELS
        )
        if own == world
    ]
    goals = [setting for setting in every if setting.goal is not None]
    rest = [setting for setting in every if setting.goal is None]
    for chosen, number in ((goals, draws), (rest, max(draws // 10, 20))):
        for _, group in itertools.groupby(chosen, lambda own: (own.reference, own.unit, own.n)):
            yield list(group), number


def run(world: str, draws: int, out: Path) -> None:
    """Append rows for every setting of a world, and method, that the file lacks."""
    population = getattr(worlds, world)()
    known = {(setting_of(row), row.method) for row in read(out, Row)}
    oracles: dict[tuple, float] = {}
    for settings, number in groups(world, draws):
        every = itertools.chain.from_iterable(map(cells_of, settings))
        left = [cell for cell in every if cell not in known]
        rows = list(measured(left, population, number, oracles)) if left else []
        append(out, rows)
        for row in rows:
            print(*asdict(row).values(), flush=True)


def setting_of(row: Row) -> Setting:
    """Return the setting of a row."""
    return Setting(**{f.name: getattr(row, f.name) for f in fields(Setting)})


def misses(rows: Sequence[Row]) -> str:
    """Return the share of draws that missed, with its exact interval."""
    missed, draws = sum(row.missed for row in rows), sum(row.draws for row in rows)
    ends = binomtest(missed, draws).proportion_ci(0.95, "exact")
    low, high = 100 * ends.low, 100 * ends.high
    return f"{missed:,} of {draws:,} ({low:.1f} to {high:.1f} %)"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def goals_table(rows: Sequence[Row]) -> str:
    """Return the settings with a goal, beside what a user would do instead, as markdown."""
    head = ["world, reference, cost, within", "n", "goal", "**speedup**", "oracle",
            "if the choice were known", "cost over oracle's", "over naive's", "kept",
            "missed (95 % interval)",
            *(f"{name}: speedup, missed" for name in METHODS)]  # fmt: skip
    lines = []
    for own in (row for row in rows if row.method == OURS and row.goal):
        others = {row.method: row for row in rows if setting_of(row) == setting_of(own)}
        over_naive = own.over_oracle / others["naive"].over_oracle
        lines.append([
            f"{own.world}, {own.reference}, {own.unit}, {own.within}", f"{own.n:,}",
            f"{own.goal:g}", f"**{own.speedup:.2f}**", f"{own.oracle:.2f}",
            f"{others[KNOWN].speedup:.2f}" if KNOWN in others else "",
            f"{own.over_oracle:.2f}", f"{over_naive:.2f}", f"{own.kept / own.draws:.0%}",
            misses([own]),
            *(_beside(others.get(name)) for name in METHODS),
        ])  # fmt: skip
    return _markdown(head, lines)


def _beside(row: Row | None) -> str:
    return "" if row is None else f"{row.speedup:.2f}, {row.missed / row.draws:.0%}"


def size_table(rows: Sequence[Row]) -> str:
    """Return the speedup by the number of samples, as markdown."""
    head = ["world, reference, cost", "within", "level", *(f"n = {n:,}" for n in NUMBERS), "oracle"]
    lines = []
    ranked = sorted(rows, key=lambda row: (REFERENCES.index(_place(row)), row.within, row.level))
    chosen = [row for row in ranked if row.method == OURS and row.promise == "within"]
    for key, group in itertools.groupby(chosen, lambda row: (_place(row), row.within, row.level)):
        own = {row.n: row for row in group}
        speedups = [
            f"{own[n].speedup:.2f} ({own[n].kept / own[n].draws:.0%})" if n in own else ""
            for n in NUMBERS
        ]
        oracle = next(iter(own.values())).oracle
        lines.append([", ".join(key[0]), f"{key[1]}", f"{key[2]:.2f}", *speedups, f"{oracle:.2f}"])
    return _markdown(head, lines)


def _place(row: Row) -> tuple[str, str, str]:
    return row.world, row.reference, row.unit


def misses_table(rows: Sequence[Row]) -> str:
    """Return the misses of every promise at every level, over all settings, as markdown."""
    lines = []
    for promise, level in itertools.product(dict.fromkeys(own for own, _ in PROMISES), LEVELS):
        own = [
            row for row in rows if (row.method, row.promise, row.level) == (OURS, promise, level)
        ]
        if not own:
            continue
        worst = min(
            own, key=lambda row: binomtest(row.missed, row.draws, 1 - level, "greater").pvalue
        )
        p_value = binomtest(worst.missed, worst.draws, 1 - level, "greater").pvalue
        lines.append([
            promise, f"{level:.2f}", f"{len(own)}", misses(own),
            f"{worst.missed} of {worst.draws}", f"{min(1.0, p_value * len(own)):.2g}",
        ])  # fmt: skip
    head = ["promise", "level", "settings", "missed (95 % interval)", "worst setting",
            "its p-value, times the settings"]  # fmt: skip
    return _markdown(head, lines)


TABLES = {"goals": goals_table, "sizes": size_table, "misses": misses_table}


def write_page(rows: Sequence[Row]) -> None:
    """Write the tables into docs/promises.md, each between its marks."""
    write_tables(PAGE, {name: table(rows) for name, table in TABLES.items()})


def main() -> None:
    """Run the benchmark, or write its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--world", choices=sorted({own[0] for own in REFERENCES}), default="imagenet"
    )
    parser.add_argument("--draws", type=int, default=1000, help="a tenth of them without a goal")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "promises.csv")
    parser.add_argument("--table", action="store_true", help="only write docs/promises.md")
    options = parser.parse_args()
    if not options.table:
        run(options.world, options.draws, options.out)
    write_page(read(options.out, Row))


if __name__ == "__main__":
    main()
