"""A board of rivals: what published methods choose from a pool, beside what we choose.

Each split of a world is two halves drawn by its seed. Every method chooses on the same half, from
the same outputs and costs, and is evaluated on the other half. Rows are appended to --out as they
come, and those that are there are not repeated.

    python benchmarks/rivals.py --splits 5        # writes docs/rivals.md and docs/rivals.png too
    python benchmarks/rivals.py --table           # only these
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import committee as cm
import rival_methods as methods
import rival_page
import worlds
from committee.pool.intervals import Estimate, mean_interval, paired_difference
from result_rows import append, read
from rival_rows import BUDGETS, CERTIFIED, OURS, TWO, WORLDS, Row
from rival_tables import Candidate, Plan, Table, decided, front, measured, single_models

ROOT = Path(__file__).parent
# How much worse than the reference a choice may be.
MARGINS = (0.0, 0.005)


@dataclass(frozen=True, eq=False)
class Half:
    """The samples that choose, as a pool and as a table.

    Args:
        pool: What our library reads.
        table: What the rivals read.
        unit: Unit of the cost.
        seed: Of methods that draw.
        seconds: What evolution may take: as long as our search.
    """

    pool: cm.Pool
    table: Table
    unit: str
    seed: int
    seconds: float = 0.0

    @cached_property
    def reference(self) -> int:
        """The most accurate single model."""
        return max(single_models(self.table), key=lambda own: own.accuracy).plan.stages[0][0]

    def certified(self, within: float) -> Plan:
        """Return what we certify against the reference."""
        name = self.pool.names[self.reference]
        return methods.certified(self.pool, self.unit, name, within)


def _certificates(half: Half) -> Iterator[Candidate]:
    """Yield one certified cascade for each single model that no other beats."""
    yield from single_models(half.table)
    for model in methods.best_singles(half.table):
        name = half.pool.names[model]
        plan = methods.certified(half.pool, half.unit, name, MARGINS[1])
        yield measured(plan, half.table)


# Ours comes first: evolution takes as many seconds, and gains are over it.
METHODS: dict[str, Callable[[Half], Iterator[Candidate]]] = {
    OURS: lambda half: methods.ours(half.pool, half.unit, 3),
    TWO: lambda half: methods.ours(half.pool, half.unit, 2),
    CERTIFIED: _certificates,
    "single model": lambda half: single_models(half.table),
    "ensembles": lambda half: methods.ensembles(half.table),
    "weighted ensembles": lambda half: methods.weighted_ensembles(half.table),
    "two-model cascades": lambda half: methods.two_models(half.table),
    "agreement": lambda half: methods.agreement(half.table),
    "FrugalGPT-like": lambda half: methods.frugal(half.table),
    "Streeter's greedy": lambda half: methods.streeter(half.pool, half.unit, half.table),
    "evolution": lambda half: methods.evolved(half.table, half.seconds, half.seed),
    "scikit-fallback": lambda half: methods.fallback(half.table),
}


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A method's front, cheapest first, on the samples that evaluate.

    Args:
        front: With figures on the samples that chose.
        correct: For each member and sample, shape (K, N).
        costs: Average cost of each member, shape (K,).
    """

    front: list[Candidate]
    correct: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, members: list[Candidate], table: Table) -> Evaluated:
        """Return members evaluated on a table."""
        every = [decided(own.plan, table) for own in members]
        return cls(
            members, np.stack([own for own, _ in every]), np.array([c.mean() for _, c in every])
        )

    def at_most(self, cost: float) -> int:
        """Return the member that looked most accurate of those that cost at most so much."""
        fits = np.flatnonzero(self.costs <= cost * (1 + 1e-9))
        return int(fits[-1]) if len(fits) else 0

    def at_least(self, accuracy: float) -> int:
        """Return the cheapest member that looked so accurate."""
        return next(i for i, own in enumerate(self.front) if own.accuracy >= accuracy - 1e-9)

    def along(self, budgets: np.ndarray) -> np.ndarray:
        """Return whether the member for each budget is correct, shape (budgets, N)."""
        return self.correct[[self.at_most(cost) for cost in budgets]]


