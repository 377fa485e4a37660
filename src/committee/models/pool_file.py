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
from committee.models.columns import OutputNames, columns_of
from committee.models.load import located, source_of
from committee.names import class_names, read_class_names
from committee.paths import expanded
from committee.pool.imagenet import IMAGENET, imagenet_classes
from committee.reading import read_toml, typed
from committee.rule.outputs import check_kind
from committee.spec.cost import Cost
from committee.spec.model import (
    ENGINES,
    ImportedModel,
    KnownModel,
    ModelSpec,
    check_name,
)
from committee.spec.preprocessing import Preprocessing
from committee.spec.record import Record
from committee.spec.task import IMAGE_CLASSIFICATION, TASKS, Task, tasks_with
from committee.spec.views import MOST_BLOCKS
from committee.text import changes

if TYPE_CHECKING:
    from committee.rule.cascade import Cascade

# Fields of the preprocessing that say how images are brought to the resolution.
_RESIZING = ("crop", "resize", "interpolation")
_RESOLUTION = (
    "write resolution = 224, or [height, width], in its [[model]], or @224 after the source"
)
_NO_FAMILY = "a family's models can stand for each other, these cannot; leave family out"
_BESIDE = "stands beside resolutions"
_RESOLUTIONS = "write two or more, all different, as in resolutions = [224, 288]"


@dataclass(frozen=True)
class PoolFile:
    """A pool file: models of one task, to be run on samples.

    ``classes`` are empty if the file names none; segmentation reads the table ``tiles``.
    """

    models: tuple[ModelSpec, ...]
    classes: tuple[str, ...] = ()
    task: Task = IMAGE_CLASSIFICATION
    tiles: Mapping[str, Any] = field(default_factory=dict)

    def only(self, names: list[str]) -> PoolFile:
        """Return the pool file of some of the models.

        The name of an entry with ``resolutions`` or ``view_blocks`` means all of its models.
        """
        known = [model.name for model in self.models]
        several = {name for model in self.models for name in (model.entry, model.whole)}
        for name in names:
            if name not in known and name not in several:
                raise UnknownNameError.of("pool file", "model", name, known)
        # The name of a model means that model alone.
        entries = {*names} - {*known}
        models = (m for m in self.models if m.name in names or {m.entry, m.whole} & entries)
        return replace(self, models=tuple(models))

    def described(self, cascade: Cascade, where: str = "pool file") -> Cascade:
        """Return a cascade of these models with how they are loaded, and with the classes."""
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
    """Return how a pool file loads a model of a cascade, with the costs that the cascade knows."""
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
        text = str(error)
        raise PoolFileError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from None


