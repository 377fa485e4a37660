"""The page of rivals.py: tables in docs/rivals.md, each between its marks, and docs/rivals.png."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import worlds
from result_rows import write_tables
from rival_rows import BUDGETS, CERTIFIED, OURS, TWO, WORLDS, Row

PAGE = Path(__file__).parents[1] / "docs" / "rivals.md"
FIGURE = PAGE.with_suffix(".png")
# World and unit of the figure.
SHOWN = ("imagenet", "gpu_ms")
# Colour, line style and marker of each method of the figure: Okabe and Ito's colours.
LOOKS = {
    OURS: ("#D55E00", "-", "*"),
    TWO: ("#D55E00", ":", ""),
    CERTIFIED: ("#CC79A7", "-", "s"),
    "FrugalGPT-like": ("#0072B2", "--", "^"),
    "Streeter's greedy": ("#009E73", "-.", "v"),
    "evolution": ("#E69F00", "-", "d"),
    "agreement": ("#56B4E9", "-", "o"),
    "weighted ensembles": ("#000000", "--", "x"),
    "single model": ("#808080", "-", ""),
}


def of(rows: Sequence[Row], method: str, world: str, unit: str) -> list[Row]:
    """Return the rows of a method in a world, one for each split."""
    return [row for row in rows if (row.method, row.world, row.unit) == (method, world, unit)]


def methods_of(rows: Sequence[Row]) -> list[str]:
    """Return the methods, in the order of the rows; those that not all worlds have come last."""
    counts = Counter(row.method for row in rows)
    return sorted(counts, key=lambda name: counts[name] < max(counts.values()))


def mean(rows: Sequence[Row], name: str) -> float:
    """Return the mean over splits of a field."""
    return float(np.mean([getattr(row, name) for row in rows]))


def ratio(rows: Sequence[Row], name: str) -> float:
    """Return the geometric mean of a ratio."""
    return float(np.exp(np.mean([np.log(getattr(row, name)) for row in rows])))


def signed(share: float) -> str:
    """Return a share of 1 as points, with its sign; zero is positive."""
    return f"{round(100 * share, 2) + 0.0:+.2f}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def by_world(rows: Sequence[Row], cell: Callable[[list[Row]], str]) -> str:
    """Return a table of methods by worlds; a cell without rows is empty."""
    lines = [
        [name, *(cell(own) if (own := of(rows, name, *world)) else "" for world in WORLDS)]
        for name in methods_of(rows)
    ]
    return markdown(["method", *(f"{world}, {unit}" for world, unit in WORLDS)], lines)


def accuracy_cell(name: str) -> Callable[[list[Row]], str]:
    """Return what prints an accuracy and its gain over ours; bold where it is above ours."""

    def cell(rows: list[Row]) -> str:
        text = f"{100 * mean(rows, name):.2f}"
        gain, half = (mean(rows, f"{name}_{part}") for part in ("gain", "half"))
        if rows[0].method == OURS:
            return text
        text = f"{text} ({signed(gain)} ± {100 * half:.2f})"
        return f"**{text}**" if gain > half else text

    return cell


def speedup_cell(name: str) -> Callable[[list[Row]], str]:
    """Return what prints a speedup and the accuracy gained over the reference."""

    def cell(rows: list[Row]) -> str:
        gain, low, high = (mean(rows, f"{name}_{part}") for part in ("gain", "low", "high"))
        half = 50 * (high - low)
        return f"{ratio(rows, f'{name}_speedup'):.2f}× ({signed(gain)} ± {half:.2f})"

    return cell


def promises_table(rows: Sequence[Row]) -> str:
    """Return how often the accuracy of a choice was kept, over all worlds and splits."""
    lines = []
    for name in methods_of(rows):
        own = [row for row in rows if row.method == name]
        cells = [name, str(len(own))]
        for key, margin in (("match", 0.0), ("within", 0.005)):
            kept = sum(getattr(row, f"{key}_gain") >= -margin - 1e-9 for row in own)
            unlike = sum(getattr(row, f"{key}_high") < -margin for row in own)
            used = sum(getattr(row, f"{key}_speedup") == 1 for row in own)
            speedup = ratio(own, f"{key}_speedup")
            cells += [f"{kept / len(own):.0%}", str(unlike), str(used), f"{speedup:.2f}×"]
        lines.append(cells)
    figures = ["kept", "significantly missed", "kept the reference", "speedup"]
    head = [
        "method",
        "choices",
        *(f"{what}: {own}" for what in ("as accurate", "within 0.5") for own in figures),
    ]
    return markdown(head, lines)


def third_stage_table(rows: Sequence[Row]) -> str:
    """Return what up to three models gain over up to two, by our search."""
    lines = []
    for world, unit in WORLDS:
        two, three = (of(rows, name, world, unit) for name in (TWO, OURS))
        if not two:
            continue
        gains = [
            f"{signed(-mean(two, f'{name}_gain'))} ± {100 * mean(two, f'{name}_half'):.2f}"
            for name in ("area", "at_25", "at_50", "at_dearest")
        ]
        speedups = [
            f"{ratio(two, f'{key}_speedup'):.2f}× → {ratio(three, f'{key}_speedup'):.2f}×"
            for key in ("match", "within")
        ]
        lines.append([f"{world}, {unit}", *gains, *speedups])
    head = [
        "world", "area", "at 25 %", "at 50 %", "at the dearest", "as accurate", "within 0.5 points"
    ]  # fmt: skip
    return markdown(head, lines)


def splits_table(rows: Sequence[Row]) -> str:
    """Return what each world is, and how often it was split."""
    lines = []
    for world, unit in WORLDS:
        own = of(rows, OURS, world, unit)
        if own:
            references = sorted({row.reference for row in own})
            lines.append([world, unit, str(len(own)), f"{own[0].samples:,}", ", ".join(references)])
    head = ["world", "cost", "splits", "samples that choose, and that evaluate", "reference"]
    return markdown(head, lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "splits": splits_table,
    "area": lambda rows: by_world(rows, accuracy_cell("area")),
    "quarter": lambda rows: by_world(rows, accuracy_cell("at_25")),
    "half": lambda rows: by_world(rows, accuracy_cell("at_50")),
    "dearest": lambda rows: by_world(rows, accuracy_cell("at_dearest")),
    "match": lambda rows: by_world(rows, speedup_cell("match")),
    "within": lambda rows: by_world(rows, speedup_cell("within")),
    "promises": promises_table,
    "third": third_stage_table,
    "seconds": lambda rows: by_world(rows, lambda own: f"{min(row.seconds for row in own):.2f}"),
}


def write(rows: Sequence[Row]) -> None:
    """Write the tables into docs/rivals.md, each between its marks, and the figure."""
    write_tables(PAGE, {name: table(rows) for name, table in TABLES.items()})
    draw(rows)


def draw(rows: Sequence[Row]) -> None:
    """Draw accuracy against cost, and the same as a difference from ours."""
    from matplotlib import pyplot

    pool = getattr(worlds, SHOWN[0])()
    costs = np.array(list(pool.prices(SHOWN[1]).values()))
    budgets = np.geomspace(costs.min(), costs.max(), BUDGETS)
    curves = {name: curve_of(of(rows, name, *SHOWN)) for name in LOOKS}
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5.2), dpi=110, layout="constrained")
    for number, (name, (colour, line, marker)) in enumerate(LOOKS.items()):
        look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 6}
        look |= {"markevery": (number % 4, 6), "linewidth": 2.4 if name == OURS else 1.5}
        axes[0].plot(budgets, curves[name], label=name, **look)
        axes[1].plot(budgets, curves[name] - curves[OURS], label=name, **look)
    for panel in axes:
        panel.set_xscale("log")
        panel.set_xticks(ticks := [0.05, 0.1, 0.2, 0.5, 1, 2], [f"{tick:g}" for tick in ticks])
        panel.set_xlim(budgets[0], budgets[-1])
        panel.minorticks_off()
        panel.grid(color="#dddddd", linewidth=0.7)
        panel.set_xlabel("at most so many milliseconds an image (RTX 4090)")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy on the other 25,000 images (%)")
    axes[1].set_ylabel("points above committee")
    axes[1].set_ylim(-4, 1)
    axes[0].legend(loc="lower right", fontsize=9, frameon=False)
    splits = len(of(rows, OURS, *SHOWN))
    figure.suptitle(
        f"Fourteen ImageNet models: chosen on 25,000 images, evaluated on 25,000 others; "
        f"mean of {splits} {'split' if splits == 1 else 'splits'}",
        fontsize=11,
    )
    figure.savefig(FIGURE, metadata={"Software": None})
    pyplot.close(figure)


def curve_of(rows: Sequence[Row]) -> np.ndarray:
    """Return accuracy at each budget in percent, the mean over splits."""
    return 100 * np.mean([np.array(row.curve.split(), float) for row in rows], axis=0)
