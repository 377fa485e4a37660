"""Do certificates keep their word? Draw samples from a population, certify, compare with the truth.

The stored outputs of a world are the population. Each draw takes n samples with replacement,
certifies on them, and looks the chosen committee up on the whole population.

    python benchmarks/promises.py --draws 200 --world imagenet        # rows are appended to --out
    python benchmarks/promises.py --table                             # writes docs/promises.md
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

import committee as cm
import worlds
from committee.selection.evaluate_many import values_on

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "promises.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


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


@dataclass(frozen=True)
class Row:
    """What the draws of one setting gave; speedups are means of the reference's cost over ours."""

    world: str
    reference: str
    unit: str
    promise: str
    within: float
    n: int
    level: float
    draws: int
    missed: int
    kept: int
    speedup: float
    oracle: float
    naive: float
    naive_missed: int
    margin: float
    margin_missed: int
    seconds: float


GOALS = [
    *(("imagenet", "efficientnet_b3a", unit, 0.005, n) for unit in ("macs", "gpu_ms")
      for n in (1000, 2500, 5000, 10_000)),
    ("imagenet", "gluon_senet154", "macs", 0.005, 10_000),
    *(("eight_sizes", "phi7-seed0", "macs", within, 10_000) for within in (0.005, 0.01)),
    *(("cifar10", "resnet56", "macs", within, 5000) for within in (0.005, 0.01)),
]  # fmt: skip
REFERENCES = {
    "imagenet": [("efficientnet_b3a", "macs"), ("efficientnet_b3a", "gpu_ms"),
                 ("gluon_senet154", "macs")],
    "eight_sizes": [("phi7-seed0", "macs")],
    "cifar10": [("resnet56", "macs")],
    "embedded": [("large", "macs")],
    "compound_scaling": [("phi7-seed0", "macs")],
}  # fmt: skip


def settings(world: str) -> Iterator[Setting]:
    """Yield every setting of a world, those with a goal first."""
    for own, reference, unit, within, n in GOALS:
        if own == world:
            yield Setting(own, reference, unit, "within", within, n, 0.9)
    for reference, unit in REFERENCES[world]:
        for promise in ("within", "at least", "agreement", "cost"):
            for n in (1000, 2500, 5000, 10_000, 25_000):
                for within in (0.0, 0.005, 0.01):
                    for level in (0.9, 0.95):
                        yield Setting(world, reference, unit, promise, within, n, level)


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


@dataclass(frozen=True)
class Truth:
    """The population: what is true of a cascade."""

    population: cm.Pool
    setting: Setting
    reference: cm.Evaluation

    def of(self, cascade: cm.Cascade) -> cm.Evaluation:
        """Return the true evaluation of a cascade."""
        return cm.evaluate(cascade, self.population, self.setting.unit)

    def saving(self, evaluation: cm.Evaluation) -> float:
        """Return the true speedup."""
        return self.reference.average_cost / evaluation.average_cost

    def missed(self, certified: cm.Certified) -> bool:
        """Return True if the promise is false on the population."""
        own, true = self.setting, self.of(certified.cascade)
        if own.promise == "agreement":
            agreeing = self.population.labelled_by(own.reference)
            return cm.evaluate(certified.cascade, agreeing).accuracy < 1 - own.within - 1e-12
        costly = own.promise == "cost" and true.average_cost > self.limit * (1 + 1e-12)
        return costly or self.worse(true)

    def worse(self, evaluation: cm.Evaluation) -> bool:
        """Return True if an evaluation is less accurate than allowed."""
        return evaluation.accuracy < self.reference.accuracy - self.setting.within - 1e-12

    @property
    def limit(self) -> float:
        """The cost that the promise of a cost names: nine tenths of the reference's."""
        return 0.9 * self.reference.average_cost


def promised(setting: Setting, truth: Truth) -> dict[str, object]:
    """Return the arguments of ``certify`` for a setting."""
    if setting.promise == "at least":
        return {"min_accuracy": truth.reference.accuracy - setting.within}
    if setting.promise == "agreement":
        return {"agree_with": setting.reference, "within": setting.within}
    cost = {"max_cost": truth.limit} if setting.promise == "cost" else {}
    return {"match": setting.reference, "within": setting.within, **cost}


def naive(front: cm.Front, pool: cm.Pool, setting: Setting, errors: float) -> cm.Cascade:
    """Return the cheapest member that matches on the draw by some paired standard errors."""
    alone = front.alone(setting.reference)
    goal = values_on(alone, pool).astype(float)
    for member in front:
        gain = values_on(member.cascade, pool) - goal
        if gain.mean() - errors * gain.std() / len(gain) ** 0.5 >= -setting.within:
            return member.cascade
    return alone