def _pool_file(path: Path, data: dict[str, Any]) -> PoolFile:
    file = typed(str(path), data, _File)
    if not file.model:
        raise PoolFileError(f"{path}: there is no model; add one with [[model]], name and source")
    task = TASKS.get(file.task)
    if task is None:
        raise PoolFileError(
            f"{path}: task {file.task!r} is not known; this version does {', '.join(TASKS)}"
        )
    if file.tiles and "tiles" not in task.tables:
        raise PoolFileError(f"{path}: [tiles] is for {tasks_with('tables')}, not for {task.name}")
    entries = [
        typed(f"{path}: model {table.get('name', '?')!r}", table, _Entry) for table in file.model
    ]
    pairs = [(spec, each) for each in entries for spec in _models(path, each, file, task)]
    names = [spec.name for spec, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise PoolFileError(f"{path}: model {name!r} stands twice; names are unique")
    # Random weights have no published names.
    outputs = [_names(spec, entry.id2label) for spec, entry in pairs]
    common = {each.published for each in outputs}
    classes = _classes(path, file.classes) or (common.pop() if len(common) == 1 else ())
    # Where nothing else names the classes, the first model that publishes its own does.
    classes = classes or next((each.labels for each in outputs if each.labels), ())
    models = tuple(
        replace(spec, columns=_columns(spec, entry.id2label, own, classes))
        for (spec, entry), own in zip(pairs, outputs, strict=True)
    )
    return PoolFile(models, classes, task, file.tiles)


@dataclass(frozen=True)
class _File:
    """A pool file as it is written.

    Args:
        model: The models, one ``[[model]]`` each.
        task: Name of the task.
        classes: Names of the classes in the order of the outputs, a file that lists them one a
            line, or ``imagenet``.
        preprocessing: What all models share of it; a model may differ.
        views: Of clips: which views all models see.
        tiles: Of segmentation: the sizes of tiles.
        input: Of records: the columns that all models take.
        dtype: Of records: the type of the array that is made of them.
    """

    model: list[dict[str, Any]] = field(default_factory=list)
    task: str = IMAGE_CLASSIFICATION.name
    classes: Any = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    tiles: dict[str, Any] = field(default_factory=dict)
    input: Any = None
    dtype: str = ""


@dataclass(frozen=True)
class _Entry:
    """One ``[[model]]`` of a pool file as it is written.

    Args:
        name: Its name in the pool, and of its files in the store.
        source: Where it comes from, ``SCHEME:REST``.
        resolution: Side of its input in pixels, or height and width.
        resolutions: Several of them: one model each, of one set of weights.
        weights: A file, ``random``, or empty for those that the source publishes.
        seed: Of random weights.
        engine: What runs it; empty for the source's own.
        layout: Order of the axes of a graph's input, where the graph leaves it open.
        output: Name of the output that is taken, if there are several.
        concurrency: Calls of an async function that may be under way at once.
        input: Of records: the columns that it takes.
        dtype: Of records: the type of the array that is made of them.
        id2label: False if outputs are in the order of the classes whatever the model says.
        kind: Kind of its outputs, if it is not the source's usual one.
        family: Name of the architecture, if several models are trainings of it.
        preprocessing: What differs from that of all models, or from what the source publishes.
        views: Of clips: which views it sees, where it differs.
        view_blocks: Of clips: groups of views between which a clip may exit.
        costs: Cost of one sample, by unit.
    """

    name: str
    source: str
    resolution: Any = None
    resolutions: Any = None
    weights: str = ""
    seed: int | None = None
    engine: str = ""
    layout: str = ""
    output: str = ""
    concurrency: int = 0
    input: Any = None
    dtype: Any = ""
    id2label: bool = True
    kind: str = ""
    family: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    view_blocks: int = 1
    costs: dict[str, Any] = field(default_factory=dict)

    def at_resolution(self, name: str, number: int) -> _Entry:
        """Return the entry of one of its resolutions, with the cost and crop of that one."""

        def own(key: str, values: Any) -> Any:
            if not isinstance(values, list) or len(values) != len(self.resolutions):
                raise PoolFileError(
                    f"{key} must be a list of {len(self.resolutions)}, one for each of "
                    f"resolutions, not {values!r}"
                )
            return values[number]

        recipe = dict(self.preprocessing)
        if isinstance(recipe.get("crop"), list):
            recipe["crop"] = own("crop", recipe["crop"])
        costs = {unit: own(f"costs.{unit}", value) for unit, value in self.costs.items()}
        return replace(self, name=name, preprocessing=recipe, costs=costs)


def _models(path: Path, entry: _Entry, file: _File, task: Task) -> list[ModelSpec]:
    """Return the models of an entry: one, or one for each resolution and each group of views."""
    where = f"{path}: model {entry.name!r}"
    try:
        text, at = located(entry.source, path.parent)
        models = [
            model
            for one, size in _sized(entry, at)
            for model in _in_groups(one, _model(path.parent, one, text, size, file, task))
        ]
        for model in models:
            check_name(str(path), model.name)
        if len(models) == 1:
            return models
        return [replace(model, entry=entry.name) for model in models]
    except MissingExtraError:
        raise
    except CommitteeError as error:
        text = str(error)
        raise PoolFileError(text if text.startswith(f"{path}: ") else f"{where}: {text}") from None


def _sized(
    entry: _Entry, at: tuple[int, int] | None
) -> list[tuple[_Entry, tuple[int, int] | None]]:
    """Return the entry with its size, or an entry for each of its resolutions."""
    if entry.resolutions is None:
        return [(entry, _size(entry.resolution, at))]
    sizes = entry.resolutions
    if not isinstance(sizes, list):
        raise PoolFileError(f"resolutions must be a list; {_RESOLUTIONS}")
    sides = [_sides(size, f"resolutions: {size!r} is wrong; {_RESOLUTIONS}") for size in sizes]
    for wrong, why in (
        (len(sides) < 2 or len({*sides}) < len(sides), f"resolutions are {sizes}; {_RESOLUTIONS}"),
        (entry.resolution is not None, f"resolution {_BESIDE}; leave one of the two out"),
        (entry.family, f"family {_BESIDE}; {_NO_FAMILY}"),
        (at is not None, f"source says {at} and resolutions too; leave @ out"),
    ):
        if wrong:
            raise PoolFileError(why)
    names = [f"{entry.name}@{h}" if h == w else f"{entry.name}@{h}x{w}" for h, w in sides]
    return [
        (entry.at_resolution(name, number), size)
        for number, (name, size) in enumerate(zip(names, sides, strict=True))
    ]


def _size(resolution: Any, at: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width by ``resolution`` or by ``@R``; None if neither is there."""
    if resolution is None:
        return at
    size = _sides(resolution, f"resolution is wrong; {_RESOLUTION}")
    if at not in (None, size):
        raise PoolFileError(f"source says {at}, resolution {size}; leave one out")
    return size


def _sides(resolution: Any, wrong: str) -> tuple[int, int]:
    """Return height and width, above 0, from one number or from two."""
    sides = resolution if isinstance(resolution, list) else [resolution, resolution]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise PoolFileError(wrong)
    return sides[0], sides[1]


def _in_groups(entry: _Entry, model: ModelSpec) -> list[ModelSpec]:
    """Return the model, or one for each group of its views: one set of weights, with exits between.

    The groups are a family: which views come first makes no difference that search could learn, so
    it takes them in their order.
    """
    groups, views = entry.view_blocks, model.preprocessing.views
    if not 1 <= groups <= MOST_BLOCKS:
        raise PoolFileError(
            f"view_blocks must be a whole number from 1 to {MOST_BLOCKS:,}, not {groups}. Groups "
            "are of one size, for a cascade gives the outputs of each the same weight"
        )
    if groups == 1 or views is None:
        return [model]
    if entry.family:
        raise PoolFileError("view_blocks are a family of their own; leave family out")
    recipes = [
        replace(model.image, views=replace(views, blocks=groups, block=number))
        for number in range(groups)
    ]
    return [
        replace(
            model,
            name=f"{model.name}.{number:0{len(str(groups))}}of{groups}",
            family=f"views of {model.name}",
            whole=model.name,
            preprocessing=recipe,
            costs=tuple(
                Cost(cost.value / groups, cost.unit, "given", f"one {recipe.sample}")
                for cost in model.costs
            ),
        )
        for number, recipe in enumerate(recipes, 1)
    ]


def _model(
    folder: Path,
    entry: _Entry,
    text: str,
    size: tuple[int, int] | None,
    file: _File,
    task: Task,
) -> ModelSpec:
    source = source_of(text)
    weights = _weights(entry, folder, source)
    if entry.engine in ENGINES and entry.engine not in source.engines:
        raise PoolFileError(
            f"{source.form} runs on {', '.join(source.engines)}, not on {entry.engine}"
        )
    if entry.concurrency < 0:
        raise PoolFileError(f"concurrency must be 1 or more, not {entry.concurrency}")
    for key in ("layout", "output", "concurrency"):
        if getattr(entry, key) and key not in source.choices:
            raise PoolFileError(f"{source.form} has no choice of {key}; leave {key} out")
    for unit, value in entry.costs.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PoolFileError(f"cost {unit} must be a number, not {value!r}")
    make = _record if task.records else _preprocessing
    preprocessing = make(source, text, size, entry, file, task)
    return ModelSpec(
        name=entry.name,
        source=text,
        weights=weights,
        seed=entry.seed or 0,
        engine=entry.engine,
        layout=entry.layout,
        output=entry.output,
        concurrency=entry.concurrency,
        preprocessing=preprocessing,
        kind=check_kind("kind", entry.kind or source.kind),
        family=entry.family,
        task=task.name,
        costs=tuple(
            Cost(value, unit, "given", f"one {preprocessing.sample}")
            for unit, value in entry.costs.items()
        ),
    )


def _weights(entry: _Entry, folder: Path, source: Source) -> str:
    """Return ``random``, an absolute path, or nothing."""
    weights = entry.weights
    kind = RANDOM if weights == RANDOM else "file" if weights else ""
    if kind and kind not in source.weights:
        raise PoolFileError(f"{source.form} takes no weights = {weights!r}; leave weights out")
    if entry.seed is not None and kind != RANDOM:
        raise PoolFileError(f"seed must be a whole number beside weights = {RANDOM!r}")
    return str(expanded(weights, folder)) if kind == "file" else weights


def _preprocessing(
    source: Source,
    text: str,
    size: tuple[int, int] | None,
    entry: _Entry,
    file: _File,
    task: Task,
) -> Preprocessing:
    """Return what the publisher states, overridden by what the pool file says."""
    for key in ("input", "dtype"):
        if getattr(entry, key) or getattr(file, key):
            raise PoolFileError(f"{key} is of records; write task = {tasks_with('records')}")
    own = {**file.preprocessing, **entry.preprocessing}
    if "size" in own and size is not None:
        raise PoolFileError(
            f"[preprocessing] says size, and a resolution {list(size)} stands there too; "
            "leave size out"
        )
    published = source.published(text.partition(":")[2], size)
    recipe = {**published, **own}
    views = typed("views", own.get("views") or {}, dict[str, Any])
    views = {**published.get("views", {}), **file.views, **views, **entry.views}
    if not task.views and (views or entry.view_blocks > 1):
        raise PoolFileError(
            f"has views, which are of clips; write task = {tasks_with('views')} at the beginning "
            "of the file"
        )
    unused = [key for key in _RESIZING if key in own]
    if task.dense and unused:
        raise PoolFileError(
            "segmentation takes images of its resolution as they are, so "
            f"{' and '.join(unused)} would change nothing; leave that out of [preprocessing]"
        )
    recipe["views"] = views if task.views else None
    if size is not None:
        recipe["size"] = size
    if "size" not in recipe:
        raise PoolFileError(f"resolution is missing; {_RESOLUTION}")
    return Preprocessing.from_json(recipe)


def _record(
    source: Source,
    text: str,
    size: tuple[int, int] | None,
    entry: _Entry,
    file: _File,
    task: Task,
) -> Record:
    """Return what a model takes of a record: its own input, else the pool's, else its source's."""
    given = {
        "resolution": size,
        "preprocessing": {**file.preprocessing, **entry.preprocessing},
        "views": {**file.views, **entry.views},
        "view_blocks": entry.view_blocks > 1,
    }
    images = [key for key, value in given.items() if value]
    if images:
        raise PoolFileError(
            f"{' and '.join(images)} is for images, and this pool is of records "
            f'(task = "{task.name}"); leave it out. What a model takes of a record is its input'
        )
    columns = file.input if entry.input is None else entry.input
    return source.record(text.partition(":")[2], columns, entry.dtype or file.dtype)


def _classes(path: Path, classes: Any) -> tuple[str, ...]:
    """Return the classes that a pool file lists, or names by a file or as ImageNet's."""
    if classes is None:
        return ()
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


def _names(spec: ModelSpec, follows: bool) -> OutputNames:
    """Return what names a model's outputs; if its labels are not followed, without them."""
    source = source_of(spec.source)
    # Random weights have no published names.
    labels = tuple(source.labels(spec.text)) if follows and spec.weights != RANDOM else ()
    return OutputNames(labels, () if spec.weights else tuple(source.classes(spec.text)))


def _columns(
    spec: ModelSpec, follows: bool, names: OutputNames, classes: Sequence[str]
) -> tuple[int, ...]:
    """Return for each class which output is its own; nothing if outputs are in that order."""
    if not follows and source_of(spec.source).named_when_loaded:
        return tuple(range(len(classes)))  # so that loading does not reorder them either
    return columns_of(f"model {spec.name!r}: id2label of {spec.source}", names, classes)
