"""The pool file: a TOML file that lists models, read without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from committee.errors import (
    CommitteeError,
    MisalignedError,
    MissingExtraError,
    PoolFileError,
    UnknownNameError,
    UnreadableError,
)
from committee.models.base import RANDOM, Source
from committee.models.output_names import columns_of, published_classes, published_labels
from committee.models.sources.registry import located, source_of
from committee.names import class_names, read_class_names
from committee.paths import expanded
from committee.pool.imagenet import IMAGENET, imagenet_classes
from committee.reading import read_toml
from committee.rule.outputs import check_kind
from committee.spec.cost import Cost
from committee.spec.model import ENGINES, ImportedModel, KnownModel, ModelSpec, check_name
from committee.spec.preprocessing import Preprocessing
from committee.spec.task import IMAGE_CLASSIFICATION, TASKS, Task, tasks_with
from committee.spec.views import MOST_BLOCKS
from committee.text import changes

if TYPE_CHECKING:
    from committee.rule.cascade import Cascade

_POOL_KEYS = ("task", "classes", "preprocessing", "views", "tiles", "model")
_MODEL_KEYS = (
    "name",
    "source",
    "resolution",
    "resolutions",
    "weights",
    "seed",
    "engine",
    "layout",
    "output",
    "id2label",
    "kind",
    "family",
    "preprocessing",
    "views",
    "view_blocks",
    "costs",
)
# Fields of the preprocessing that say how images are brought to the resolution.
_RESIZING = ("crop", "resize", "interpolation")
_RESOLUTION = (
    "write resolution = 224, or [height, width], in its [[model]], or @224 after the source"
)
_RESOLUTIONS = "write two or more, all different, as in resolutions = [224, 288]"


@dataclass(frozen=True)
class PoolFile:
    """A pool file: models of one task, to be run on samples.

    Args:
        models: The models, in the order of the file.
        classes: Names of the classes, in the order of the outputs; empty if the file names none.
        task: What the models do.
        tiles: The table ``[tiles]``, which segmentation reads; see :mod:`committee.segment`.
    """

    models: tuple[ModelSpec, ...]
    classes: tuple[str, ...] = ()
    task: Task = IMAGE_CLASSIFICATION
    tiles: Mapping[str, Any] = field(default_factory=dict)

    def only(self, names: list[str]) -> PoolFile:
        """The pool file of some of the models.

        Args:
            names: Of models; the name of a line with ``resolutions`` or ``view_blocks`` means all
                of its models.

        Raises:
            UnknownNameError: If one is not there.
        """
        known = [model.name for model in self.models]
        lines = {
            name: [model.name for model in self.models if name in (model.entry, model.whole)]
            for name in names
        }
        for name in names:
            if name not in known and not lines[name]:
                raise UnknownNameError.of("pool file", "model", name, known)
        wanted = {each for name in names for each in ([name] if name in known else lines[name])}
        return replace(self, models=tuple(m for m in self.models if m.name in wanted))

    def described(self, cascade: Cascade, where: str = "pool file") -> Cascade:
        """The cascade with how its models are loaded by this file, and its classes.

        Args:
            cascade: Of models that are listed here.
            where: What this file is called, for the error.

        Raises:
            MisalignedError: If the two name other classes, kinds of outputs or preprocessing.
            UnknownNameError: If a model of the cascade is not listed.
        """
        if cascade.classes and self.classes and cascade.classes != self.classes:
            raise MisalignedError(
                f"{where}: its classes ({', '.join(self.classes[:3])} …) are not those of the "
                f"cascade ({', '.join(cascade.classes[:3])} …). Name the pool of the same task"
            )
        listed = self.only(list(cascade.names)).models
        cascade.check_kinds({spec.name: spec.kind for spec in listed}, where)
        models = {spec.name: _loaded_as(spec, cascade.models, where) for spec in listed}
        classes = cascade.classes or self.classes
        return replace(cascade, models={**cascade.models, **models}, classes=classes)


def _loaded_as(spec: ModelSpec, chosen: Mapping[str, KnownModel], where: str) -> ModelSpec:
    """Return how a pool file loads a model of a cascade, with the costs that the cascade knows.

    Raises:
        MisalignedError: If the cascade was chosen with another preprocessing.
    """
    known = chosen.get(spec.name)
    if known is None:
        return spec
    for cost in known.costs:
        spec = spec.with_cost(cost)
    if isinstance(known, ImportedModel):
        return spec
    if known.preprocessing != spec.preprocessing:
        then, now = changes(known.preprocessing.to_json(), spec.preprocessing.to_json())
        raise MisalignedError(
            f"{where}: model {spec.name!r}: preprocessing is {now}, but the cascade was chosen "
            f"with {then}. Write the same in the pool file, or predict and search again"
        )
    same = known.run_key == spec.run_key
    return replace(spec, fingerprint=spec.fingerprint or (known.fingerprint if same else ""))


def read_pool_file(path: str | Path) -> PoolFile:
    """Read a pool file. Paths in it are relative to it; nothing in it is run.

    Raises:
        PoolFileError: If it cannot be read, or a key is missing, unknown or of the wrong type.
    """
    path = Path(path)
    try:
        data = read_toml(path)
    except OSError as error:
        raise PoolFileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnreadableError as error:
        raise PoolFileError(f"{path}: {error}") from None
    try:
        return _pool_file(path, data)
    except PoolFileError:
        raise
    except CommitteeError as error:
        told = str(error)
        where = "" if told.startswith(f"{path}: ") else f"{path}: "
        raise PoolFileError(f"{where}{told}") from None


def _pool_file(path: Path, data: dict[str, Any]) -> PoolFile:
    _check_keys(str(path), data, _POOL_KEYS)
    entries = data.get("model", [])
    tables = isinstance(entries, list) and all(isinstance(each, dict) for each in entries)
    if not (tables and entries):
        raise PoolFileError(f"{path}: there is no model; add one with [[model]], name and source")
    named = _text(str(path), data, "task", IMAGE_CLASSIFICATION.name)
    task = TASKS.get(named)
    if task is None:
        raise PoolFileError(
            f"{path}: task {named!r} is not known; this version does {', '.join(TASKS)}"
        )
    defaults = _table(path, data, "preprocessing")
    if "views" in data:
        defaults = {**defaults, "views": _table(path, data, "views")}
    for entry in entries:
        _check_keys(f"{path}: model {entry.get('name', '?')!r}", entry, _MODEL_KEYS)
    ones = [
        one
        for entry in entries
        for sized in _at_resolutions(path, entry)
        for one in _in_blocks(path, sized)
    ]
    models = tuple(_model(path, one, defaults, task) for one in ones)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise PoolFileError(f"{path}: model {name!r} stands twice; names are unique")
    if "tiles" in data and "tiles" not in task.tables:
        raise PoolFileError(f"{path}: [tiles] is for {tasks_with('tables')}, not for {task.name}")
    classes = _classes(path, data["classes"]) if "classes" in data else _published(models)
    classes, models = _in_one_order(ones, models, classes)
    return PoolFile(models, classes, task, _table(path, data, "tiles"))


def _in_one_order(
    entries: Sequence[Mapping[str, Any]], models: Sequence[ModelSpec], classes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[ModelSpec, ...]]:
    """The classes, and the models with their outputs in that order.

    Where the file names no classes, those that the first model publishes are taken.
    """
    published = [
        published_labels(model) if entry.get("id2label", True) else ()
        for entry, model in zip(entries, models, strict=True)
    ]
    classes = classes or next(filter(None, published), ())
    return classes, tuple(
        replace(model, columns=columns_of(model, labels, classes))
        for model, labels in zip(models, published, strict=True)
    )


def _at_resolutions(path: Path, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry, or one for each of its resolutions: together one set of weights."""
    name = entry.get("name")
    if "resolutions" not in entry or not isinstance(name, str):
        return [entry]
    where = f"{path}: model {name!r}"
    sizes = entry["resolutions"]
    if not isinstance(sizes, list):
        raise PoolFileError(f"{where}: resolutions must be a list; {_RESOLUTIONS}")
    sides = [
        _sides(where, size, f"resolutions: {size!r} is wrong; {_RESOLUTIONS}") for size in sizes
    ]
    if len(sides) < 2 or len(set(sides)) < len(sides):
        raise PoolFileError(f"{where}: resolutions are {sizes}; {_RESOLUTIONS}")
    for key, why in (
        ("resolution", "leave one of the two out"),
        ("family", "a family's models can stand for each other, these cannot; leave family out"),
    ):
        if key in entry:
            raise PoolFileError(f"{where}: {key} stands beside resolutions; {why}")
    count = len(sides)
    return [
        {
            **entry,
            "name": f"{name}@{height}" if height == width else f"{name}@{height}x{width}",
            "entry": name,
            "resolution": [height, width],
            "costs": {
                unit: _of_each(where, f"costs.{unit}", value, count)[number]
                for unit, value in _table(path, entry, "costs").items()
            },
            "preprocessing": {
                key: _of_each(where, key, value, count)[number] if key == "crop" else value
                for key, value in _table(path, entry, "preprocessing").items()
            },
        }
        for number, (height, width) in enumerate(sides)
    ]


