"""The paper's own tables add up, but for the cells that are named here.

What is recomputed: each gain, speedup, sum of models, mean cost from exit ratios, total of exit
ratios, and each figure that stands in several tables. A printed figure stands for all that rounds
to it, and a cell adds up when some figures that round to what is printed give it.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[1] / "benchmarks" / "paper"

# Table, row and column of each cell that does not follow from the others within rounding.
DOES_NOT_ADD_UP = {("table_18", "B5/B4+B4", "speedup")}

# "At similar FLOPs" is to mean at most those of the single model (equation 1); of these it is more.
OVER_BUDGET = {
    ("table_13", "R101", "same_cost_macs_billions"),
    ("table_13", "B7", "same_cost_macs_billions"),
    ("table_15", "C0", "macs_billions"),
    ("table_15", "C1", "macs_billions"),
}

Table = list[dict[str, str]]
Tables = dict[str, Table]
Cell = tuple[str, str, str]


@dataclass(frozen=True)
class Rounded:
    """All figures from ``low`` up to ``high``."""

    low: Fraction
    high: Fraction

    def __add__(self, other: Rounded) -> Rounded:
        return Rounded(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Rounded) -> Rounded:
        return Rounded(self.low - other.high, self.high - other.low)

    def __truediv__(self, other: Rounded) -> Rounded:
        return Rounded(self.low / other.high, self.high / other.low)  # of positive figures only

    def meets(self, other: Rounded) -> bool:
        # Ends of which at least one is open: touching is not meeting.
        return self.low < other.high and other.low < self.high


def printed(text: str) -> Rounded:
    """What rounds to a printed figure: ``37`` is from 36.5 up to 37.5."""
    half = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
    return Rounded(Fraction(text) - half, Fraction(text) + half)


def total(figures: Sequence[Rounded]) -> Rounded:
    return Rounded(sum((f.low for f in figures), Fraction(0)), sum(f.high for f in figures))


def mean_cost(exits: Sequence[Rounded], stages: Sequence[Rounded]) -> Rounded:
    """Average cost, from percents that leave at each stage and the costs of the stages.

    The percents sum to 100 exactly, whatever they are rounded to: what their lower ends leave open
    goes to the cheapest prefixes for the least average, to the dearest for the greatest.
    """

    def extreme(prefixes: list[Fraction], order: Sequence[int]) -> Fraction:
        shares = [each.low for each in exits]
        left = 100 - sum(shares)
        for k in order:
            more = min(left, exits[k].high - exits[k].low)
            shares[k] += more
            left -= more
        return sum((s * p for s, p in zip(shares, prefixes, strict=True)), Fraction(0)) / 100

    prefixes = [total(stages[: k + 1]) for k in range(len(stages))]
    order = range(len(stages))
    return Rounded(
        extreme([each.low for each in prefixes], order),
        extreme([each.high for each in prefixes], order[::-1]),
    )


@dataclass(frozen=True)
class Check:
    """A cell, what it says, and what follows from other cells."""

    cell: Cell
    says: Rounded
    follows: Rounded

    @property
    def adds_up(self) -> bool:
        return self.says.meets(self.follows)


def read() -> Tables:
    tables = {}
    for path in sorted(FOLDER.glob("table_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            tables[path.name[: len("table_18")]] = list(csv.DictReader(file))
    return tables


def name(row: dict[str, str]) -> str:
    return "/".join(row[key] for key in ("reference", "cascade", "model", "models") if row.get(key))


def against_reference(tables: Tables) -> Iterator[Check]:
    """Speedups over the first row of the same reference."""
    columns = {
        "table_01": ("latency_ms", False),
        "table_02": ("images_per_second", True),
        "table_04": ("average_macs_billions", False),
        "table_08": ("latency_ms", False),
        "table_09": ("images_per_second", True),
        "table_18": ("macs_billions", False),
    }
    for table, (column, more_is_better) in columns.items():
        single: dict[str, Rounded] = {}
        for row in tables[table]:
            cost = printed(row[column])
            one = single.setdefault(row["reference"], cost)
            if row["speedup"]:
                ratio = cost / one if more_is_better else one / cost
                yield Check((table, name(row), "speedup"), printed(row["speedup"]), ratio)
    # The reference of table 7 is its second row.
    reference = printed(tables["table_07"][1]["macs_billions"])
    for row in tables["table_07"][2:]:
        ratio = reference / printed(row["macs_billions"])
        yield Check(("table_07", name(row), "speedup"), printed(row["speedup"]), ratio)


def beside_single(tables: Tables) -> Iterator[Check]:
    """Gains and speedups in one row with the single model."""
    costs = {
        "table_06": "macs_billions_per_clip",
        "table_13": "macs_billions",
        "table_14": "images_per_second",
    }
    for table, cost in costs.items():
        for row in tables[table]:
            gain = printed(row["same_cost_top1_percent"]) - printed(row["top1_percent"])
            yield Check((table, name(row), "gain_points"), printed(row["gain_points"]), gain)
            speed = printed(row[cost]) / printed(row[f"same_accuracy_{cost}"])
            if table == "table_14":
                speed = printed(row[f"same_accuracy_{cost}"]) / printed(row[cost])
            yield Check((table, name(row), "speedup"), printed(row["speedup"]), speed)
    for row in tables["table_05"]:
        speed = printed(row["reference_macs_billions"]) / printed(row["macs_billions"])
        yield Check(("table_05", name(row), "speedup"), printed(row["speedup"]), speed)
    cascades = {r["cascade"]: r for r in tables["table_15"] if r["cascade"] == r["model"]}
    for row in tables["table_15"]:
        if row["gain_points"]:
            gain = printed(cascades[row["cascade"]]["top1_percent"]) - printed(row["top1_percent"])
            yield Check(("table_15", name(row), "gain_points"), printed(row["gain_points"]), gain)


def single_costs(tables: Tables) -> dict[str, Rounded]:
    rows = tables["table_13"] + tables["table_15"]
    return {r["model"]: printed(r["macs_billions"]) for r in rows if r["model"].startswith("B")}


def committees(tables: Tables) -> Iterator[Check]:
    """Sums over models, and what exit ratios say."""
    one = single_costs(tables)
    days = {row["model"]: printed(row["training_tpu_days"]) for row in tables["table_10"]}
    for row in tables["table_11"]:
        models = row["model"].split("+")
        for column, costs in (("macs_billions", one), ("training_tpu_days", days)):
            follows = total([costs[model] for model in models])
            yield Check(("table_11", name(row), column), printed(row[column]), follows)
    hundred = Rounded(Fraction(100), Fraction(100) + Fraction(1, 10**9))
    worst = {}
    for row in tables["table_16"]:
        exits = [printed(row[f"exit_{k}_percent"]) for k in range(1, 5) if row[f"exit_{k}_percent"]]
        if not exits:
            continue
        stages = [one[model] for model in row["models"].split("+")]
        assert len(stages) == len(exits), row
        yield Check(("table_16", name(row), "exit ratios"), hundred, total(exits))
        cell = ("table_16", name(row), "macs_billions")
        yield Check(cell, printed(row["macs_billions"]), mean_cost(exits, stages))
        worst[row["reference"], row["macs_billions"]] = total(stages)
    for row in tables["table_04"]:
        key = (row["reference"], row["average_macs_billions"])
        if key in worst:
            says = printed(row["worst_macs_billions"])
            yield Check(("table_04", name(row), "worst_macs_billions"), says, worst[key])


def checks(tables: Tables) -> list[Check]:
    return [*against_reference(tables), *beside_single(tables), *committees(tables)]


def over_budget(tables: Tables) -> set[Cell]:
    """Cascades at equal cost that cost more than the single model."""
    found = set()
    for table, cost in (("table_06", "macs_billions_per_clip"), ("table_13", "macs_billions")):
        for row in tables[table]:
            if Fraction(row[f"same_cost_{cost}"]) > Fraction(row[cost]):
                found.add((table, row["model"], f"same_cost_{cost}"))
    for row in tables["table_14"]:
        if Fraction(row["same_cost_images_per_second"]) < Fraction(row["images_per_second"]):
            found.add(("table_14", row["model"], "same_cost_images_per_second"))
    scaled = {row["model"]: Fraction(row["macs_billions"]) for row in tables["table_15"]}
    for k in range(8):
        if scaled[f"C{k}"] > scaled[f"B{k}"]:
            found.add(("table_15", f"C{k}", "macs_billions"))
    return found


def repeated(tables: Tables) -> dict[tuple[str, ...], dict[str, set[str]]]:
    """Figures that stand in several tables: what is meant -> figure -> tables that print it."""
    found: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def add(table: str, what: tuple[str, ...], figure: str) -> None:
        found[what][figure].add(table)

    singles = {row["model"] for row in tables["table_13"]} | {"B0"}
    for table, rows in tables.items():
        for row in rows:
            model = row.get("model", row.get("models", ""))
            single = model in singles and "same_cost_as" not in row and table != "table_05"
            for column in ("top1_percent", "macs_billions", "training_tpu_days"):
                if single and row.get(column):
                    add(table, (model, column), row[column])
            if table == "table_04" and single:
                add(table, (model, "macs_billions"), row["average_macs_billions"])
                add(table, (model, "macs_billions"), row["worst_macs_billions"])
    for row in tables["table_05"]:
        for column in ("top1_percent", "macs_billions"):
            add("table_05", (row["reference"], column), row[f"reference_{column}"])
    for row in tables["table_13"]:  # the cascades of figure 5
        for aim in ("same_cost", "same_accuracy"):
            for column in ("top1_percent", "macs_billions"):
                add("table_13", (aim, row["model"], column), row[f"{aim}_{column}"])
        add("table_13", ("same_accuracy", row["model"], "speedup"), row["speedup"])
    for row in tables["table_03"]:
        for column in ("top1_percent", "macs_billions"):
            what = ("same_cost", row["same_cost_as"]) if row["same_cost_as"] else (row["model"],)
            add("table_03", (*what, column), row[column])
    for row in tables["table_15"]:
        if row["model"].endswith(("-L", "-XL", "Large")):
            for column in ("top1_percent", "macs_billions"):
                add("table_15", (row["model"], column), row[column])
    cascades = {  # which rows are those cascades again
        "table_01": lambda row: row["model"] == "cascade",
        "table_02": lambda row: row["model"] == "cascade",
        "table_04": lambda row: row["model"] == "without",
        "table_08": lambda row: row["model"] == "cascade",
        "table_09": lambda row: row["model"] == "cascade",
    }
    for table, chosen in cascades.items():
        for row in filter(chosen, tables[table]):
            what = ("same_accuracy", row["reference"])
            add(table, (*what, "top1_percent"), row["top1_percent"])
            if table == "table_04":
                add(table, (*what, "macs_billions"), row["average_macs_billions"])
                add(table, (*what, "speedup"), row["speedup"])
            for column in ("latency_ms", "images_per_second"):
                if column in row:
                    add(table, (*what, column), row[column])
    for table in ("table_16", "table_18"):
        for row in tables[table]:
            for column in ("top1_percent", "macs_billions", "speedup"):
                if "+" in row["models"] and row.get(column):
                    add(table, (row["models"], column), row[column])
    return found


def test_all_tables_are_there():
    assert list(read()) == [f"table_{number:02}" for number in range(1, 19)]


def test_cells_add_up_but_for_the_named_ones():
    found = checks(read())
    assert {check.cell for check in found if not check.adds_up} == DOES_NOT_ADD_UP


def test_every_derived_column_is_checked():
    """Each printed gain and speedup, each sum and each total has its check, once."""
    tables = read()
    cells = [check.cell for check in checks(tables)]
    assert len(set(cells)) == len(cells)
    derived = {
        (table, column)
        for table, rows in tables.items()
        for column in ("speedup", "gain_points")
        for row in rows
        if row.get(column)
    }
    for table, column in derived:
        expected = sum(1 for row in tables[table] if row[column])
        assert sum(1 for c in cells if c[0] == table and c[2] == column) == expected, table
    assert sum(1 for c in cells if c[2] == "exit ratios") == 9
    assert sum(1 for c in cells if c[0] == "table_16" and c[2] == "macs_billions") == 9
    assert sum(1 for c in cells if c[2] == "worst_macs_billions") == 4
    assert sum(1 for c in cells if c[0] == "table_11") == 10


def raised(figure: str) -> str:
    """A printed figure, five in its last place more."""
    places = len(figure.partition(".")[2])
    return str(Decimal(figure) + Decimal(5).scaleb(-places))


@pytest.mark.parametrize("cell", [each.cell for each in checks(read())], ids="-".join)
def test_a_wrong_figure_is_noticed(cell):
    tables = read()
    table, named, column = cell
    column = "exit_1_percent" if column == "exit ratios" else column
    row = next(row for row in tables[table] if name(row) == named)
    row[column] = raised(row[column])
    assert cell in {check.cell for check in checks(tables) if not check.adds_up}


def test_cascades_that_cost_more_than_the_model_they_stand_beside():
    assert over_budget(read()) == OVER_BUDGET


def test_guaranteed_cascades_cost_less_than_the_single_model_at_worst():
    for _, _, guaranteed in zip(*[iter(read()["table_04"])] * 3, strict=True):
        single = next(r for r in read()["table_04"] if r["model"] == guaranteed["reference"])
        assert guaranteed["model"] == "with"
        assert Fraction(guaranteed["worst_macs_billions"]) < Fraction(single["worst_macs_billions"])


def test_figures_in_several_tables_are_the_same():
    found = repeated(read())
    assert {what: dict(figures) for what, figures in found.items() if len(figures) > 1} == {}
    several = [what for what, figures in found.items() if len(set.union(*figures.values())) > 1]
    assert ("B7", "macs_billions") in several
    assert ("same_accuracy", "B7", "latency_ms") in several
    assert ("B3+B5+B5+B5", "macs_billions") in several


def test_spread_over_trainings_is_possible():
    """Counts are those of pairs of 8, means lie within, deviations fit between the ends."""
    rows = read()["table_17"]
    pairs = {"single B5": 8, "2-B5 ensembles": len(list(combinations(range(8), 2)))}
    pairs["2-B5 cascades"] = len(list(permutations(range(8), 2)))
    one = single_costs(read())["B5"]
    for row in rows:
        assert int(row["count"]) == pairs[row["committee"]]
        low, high, mean = (Fraction(row[key]) for key in ("min", "max", "mean"))
        assert low < mean < high
        # Bhatia and Davis: no spread between these ends around this mean is wider.
        assert printed(row["std"]).low ** 2 < (high - mean) * (mean - low)
        if row["figure"] == "average macs":
            assert one.low < low < high < total([one, one]).high


@given(st.decimals(min_value="0.01", max_value=1000, places=6), st.integers(0, 3))
def test_a_figure_lies_within_what_it_is_printed_as(figure, places):
    shown = f"{figure:.{places}f}"
    exact, meant = Fraction(figure), printed(shown)
    # Decimals round halves to even, so that the upper end belongs as well.
    assert meant.low <= exact <= meant.high


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=4), st.data())
def test_mean_cost_of_exact_exits_lies_within_that_of_printed_ones(weights, data):
    exits = [Fraction(100 * weight, sum(weights)) for weight in weights]
    costs = [Fraction(data.draw(st.integers(1, 400)), 10) for _ in weights]
    exact = sum(share * sum(costs[: k + 1]) for k, share in enumerate(exits)) / 100
    shown = [printed(f"{float(share):.1f}") for share in exits]
    found = mean_cost(shown, [printed(f"{float(cost):.1f}") for cost in costs])
    assert found.low <= exact <= found.high
