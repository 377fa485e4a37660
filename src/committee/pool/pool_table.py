"""The table of a pool's models, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping

from committee.pool.pool_model import PoolModel
from committee.pool.table import Column, Table
from committee.text import human_cost


def pool_table(title: str, models: Mapping[str, PoolModel]) -> Table:
    """Return what is known of each model: costs with their source, family and calibration."""

    def cost(model: PoolModel, unit: str) -> str | None:
        own = next((each for each in model.spec.costs if each.unit == unit), None)
        return None if own is None else f"{human_cost(own.value, unit)}, {own.source}"

    units = dict.fromkeys(each.unit for model in models.values() for each in model.spec.costs)
    columns = [
        Column("model", lambda model: model.spec.name),
        *(Column(unit, lambda model, unit=unit: cost(model, unit)) for unit in units),  # type: ignore[misc]
    ]
    if any(model.spec.family for model in models.values()):
        columns.append(Column("family", lambda model: model.spec.family))
    if any(model.calibration for model in models.values()):
        columns.append(Column("calibrated", lambda model: "yes" if model.calibration else None))
    return Table(title, tuple(columns), list(models.values()))