def _of_each(where: str, key: str, value: Any, count: int) -> list[Any]:
    """A list with one value for each resolution; one crop serves all, one cost does not."""
    if key == "crop" and not isinstance(value, list):
        return [value] * count
    if not isinstance(value, list) or len(value) != count:
        raise PoolFileError(
            f"{where}: {key} must be a list of {count}, one for each of resolutions, not {value!r}"
        )
    return value


def _in_blocks(path: Path, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry, or one for each block of its views: one set of weights, left between blocks.

    The blocks are a family: which views come first makes no difference that search could learn, so
    it takes them in their order.
    """
    name, blocks = entry.get("name"), entry.get("view_blocks", 1)
    where = f"{path}: model {name!r}"
    if type(blocks) is not int or not 1 <= blocks <= MOST_BLOCKS:
        raise PoolFileError(
            f"{where}: view_blocks must be a whole number from 1 to {MOST_BLOCKS:,}, not "
            f"{blocks!r}. Blocks are of one size, for a cascade gives the outputs of each the same "
            "weight"
        )
    entry = {key: value for key, value in entry.items() if key != "view_blocks"}
    if blocks == 1 or not isinstance(name, str):
        return [entry]
    if "family" in entry:
        raise PoolFileError(f"{where}: view_blocks are a family of their own; leave family out")
    views = _table(path, entry, "views")
    costs = _costs(where, path, entry)
    return [
        {
            **entry,
            "name": f"{name}.{number + 1:0{len(str(blocks))}}of{blocks}",
            "family": f"views of {name}",
            "entry": entry.get("entry", name),
            "whole": name,
            "views": {**views, "blocks": blocks, "block": number},
            "costs": {unit: cost / blocks for unit, cost in costs.items()},
        }
        for number in range(blocks)
    ]


def _model(path: Path, entry: dict[str, Any], defaults: dict[str, Any], task: Task) -> ModelSpec:
    where = f"{path}: model {entry.get('name', '?')!r}"
    for key in ("name", "source"):
        if not isinstance(entry.get(key), str):
            raise PoolFileError(f"{where}: {key} is missing or no text")
    if not isinstance(entry.get("id2label", True), bool):
        raise PoolFileError(f"{where}: id2label must be true or false, not {entry['id2label']!r}")
    family = _text(where, entry, "family")
    name = check_name(str(path), entry["name"])
    given = {**defaults, **_table(path, entry, "preprocessing")}
    given["views"] = {**_table(path, given, "views"), **_table(path, entry, "views")}
    try:
        text, at = located(entry["source"], path.parent)
        if at is not None and "resolutions" in entry:
            raise PoolFileError(f"{where}: source says {at} and resolutions too; leave @ out")
        source = source_of(text)
        weights = _weights(where, entry, path.parent, source)
        size = _size(where, entry.get("resolution"), at)
        preprocessing = _preprocessing(where, source, text, size, given, task)
        return ModelSpec(
            name=name,
            source=text,
            weights=weights,
            seed=entry.get("seed", 0),
            engine=_engine(where, entry, source),
            layout=_choice(where, entry, "layout", source),
            output=_choice(where, entry, "output", source),
            preprocessing=preprocessing,
            kind=check_kind("kind", _text(where, entry, "kind", "logits")),
            family=family,
            task=task.name,
            entry=entry.get("entry", ""),
            whole=entry.get("whole", ""),
            costs=tuple(
                Cost(value, unit, "given", f"one {preprocessing.sample}")
                for unit, value in _costs(where, path, entry).items()
            ),
        )
    except (MissingExtraError, PoolFileError) as error:
        if isinstance(error, MissingExtraError) or str(error).startswith(where):
            raise
        raise PoolFileError(f"{where}: {error}") from None
    except CommitteeError as error:
        raise PoolFileError(f"{where}: {error}") from None


def _engine(where: str, entry: dict[str, Any], source: Source) -> str:
    engine = _text(where, entry, "engine")
    if engine in ENGINES and engine not in source.engines:
        raise PoolFileError(
            f"{where}: {source.form} runs on {', '.join(source.engines)}, not on {engine}"
        )
    return engine


def _choice(where: str, entry: dict[str, Any], key: str, source: Source) -> str:
    """A text that only some sources heed; empty if it is not there."""
    if key not in entry:
        return ""
    if key not in source.choices:
        raise PoolFileError(f"{where}: {source.form} has no choice of {key}; leave {key} out")
    if not isinstance(entry[key], str):
        raise PoolFileError(f"{where}: {key} must be a text, not {entry[key]!r}")
    return str(entry[key])


def _preprocessing(
    where: str,
    source: Source,
    text: str,
    size: tuple[int, int] | None,
    given: Mapping[str, Any],
    task: Task,
) -> Preprocessing:
    """What the publisher states, and over it what the pool file says."""
    if "size" in given and size is not None:
        raise PoolFileError(
            f"{where}: [preprocessing] says size, and a resolution {list(size)} stands there too; "
            "leave size out"
        )
    published = source.published(text.partition(":")[2], size)
    recipe = {**published, **given}
    views = {**published.get("views", {}), **given["views"]}
    if views and not task.views:
        raise PoolFileError(
            f"{where}: has views, which are of clips; write task = {tasks_with('views')} at the "
            "beginning of the file"
        )
    unused = [key for key in _RESIZING if key in given]
    if task.dense and unused:
        raise PoolFileError(
            f"{where}: segmentation takes images of its resolution as they are, so "
            f"{' and '.join(unused)} would change nothing; leave that out of [preprocessing]"
        )
    recipe["views"] = views if task.views else None
    if size is not None:
        recipe["size"] = size
    if "size" not in recipe:
        raise PoolFileError(f"{where}: resolution is missing; {_RESOLUTION}")
    return Preprocessing.from_json(recipe)


def _costs(where: str, path: Path, entry: dict[str, Any]) -> dict[str, float]:
    costs = _table(path, entry, "costs")
    for unit, value in costs.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PoolFileError(f"{where}: cost {unit} must be a number, not {value!r}")
    return costs


def _size(where: str, resolution: Any, at: tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width by ``resolution`` or by ``@R``; None if neither is there."""
    if resolution is None:
        return at
    size = _sides(where, resolution, f"resolution is wrong; {_RESOLUTION}")
    if at not in (None, size):
        raise PoolFileError(f"{where}: source says {at}, resolution {size}; leave one out")
    return size


def _sides(where: str, resolution: Any, wrong: str) -> tuple[int, int]:
    """Height and width, above 0, of one number or of two."""
    sides = resolution if isinstance(resolution, list) else [resolution, resolution]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise PoolFileError(f"{where}: {wrong}")
    return sides[0], sides[1]


def _weights(where: str, entry: dict[str, Any], folder: Path, source: Source) -> str:
    """``random``, an absolute path, or nothing."""
    weights, form = entry.get("weights", ""), source.form
    if not isinstance(weights, str):
        raise PoolFileError(f"{where}: weights must be a path or {RANDOM!r}, not {weights!r}")
    wanted = "" if not weights else RANDOM if weights == RANDOM else "file"
    if wanted and wanted not in source.weights:
        raise PoolFileError(f"{where}: {form} takes no weights = {weights!r}; leave weights out")
    seed = entry.get("seed", 0)
    if type(seed) is not int or ("seed" in entry and wanted != RANDOM):
        raise PoolFileError(f"{where}: seed must be a whole number beside weights = {RANDOM!r}")
    return str(expanded(weights, folder)) if wanted == "file" else weights


def _published(models: Sequence[ModelSpec]) -> tuple[str, ...]:
    """Return the classes that published weights of all models have alike; else none."""
    found = {published_classes(model) for model in models}
    return found.pop() if len(found) == 1 else ()


def _classes(path: Path, classes: Any) -> tuple[str, ...]:
    """Return the classes that a pool file lists, or names by a file or as ImageNet's."""
    if classes == IMAGENET:
        return imagenet_classes()
    if isinstance(classes, str):
        return read_class_names("classes", path.parent / classes)
    if not isinstance(classes, list) or not all(isinstance(each, str | int) for each in classes):
        raise PoolFileError(
            f"{path}: classes must be a list of names, the name of a file with one class a line, "
            f'or "{IMAGENET}"'
        )
    return class_names("classes", [str(each) for each in classes])


def _table(path: Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise PoolFileError(f"{path}: {key} must be a table, [{key}]")
    return table


def _text(where: str, data: dict[str, Any], key: str, usual: str = "") -> str:
    value = data.get(key, usual)
    if not isinstance(value, str):
        raise PoolFileError(f"{where}: {key} must be a text, not {value!r}")
    return value


def _check_keys(where: str, data: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in data:
        if key not in known:
            raise UnknownNameError.of(where, "key", key, known)
