"""Pool: models of one task, aligned on the same samples and the same classes, with their costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import CascadeError, MisalignedError, UnknownNameError
from committee.pool.costs import SampleCost
from committee.pool.from_arrays import checked_arrays, priced
from committee.pool.identity import content_copies
from committee.pool.layout import Layout
from committee.pool.metrics import TOP_1, Metric
from committee.pool.outcomes import check_values, metric_of, refuse_outcomes
from committee.pool.pool_model import PoolModel, copies_in, summed_digests
from committee.pool.samples import Samples
from committee.pool.table import Column, Table
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade, refuse_confidence
from committee.rule.combinations import DEFAULT_COMBINE, JOINT, ORDER_FREE, combined
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs
from committee.spec.cost import Cost, CostTable
from committee.spec.model import ImportedModel, KnownModel
from committee.spec.task import CLASSIFICATION, Task
from committee.text import counted, human_cost, printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Made = TypeVar("Made")

# What tab completion offers.
_SHOWN = (
    *("calibrations", "costs", "described", "families", "from_arrays", "kind", "labelled_by"),
    *("load", "model", "models", "names", "notes", "only", "outputs", "rows", "samples", "singles"),
    *("specs", "task", "with_calibrations"),
)
# Rows that are combined at once.
_ROWS = 4096


@cache
def store_readers() -> dict[str, EntryPoint]:
    """Return what opens a split as a pool, by the name of the index file of its stores."""
    from importlib.metadata import entry_points

    return {each.name: each for each in entry_points(group="committee.stores")}


@dataclass(frozen=True, eq=False)
class Pool:
    """Predictions of several models on the samples of one split.

    Args:
        samples: Ids, labels and classes of the split.
        models: The models, by name.
        layout: Which models are one set of weights.
        task: What the models do: what a sample is, what exits as one, what it scores.
        divided: The same samples in other tilings, a pool each, with the models that see those
            tiles. A committee is of one tiling; :meth:`holding` finds it.

    Raises:
        UnknownNameError: If the layout names a model that is not there.
        MisalignedError: If models differ in samples, classes or kind of outputs.
    """

    samples: Samples
    models: Mapping[str, PoolModel]
    layout: Layout = field(default_factory=Layout)
    task: Task = CLASSIFICATION
    divided: tuple[Pool, ...] = ()

    def __post_init__(self) -> None:
        if not self.models:
            raise MisalignedError("Pool: there is no model; a pool has one or more")
        for name, outputs in self.outputs.items():
            if len(outputs) != len(self.samples):
                raise MisalignedError(
                    f"Pool: all models must cover the same samples. The split "
                    f"{self.samples.split!r} has {len(self.samples)}, {name!r} has {len(outputs)}. "
                    "Compute or import the outputs of that model again on the same samples"
                )
        self.layout.check_names(self.models)
        self._require_one({n: o.kind for n, o in self.outputs.items()}, "kind of outputs")
        if self.kind == "outcomes":
            check_values(self.samples.ids, self.outputs, self.specs.values())
        elif self.kind != "decisions":
            self._check_classes()

    def _check_classes(self) -> None:
        """Refuse outputs that differ in their number of classes, or have too few for the labels."""
        widths = {n: o.values.shape[1] for n, o in self.outputs.items()}
        self._require_one(widths, "number of classes")
        width = next(iter(widths.values()))
        names = len(self.samples.classes)
        if names and names != width:
            raise MisalignedError(f"Pool: {names} classes are named, but outputs have {width}")
        labels = self.samples.labels
        if labels is not None and len(labels) and labels.max() >= width:
            raise MisalignedError(
                f"Pool: labels go up to {labels.max()}, but outputs have only {width} classes, "
                f"0 to {width - 1}"
            )

    @staticmethod
    def _require_one(values: Mapping[str, Any], what: str) -> None:
        if len(set(values.values())) > 1:
            text = ", ".join(f"{name!r} has {value}" for name, value in values.items())
            raise MisalignedError(f"Pool: all models must have the same {what}: {text}")

    @classmethod
    def from_arrays(
        cls,
        labels: ArrayLike | None,
        outputs: Mapping[str, Any],
        *,
        kind: str,
        costs: Mapping[str, ArrayLike | Cost] | None = None,
        unit: str = "macs",
        ids: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        split: str = "val",
        families: Mapping[str, str] | None = None,
        same_weights: Sequence[Sequence[str]] = (),
        bounds: tuple[float, float] | None = None,
    ) -> Pool:
        """Build a pool from arrays.

        Args:
            labels: Class index or name of a class of each sample, shape (N,), or None.
            outputs: For each model an array (N, C), or a table of pandas or polars, whose columns
                and rows are found by name; for ``decisions`` a pair of predicted classes
                (N,) and confidence (N,), for ``outcomes`` of values (N,) and confidence (N,).
            kind: ``logits``, ``probabilities``, ``decisions`` or ``outcomes``.
            costs: What one sample costs in each model, in ``unit``; an array (N,) where that
                differs from sample to sample, or a :class:`Cost` with a unit of its own.
            unit: Unit of the costs.
            ids: Names of the samples; 0, 1, … if left out.
            classes: Names of the classes, in the order of the outputs.
            split: Name of the split.
            families: Of models that are trainings of one architecture, the architecture's name.
            same_weights: Names of models that are one set of weights, by rising resolution; a list
                for each such set.
            bounds: The least and the largest value of outcomes; without them each is 1 or 0.

        Raises:
            ShapeError, NotFiniteError: If a model's outputs cannot be used; the model is named.
            MisalignedError: If models or labels do not cover the same samples or classes.
            UnknownNameError: If a cost or a family is given for a model that is not there.

        >>> pool = Pool.from_arrays([0, 1], {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits")
        >>> pool.names
        ['a']
        """
        checked, indexed, ids, classes, costs = checked_arrays(
            labels, outputs, kind, ids, classes, costs or {}
        )
        for what, names in (("costs", costs), ("families", families or {})):
            for name in names:
                if name not in checked:
                    raise UnknownNameError.of(f"Pool: {what}", "model", name, checked)
        count = len(next(iter(checked.values()), []))
        samples = Samples.of(indexed, ids, classes, split, count)
        models = {}
        for name, own in checked.items():
            price, each = priced(name, costs.get(name), unit, samples.ids)
            family = (families or {}).get(name, "")
            spec = ImportedModel(name, own.kind, family, price, bounds=bounds)
            models[name] = PoolModel(spec, own, sample_costs=each)
        return cls(samples, models, Layout(tuple(map(tuple, same_weights))))

    @classmethod
    def load(
        cls, path: str | Path, models: Iterable[str] | None = None, *, calibrated: bool = False
    ) -> Pool:
        """Open one split of a store, ``STORE/SPLIT``; of ``STORE`` alone the split ``val``.

        Arrays stay on disk until they are used.

        Of a store of segmentation whole images come first, tiles of every size are ``divided``.

        Args:
            path: Folder of the split.
            models: Names of the models; all if left out.
            calibrated: Whether to take along the calibrations that ``committee calibrate`` kept.

        Raises:
            StoreError: If there is no store or no such split, a file is damaged, or a model has no
                calibration where they are asked for.
            MisalignedError: If the models do not cover the same samples and classes.
        """
        readers = store_readers()
        path = Path(path)
        if any((path / index).is_file() for index in readers) and (path / "val").is_dir():
            path = path / "val"
        own = (index for index in readers if (path.parent / index).is_file())
        pool: Pool = readers[next(own, "store.json")].load()(path, models, calibrated=calibrated)
        return pool

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order given."""
        return list(self.models)

    @cached_property
    def outputs(self) -> dict[str, Outputs]:
        """Outputs of each model, by name."""
        return {name: each.outputs for name, each in self.models.items()}

    @cached_property
    def digests(self) -> Array:
        """A number for what all models answer to each sample, shape (N,), uint64."""
        return summed_digests(self.models.values(), len(self))

    @cached_property
    def specs(self) -> dict[str, KnownModel]:
        """What is known of each model, by name."""
        return {name: each.spec for name, each in self.models.items()}

    @cached_property
    def costs(self) -> CostTable:
        """What one sample costs in each model."""
        return CostTable.of({name: spec.costs for name, spec in self.specs.items()})

    def sample_costs(self, unit: str) -> dict[str, SampleCost]:
        """Return what one sample costs in each model: a number, or one each where they differ.

        Raises:
            CostError: If a model has no cost in that unit.
        """
        means = self.costs.values(unit)
        return {n: each.sample_costs.get(unit, means[n]) for n, each in self.models.items()}

    @cached_property
    def families(self) -> dict[str, str]:
        """The architecture of the models that are trainings of one, by name."""
        return {name: spec.family for name, spec in self.specs.items() if spec.family}

    @cached_property
    def calibrations(self) -> dict[str, Calibration]:
        """The calibrations of the models that have one, by name."""
        known = {name: each.calibration for name, each in self.models.items()}
        return {name: each for name, each in known.items() if each is not None}

    @property
    def kind(self) -> Kind:
        """Kind of outputs that all models give."""
        return next(iter(self.models.values())).outputs.kind

    @cached_property
    def combined_kind(self) -> Kind:
        """Kind of outputs that committees combine: what calibrations make of :attr:`kind`.

        Raises:
            MisalignedError: If calibrations make several of it, or differ in their classes.
        """
        for what, of in (("kind of outputs", "kind"), ("number of classes", "width")):
            known = {name: getattr(each, of) for name, each in self.models.items()}
            self._require_one(known, f"{what} when they are calibrated, all or none by class")
        return next(iter(self.models.values())).kind

    @property
    def metric(self) -> Metric:
        """What a sample scores when it exits, unless the user asks for something else."""
        return metric_of(self.specs.values()) if self.kind == "outcomes" else TOP_1

    @property
    def keeps_outputs(self) -> bool:
        """False if outputs were too large to keep, and nothing but what they score is there."""
        return True

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Notes on the samples: what no figure counts, and copies; often none."""
        copies = copies_in(self.samples, self.models.values())
        return (*self.samples.notes, *filter(None, [content_copies(self.samples), copies]))

    def confidence_or(self, asked: str) -> str:
        """Return the confidence to search with: the one given, unless the outputs bring their own.

        Raises:
            CascadeError: If one is asked for where decisions or outcomes bring their own.
        """
        if self.combined_kind in WITH_CONFIDENCE:
            refuse_confidence(asked, self.combined_kind)
        return asked

    @property
    def most_models(self) -> int:
        """The most models that a committee can have."""
        return len(self.models) - len(self.layout.whole_of)

    def singles(self, combine: str | None = None) -> dict[str, tuple[str, ...]]:
        """Map each trained model to the models of the pool that together make it up.

        That is the model itself; for models that see tiles, the one that sees the whole image; for
        groups of views all groups together, if the combination is a mean.

        Args:
            combine: Name of the combination; by default the mean of what the models give.
        """
        averaged = (combine or DEFAULT_COMBINE[self.combined_kind]) in ORDER_FREE
        return self.layout.singles(self.names, averaged=averaged)

    def single(self, name: str, combine: str | None = None) -> tuple[str, ...]:
        """Return the models that a name of :meth:`singles` stands for, or the model of that name.

        Raises:
            UnknownNameError: If there is neither.
        """
        known = self.singles(combine)
        if name not in known and name not in self.models:
            raise UnknownNameError.of("pool", "model", name, known.keys() | self.models.keys())
        return known.get(name, (name,))

    def weights_of(self, name: str) -> str:
        """Return the name that stands for all models that are the same weights as this one."""
        for each in self.divisions:
            if name in each.layout.whole_of:
                return each.layout.whole_of[name]
        groups = self.layout.view_groups.items()
        whole = next((whole for whole, names in groups if name in names), None)
        sets = self.layout.same_weights
        return whole or next((names[0] for names in sets if name in names), name)

    def described(self, cascade: Cascade) -> Cascade:
        """Return the cascade with what this pool knows of its models, and of its classes."""
        own = self.holding(cascade.models_of_stages)
        known = {n: own.specs[n] for n in cascade.names if n in own.specs}
        classes = cascade.classes or self.samples.classes
        return replace(self.bound(cascade), models=known, classes=classes)

    def bound(self, cascade: Cascade) -> Cascade:
        """Return the cascade with the combination that this pool's outputs imply, if it names none.

        Raises:
            MisalignedError: If it was chosen on outputs of another kind, or calibrated for others.
        """
        where = f"split {self.samples.split!r}"
        cascade.check_kinds(dict.fromkeys(cascade.names, self.kind), where)
        cascade.check_calibrated(self.specs, where)
        return cascade.of_kinds({self.kind})

    @cached_property
    def divisions(self) -> tuple[Pool, ...]:
        """A pool for each tiling of the samples, that of this pool first."""
        return (replace(self, divided=()), *self.divided) if self.divided else (self,)

    def holding(self, stages: Sequence[Sequence[str]]) -> Pool:
        """Return the pool of the tiling in which a committee decides; or this pool.

        Args:
            stages: Names of the models of each stage.

        Raises:
            CascadeError: If models that see the whole stand where parts are asked for, or the other
                way round.
        """
        for each in self.divisions:
            if each._has(stages) and each.layout.begins_whole(stages):
                return each
        if any(each._has(stages) for each in self.divisions):
            text = " -> ".join("+".join(stage) for stage in stages)
            raise CascadeError(
                f"{text}: a committee begins with models that see whole {self.task.samples}, and "
                "goes on with models that see the parts that are left"
            )
        return self

    def _has(self, stages: Sequence[Sequence[str]]) -> bool:
        return all(name in self.models for stage in stages for name in stage)

    def divided_as(self, other: Pool) -> Pool:
        """Return these samples in the tiling of another pool; this pool if there is none.

        Args:
            other: One tiling of other samples.
        """
        tiles = other.layout.whole_of.keys()
        found = (each for each in self.divisions if each.layout.whole_of.keys() == tiles)
        return next(found, self.divisions[0])

    def divided_like(self, other: Pool) -> Pool:
        """Return these samples in the tilings of another pool, and in no others."""
        first, *rest = (self.divided_as(each) for each in other.divisions)
        return replace(first, divided=tuple(rest)) if rest or self.divided else self

    def prices(self, unit: str) -> dict[str, float]:
        """Return what one sample costs in each model, of every tiling.

        Raises:
            CostError: If a model has no cost in that unit.
        """
        return {n: c for each in self.divisions for n, c in each.costs.values(unit).items()}

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        names = ", ".join(self.names[:4]) + (", …" if len(self.names) > 4 else "")
        shown = printable(names)
        models = f"{counted(len(self.names), 'model')} ({shown})"
        return f"<Pool: {models}, {self.kind} on {self.samples!r}>"

    def _repr_html_(self) -> str:
        title = f"{self.kind.capitalize()} on {self.samples!r}".replace("<", "").replace(">", "")
        return _pool_table(title, self.models).html()

    def __dir__(self) -> list[str]:
        return sorted(_SHOWN)

    def is_self_cascade(self, cascade: Cascade) -> bool:
        """Return True if a cascade's models are one set of weights at rising resolutions.

        A committee of one stage is an ensemble or a model, not a cascade.
        """
        names = cascade.names
        return len(cascade.stages) > 1 and any(
            [name for name in each if name in names] == list(names)
            for each in self.layout.same_weights
        )

    def model(self, name: str) -> Outputs:
        """Return the outputs of one model.

        Raises:
            UnknownNameError: If it is not in the pool.
        """
        if name not in self.models:
            raise UnknownNameError.of("pool", "model", name, self.models)
        return self.models[name].outputs

    def only(self, names: Iterable[str]) -> Pool:
        """Return the pool of some of the models.

        Raises:
            UnknownNameError: If one is not in the pool.
        """
        names = list(names)
        for name in names:
            if name not in self.models:
                raise UnknownNameError.of("pool", "model", name, self.models)
        chosen = {name: self.models[name] for name in names}
        divided = tuple(each._of_weights(chosen) for each in self.divided)
        return replace(self, models=chosen, layout=self.layout.only(chosen), divided=divided)

    def _of_weights(self, names: Collection[str]) -> Pool:
        """Return the pool of some models that see whole images and of their weights on tiles."""
        return self.only([n for n in self.names if self.layout.whole_of.get(n, n) in names])

    def with_calibrations(self, calibrations: Mapping[str, Calibration]) -> Pool:
        """Return the same pool, with calibrations in place of those that it had.

        Raises:
            UnknownNameError: If one is of a model that is not there.
        """
        for name in calibrations:
            if name not in self.models:
                raise UnknownNameError.of("Pool: calibrations", "model", name, self.models)
        models = {
            name: each.with_calibration(calibrations.get(name))
            for name, each in self.models.items()
        }
        return replace(self, models=models)

    def labelled_by(self, models: str | Sequence[str], combine: str | None = None) -> Pool:
        """Return the same pool with the predictions of a model, or of an ensemble, as its labels.

        Search and evaluation then measure agreement with that reference, which needs no labels. The
        reference of a calibrated pool is calibrated too.

        Args:
            models: Name of the reference model, or names of the models of the ensemble.
            combine: How outputs of several models are combined; by default the mean of what they
                give.

        Raises:
            UnknownNameError: If a model is not in the pool.
            CascadeError: If no model is named, or several of which ``last`` takes one only.

        >>> pool = Pool.from_arrays(None, {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits")
        >>> pool.labelled_by("a").samples.labels
        array([0, 1])
        """
        self._require_outputs("labelled_by", "they tell no class to agree with")
        refuse_outcomes("labelled_by", self.kind)
        names = [models] if isinstance(models, str) else list(models)
        for name in names:
            self.model(name)
        combine = combine or DEFAULT_COMBINE[self.combined_kind]
        if not names or (len(names) > 1 and combine not in JOINT):
            raise CascadeError(
                f"labelled_by: {', '.join(names) or 'no model'} cannot be one reference; name one "
                "model, or several that a mean or a vote combines"
            )

        def some(start: int) -> dict[str, Outputs]:
            rows = slice(start, start + _ROWS)
            return {name: self.models[name].calibrated(rows) for name in names}

        parts = [
            combined(
                some(start),
                combine,
            ).predicted()
            for start in range(0, len(self), _ROWS)
        ]
        labels = np.concatenate(parts) if parts else np.empty(0, np.int64)
        samples = replace(self.samples, labels=labels, labelled_by="+".join(sorted(names)))
        return replace(self, samples=samples)

    def _require_outputs(self, what: str, why: str) -> None:
        if not self.keeps_outputs:
            raise CascadeError(
                f"{what}: of {self.task.units} only scores and counts are kept, so {why}"
            )

    def require_rows(self, what: str) -> None:
        """Raise CascadeError if the samples are known by counts only; see ``ShardedPool``."""

    def each(self, function: Callable[[Pool], Made]) -> Iterator[Made]:
        """Yield what a function makes of each shard of the samples; this pool is one."""
        yield function(self)

    def rows(self, index: Any, split: str) -> Pool:
        """Return the pool on some of the samples, as a split of its own.

        Args:
            index: As in NumPy: a slice, indices, or a mask of shape (N,).
            split: Name of the new split.

        Raises:
            MisalignedError: If the samples are divided in parts; predict with ``--rows`` instead.
        """
        if self.divided or self.samples.parts > 1:
            raise MisalignedError(
                f"Pool: the {self.task.samples} of {self.samples.split!r} are divided in parts, of "
                "which some cannot be taken. Predict a split of its own, with --rows"
            )
        samples = replace(self.samples.taken(np.arange(len(self))[index]), split=split)
        models = {name: model.rows(index) for name, model in self.models.items()}
        return replace(self, samples=samples, models=models)


def _pool_table(title: str, models: Mapping[str, PoolModel]) -> Table:
    """Return what is known of each model: costs with their source, family and calibration."""

    def cost(model: PoolModel, unit: str) -> str | None:
        own = next((each for each in model.spec.costs if each.unit == unit), None)
        return None if own is None else f"{human_cost(own.value, unit)}, {own.source}"

    units = dict.fromkeys(each.unit for model in models.values() for each in model.spec.costs)
    columns = [
        Column("model", lambda model: model.spec.name),
        *(Column(unit, lambda model, unit=unit: cost(model, unit)) for unit in units),  # type: ignore[misc]
    ]
    if any(model.spec.family for model in models.values()):
        columns.append(Column("family", lambda model: model.spec.family))
    if any(model.calibration for model in models.values()):
        columns.append(Column("calibrated", lambda model: "yes" if model.calibration else None))
    return Table(title, tuple(columns), list(models.values()))
