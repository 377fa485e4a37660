"""ModelSpec: what a model is and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from committee.errors import (
    CascadeError,
    CommitteeError,
    PoolFileError,
    UnknownNameError,
    UnreadableError,
)
from committee.reading import typed
from committee.rule.outputs import Kind, check_kind
from committee.spec.cost import Cost
from committee.spec.preprocessing import Preprocessing
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
    """Return a model's name if it can be a file name.

    Raises:
        PoolFileError: If it cannot.
    """
    if not _NAME.fullmatch(name) or name == "samples":
        raise PoolFileError(
            f"{where}: model name '{printable(name[:80])}' must be letters, digits and . _ @ + -, "
            "200 at most, and not 'samples', for it names files in the store"
        )
    return name


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and how it is loaded. Nothing is loaded or run by building one.

    Args:
        name: Its name in the pool.
        source: Scheme and what the scheme needs, as in ``timm:NAME``; paths are absolute.
        preprocessing: From image to input.
        kind: Kind of its outputs.
        family: Models of one family are trainings of one architecture.
        costs: What one sample costs, one a unit.
        fingerprint: Of its weights and code; empty until it was loaded once.
        weights: An absolute path, ``random``, or empty for those that its source publishes.
        seed: Of random weights.
        engine: One of :data:`ENGINES`, or empty for the source's own.
        task: Name of what it does, one of :data:`committee.spec.task.TASKS`.
        tile: Of a model that sees the tiles of an image one by one, their side in pixels; else 0.
        context: How many pixels around a tile it sees.
        layout: Order of the axes of a graph's input, one of :data:`LAYOUTS`; empty if the graph
            shows it.
        output: Which of several outputs is taken, by its name; empty if there is no choice.
        columns: For each class which output is its own, if the model publishes its classes in
            another order than the pool names them; else empty.

    Raises:
        UnknownNameError: If engine or layout is unknown.
        PoolFileError: If a model of clips gives decisions.
    """

    name: str
    source: str
    preprocessing: Preprocessing
    kind: Kind = "logits"
    family: str = ""
    costs: tuple[Cost, ...] = ()
    fingerprint: str = ""
    weights: str = ""
    seed: int = 0
    engine: str = ""
    task: str = IMAGE_CLASSIFICATION.name
    tile: int = 0
    context: int = 0
    layout: str = ""
    output: str = ""
    columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "decisions" and self.preprocessing.views is not None:
            raise PoolFileError(
                f"model {self.name!r}: decisions have no mean over views; give logits or "
                "probabilities, or bring decisions on whole clips with committee import"
            )
        for what, value, known in (
            ("engine", self.engine or ENGINES[0], ENGINES),
            ("layout", self.layout or LAYOUTS[0], LAYOUTS),
        ):
            if value not in known:
                raise UnknownNameError.of("ModelSpec", what, value, known)

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """The same for models that are one set of weights, run alike at whatever size."""
        return _weights_key(self.to_json())

    @property
    def text(self) -> str:
        """The source without its scheme."""
        return self.source.partition(":")[2]

    def to_json(self) -> dict[str, Any]:
        """What a store and a cascade file hold."""
        return {
            "source": self.source,
            "weights": self.weights,
            "seed": self.seed,
            "engine": self.engine,
            "kind": self.kind,
            "family": self.family,
            "preprocessing": self.preprocessing.to_json(),
            "costs": [cost.to_json() for cost in self.costs],
            "fingerprint": self.fingerprint,
            **({"task": self.task} if self.task != IMAGE_CLASSIFICATION.name else {}),
            **({"tile": self.tile, "context": self.context} if self.tile else {}),
            **({"layout": self.layout} if self.layout else {}),
            **({"output": self.output} if self.output else {}),
            **({"columns": list(self.columns)} if self.columns else {}),
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any], where: str) -> ModelSpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            PoolFileError: If a field is missing, unknown or wrong.
        """
        try:
            told = dict(_object("model", data))
            if "name" in told:
                raise UnknownNameError.of("spec", "key", "name", _FIELDS)
            for key in ("source", "preprocessing", "kind", "family", "costs", "fingerprint"):
                if key not in told:
                    raise UnreadableError(f"{key} is missing")
            recipe = _object("preprocessing", told["preprocessing"])
            told["preprocessing"] = Preprocessing.from_json(recipe)
            check_kind("kind", str(told["kind"]))
            return typed("spec", {**told, "name": check_name("name", name)}, cls)
        except CommitteeError as error:
            raise PoolFileError(f"{where}: model {name!r}: {error}") from None

    def of_module(self) -> ModelSpec:
        """The same for a graph that was exported of its module: that has one output, in order."""
        return replace(self, layout="", output="", columns=())

    def with_cost(self, cost: Cost) -> ModelSpec:
        """The same with one more cost, unless there is one in that unit."""
        if any(known.unit == cost.unit for known in self.costs):
            return self
        return replace(self, costs=(*self.costs, cost))


def _object(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{what} must be an object, not {str(value)[:50]!r}")
    return value


_FIELDS = frozenset(field.name for field in fields(ModelSpec)) - {"name"}


def _weights_key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    # Files of before there were weights and engines do not have these.
    others = {"weights": "", "seed": 0, "engine": ""}
    others |= {"layout": "", "output": ""}
    columns = tuple(model.get("columns", ()))
    return (model["source"], model["kind"], columns, *(model.get(k, v) for k, v in others.items()))


def same_weights(models: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """Which models are one set of weights at several resolutions.

    Args:
        models: By name what :meth:`ModelSpec.to_json` gives.

    Returns:
        Names of each set, two or more, by rising resolution (pixels of the input). Of models of one
        set and one resolution, which differ in the crop, say, the first alone is in the set.
    """
    sets: dict[tuple[Any, ...], dict[int, str]] = {}
    for name, model in models.items():
        if model["source"] and model["preprocessing"]:
            height, width = model["preprocessing"]["size"]
            sets.setdefault(_weights_key(model), {}).setdefault(height * width, name)
    rising = (tuple(names[size] for size in sorted(names)) for names in sets.values())
    return tuple(names for names in rising if len(names) > 1)


def view_blocks(models: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Which models are the blocks of one model's views.

    Args:
        models: By name what :meth:`ModelSpec.to_json` gives.

    Returns:
        Names of all blocks, in their order, by the name of the whole model. Where one is missing
        there is no whole.
    """
    sets: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for name, model in models.items():
        views = (model["preprocessing"] or {}).get("views") or {}
        if views.get("blocks", 1) > 1:
            whole = name.rpartition(".")[0]
            sets.setdefault(whole, {})[views["block"]] = name
            counts[whole] = views["blocks"]
    return {
        whole: tuple(found[block] for block in sorted(found))
        for whole, found in sets.items()
        if len(found) == counts[whole]
    }


def task_of(specs: Iterable[ModelSpec]) -> Task:
    """The task of some models, by what they take.

    Raises:
        CascadeError: If some take images and others clips.
    """
    known = list(specs)
    clips = {spec.name: spec.preprocessing.views is not None for spec in known}
    if len(set(clips.values())) > 1:
        told = ", ".join(f"{n} takes {'clips' if c else 'images'}" for n, c in clips.items())
        raise CascadeError(
            f"models of one pool take the same samples, but {told}. Give all of them views, or none"
        )
    if any(clips.values()):
        return VIDEO_CLASSIFICATION
    return TASKS[known[0].task] if known else IMAGE_CLASSIFICATION