def measured(setting: Setting, population: cm.Pool, draws: int, oracle: float) -> Row:
    """Return what the draws of a setting give."""
    single = cm.Cascade.of([setting.reference], combine=_combine(population))
    truth = Truth(population, setting, cm.evaluate(single, population, setting.unit))
    rng = np.random.default_rng(15)
    missed = kept = naive_missed = margin_missed = 0
    savings: list[tuple[float, float, float]] = []
    begun = time.perf_counter()
    for _ in range(draws):
        pool = drawn(population, setting.unit, rng.integers(len(population), size=setting.n))
        try:
            own = cm.certify(pool, **promised(setting, truth), level=setting.level, threads=1)  # type: ignore[arg-type]
        except cm.Infeasible:
            kept += 1
            ours = 1.0
        else:
            missed += truth.missed(own)
            kept += own.cascade.names == (setting.reference,)
            ours = truth.saving(truth.of(own.cascade))
        front = cm.search(pool, min(3, len(pool.names)), threads=1)
        others = [truth.of(naive(front, pool, setting, errors)) for errors in (0.0, 2.0)]
        naive_missed += truth.worse(others[0])
        margin_missed += truth.worse(others[1])
        savings.append((ours, *map(truth.saving, others)))
    means = np.mean(savings, axis=0)
    seconds = (time.perf_counter() - begun) / draws
    return Row(
        **asdict(setting), draws=draws, missed=missed, kept=kept, speedup=float(means[0]),
        oracle=oracle, naive=float(means[1]), naive_missed=naive_missed, margin=float(means[2]),
        margin_missed=margin_missed, seconds=seconds,
    )  # fmt: skip


def _combine(pool: cm.Pool) -> str:
    return "last" if pool.kind == "decisions" else "mean_logits"


def run(world: str, draws: int, out: Path) -> None:
    """Append a row for every setting of a world that the file lacks."""
    population = getattr(worlds, world)()
    known = {tuple(row[f.name] for f in fields(Setting)) for row in read(out)}
    oracles: dict[tuple[str, str, float], float] = {}
    number_of_goals = sum(goal[0] == world for goal in GOALS)
    for place, setting in enumerate(dict.fromkeys(settings(world))):
        if tuple(map(str, asdict(setting).values())) in known:
            continue
        key = (setting.reference, setting.unit, setting.within)
        if key not in oracles:
            front = cm.search(population, 3, unit=setting.unit)
            best = front.matching(setting.reference, setting.within).evaluation
            alone = cm.evaluate(front.alone(setting.reference), population, setting.unit)
            oracles[key] = alone.average_cost / best.average_cost
        # Settings without a goal are many; they get a tenth of the draws.
        number = draws if number_of_goals > place else max(draws // 10, 20)
        row = asdict(measured(setting, population, number, oracles[key]))
        new = not out.exists()
        with out.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(*row.values(), flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file of results; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]]) -> str:
    """Return the rows as markdown."""
    lines = [
        "| world, reference, cost | promise, within | level | n | draws | missed (95 % interval) "
        "| speedup | kept reference | oracle | naive, missed | naive - 2 SE, missed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        draws, missed = int(row["draws"]), int(row["missed"])
        ends = binomtest(missed, draws).proportion_ci(0.95, "exact")
        others = [
            f"{float(row[name]):.2f}, {100 * int(row[f'{name}_missed']) / draws:.0f} %"
            for name in ("naive", "margin")
        ]
        lines.append(
            f"| {row['world']}, {row['reference']}, {row['unit']} | {row['promise']} "
            f"{row['within']} | {row['level']} | {int(row['n']):,} | {draws} "
            f"| {100 * missed / draws:.1f} % ({100 * ends.low:.1f} to {100 * ends.high:.1f}) "
            f"| {float(row['speedup']):.2f} | {100 * int(row['kept']) / draws:.0f} % "
            f"| {float(row['oracle']):.2f} | {' | '.join(others)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, or write its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--world", choices=list(REFERENCES), default="imagenet")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "promises.csv")
    parser.add_argument("--table", action="store_true", help="only write docs/promises.md")
    options = parser.parse_args()
    if not options.table:
        run(options.world, options.draws, options.out)
    text = PAGE.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    page = f"{text[:start]}\n{table(read(options.out))}\n{text[end:]}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
