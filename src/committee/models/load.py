"""Loading a model, whatever its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from committee.cost import Cost
from committee.errors import ModelError, PoolFileError, UnknownNameError
from committee.models.base import Model, Resizable
from committee.models.sources import source_of
from committee.models.spec import ModelSpec

Loaded = tuple[Model, ModelSpec]


def load_models(
    specs: Iterable[ModelSpec], allow_code: Collection[str] = (), threads: int = 0
) -> list[Loaded]:
    """Load models; those that are one set of weights are loaded once and share one copy of it.

    Sources whose weights depend on the size of the input load each size by itself: vision
    transformers of timm and torchvision, whose positions are interpolated, and modules that run as
    graphs.

    Args:
        specs: What to load.
        allow_code: As of :func:`load_model`, and so is all else.
        threads: See there.

    Returns:
        For each spec what :func:`load_model` returns.
    """
    held: dict[tuple[Any, ...], Model] = {}
    loaded = []
    for spec in specs:
        first = held.get(spec.weights_key)
        # Blocks of views, or crops, of one size need no model of their own.
        alike = (*spec.weights_key, spec.preprocessing.shape)
        shared = held.get(alike)
        if shared is None and isinstance(first, Resizable):
            shared = first.at(spec)
        loaded.append(
            load_model(spec, allow_code, threads) if shared is None else _known(shared, spec)
        )
        held.setdefault(spec.weights_key, loaded[-1][0])
        held.setdefault(alike, loaded[-1][0])
    return loaded


def load_model(spec: ModelSpec, allow_code: Collection[str] = (), threads: int = 0) -> Loaded:
    """Load a model.

    Args:
        spec: What to load.
        allow_code: Python files and modules that may be run, as the user named them.
        threads: How many threads the model may use; 0 leaves the choice to its engine.

    Returns:
        The model, and its spec with fingerprint and what costs can be counted.

    Raises:
        ModelError: If it cannot be loaded, or is not the one that the spec's fingerprint names.
        UntrustedCodeError: If it needs code that is not allowed.
    """
    try:
        model = source_of(spec.source).load(spec, threads, allow_code)
    except (PoolFileError, UnknownNameError) as error:
        # These are worded for a pool file, whose reader says whose they are.
        raise ModelError(f"model {spec.name!r}: {error}") from None
    return _known(model, spec)


def _known(model: Model, spec: ModelSpec) -> Loaded:
    """The model and what loading it told; refused if it is not the one of the fingerprint."""
    if spec.fingerprint not in ("", model.fingerprint):
        raise ModelError(
            f"model {spec.name!r}: {spec.source} has changed since: fingerprint was "
            f"{spec.fingerprint}, is {model.fingerprint}. Restore it, or predict and search again"
        )
    known = replace(spec, fingerprint=model.fingerprint)
    given = any(cost.unit == "macs" for cost in spec.costs)
    if not given and model.macs is not None:
        recipe = spec.preprocessing
        known = known.with_cost(
            Cost(model.macs * recipe.inputs, "macs", "counted", f"one {recipe.sample}")
        )
    return model, known
