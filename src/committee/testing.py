"""Contract tests that plug-ins can run on what they bring."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset
from committee.models.base import outputs_of
from committee.models.inputs import RawSamples, inputs_of
from committee.models.load import load_model, source_of
from committee.models.records import RecordBatch
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record

_RECIPE = Preprocessing((8, 8))
_THREADS = 4


def check_data(dataset: Dataset, broken: Sequence[int] = (), recipe: Recipe = _RECIPE) -> None:
    """Check that a data set keeps :class:`committee.data.base.Dataset`.

    Args:
        dataset: A small one: every sample is read several times.
        broken: Rows that cannot be read, to check that they are reported as they should be.
        recipe: The preprocessing of samples; for clips one with views that the data set knows, for
            records a :class:`committee.spec.record.Record`.

    Raises:
        AssertionError: If a part of the contract is broken; the line says which.
    """
    count = len(dataset.samples)
    _require(count > 0, "there is a sample")
    good = np.array([row for row in range(count) if row not in set(broken)], np.int64)
    _check_reading(dataset, good, recipe)
    _check_threads(dataset, good, recipe)
    _check_digests(dataset)
    _check_broken(dataset, good, broken)


def _check_reading(dataset: Dataset, good: Array, recipe: Recipe) -> None:
    whole = _inputs(dataset.read(good), recipe)
    _require(len(whole) == len(good), "read() gives one sample a row")
    _require((whole == _inputs(dataset.read(good), recipe)).all(), "reading again gives the same")
    turned = _inputs(dataset.read(good[::-1]), recipe)
    _require((whole[::-1] == turned).all(), "samples come in the order of the rows")
    alone = [_inputs(dataset.read(good[i : i + 1]), recipe) for i in range(len(good))]
    _require((whole == np.concatenate(alone)).all(), "a sample does not depend on those with it")


def _check_threads(dataset: Dataset, good: Array, recipe: Recipe) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        read = list(threads.map(lambda _: _inputs(dataset.read(good), recipe), range(2 * _THREADS)))
    _require(all((each == read[0]).all() for each in read), "several threads may read at once")


def _check_digests(dataset: Dataset) -> None:
    rows = np.arange(len(dataset.samples))
    digests = np.asarray(dataset.digests(rows))
    _require(digests.dtype == np.uint64, "digests are uint64")
    _require(digests.shape == rows.shape, "digests() gives one number a row")
    _require((digests == dataset.digests(rows)).all(), "a digest does not change by itself")
    turned = np.asarray(dataset.digests(rows[::-1]))
    _require((digests[::-1] == turned).all(), "digests come in the order of the rows")


def _check_broken(dataset: Dataset, good: Array, broken: Sequence[int]) -> None:
    ids = dataset.samples.ids
    for rows in ([*broken], [*broken, *good.tolist()[:1]]) if broken else ():
        try:
            dataset.read(np.array(rows))
        except BrokenSamplesError as error:
            names = [name for name, _ in error.broken]
            expected = [ids[row] for row in broken]
            _require(names == expected, "all that are broken are named, in order")
            _require(all(reason for _, reason in error.broken), "each with its reason")
        else:
            _require(False, "what cannot be read is a BrokenSamplesError")


def _inputs(samples: RawSamples, recipe: Recipe) -> Array:
    """Return inputs (N, …), or (N, views, …) for clips."""
    inputs = inputs_of(samples, recipe)
    if isinstance(inputs, np.ndarray):
        return inputs
    if isinstance(inputs, RecordBatch):
        return np.array([repr([*inputs[row : row + 1].items()]) for row in range(len(inputs))])
    return np.concatenate(list(inputs.parts())).reshape(inputs.shape)


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return all(_equal(one[name], two[name]) for name in one)
    return bool(np.array_equal(one, two)) if isinstance(one, np.ndarray) else bool(one == two)


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"the contract is not kept: {promise}")


# Outputs of a model may differ by this share of the largest when the batch has another size.
_TOLERANCE = 1e-4


def check_source(
    spec: ModelSpec,
    allow_code: Collection[str] = (),
    seed: int = 0,
    records: Sequence[Any] = (),
) -> None:
    """Check that a source, and one model of it, keep :class:`committee.models.base.Source`.

    Args:
        spec: A model of that source, without a fingerprint; a small one makes a quick test.
        allow_code: Python files and modules that may be run.
        seed: Of the inputs that the model is run on.
        records: What a model of records is run on, three at least.

    Raises:
        AssertionError: If a part of the contract is broken; the line says which.
    """
    _check_text(spec)
    _check_published(spec)
    _check_model(spec, allow_code, _some_inputs(spec, seed, records))


def _check_text(spec: ModelSpec) -> None:
    source = source_of(spec.source)
    _require(bool(source.form), "form says how the source is written")
    _require(source.weights <= {"file", "random"}, "weights are of: file, random")
    again = source.located(spec.text, Path("elsewhere"))
    _require(again == spec.text, "what located() returned depends on no folder")
    try:
        source.located("", Path())
    except ValueError:
        return
    _require(False, "located() refuses an empty text with ValueError")


def _check_published(spec: ModelSpec) -> None:
    if spec.does.records:
        return
    source = source_of(spec.source)
    published = dict(source.published(spec.text, None))
    known = {field.name for field in fields(Preprocessing)}
    _require(set(published) <= known, "published() states fields of Preprocessing only")
    if "size" in published:
        Preprocessing.from_json(published)
        wanted = spec.image.size
        sized = {**source.published(spec.text, wanted), "size": wanted}
        _require(sized.keys() == published.keys(), "the size changes no other field")


def _some_inputs(spec: ModelSpec, seed: int, records: Sequence[Any]) -> Array | RecordBatch:
    if isinstance(spec.preprocessing, Record):
        return RecordBatch.of(records[:3], spec.preprocessing)
    shape = (3, *spec.preprocessing.shape)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _check_model(spec: ModelSpec, allow_code: Collection[str], batch: Array | RecordBatch) -> None:
    model, known = load_model(spec, allow_code)
    _require(len(model.fingerprint) == 16, "a fingerprint has sixteen hexadecimal digits")
    for count in (model.macs, model.parameters):
        _require(count is None or (type(count) is int and count >= 0), "counts are whole or None")
    stored = ModelSpec.from_json(spec.name, json.loads(json.dumps(known.to_json())), "here")
    again, _ = load_model(stored, allow_code)  # refused if the fingerprint differs
    given = batch.value(copied=True) if isinstance(batch, RecordBatch) else batch
    before = copy.deepcopy(given)
    model(given)
    _require(_equal(given, before), "inputs are left as they are")
    first = outputs_of(model, known, batch).values
    stored_outputs = first.copy()
    for other in (model, again):
        values = outputs_of(other, known, batch).values
        _require(values.tobytes() == first.tobytes(), "the same input gives the same outputs")
    one_by_one = [outputs_of(model, known, batch[i : i + 1]).values for i in range(3)]
    limit = _TOLERANCE * max(1.0, float(np.abs(first).max()))
    apart = float(np.abs(np.concatenate(one_by_one) - first).max())
    _require(apart <= limit, f"samples do not depend on their batch; apart by {apart:.2g}")
    _require(np.array_equal(first, stored_outputs), "outputs stay when the model runs again")
    if spec.weights == "random":
        other_seed, _ = load_model(replace(spec, seed=spec.seed + 1), allow_code)
        _require(other_seed.fingerprint != model.fingerprint, "another seed is another model")
