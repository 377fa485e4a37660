"""ModelSpec: what a model is and how it is loaded. Nothing here loads one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from committee.errors import (
    CascadeError,
    CommitteeError,
    PoolFileError,
    ShapeError,
    UnknownNameError,
    UnreadableError,
)
from committee.reading import plain, typed
from committee.rule.outputs import Kind, check_kind
from committee.spec.cost import Cost
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record
from committee.spec.task import IMAGE_CLASSIFICATION, TASKS, VIDEO_CLASSIFICATION, Task
from committee.text import printable

# What runs a model.
ENGINES = ("torch", "onnxruntime")
# Orders of the axes of a graph's input.
LAYOUTS = ("NCHW", "NHWC")
# Model names are file names in the store.
# With an ending they must fit into the 255 bytes that file systems allow.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}")


def check_name(where: str, name: str) -> str:
    """Return a model's name if it can be a file name."""
    if not _NAME.fullmatch(name) or name == "samples":
        raise PoolFileError(
            f"{where}: model name '{printable(name[:80])}' must be letters, digits and . _ @ + -, "
            "200 at most, and not 'samples', for it names files in the store. Rename it"
        )
    return name


def _check_bounds(where: str, kind: str, bounds: tuple[float, float]) -> None:
    """Refuse bounds of values that are no two rising numbers, or stand beside another kind."""
    if kind != "outcomes":
        raise ShapeError(f"{where}: bounds are for the values of outcomes, not for {kind}")
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ShapeError(f"{where}: bounds {low:g} and {high:g} must be finite, the lower first")


@dataclass(frozen=True)
class Tile:
    """The tiles of an image that a model sees one by one; ``context`` are pixels around a tile."""

    side: int
    context: int


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and how it is loaded.

    Args:
        name: Its name in the pool.
        source: Scheme and what the scheme needs, as in ``timm:NAME``; paths are absolute.
        preprocessing: How a sample becomes the model's input.
        kind: Kind of its outputs.
        family: Name of the architecture, if several models of the pool are trainings of it.
        costs: What one sample costs, one a unit.
        fingerprint: Of its weights and code; empty until it was loaded once.
        weights: An absolute path, ``random``, or empty for those that its source publishes.
        seed: Of random weights.
        engine: One of :data:`ENGINES`, or empty for the source's own.
        task: Name of the task, one of :data:`committee.spec.task.TASKS`.
        layout: Order of the axes of a graph's input, one of :data:`LAYOUTS`; empty if the graph
            shows it.
        output: Name of the output that is taken, if there are several.
        concurrency: How many calls of an async function may be under way at once; 0 for its
            source's own.
        columns: For each class the column of the model's output, if the model publishes its classes
            in another order than the pool names them; else empty.
        entry: Name of the pool file's entry, if that lists several models: one a resolution, or
            one a block of views.
        whole: Name of the model with the same weights that sees the whole sample, if this one sees
            a block of its views, or tiles.
        tile: The tiles that the model sees; None if it sees whole samples.

    Raises:
        UnknownNameError: If engine, layout or task is unknown.
        PoolFileError: If a model of clips gives decisions.
    """

    name: str
    source: str
    preprocessing: Recipe
    kind: Kind = "logits"
    family: str = ""
    costs: tuple[Cost, ...] = ()
    fingerprint: str = ""
    weights: str = ""
    seed: int = 0
    engine: str = ""
    task: str = IMAGE_CLASSIFICATION.name
    layout: str = ""
    output: str = ""
    concurrency: int = 0
    columns: tuple[int, ...] = ()
    entry: str = ""
    whole: str = ""
    tile: Tile | None = None

    def __post_init__(self) -> None:
        if self.kind == "outcomes":
            raise PoolFileError(
                f"model {self.name!r}: outcomes say how good answers were, which no model can; "
                "grade the answers and bring them with committee import --kind outcomes"
            )
        if self.kind == "decisions" and self.preprocessing.views is not None:
            raise PoolFileError(
                f"model {self.name!r}: decisions have no mean over views; give logits or "
                "probabilities, or bring decisions on whole clips with committee import"
            )
        for what, value, known in (
            ("engine", self.engine or ENGINES[0], ENGINES),
            ("layout", self.layout or LAYOUTS[0], LAYOUTS),
            ("task", self.task, TASKS),
        ):
            if value not in known:
                raise UnknownNameError.of("ModelSpec", what, value, known)

    @property
    def record(self) -> Record:
        """How a record becomes the model's input.

        Raises:
            CascadeError: If the model takes images or clips.
        """
        if not isinstance(self.preprocessing, Record):
            raise CascadeError(f"model {self.name!r}: takes no records")
        return self.preprocessing

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Equal for models that are one set of weights, run alike at whatever size."""
        return (
            self.source,
            self.kind,
            self.columns,
            self.weights,
            self.seed,
            self.engine,
            self.layout,
            self.output,
        )

    @property
    def run_key(self) -> tuple[str, ...]:
        """What a fingerprint depends on beside weights and code."""
        return self.source.partition(":")[0], self.engine

    @property
    def does(self) -> Task:
        """The task."""
        return TASKS[self.task]

    @property
    def image(self) -> Preprocessing:
        """How an image or a clip becomes the model's input.

        Raises:
            CascadeError: If the model takes records.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise CascadeError(
                f"model {self.name!r}: takes records, and this is for models of images"
            )
        return self.preprocessing

    @property
    def text(self) -> str:
        """The source without its scheme."""
        return self.source.partition(":")[2]

    def to_json(self) -> dict[str, Any]:
        """Return the object that a store and a cascade file hold under the model's name."""
        data: dict[str, Any] = plain(self)
        data["preprocessing"] = self.preprocessing.to_json()
        rare = ("layout", "output", "concurrency", "columns", "entry", "whole", "tile")
        unused = {key for key in rare if not data[key]} | {"name"}
        return {key: value for key, value in data.items() if key not in unused}

    @classmethod
    def from_json(cls, name: str, data: Any, where: str) -> ModelSpec:
        """Read what :meth:`to_json` wrote."""
        try:
            values = _required(data, cls)
            recipe = _object("preprocessing", values["preprocessing"])
            task = TASKS.get(str(values.get("task")), IMAGE_CLASSIFICATION)
            read = Record.from_json if task.records else Preprocessing.from_json
            values["preprocessing"] = read(recipe)
            return typed("spec", {**values, "name": check_name("name", name)}, cls)
        except CommitteeError as error:
            raise PoolFileError(f"{where}: model {name!r}: {error}") from None

    def of_module(self) -> ModelSpec:
        """Return the same for a graph exported from its module, with one output, in order."""
        return replace(self, layout="", output="", columns=())

    def with_cost(self, cost: Cost) -> ModelSpec:
        """Return the same with one more cost, unless there is one in that unit."""
        if any(known.unit == cost.unit for known in self.costs):
            return self
        return replace(self, costs=(*self.costs, cost))


