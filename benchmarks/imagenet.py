"""Fourteen published ImageNet models: how much cheaper than three references, and at what loss.

Ten times, 25,000 of the 50,000 images choose (val) and the others evaluate (test). On each the
cheapest cascade that matches a reference on val is chosen: of two models, of three, and of three by
any confidence; and one that is certified to be at most half a point less accurate. Five minutes on
one core.

    python benchmarks/imagenet.py              # writes results/imagenet.csv, then the table
    python benchmarks/imagenet.py --table      # writes the table alone, into the example's page
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import numpy as np

import committee as cm
import worlds
from committee.selection.paired import compare
from committee.text import points
from result_rows import append, read, write_tables

ROOT = Path(__file__).parent
OUT = ROOT / "results" / "imagenet.csv"
PAGE = ROOT.parent / "examples" / "imagenet" / "README.md"
SPLITS, HALF = 10, 25_000
UNITS = ("macs", "gpu_ms", "cpu_ms")
REFERENCES = ("efficientnet_b3a", "gluon_senet154", "resnext50_32x4d")
PAIR, THREE, CERTIFIED = "two models", "three models", "certified"
# The most models of a search, and its confidence.
SEARCHES = {PAIR: (2, "max_prob"), THREE: (3, "max_prob"), f"{THREE}, auto": (3, "auto")}
WAYS = (*SEARCHES, CERTIFIED)
WITHIN, LEVEL = 0.005, 0.95
# What a plain enumeration found on one split: speedup, and difference in points.
KNOWN = {
    ("macs", "efficientnet_b3a", PAIR): "1.44×",
    ("macs", "efficientnet_b3a", THREE): "1.51×, −0.06",
    ("gpu_ms", "efficientnet_b3a", PAIR): "1.34×",
    ("gpu_ms", "efficientnet_b3a", THREE): "1.82×, +0.07",
    ("macs", "gluon_senet154", THREE): "25×",
    ("gpu_ms", "gluon_senet154", THREE): "5.0×",
    ("macs", "resnext50_32x4d", THREE): "8.0×",
    ("gpu_ms", "resnext50_32x4d", THREE): "1.6×",
}


@dataclass(frozen=True)
class Row:
    """A cascade that one split chose, on the split that evaluates.

    ``speedup`` is the average cost of the reference over that of the cascade; ``difference``,
    ``low`` and ``high`` are the accuracy less the reference's, with its paired 95 % interval.
    """

    unit: str
    reference: str
    chosen_by: str
    split: int
    cascade: str
    speedup: float
    difference: float
    low: float
    high: float


def rows_of(split: int, pool: cm.Pool) -> Iterator[Row]:
    """Yield every choice of one split."""
    order = np.random.default_rng(split).permutation(len(pool))
    val, test = pool.rows(order[:HALF], "val"), pool.rows(order[HALF:], "test")
    for unit in UNITS:
        fronts = {
            way: cm.search(val, max_models=most, unit=unit, confidence=confidence)
            for way, (most, confidence) in SEARCHES.items()
        }
        for reference, way in itertools.product(REFERENCES, WAYS):
            if way == CERTIFIED:
                options = {"match": reference, "within": WITHIN, "level": LEVEL, "seed": split}
                cascade = cm.certify(val, unit=unit, **options).cascade
            else:
                cascade = fronts[way].matching(reference).cascade
            single = cm.Cascade.of([reference], combine="last")
            found = compare(cascade, single, test, unit)
            gap = found.difference
            yield Row(
                unit, reference, way, split, str(cascade),
                found.saving, gap.value, gap.low, gap.high,
            )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Return means over the splits, as markdown."""
    head = ["cost", "instead of", "chosen", "speedup (least to most)", "accuracy, points",
            "most often", "split 0", "enumeration"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for unit, reference, way in itertools.product(UNITS, REFERENCES, WAYS):
        own = [
            row
            for row in rows
            if (row.unit, row.reference, row.chosen_by) == (unit, reference, way)
        ]
        speedups = [row.speedup for row in own]
        cascade, times = Counter(row.cascade for row in own).most_common(1)[0]
        half = 50 * mean(row.high - row.low for row in own)
        gap = mean(row.difference for row in own)
        lines.append([
            f"`{unit}`", reference, way,
            f"**{mean(speedups):.2f}×** ({min(speedups):.2f} to {max(speedups):.2f})",
            f"{points(gap)} ± {half:.2f}", f"{cascade} ({times} of {len(own)})",
            f"{own[0].speedup:.2f}×, {points(own[0].difference)}",
            KNOWN.get((unit, reference, way), ""),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Choose and evaluate on every split, or write the table alone."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="only write the table")
    if not parser.parse_args().table:
        pool = worlds.imagenet()
        OUT.unlink(missing_ok=True)
        for row in itertools.chain.from_iterable(rows_of(n, pool) for n in range(SPLITS)):
            append(OUT, [row])
            print(*asdict(row).values(), flush=True)
    write_tables(PAGE, {"table": table(read(OUT, Row))})


if __name__ == "__main__":
    main()
