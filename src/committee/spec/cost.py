"""Cost: what one sample costs, always with a unit and the conditions of the measurement."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from committee.errors import CostError, UnknownNameError, UnreadableError
from committee.reading import plain, typed
from committee.text import human_cost

# The conditions of a cost that differs from sample to sample.
MEAN = "mean over samples"
_ADD = (
    "Add what is missing: committee costs STORE TABLE.csv; or repeat the import or predict with "
    "costs (a column of costs by sample counts for its own split only)"
)


@dataclass(frozen=True)
class Cost:
    """What one sample costs in one model.

    Args:
        value: Not negative, finite.
        unit: ``macs``, ``latency_ms``, ``ms_per_sample``, ``dollars`` or any unit of the user's.
        source: Where the value comes from: ``given``, ``counted``, ``measured``.
        conditions: What it holds under. Of measured costs what the models of a pool share:
            processor, threads, batch size; costs measured under others cannot be compared.
        detail: What is the model's own: input size, engine, versions.

    Raises:
        CostError: If the value is negative or not finite, or there is no unit.
    """

    value: float
    unit: str
    source: str = "given"
    conditions: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            raise CostError(f"Cost: {self.value} has no unit; name one, for example 'macs'")
        # Of a file a whole number may have more digits than any float.
        if not 0 <= self.value <= sys.float_info.max:
            value = str(self.value)[:30]
            raise CostError(f"Cost: {value} {self.unit} must be finite and not negative")
        # A whole number of a file would overflow in arithmetic with NumPy.
        object.__setattr__(self, "value", float(self.value))

    def __repr__(self) -> str:
        return f"<Cost: {human_cost(self.value, self.unit)}, {self.source}>"

    def __add__(self, other: Cost) -> Cost:
        if self.unit != other.unit:
            raise CostError(f"Cost: {self.unit} and {other.unit} never add; use one unit")
        return Cost(self.value + other.value, self.unit, "added", self.conditions)

    @classmethod
    def from_json(cls, data: Any) -> Cost:
        """Read what :meth:`to_json` wrote."""
        try:
            return typed("cost", data, cls)
        except (UnreadableError, UnknownNameError) as error:
            raise CostError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """Return the object that a store and a cascade file hold."""
        data: dict[str, Any] = plain(self)
        if not self.detail:
            del data["detail"]
        return data


@dataclass(frozen=True)
class CostTable:
    """The costs of every model of a pool, by unit."""

    costs: Mapping[str, Mapping[str, Cost]]

    @classmethod
    def of(cls, costs: Mapping[str, Iterable[Cost]]) -> CostTable:
        """Build a table from the costs of each model, one a unit."""
        return cls({name: {cost.unit: cost for cost in each} for name, each in costs.items()})

    @property
    def units(self) -> list[str]:
        """Units in which every model has a cost, sorted."""
        tables = [set(each) for each in self.costs.values()]
        return sorted(set.intersection(*tables)) if tables else []

    def unit(self, wanted: str | None = None) -> str:
        """Return the unit to use: the one given, else ``macs``, else the only one."""
        unit = self._chosen(wanted)
        measured = {
            each[unit].conditions: name
            for name, each in self.costs.items()
            if each[unit].source == "measured"
        }
        if len(measured) > 1:
            text = "; ".join(f"{name}: {conditions}" for conditions, name in measured.items())
            raise CostError(
                f"costs: {unit} were measured under different conditions ({text}). Measure all in "
                "one run: committee profile POOL.toml --store STORE"
            )
        return unit

    def _chosen(self, wanted: str | None) -> str:
        if wanted is None:
            if "macs" in self.units or len(self.units) == 1:
                return "macs" if "macs" in self.units else self.units[0]
            if self.units:
                units = ", ".join(self.units)
                raise CostError(
                    f"costs: name a unit, with --unit or in Python unit=; there are: {units}"
                )
            raise CostError(
                f"costs: no unit in which every model has a cost ({self._told()}). {_ADD}"
            )
        missing = sorted(name for name, each in self.costs.items() if wanted not in each)
        if missing:
            have = ", ".join(self.units) or "none"
            raise CostError(
                f"costs: no {wanted!r} for {', '.join(missing)}. Units that all models have: "
                f"{have}. {_ADD}"
            )
        return wanted

    def _told(self) -> str:
        return "; ".join(
            f"{name}: {', '.join(sorted(each)) or 'none'}" for name, each in self.costs.items()
        )

    def values(self, unit: str) -> dict[str, float]:
        """Return what one sample costs in each model, in one unit."""
        unit = self.unit(unit)
        return {name: each[unit].value for name, each in self.costs.items()}
