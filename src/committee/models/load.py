"""Loading models, whatever their source."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from committee.errors import CascadeError, ModelError, PoolFileError, UnknownNameError, require
from committee.models.base import RANDOM, Model, Source
from committee.models.columns import OutputNames, columns_of
from committee.paths import MOVED
from committee.rule.cascade import Cascade
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec
from committee.text import first_line

GROUP = "committee.sources"
# The sources of this package, in the same form as those that other packages bring.
_OWN = {
    scheme: EntryPoint(scheme, f"committee.models.sources.{scheme}:{scheme.title()}Source", GROUP)
    for scheme in (
        *("onnx", "python", "pytorchvideo", "sklearn", "timm", "torchvision", "transformers"),
    )
}
_AT = re.compile(r"(.+)@(\d+)(?:x(\d+))?")


def source_of(source: str) -> Source:
    """Return the source that a text such as ``timm:resnet50`` names by its scheme.

    Other packages add schemes by entry points of the group ``committee.sources``: the entry's name
    is the scheme, its value a class without arguments that keeps
    :class:`~committee.models.base.Source`.
    """
    scheme, colon, _ = source.partition(":")
    entries = _OWN if scheme in _OWN else {each.name: each for each in entry_points(group=GROUP)}
    if not colon or scheme not in entries:
        forms = [entry.load().form for entry in _OWN.values()]
        forms += [f"{name}:NAME" for name in sorted(entries.keys() - _OWN.keys())]
        raise PoolFileError(f"source {source!r} must be one of {', '.join(forms)}")
    try:
        made: Source = entries[scheme].load()()
    except Exception as error:
        raise ModelError(
            f"source {source!r}: {entries[scheme].value}, which adds it, cannot be loaded "
            f"({first_line(error)}). Fix or reinstall that package"
        ) from error
    return made


def located(source: str, folder: Path) -> tuple[str, tuple[int, int] | None]:
    """Read the source of a pool file, such as ``timm:mobilenetv2_100@192``.

    Returns:
        The source without ``@R`` and with absolute paths, and the height and width of ``@R`` or
        ``@HxW``; None if there is none.
    """
    own = source_of(source)
    scheme, _, text = source.partition(":")
    size = None
    if at := _AT.fullmatch(text):
        text, height, width = at.groups()
        size = (int(height), int(width or height))
    try:
        return f"{scheme}:{own.located(text, folder)}", size
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise PoolFileError(f"source {source!r} must be {own.form}{why}") from None


Loaded = tuple[Model, ModelSpec]


def load_models(
    specs: Iterable[ModelSpec],
    allow_code: Collection[str] = (),
    threads: int = 0,
    classes: Sequence[str] = (),
) -> list[Loaded]:
    """Load models as :func:`load_model`; those of one set of weights share one copy of it.

    Weights that depend on the input's size are loaded for each size: vision transformers of timm
    and torchvision, whose positions are interpolated, and modules that run as graphs.
    """
    loaded: list[Loaded] = []
    specs = list(specs)
    check_installed(specs)
    for spec in specs:
        own = resized(spec, loaded) or load_model(spec, allow_code, threads, classes)
        loaded.append(own)
        # Where nothing else names the classes, the first model that names its own does.
        classes = classes or labels_of(own[0])
    return loaded


def check_installed(specs: Iterable[ModelSpec]) -> None:
    """Refuse models that need packages which are not installed, and name them all at once."""
    extras: dict[str, None] = {}
    for spec in specs:
        # An extra is called as the scheme that needs it.
        scheme = spec.source.partition(":")[0]
        exported = scheme != "onnx" and spec.engine == "onnxruntime"
        needs = [scheme, "export" if exported else ""]
        needs.append("safetensors" if spec.weights.lower().endswith(".safetensors") else "")
        extras |= dict.fromkeys(needs)
    require("The pool", *extras)


@runtime_checkable
class _Resizable(Protocol):
    """What a model also has if one copy of its weights can serve several sizes."""

    def at(self, spec: ModelSpec) -> Model | None:
        """Return the same weights, not loaded again, as the model of another spec.

        Args:
            spec: Differs from the model's own in name, preprocessing and costs only.

        Returns:
            A model that shares this one's weights in memory; None if its size is part of them.
        """


def resized(spec: ModelSpec, loaded: Iterable[Loaded]) -> Loaded | None:
    """Return a model that shares the weights of a loaded one; None if no loaded one has them."""
    for model, own in loaded:
        if own.weights_key != spec.weights_key:
            continue
        if own.preprocessing.shape == spec.preprocessing.shape:
            # View groups, or crops, of one size need no model of their own.
            return _identified(model, spec)
        shared = model.at(spec) if isinstance(model, _Resizable) else None
        if shared is not None:
            return _identified(shared, spec)
    return None


def load_model(
    spec: ModelSpec,
    allow_code: Collection[str] = (),
    threads: int = 0,
    classes: Sequence[str] = (),
) -> Loaded:
    """Load a model, and bring its outputs into the order of the classes, if these are known.

    0 threads leaves their number to the engine.

    Returns:
        The model, and its spec with its fingerprint, the costs that can be counted, and the order
        of its outputs if that showed only now.

    Raises:
        ModelError: If it cannot be loaded, or is not the one that the spec's fingerprint names.
        UntrustedCodeError: If it needs code that is not allowed.
    """
    try:
        model = source_of(spec.source).load(spec, threads, allow_code)
        model, spec = _in_order(model, spec, classes)
    except (PoolFileError, UnknownNameError) as error:
        # These are worded for a pool file, whose reader adds the model's name.
        raise ModelError(f"model {spec.name!r}: {error}") from None
    return _identified(model, spec)


@runtime_checkable
class _Named(Protocol):
    """What a model also has whose outputs are named only when it is loaded."""

    @property
    def names(self) -> OutputNames:
        """What names its outputs, in their order."""

    def reordered(self, columns: Sequence[int]) -> Model:
        """Return the same model that gives these of its outputs, in their order; all if none."""


def labels_of(model: Model) -> tuple[str, ...]:
    """Return the names of a loaded model's outputs, if only it knows them."""
    return model.names.labels if isinstance(model, _Named) else ()


