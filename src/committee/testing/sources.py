"""The contract of a source of models, as a test."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from committee.models.base import outputs_of
from committee.models.load import load_model, source_of
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

# Outputs of a model may differ by this share of the largest when the batch has another size.
_TOLERANCE = 1e-4


def check_source(spec: ModelSpec, allow_code: Collection[str] = (), seed: int = 0) -> None:
    """Check that a source, and one model of it, keep :class:`committee.models.base.Source`.

    Args:
        spec: A model of that source, without a fingerprint; a small one makes a quick test.
        allow_code: Python files and modules that may be run.
        seed: Of the inputs that the model is run on.

    Raises:
        AssertionError: If a part of the contract is broken; the line says which.
    """
    _check_text(spec)
    _check_published(spec)
    _check_model(spec, allow_code, seed)


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
    source = source_of(spec.source)
    published = dict(source.published(spec.text, None))
    known = {field.name for field in fields(Preprocessing)}
    _require(set(published) <= known, "published() states fields of Preprocessing only")
    if "size" in published:
        Preprocessing.from_json(published)
        wanted = spec.preprocessing.size
        sized = {**source.published(spec.text, wanted), "size": wanted}
        _require(sized.keys() == published.keys(), "the size changes no other field")


def _check_model(spec: ModelSpec, allow_code: Collection[str], seed: int) -> None:
    model, known = load_model(spec, allow_code)
    _require(len(model.fingerprint) == 16, "a fingerprint has sixteen hexadecimal digits")
    for count in (model.macs, model.parameters):
        _require(count is None or (type(count) is int and count >= 0), "counts are whole or None")
    stored = ModelSpec.from_json(spec.name, json.loads(json.dumps(known.to_json())), "here")
    again, _ = load_model(stored, allow_code)  # refused if the fingerprint differs
    recipe = spec.preprocessing
    shape = (3, *recipe.shape)
    batch = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    before = batch.copy()
    model(batch)
    _require(np.array_equal(batch, before), "inputs are left as they are")
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


def _require(holds: bool, contract: str) -> None:
    if not holds:
        raise AssertionError(f"committee.models.base.Source: {contract}")
