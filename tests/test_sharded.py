"""Pools in shards: any split of rows into shards gives the figures of one pool, bit for bit."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import BALANCED, Pool, errors, evaluate, search
from committee.pool.order_statistics import order_statistics
from committee.pool.sharded import ShardedPool
from committee.rule.cascade import Cascade
from committee.rule.expected import edge_ranks
from committee.selection.evaluate_many import evaluate_all
from committee.selection.paired import compare
from committee.selection.statistics import percentile_ranks
from strategies import RULES, pools, random_pool


def _rows(pool: Pool, ends: tuple[int, int]) -> Pool:
    return pool.rows(slice(*ends), pool.samples.split)


def in_shards(pool: Pool, cuts: list[int]) -> ShardedPool:
    """The same pool, whose rows are cut into shards; none of them is empty."""
    ends = sorted({0, len(pool), *(cut % len(pool) for cut in cuts)})
    return ShardedPool(
        pool.samples,
        pool.models,
        pool.layout,
        pool.task,
        places=tuple(itertools.pairwise(ends)),
        open_shard=partial(_rows, pool),
    )


def told(front: Any) -> dict[str, Any]:
    """A front as JSON without its times, and without copies, which are not looked for in shards."""
    data = front.to_json()
    data["warnings"] = [each for each in data["warnings"] if "copies" not in each]
    return {**data, "settings": {**data["settings"], "seconds": None}}


@settings(max_examples=60)
@given(st.sampled_from(RULES), st.data())
def test_any_shards_have_the_front_of_all_rows(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_samples=12))
    shards = in_shards(pool, data.draw(st.lists(st.integers(0, 12), max_size=4)))
    options = {"combine": combine, "confidence": confidence, "grid": data.draw(st.integers(1, 5))}
    front, own = (search(each, len(pool.names), **options) for each in (pool, shards))
    assert told(front) == told(own)


@pytest.mark.parametrize("seed", range(4))
def test_any_shards_have_the_figures_of_all_rows(seed):
    pool = random_pool(seed, models=3, samples=700, classes=4)
    shards = in_shards(pool, [1, 100, 101, 650])
    front, own = search(pool), search(shards)
    assert told(front) == told(own)
    for name in pool.names:
        chosen = front.matching(name, within=0.02)
        # The cascade says where its samples exit, by tenths of their scores.
        assert chosen.cascade.expected is not None
        assert chosen.cascade == own.matching(name, within=0.02).cascade
        assert chosen.cascade.expected == own.matching(name, within=0.02).cascade.expected
        assert evaluate(chosen.cascade, pool) == evaluate(chosen.cascade, shards)
        pair = chosen.cascade, front.alone(name)
        assert compare(*pair, pool) == compare(*pair, shards)
        assert evaluate_all(pair, pool) == evaluate_all(pair, shards)


def test_progress_counts_every_pass_over_the_shards():
    pool = random_pool(0, models=2, samples=60, classes=3)
    calls = []
    search(in_shards(pool, [20, 40]), progress=lambda *each: calls.append(each))
    assert [each[1:] for each in calls if each[0] == "prefixes"] == [(i, 9) for i in range(1, 10)]


def test_what_needs_rows_is_refused():
    pool = random_pool(0, models=2, samples=60, classes=3)
    shards = in_shards(pool, [30])
    with pytest.raises(errors.CascadeError, match="balanced accuracy' counts no samples"):
        search(shards, metric=BALANCED)
    for asks in (
        lambda: shards.labelled_by(pool.names[0]),
        lambda: shards.rows(slice(3), "val"),
        lambda: evaluate(Cascade.of(pool.names[:1]), shards, metric=BALANCED),
    ):
        with pytest.raises(errors.CascadeError, match="of shards only counts are known"):
            asks()
    with pytest.raises(errors.TooLargeError, match="counts of 4 sequences"):
        search(shards, max_memory=1e3)


numbers = st.lists(
    st.sampled_from([-np.inf, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 7.0]), min_size=1, max_size=40
)


@settings(max_examples=200)
@given(numbers, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 12))
def test_order_statistics_are_those_of_sorted_numbers(column, cuts, grid):
    parts = np.split(np.array(column), sorted(cut % (len(column) + 1) for cut in cuts))
    ranks = partial(percentile_ranks, grid=grid)
    (found,) = order_statistics(
        lambda function: (function([part]) for part in parts),
        lambda count: ranks(count) if count else np.empty(0, np.int64),
    )
    ranked = np.sort(column)
    wanted = ranked[ranks(len(column))]
    lower = [ranked[ranked < each].max(initial=-np.inf) for each in wanted]
    assert found.values.tolist() == wanted.tolist()
    least = wanted == ranked[0]
    assert np.isnan(found.below[least]).all()
    assert found.below[~least].tolist() == np.array(lower)[~least].tolist()


def test_passes_return_few_numbers_of_many():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=20_000) for _ in range(20)]
    sizes = []

    def each(function):
        made = [function([part]) for part in parts]
        sizes.append(sum(len(own.values) for (own,) in made))
        return iter(made)

    order_statistics(each, partial(percentile_ranks, grid=100))
    assert max(sizes) < 0.15 * sum(map(len, parts))


@pytest.mark.parametrize("count", [1, 2, 9, 10, 45, 100, 1234])
def test_edges_are_the_observations_closest_to_tenths(count):
    for k, rank in enumerate(edge_ranks(count), start=1):
        place = Fraction(k, 10) * count
        nearest = min(range(1, count + 1), key=lambda each, p=place: (abs(each - p), each % 2))
        assert rank + 1 == nearest
