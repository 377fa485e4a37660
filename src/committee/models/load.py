"""Loading a model, whatever its source."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from committee.errors import CascadeError, ModelError, PoolFileError, UnknownNameError, require
from committee.models.base import RANDOM, Model, Peekable, Resizable
from committee.models.sources.registry import source_of
from committee.paths import MOVED
from committee.rule.cascade import Cascade
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec

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
    loaded: list[Loaded] = []
    specs = list(specs)
    check_installed(specs)
    for spec in specs:
        loaded.append(resized(spec, loaded) or load_model(spec, allow_code, threads))
    return loaded


def check_installed(specs: Iterable[ModelSpec]) -> None:
    """Refuse models that need packages which are not installed; all are named at once.

    Raises:
        MissingExtraError: If so.
    """
    extras: dict[str, None] = {}
    for spec in specs:
        # An extra is called as the scheme that needs it.
        scheme = spec.source.partition(":")[0]
        exported = scheme != "onnx" and spec.engine == "onnxruntime"
        needs = [scheme, "export" if exported else ""]
        needs.append("safetensors" if spec.weights.lower().endswith(".safetensors") else "")
        extras |= dict.fromkeys(needs)
    require("The pool", *extras)


def resized(spec: ModelSpec, loaded: Iterable[Loaded]) -> Loaded | None:
    """A model made of one that is loaded and has the same weights; None if there is none.

    Raises:
        ModelError: If those weights do not take inputs of that size.
    """
    for model, own in loaded:
        if own.weights_key != spec.weights_key:
            continue
        if own.preprocessing.shape == spec.preprocessing.shape:
            # Blocks of views, or crops, of one size need no model of their own.
            return _known(model, spec)
        shared = model.at(spec) if isinstance(model, Resizable) else None
        if shared is not None:
            return _known(shared, spec)
    return None


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
    _check_unchanged(spec, model.fingerprint)
    known = replace(spec, fingerprint=model.fingerprint)
    given = any(cost.unit == "macs" for cost in spec.costs)
    if not given and model.macs is not None:
        recipe = spec.preprocessing
        known = known.with_cost(
            Cost(model.macs * recipe.inputs, "macs", "counted", f"one {recipe.sample}")
        )
    return model, known


def check_unloaded(spec: ModelSpec, allow_code: Collection[str] = ()) -> None:
    """Notice that a model is missing or has changed, without loading it, as far as that can be.

    Of ONNX files the fingerprint is compared. Of others it is that of the loaded weights, and only
    a missing file of weights, an unknown scheme or code that may not run is noticed.

    Args:
        spec: The model.
        allow_code: Python files and modules that may be run, as the user named them.

    Raises:
        ModelError: If something is wrong.
        UntrustedCodeError: If it needs code that is not allowed.
    """
    try:
        source = source_of(spec.source)
    except PoolFileError as error:
        raise ModelError(f"model {spec.name!r}: {error}") from None
    if spec.weights not in ("", RANDOM) and not Path(spec.weights).is_file():
        raise ModelError(f"model {spec.name!r}: no file {spec.weights}. {MOVED}")
    known = source.peek(spec, allow_code) if isinstance(source, Peekable) else None
    if known is not None:
        _check_unchanged(spec, known)


def _check_unchanged(spec: ModelSpec, fingerprint: str) -> None:
    if spec.fingerprint not in ("", fingerprint):
        raise ModelError(
            f"model {spec.name!r}: {spec.source} has changed since: fingerprint was "
            f"{spec.fingerprint}, is {fingerprint}. Restore it, or predict and search again"
        )


def specs_of(cascade: Cascade, where: str = "cascade") -> dict[str, ModelSpec]:
    """How each model of a cascade is loaded, by name, in the order in which they run.

    Raises:
        CascadeError: If the cascade does not say how a model is loaded.
    """
    missing = [name for name in cascade.names if name not in cascade.models]
    if missing:
        raise CascadeError(
            f"{where}: does not say how to load {', '.join(missing)}. Name the pool file that "
            "lists its models: --pool POOL.toml; in Python "
            'committee.models.read_pool_file("POOL.toml").described(cascade)'
        )
    return {n: ModelSpec.from_json(n, cascade.models[n], where) for n in cascade.names}