def halves(pool: cm.Pool, whole: Table, unit: str, split: int) -> tuple[Half, Table]:
    """Return the samples that choose, and those that evaluate."""
    rows = np.random.default_rng([16, split]).permutation(len(pool))
    chooses, evaluates = np.sort(rows[: len(pool) // 2]), np.sort(rows[len(pool) // 2 :])
    half = Half(pool.rows(chooses, "val"), whole.rows(chooses), unit, split)
    return half, whole.rows(evaluates)


def chosen(name: str, half: Half) -> tuple[list[Candidate], float]:
    """Return the front that a method finds, and the seconds that it took."""
    begun = time.perf_counter()
    found = front(METHODS[name](half))
    return found, time.perf_counter() - begun


def board(pool: cm.Pool, whole: Table, world: str, unit: str, split: int) -> Iterator[Row]:
    """Yield what every method gives on one split."""
    half, table = halves(pool, whole, unit, split)
    budgets = np.geomspace(whole.costs.min(), whole.costs.max(), BUDGETS)
    first: Evaluated | None = None
    for name in METHODS:
        if name == "scikit-fallback" and (not methods.has_fallback() or pool.kind == "decisions"):
            continue
        members, seconds = chosen(name, half)
        own = Evaluated.of(members, table)
        first = first or own
        if name == OURS:
            half = Half(half.pool, half.table, unit, split, seconds)
        figures = _figures(own, first, half, table, budgets, certified=name == CERTIFIED)
        yield Row(
            world=world, unit=unit, split=split, method=name, samples=len(table.labels),
            reference=pool.names[half.reference], seconds=seconds, members=len(members),
            **figures,
        )  # fmt: skip


def _figures(
    own: Evaluated, ours: Evaluated, half: Half, table: Table, budgets: np.ndarray, certified: bool
) -> dict[str, float | str]:
    """Return the measures of one method."""
    reference = half.reference
    along = own.along(budgets)
    area = _gain(along.mean(axis=0), ours.along(budgets).mean(axis=0))
    curve = along.mean(axis=1)
    figures: dict[str, float | str] = {
        "area": float(curve.mean()), "area_gain": area.value, "area_half": area.high - area.value,
        "curve": " ".join(f"{value:.5f}" for value in curve),
    }  # fmt: skip
    alone = table.costs[reference]
    limits = {"at_25": alone / 4, "at_50": alone / 2, "at_dearest": table.costs.max()}
    for key, cost in limits.items():
        correct, theirs = (each.along(np.array([cost]))[0] for each in (own, ours))
        gain = _gain(correct, theirs)
        figures |= {key: float(correct.mean()), f"{key}_gain": gain.value}
        figures |= {f"{key}_half": gain.high - gain.value}
    for key, margin in zip(("match", "within"), MARGINS, strict=True):
        if certified:
            plan = half.certified(margin)
        else:
            goal = half.table.correct[reference].mean() - margin
            plan = own.front[own.at_least(goal)].plan
        correct, cost = decided(plan, table)
        gain = paired_difference(correct, table.correct[reference])
        figures[f"{key}_speedup"] = float(alone / cost.mean())
        figures |= {f"{key}_{end}": getattr(gain, end) for end in ("low", "high")}
        figures[f"{key}_gain"] = gain.value
    return figures


def _gain(values: np.ndarray, others: np.ndarray) -> Estimate:
    return mean_interval(values.astype(np.float64) - others)


def run(splits: int, only: str | None, out: Path) -> None:
    """Append rows for every split of every world that the file lacks."""
    known = {(row.world, row.unit, row.split) for row in read(out, Row)}
    for split, (world, unit) in itertools.product(range(splits), WORLDS):
        if (world, unit, split) in known or only not in (None, world):
            continue
        pool = getattr(worlds, world)()
        rows = []
        for row in board(pool, Table.of(pool, unit), world, unit, split):
            rows.append(row)
            figures = f"{row.area:.4f} {row.area_gain:+.4f} {row.match_speedup:.2f}x"
            print(world, unit, split, row.method, figures, f"{row.seconds:.2f} s", flush=True)
        append(out, rows)


def main() -> None:
    """Run the board, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--splits", type=int, default=5, help="halves of each world")
    parser.add_argument("--world", choices=sorted({own for own, _ in WORLDS}))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "rivals.csv")
    parser.add_argument("--table", action="store_true", help="only write docs/rivals.md")
    options = parser.parse_args()
    if not options.table:
        run(options.splits, options.world, options.out)
    rival_page.write(read(options.out, Row))


if __name__ == "__main__":
    main()