def _in_order(model: Model, spec: ModelSpec, classes: Sequence[str]) -> Loaded:
    """Return a model whose outputs are in the order of the classes, and its spec that says so."""
    if spec.columns or not classes or not isinstance(model, _Named):
        return model, spec
    columns = columns_of(f"classes of {spec.source}", model.names, classes)
    return model.reordered(columns), replace(spec, columns=columns)


def _identified(model: Model, spec: ModelSpec) -> Loaded:
    """Return a model and its spec with fingerprint and multiply-adds."""
    _check_unchanged(spec, model.fingerprint)
    spec = replace(spec, fingerprint=model.fingerprint)
    stated = any(cost.unit == "macs" for cost in spec.costs)
    if not stated and model.macs is not None:
        recipe = spec.preprocessing
        macs = model.macs * recipe.inputs
        spec = spec.with_cost(Cost(macs, "macs", "counted", f"one {recipe.sample}"))
    return model, spec


def check_unloaded(spec: ModelSpec, allow_code: Collection[str] = ()) -> None:
    """Refuse a model that is missing or has changed, as far as that shows without loading it.

    The fingerprint of an ONNX file is compared. Of other models only a missing file of weights, an
    unknown scheme and code that may not run are noticed.
    """
    try:
        source = source_of(spec.source)
    except PoolFileError as error:
        raise ModelError(f"model {spec.name!r}: {error}") from None
    if spec.weights not in ("", RANDOM) and not Path(spec.weights).is_file():
        raise ModelError(f"model {spec.name!r}: no file {spec.weights}. {MOVED}")
    fingerprint = source.peek(spec, allow_code)
    if fingerprint is not None:
        _check_unchanged(spec, fingerprint)


def _check_unchanged(spec: ModelSpec, fingerprint: str) -> None:
    if spec.fingerprint not in ("", fingerprint):
        raise ModelError(
            f"model {spec.name!r}: {spec.source} has changed since: fingerprint was "
            f"{spec.fingerprint}, is {fingerprint}. Restore it, or predict and search again"
        )


def specs_of(cascade: Cascade, where: str = "cascade") -> dict[str, ModelSpec]:
    """Return how each model of a cascade is loaded, by name, in the order in which they run."""
    known = {name: cascade.models.get(name) for name in cascade.names}
    specs = {name: model for name, model in known.items() if isinstance(model, ModelSpec)}
    missing = [name for name in cascade.names if name not in specs]
    if missing:
        raise CascadeError(
            f"{where}: does not say how to load {', '.join(missing)}. Name the pool file that "
            "lists its models: --pool POOL.toml; in Python "
            'committee.models.pool_file.read_pool_file("POOL.toml").described(cascade)'
        )
    return specs