@dataclass(frozen=True)
class ImportedModel:
    """A model of which only outputs are known, because they were made elsewhere.

    ``bounds`` are the least and the largest value of outcomes; None if they are graded 1 or 0.
    """

    name: str
    kind: Kind = "logits"
    family: str = ""
    costs: tuple[Cost, ...] = ()
    fingerprint: str = ""
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bounds is not None:
            _check_bounds(f"model {self.name!r}", self.kind, self.bounds)

    def to_json(self) -> dict[str, Any]:
        """Return the object that a store and a cascade file hold under the model's name."""
        data: dict[str, Any] = plain(self)
        del data["name"]
        if self.bounds is None:
            del data["bounds"]
        return data


KnownModel: TypeAlias = ModelSpec | ImportedModel


def model_from_json(name: str, data: Any, where: str) -> KnownModel:
    """Read what the ``to_json`` of a model wrote; one that has a source can be loaded."""
    imported = {field.name for field in fields(ImportedModel)}
    if isinstance(data, Mapping) and not data.keys() <= imported:
        return ModelSpec.from_json(name, data, where)
    try:
        values = _required(data, ImportedModel)
        return typed("model", {**values, "name": name}, ImportedModel)
    except CommitteeError as error:
        raise PoolFileError(f"{where}: model {name!r}: {error}") from None


_REQUIRED = ("source", "preprocessing", "kind", "family", "costs", "fingerprint")


def _required(data: Any, kind: type) -> dict[str, Any]:
    """Return a model's object if every field is there that a file always has."""
    values = dict(_object("model", data))
    known = [field.name for field in fields(kind)]
    if "name" in values:
        raise UnknownNameError.of("spec", "key", "name", set(known) - {"name"})
    for key in _REQUIRED:
        if key in known and key not in values:
            raise UnreadableError(f"{key} is missing")
    check_kind("kind", str(values["kind"]))
    return values


def _object(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{what} must be an object, not {str(value)[:50]!r}")
    return value


def task_of(specs: Iterable[ModelSpec]) -> Task:
    """Return the task of some models."""
    models = list(specs)
    takes = {spec.name: _takes(spec) for spec in models}
    if len(set(takes.values())) > 1:
        text = ", ".join(f"{name} takes {what}" for name, what in takes.items())
        raise CascadeError(
            f"models of one pool take the same samples, but {text}. Give all of them views, or none"
        )
    if "clips" in takes.values():
        return VIDEO_CLASSIFICATION
    return TASKS[models[0].task] if models else IMAGE_CLASSIFICATION


def _takes(spec: ModelSpec) -> str:
    if spec.does.records:
        return "records"
    return "images" if spec.preprocessing.views is None else "clips"
