"""ModelSpec: what a model is and how it is loaded, and the pool file that lists models."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from committee.cascade import Cascade
from committee.cost import Cost
from committee.errors import CascadeError, CommitteeError, PoolFileError, UnknownNameError
from committee.models.preprocessing import Preprocessing
from committee.predictions import Kind, check_kind

# Model names are file names in the store.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
TASK = "image-classification"
_POOL_KEYS = ("task", "classes", "preprocessing", "model")
_MODEL_KEYS = ("name", "source", "resolution", "kind", "family", "preprocessing", "costs")


def check_name(where: str, name: str) -> str:
    """Return a model's name if it can be a file name.

    Raises:
        PoolFileError: If it cannot.
    """
    if not _NAME.fullmatch(name) or name == "samples":
        raise PoolFileError(
            f"{where}: model name {name!r} must be letters, digits and . _ @ + -, and not "
            "'samples', for it names files in the store"
        )
    return name


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and how it is loaded. Nothing is loaded or run by building one.

    Args:
        name: Its name in the pool.
        source: ``onnx:PATH`` or ``python:FILE-OR-MODULE:FACTORY``; paths are absolute.
        preprocessing: From picture to input.
        kind: Kind of its outputs.
        family: Models of one family are trainings of one architecture.
        costs: What one sample costs, one a unit.
        fingerprint: Of its weights and code; empty until it was loaded once.
    """

    name: str
    source: str
    preprocessing: Preprocessing
    kind: Kind = "logits"
    family: str = ""
    costs: tuple[Cost, ...] = ()
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a store and a cascade file hold."""
        return {
            "source": self.source,
            "kind": self.kind,
            "family": self.family,
            "preprocessing": self.preprocessing.to_json(),
            "costs": [cost.to_json() for cost in self.costs],
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any], where: str) -> ModelSpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            PoolFileError: If a field is missing or wrong.
        """
        try:
            return cls(
                name=check_name("name", name),
                source=str(data["source"]),
                preprocessing=Preprocessing.from_json(data["preprocessing"]),
                kind=check_kind("kind", data["kind"]),
                family=str(data["family"]),
                costs=tuple(Cost(**cost) for cost in data["costs"]),
                fingerprint=str(data["fingerprint"]),
            )
        except (KeyError, TypeError) as error:
            raise PoolFileError(f"{where}: model {name!r}: missing or wrong {error}") from None
        except CommitteeError as error:
            raise PoolFileError(f"{where}: model {name!r}: {error}") from None

    def with_cost(self, cost: Cost) -> ModelSpec:
        """The same with one more cost, unless there is one in that unit."""
        if any(known.unit == cost.unit for known in self.costs):
            return self
        return replace(self, costs=(*self.costs, cost))


def specs_of(cascade: Cascade, where: str = "cascade") -> dict[str, ModelSpec]:
    """How each model of a cascade is loaded, by name, in the order in which they run.

    Raises:
        CascadeError: If the cascade does not say how a model is loaded.
    """
    missing = [name for name in cascade.names if name not in cascade.models]
    if missing:
        raise CascadeError(
            f"{where}: does not say how {', '.join(missing)} is loaded; it was searched on "
            "predictions made elsewhere. Predict with committee predict and search again"
        )
    return {n: ModelSpec.from_json(n, cascade.models[n], where) for n in cascade.names}


@dataclass(frozen=True)
class PoolFile:
    """A pool file: models of one task, to be run on samples.

    Args:
        models: The models, in the order of the file.
        classes: Names of the classes, in the order of the outputs; empty if the file names none.
        task: What the models do.
    """

    models: tuple[ModelSpec, ...]
    classes: tuple[str, ...] = ()
    task: str = TASK

    def only(self, names: list[str]) -> PoolFile:
        """The pool file of some of the models.

        Raises:
            UnknownNameError: If one is not there.
        """
        known = [model.name for model in self.models]
        for name in names:
            if name not in known:
                raise UnknownNameError.of("pool file", "model", name, known)
        return replace(self, models=tuple(m for m in self.models if m.name in names))


