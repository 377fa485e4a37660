"""Pools like another, with other facts of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from committee import Pool
from committee.rule.outputs import Outputs
from committee.spec.cost import Cost
from committee.spec.model import KnownModel


def with_specs(pool: Pool, specs: Mapping[str, KnownModel]) -> Pool:
    models = {n: replace(m, spec=specs.get(n, m.spec)) for n, m in pool.models.items()}
    return replace(pool, models=models)


def with_costs(pool: Pool, table: Mapping[str, Iterable[Cost]]) -> Pool:
    specs = {n: replace(s, costs=tuple(table.get(n, s.costs))) for n, s in pool.specs.items()}
    return with_specs(pool, specs)


def with_families(pool: Pool, families: Mapping[str, str]) -> Pool:
    return with_specs(
        pool, {n: replace(s, family=families.get(n, "")) for n, s in pool.specs.items()}
    )


def with_outputs(pool: Pool, outputs: Mapping[str, Outputs]) -> Pool:
    models = {n: replace(m, outputs=outputs.get(n, m.outputs)) for n, m in pool.models.items()}
    return replace(pool, models=models)
