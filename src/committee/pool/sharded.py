"""Pools of several shards, which are opened one after another, so that no memory need hold all.

What search and evaluation ask of such a pool are counts, which add up over its shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NoReturn, TypeVar

from committee.arrays import Array
from committee.errors import CascadeError
from committee.pool.metrics import Metric
from committee.pool.pool import Made, Pool
from committee.pool.prefixes import Key, PrefixSource, prefixes_of
from committee.rule.calibration import Calibration
from committee.rule.combinations import DEFAULT_COMBINE

Opened = TypeVar("Opened")
# Maps a function over the shards of a pool, in any order and in any process.
Runs = Callable[[Callable[[Any], Opened], Sequence[Any]], Iterable[Opened]]


@dataclass(frozen=True, eq=False, repr=False)
class ShardedPool(Pool):
    """A pool whose rows are in shards; its models have no outputs of their own.

    Args:
        places: Where each shard is.
        open_shard: Opens the shard at a place as a pool. Other processes may call it.
        run: Maps a function over places; by default one after another in this process.
    """

    places: tuple[Any, ...] = field(kw_only=True)
    open_shard: Callable[[Any], Pool] = field(kw_only=True)
    run: Runs[Any] = field(kw_only=True, default=map)

    def __post_init__(self) -> None:
        self.layout.check_names(self.models)

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`Pool`; copies among the samples of shards are not looked for."""
        return self.samples.notes

    def each(self, function: Callable[[Pool], Made]) -> Iterator[Made]:
        """See :class:`Pool`."""
        opened = partial(_on_shard, self.open_shard, self.names, self.calibrations, function)
        yield from self.run(opened, self.places)

    def require_rows(self, what: str) -> NoReturn:
        """See :class:`Pool`."""
        raise CascadeError(
            f"{what}: needs samples one by one, and of shards only counts are known. Take one "
            "store, of fewer samples"
        )

    def labelled_by(self, models: str | Sequence[str], combine: str | None = None) -> NoReturn:
        """Refuse labels that the shards do not have."""
        self.require_rows("agreement with a model")

    def rows(self, index: Any, split: str) -> NoReturn:
        """Refuse a part of the samples."""
        self.require_rows("a part of the samples")


def _on_shard(
    open_shard: Callable[[Any], Pool],
    names: Sequence[str],
    calibrations: Mapping[str, Calibration],
    function: Callable[[Pool], Made],
    place: Any,
) -> Made:
    return function(open_shard(place).only(names).with_calibrations(calibrations))


@dataclass(frozen=True, eq=False)
class _ShardedPrefixes(PrefixSource):
    """Prefixes of the models of a pool in shards; each shard has its own."""

    by_row: ClassVar[bool] = False

    pool: ShardedPool

    @property
    def shards(self) -> int:
        """See :class:`PrefixSource`."""
        return len(self.pool.places)

    def each(self, function: Callable[[PrefixSource], Made]) -> Iterator[Made]:
        """See :class:`PrefixSource`."""
        rule = (self.confidence, self.combine, self.metric)
        return self.pool.each(partial(_on_prefixes, rule, function))

    def scores(self, key: Key, rows: Array) -> NoReturn:
        """Refuse single rows, as all that follow."""
        self.pool.require_rows(self.metric.name)

    def values(self, key: Key, rows: Array) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)

    def scored(self, key: Key, rows: Array) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)

    def figure(self, values: Array) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)

    def estimate(self, values: Array) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)

    def difference(self, values: Sequence[Array], others: Sequence[Array]) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)

    def within_chance(self, low: Array, high: Array) -> NoReturn:
        """See :meth:`scores`."""
        self.pool.require_rows(self.metric.name)


def _on_prefixes(
    rule: tuple[str, str, Metric], function: Callable[[PrefixSource], Made], pool: Pool
) -> Made:
    return function(prefixes_of(pool, *rule))


@prefixes_of.register
def _sharded_prefixes(
    pool: ShardedPool,
    confidence: str = "max_prob",
    combine: str | None = None,
    metric: Metric | None = None,
) -> _ShardedPrefixes:
    return _ShardedPrefixes(
        pool,
        pool.confidence_or(confidence),
        combine or DEFAULT_COMBINE[pool.combined_kind],
        metric or pool.metric,
    )