def read_pool_file(path: str | Path) -> PoolFile:
    """Read a pool file. Paths in it are relative to it; nothing in it is run.

    Raises:
        PoolFileError: If it cannot be read, or a key is missing, unknown or of the wrong type.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PoolFileError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise PoolFileError(f"{path}: no valid TOML ({error})") from None
    try:
        return _pool_file(path, data)
    except PoolFileError:
        raise
    except CommitteeError as error:
        raise PoolFileError(f"{path}: {error}") from None


def _pool_file(path: Path, data: dict[str, Any]) -> PoolFile:
    _check_keys(str(path), data, _POOL_KEYS)
    entries = data.get("model", [])
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise PoolFileError(f"{path}: there is no model; add one with [[model]], name and source")
    defaults = _table(path, data, "preprocessing")
    models = tuple(_model(path, entry, defaults) for entry in entries)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise PoolFileError(f"{path}: model {name!r} stands twice; names are unique")
    task = data.get("task", TASK)
    if task != TASK:
        raise PoolFileError(f"{path}: task {task!r} is not known; this version does {TASK!r}")
    return PoolFile(models, _classes(path, data.get("classes", [])), task)


def _model(path: Path, entry: dict[str, Any], defaults: dict[str, Any]) -> ModelSpec:
    where = f"{path}: model {entry.get('name', '?')!r}"
    _check_keys(where, entry, _MODEL_KEYS)
    for key in ("name", "source"):
        if not isinstance(entry.get(key), str):
            raise PoolFileError(f"{where}: {key} is missing or no text")
    resolution = entry.get("resolution")
    if isinstance(resolution, int) and not isinstance(resolution, bool):
        size = [resolution, resolution]
    elif isinstance(resolution, list) and len(resolution) == 2:
        size = resolution
    else:
        raise PoolFileError(
            f"{where}: resolution is missing or wrong; write resolution = 224, or "
            "[height, width], in its [[model]]"
        )
    recipe = {**defaults, **_table(path, entry, "preprocessing"), "size": size}
    costs = _table(path, entry, "costs")
    for unit, value in costs.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PoolFileError(f"{where}: cost {unit} must be a number, not {value!r}")
    name = check_name(str(path), entry["name"])
    source = _absolute(where, entry["source"], path.parent)
    try:
        return ModelSpec(
            name=name,
            source=source,
            preprocessing=Preprocessing.from_json(recipe),
            kind=check_kind("kind", entry.get("kind", "logits")),
            family=str(entry.get("family", "")),
            costs=tuple(
                Cost(value, unit, "given", f"one sample of {size[0]} x {size[1]}")
                for unit, value in costs.items()
            ),
        )
    except CommitteeError as error:
        raise PoolFileError(f"{where}: {error}") from None


def _absolute(where: str, source: str, folder: Path) -> str:
    """The source with its path, if it has one, made absolute."""
    scheme, _, rest = source.partition(":")
    if scheme == "onnx" and rest:
        return f"onnx:{(folder / rest).resolve()}"
    if scheme == "python" and rest.count(":"):
        file, _, factory = rest.rpartition(":")
        return f"python:{(folder / file).resolve()}:{factory}" if file.endswith(".py") else source
    raise PoolFileError(
        f"{where}: source {source!r} must be onnx:PATH or python:FILE-OR-MODULE:FACTORY"
    )


def _classes(path: Path, classes: Any) -> tuple[str, ...]:
    if isinstance(classes, list):
        return tuple(map(str, classes))
    file = path.parent / str(classes)
    try:
        return tuple(file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise PoolFileError(f"{path}: classes: {file} cannot be read ({error})") from None


def _table(path: Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise PoolFileError(f"{path}: {key} must be a table, [{key}]")
    return table


def _check_keys(where: str, data: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in data:
        if key not in known:
            raise UnknownNameError.of(where, "key", key, known)
