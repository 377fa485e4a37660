"""The compiled part gives the same statistics as the definition, to the last sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import committee as cm
from committee import Calibration, Pool
from committee.arrays import Array
from committee.pool.metrics import TOP_1
from committee.pool.prefixes import PrefixSource, prefixes_of
from committee.rule.cascade import NEVER
from committee.rule.scores import max_prob
from committee.selection import approximations
from committee.selection.approximations import _compiled
from committee.selection.evaluate_many import evaluate_all
from committee.selection.statistics import PrefixTable, prefix_table
from strategies import CONFIDENCES, RULES, calibrated_pools, pools, random_pool

native = approximations._native
needs_compiled = pytest.mark.skipif(
    native is None, reason="the compiled part is not there; no compiler was at hand"
)
rules = pytest.mark.parametrize(("kind", "combine", "confidence"), RULES)


@pytest.fixture(params=native.instruction_sets() if native else [])
def instruction_set(request):
    before = native.use(request.param)
    yield request.param
    native.use(before)


def plainly(monkeypatch, compute):
    with monkeypatch.context() as patch:
        patch.setattr(approximations, "_native", None)
        return compute()


def every_prefix(rule: PrefixSource):
    names = rule.pool.names
    sets = [tuple(names[: k + 1]) for k in range(len(names))]
    sets += [(name,) for name in names] + [(a, b) for a in names for b in names if a != b]
    return list(dict.fromkeys(rule.key(each) for each in sets))


def plain_table(rule: PrefixSource, monkeypatch, grid: int) -> tuple[PrefixTable, list[Array]]:
    """The statistics without the compiled part, and every threshold of each prefix."""

    def compute():
        table = prefix_table(rule, every_prefix(rule), grid)
        widths = zip(table.rows, table.widths, strict=True)
        return table, [table.thresholds(key, np.arange(width - 1)) for key, width in widths]

    return plainly(monkeypatch, compute)


def same_tables(rule: PrefixSource, monkeypatch, grid: int = 7, threads: int = 1, plain=None):
    slow, thresholds = plain or plain_table(rule, monkeypatch, grid)
    fast = prefix_table(rule, list(slow.rows), grid, threads=threads)
    np.testing.assert_array_equal(fast.values, slow.values)
    np.testing.assert_array_equal(fast.widths, slow.widths)
    np.testing.assert_array_equal(fast.passed, slow.passed)
    for key, expected in zip(slow.rows, thresholds, strict=True):
        np.testing.assert_array_equal(fast.thresholds(key, np.arange(len(expected))), expected)


@needs_compiled
@rules
@settings(max_examples=3)
@given(data=st.data())
def test_small_pools_full_of_ties(kind, combine, confidence, data):
    raw, calibrated = (data.draw(each(kind, max_samples=12)) for each in (pools, calibrated_pools))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for pool in (raw, calibrated):
            same_tables(prefixes_of(pool, confidence, combine), monkeypatch)


HARD = {
    "ordinary": lambda r, z: z,
    "sure": lambda r, z: 12 * z,
    "so sure that probabilities round to 1": lambda r, z: 30 * z,
    "beyond what single precision can hold": lambda r, z: 400 * z,
    "beyond all exponents": lambda r, z: 1e8 * z,
    "coarse": lambda r, z: np.round(z),
    "half precision": lambda r, z: z.astype(np.float16),
    "double precision": lambda r, z: z.astype(np.float64) + 1e-9 * r.normal(size=z.shape),
    "nearly equal": lambda r, z: 1e-6 * z,
    "far from zero": lambda r, z: z + 3000,
    "one class far above": lambda r, z: z + 80 * (np.arange(z.shape[1]) == 1),
    "the same twice": lambda r, z: np.concatenate([z[::2], z[::2]])[: len(z)],
}


@pytest.fixture(scope="module")
def plain_tables():
    """Tables of hard pools without the compiled part, which instruction sets do not change."""
    return {}


MEANS = ["mean_logits", "mean_probabilities", "last"]
# Every kind of hardness with every confidence, and with every combination.
HARD_RULES = [
    (hard, MEANS[(i + j) % 3], confidence)
    for i, hard in enumerate(HARD)
    for j, confidence in enumerate(CONFIDENCES)
]


@needs_compiled
@pytest.mark.parametrize(("hard", "combine", "confidence"), HARD_RULES)
def test_hard_pools(instruction_set, hard, combine, confidence, monkeypatch, plain_tables):
    random = np.random.default_rng(len(hard))
    shape = (100, 37)
    outputs = {
        name: HARD[hard](random, random.normal(size=shape).astype(np.float32)) for name in "abc"
    }
    labels = random.integers(0, shape[1], shape[0])
    pool = Pool.from_arrays(labels, outputs, kind="logits")
    rule, case = prefixes_of(pool, confidence, combine), (combine, confidence, hard)
    if case not in plain_tables:
        plain_tables[case] = plain_table(rule, monkeypatch, grid=100)
    same_tables(rule, monkeypatch, grid=100, plain=plain_tables[case])


CALIBRATIONS = {
    "temperature": Calibration.of_temperature(1.7),
    "so cold that probabilities round to 1": Calibration.of_temperature(1 / 64),
    "platt": Calibration("platt", (0.3, 1.4, 2.5), (-5.0, -1.5)),
}


@needs_compiled
@pytest.mark.parametrize(
    ("calibration", "combine", "confidence"),
    # Every calibration with every confidence, and with every combination.
    [
        (calibration, MEANS[(i + j) % 3], confidence)
        for i, calibration in enumerate(CALIBRATIONS)
        for j, confidence in enumerate(CONFIDENCES)
    ],
)
def test_hard_calibrated_pools(calibration, combine, confidence, monkeypatch):
    random = np.random.default_rng(3)
    outputs = {name: random.normal(size=(300, 37)).astype(np.float32) for name in "abcd"}
    pool = Pool.from_arrays(random.integers(0, 37, 300), outputs, kind="logits")
    # One model stays as it is: on the same scale as the others it no longer is.
    pool = pool.with_calibrations(dict.fromkeys("abc", CALIBRATIONS[calibration]))
    monkeypatch.setattr(approximations, "_WORK", 1 << 14)
    same_tables(prefixes_of(pool, confidence, combine), monkeypatch, grid=100, threads=2)


@needs_compiled
@pytest.mark.parametrize("confidence", CONFIDENCES[:3])
def test_probabilities_of_many_classes(instruction_set, confidence, monkeypatch):
    random = np.random.default_rng(1)
    outputs = {name: random.dirichlet(np.full(333, 0.01), 200) for name in "abc"}
    pool = Pool.from_arrays(random.integers(0, 333, 200), outputs, kind="probabilities")
    assert _compiled(prefixes_of(pool, confidence, "mean_probabilities"))
    same_tables(prefixes_of(pool, confidence, "mean_probabilities"), monkeypatch, grid=100)


@needs_compiled
def test_threads_and_chunks_make_no_difference(monkeypatch):
    pool = random_pool(seed=1, models=5, samples=501, classes=20)
    monkeypatch.setattr(approximations, "_WORK", 1 << 10)
    monkeypatch.setattr(approximations, "_SETS", 7)
    same_tables(prefixes_of(pool, "max_prob", "mean_logits"), monkeypatch, grid=50, threads=3)


@needs_compiled
def test_a_registered_confidence_is_not_taken_for_a_built_in():
    pool = random_pool(seed=1, models=2, samples=9)
    assert _compiled(prefixes_of(pool, "max_prob", "mean_logits"))
    cm.register_confidence("second_logit", lambda z, kind: -np.sort(np.float64(z), axis=1)[:, -2])
    assert not _compiled(prefixes_of(pool, "second_logit", "mean_logits"))
    assert len(cm.search(pool, 2, confidence="second_logit"))


@needs_compiled
@settings(max_examples=40)
@given(st.sampled_from(RULES), st.data())
def test_search_is_the_same_without_the_compiled_part(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_models=4, max_samples=9))

    def members():
        front = cm.search(pool, len(pool.names), combine=combine, confidence=confidence, grid=5)
        return [(m.cascade, m.evaluation) for m in front]

    fast = members()
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert plainly(monkeypatch, members) == fast


@settings(max_examples=50)
@given(st.sampled_from(RULES), st.data())
def test_many_are_evaluated_as_each_by_itself(rule, data):
    kind, combine, confidence = rule
    pool, other = data.draw(st.one_of(pools(kind), calibrated_pools(kind))), data.draw(pools(kind))
    front = cm.search(pool, combine=combine, confidence=confidence, grid=4)
    cascades = [m.cascade for m in front]
    assert evaluate_all(cascades, pool) == [m.evaluation for m in front]
    assert evaluate_all(cascades, pool) == [cm.evaluate(c, pool) for c in cascades]
    # Calibrated and raw ones together, and one model that is either.
    cascades += [replace(c, calibrations={}) for c in cascades]
    assert evaluate_all(cascades, pool) == [cm.evaluate(c, pool) for c in cascades]
    shared = [c for c in cascades if set(c.names) <= set(other.names)]
    assert evaluate_all(shared, other) == [cm.evaluate(c, other) for c in shared]


def test_three_stages_are_evaluated_as_each_by_itself():
    # Fronts of small pools full of ties have few of them.
    pool = random_pool(seed=0, models=3, samples=40)
    cascades = [m.cascade for m in cm.search(pool, 3, grid=6)]
    assert max(len(each.stages) for each in cascades) == 3
    assert evaluate_all(cascades, pool) == [cm.evaluate(c, pool) for c in cascades]


def test_thresholds_of_others_are_reached_as_written():
    pool = random_pool(seed=2, models=3, samples=60)
    exact = max_prob(pool.outputs["a"].values)
    thresholds = [-np.inf, *exact[:20], *np.nextafter(exact[:20], 1), 0.5, NEVER]
    cascades = [cm.Cascade.of(["a", "b"], [t]) for t in thresholds]
    assert evaluate_all(cascades, pool) == [cm.evaluate(c, pool) for c in cascades]


@pytest.mark.parametrize(
    "metric",
    [TOP_1, cm.weighted(np.linspace(0.1, 3, 60))],
    ids=["top-1", "weighted"],
)
def test_statistics_that_are_known_are_taken_over_to_the_bit(metric):
    pool = random_pool(seed=3, models=4, samples=60)
    rule = prefixes_of(pool, "max_prob", "mean_logits", metric)
    keys = every_prefix(rule)
    some = prefix_table(rule, keys[1::2], 7)
    whole, again = prefix_table(rule, keys, 7), prefix_table(rule, keys, 7, known=some)
    assert again.rows == whole.rows
    for field in ("values", "passed", "widths"):
        assert getattr(again, field).dtype == getattr(whole, field).dtype
        np.testing.assert_array_equal(getattr(again, field), getattr(whole, field))
    for key, row in whole.rows.items():
        numbers = np.arange(whole.widths[row] - 1)
        np.testing.assert_array_equal(
            again.thresholds(key, numbers), whole.thresholds(key, numbers)
        )
