"""Pool: models of one task, aligned on the same samples and the same classes, with their costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import CascadeError, CostError, MisalignedError, ShapeError, UnknownNameError
from committee.pool.frames import in_class_order, in_row_order, in_rows
from committee.pool.identity import (
    Shared,
    alike,
    content_copies,
    mostly_differ,
    output_copies,
    output_digests,
    places,
    precise_rows,
    shared,
)
from committee.pool.labels import indices
from committee.pool.metrics import TOP_1, Metric
from committee.pool.plausibility import check_classes, check_declared
from committee.pool.samples import Samples, fingerprint
from committee.rule.calibration import Calibration, calibrated
from committee.rule.cascade import Cascade, refuse_confidence
from committee.rule.combinations import DEFAULT_COMBINE, ORDER_FREE, combined
from committee.rule.outputs import Kind, Outputs, as_array, checked_outputs
from committee.spec.cost import Cost, CostTable
from committee.spec.model import ImportedModel, KnownModel, ModelSpec
from committee.spec.task import CLASSIFICATION, Task
from committee.text import listed, printable

# Entry points that open a split as a pool, each named as the index that its stores have.
STORES = "committee.stores"
# Rows that are combined at once.
_ROWS = 4096
# Samples beyond which copies are not looked for.
_MOST_COMPARED = 100_000


@dataclass(frozen=True, eq=False)
class Pool:
    """Predictions of several models on the samples of one split.

    Args:
        samples: Ids, labels and classes of the split.
        outputs: For each model, its outputs, one row a sample, in the order of ``samples``.
        costs: What one sample costs in each model.
        specs: What is known of each model, by name.
        families: Of models that are trainings of one architecture, the architecture's name.
        calibrations: What committees of this pool apply to a model's outputs before they are
            combined, by name. ``outputs`` are as the models gave them.
        same_weights: Names of models that are one set of weights at several resolutions, each set
            by rising resolution; a model is in one set at most.
        whole_of: Of models that see only the part of a whole that is asked for, the name of the
            model with the same weights that sees the whole. A committee begins with the latter.
        blocks: Of models that see a sample in several blocks of views, each block a model of this
            pool, the names of all blocks in their order, by the name of the whole.
        task: What the models do: what a sample is, what exits as one, what it scores.
        divided: The same samples divided in other parts, a pool each, with models that see those. A
            committee is of one division; what searches and judges finds which.
        division: How samples are divided in what exits as one, in a word; empty if they are not.

    Raises:
        UnknownNameError: If there is a calibration or a set of a model that is not there.
        MisalignedError: If models differ in samples, classes or kind of outputs.
    """

    samples: Samples
    outputs: Mapping[str, Outputs]
    costs: CostTable
    specs: Mapping[str, KnownModel] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    same_weights: tuple[tuple[str, ...], ...] = ()
    whole_of: Mapping[str, str] = field(default_factory=dict)
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    task: Task = CLASSIFICATION
    divided: tuple[Pool, ...] = ()
    division: str = ""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise MisalignedError("Pool: there is no model; a pool has one or more")
        for name, outputs in self.outputs.items():
            if len(outputs) != len(self.samples):
                raise MisalignedError(
                    f"Pool: all models must cover the same samples. The split "
                    f"{self.samples.split!r} has {len(self.samples)}, {name!r} has {len(outputs)}. "
                    "Compute or import the outputs of that model again on the same samples"
                )
        for name in self.calibrations:
            if name not in self.outputs:
                raise UnknownNameError.of("Pool: calibrations", "model", name, self.outputs)
        self._check_same_weights()
        self._require_one({n: o.kind for n, o in self.outputs.items()}, "kind of outputs")
        if self.kind != "decisions":
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

    def _check_same_weights(self) -> None:
        named = [name for names in self.same_weights for name in names]
        for name in named:
            if name not in self.outputs:
                raise UnknownNameError.of("Pool: same_weights", "model", name, self.outputs)
            if named.count(name) > 1:
                raise MisalignedError(
                    f"Pool: same_weights: {name!r} stands twice; a model is of one set of weights, "
                    "and runs at one resolution"
                )

    @staticmethod
    def _require_one(values: Mapping[str, Any], what: str) -> None:
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name!r} has {value}" for name, value in values.items())
            raise MisalignedError(f"Pool: all models must have the same {what}: {told}")

    @classmethod
    def from_arrays(
        cls,
        labels: ArrayLike | None,
        outputs: Mapping[str, Any],
        *,
        kind: str,
        costs: Mapping[str, float] | None = None,
        unit: str = "macs",
        ids: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        split: str = "val",
        families: Mapping[str, str] | None = None,
        same_weights: Sequence[Sequence[str]] = (),
    ) -> Pool:
        """Build a pool from arrays.

        Args:
            labels: Class index or name of a class of each sample, shape (N,), or None.
            outputs: For each model an array (N, C), or a table of pandas or polars, whose columns
                and rows are found by name; for ``decisions`` a pair of predicted classes
                (N,) and confidence (N,).
            kind: ``logits``, ``probabilities`` or ``decisions``.
            costs: What one sample costs in each model, in ``unit``.
            unit: Unit of the costs.
            ids: Names of the samples; 0, 1, … if left out.
            classes: Names of the classes, in the order of the outputs.
            split: Name of the split.
            families: Of models that are trainings of one architecture, the architecture's name.
            same_weights: Names of models that are one set of weights, by rising resolution; a list
                for each such set.

        Raises:
            ShapeError, NotFiniteError: If a model's outputs cannot be used; the model is named.
            MisalignedError: If models or labels do not cover the same samples or classes.
            UnknownNameError: If a cost or a family is given for a model that is not there.

        >>> pool = Pool.from_arrays([0, 1], {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits")
        >>> pool.names
        ['a']
        """
        tables = {} if labels is None else {"labels": labels}
        for name, values in outputs.items():
            pair = values if kind == "decisions" else (values, None)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise MisalignedError(
                    f"Pool: {name!r}: decisions are a pair of classes (N,) and confidence (N,)"
                )
            where = f"model {name!r}"
            tables[where] = pair[0]
            if pair[1] is not None:
                tables[f"{where}, confidence"] = pair[1]
        orders, ids = in_row_order(tables, ids)
        arrays = {}
        for where, value in tables.items():
            named = () if where == "labels" else classes
            array, named = in_class_order(where, value, named)
            classes = classes if where == "labels" else named
            arrays[where] = in_rows(where, array, orders[where])
        checked = {}
        for name in outputs:
            where = f"model {name!r}"
            confidence = arrays.get(f"{where}, confidence")
            checked[name] = checked_outputs(where, kind, arrays[where], confidence)
            check_declared(where, checked[name], 'kind="probabilities"')
            check_classes(where, checked[name], len(classes))
        for what, table in (("costs", costs), ("families", families)):
            for name in table or {}:
                if name not in checked:
                    raise UnknownNameError.of(f"Pool: {what}", "model", name, checked)
        count = len(next(iter(checked.values()), []))
        priced = {
            name: [_cost(name, costs[name], unit)] if costs and name in costs else []
            for name in checked
        }
        told = _labels(arrays.get("labels"), classes)
        samples = Samples.of(told, ids, classes, split, count)
        of = families or {}
        return cls(
            samples,
            checked,
            CostTable.of(priced),
            {
                n: ImportedModel(n, o.kind, of.get(n, ""), tuple(priced[n]))
                for n, o in checked.items()
            },
            families=dict(families or {}),
            same_weights=tuple(map(tuple, same_weights)),
        )

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
        readers = {each.name: each for each in entry_points(group=STORES)}
        path = Path(path)
        if any((path / index).is_file() for index in readers) and (path / "val").is_dir():
            path = path / "val"
        own = (index for index in readers if (path.parent / index).is_file())
        pool: Pool = readers[next(own, "store.json")].load()(path, models, calibrated=calibrated)
        return pool

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order given."""
        return list(self.outputs)

    @property
    def kind(self) -> Kind:
        """Kind of outputs that all models give."""
        return next(iter(self.outputs.values())).kind

    @property
    def metric(self) -> Metric:
        """What a sample scores when it exits, unless the user asks for something else."""
        return TOP_1

    @property
    def keeps_outputs(self) -> bool:
        """False if outputs were too large to keep, and nothing but what they score is there."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the samples: what no figure counts, and copies; often none."""
        return (*self.samples.notes, *filter(None, [content_copies(self.samples), self.copies]))

    def confidence_or(self, asked: str) -> str:
        """The confidence that the outputs were scored with when they were kept, else that asked.

        Raises:
            CascadeError: If one is asked for where decisions bring their own.
        """
        if self.kind == "decisions":
            refuse_confidence(asked)
        return asked

    @property
    def most_models(self) -> int:
        """Of how many models a committee can be made at most."""
        return len(self.names) - len(self.whole_of)

    def singles(self, combine: str | None = None) -> dict[str, tuple[str, ...]]:
        """What each trained model is alone, by its name.

        That is the model itself; of models that see parts, that which sees the whole; of blocks of
        views all blocks together, where the combination is a mean.

        Args:
            combine: Name of the combination; by default the mean of what the models give.
        """
        averaged = (combine or DEFAULT_COMBINE[self.kind]) in ORDER_FREE
        of = {block: name for name, each in self.blocks.items() if averaged for block in each}
        names = [name for name in self.names if name not in self.whole_of]
        return {of.get(n, n): self.blocks[of[n]] if n in of else (n,) for n in names}

    def single(self, name: str, combine: str | None = None) -> tuple[str, ...]:
        """The models that one name of :meth:`singles` stands for, or the model of that name.

        Raises:
            UnknownNameError: If there is neither.
        """
        known = self.singles(combine)
        if name not in known and name not in self.outputs:
            raise UnknownNameError.of("pool", "model", name, known.keys() | self.outputs.keys())
        return known.get(name, (name,))

    def weights_of(self, name: str) -> str:
        """The name that stands for all models that are one set of weights, as they were trained."""
        for each in self.divisions:
            if name in each.whole_of:
                return each.whole_of[name]
        for whole, names in self.blocks.items():
            if name in names:
                return whole
        return next((names[0] for names in self.same_weights if name in names), name)

    def entry_of(self, name: str) -> str:
        """Return the pool file's entry that a model comes from, or else the model's own name."""
        spec = self.specs.get(name)
        return spec.entry or name if isinstance(spec, ModelSpec) else name

    def described(self, cascade: Cascade) -> Cascade:
        """The cascade with what this pool knows of how its models are loaded."""
        own = self.holding(cascade.models_of_stages)
        known = {n: own.specs[n] for n in cascade.names if n in own.specs}
        return replace(self.bound(cascade), models=known)

    def bound(self, cascade: Cascade) -> Cascade:
        """The cascade with the combination that this pool's outputs imply, if it names none.

        Raises:
            MisalignedError: If it was chosen on outputs of another kind, or calibrated for others.
        """
        where = f"split {self.samples.split!r}"
        cascade.check_kinds(dict.fromkeys(cascade.names, self.kind), where)
        cascade.check_calibrated(self.specs, where)
        return cascade.of_kinds({self.kind})

    @cached_property
    def divisions(self) -> tuple[Pool, ...]:
        """Every way in which the samples are divided, a pool each, that of this pool first."""
        return (replace(self, divided=()), *self.divided) if self.divided else (self,)

    def holding(self, stages: Sequence[Sequence[str]]) -> Pool:
        """The division in which a committee decides; this pool where a model is in none.

        Args:
            stages: Names of the models of each stage.

        Raises:
            CascadeError: If models that see the whole stand where parts are asked for, or the other
                way round.
        """
        for each in self.divisions:
            if each._runs(stages):
                return each
        if any(all(n in each.outputs for s in stages for n in s) for each in self.divisions):
            told = " -> ".join("+".join(stage) for stage in stages)
            raise CascadeError(
                f"{told}: a committee begins with models that see whole {self.task.samples}, and "
                "goes on with models that see the parts that are left"
            )
        return self

    def _runs(self, stages: Sequence[Sequence[str]]) -> bool:
        if not all(name in self.outputs for stage in stages for name in stage):
            return False
        first, *later = stages
        return not self.whole_of or (
            any(name not in self.whole_of for name in first)
            and all(name in self.whole_of for stage in later for name in stage)
        )

    def seeing_parts(self, stages: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
        """The same weights in the same order, where parts are seen by all stages but the first.

        Args:
            stages: Models that see the whole, and of later stages those that see parts too.
        """
        of = {whole: name for name, whole in self.whole_of.items()}
        first, *later = stages
        return (tuple(first), *(tuple(of.get(name, name) for name in each) for each in later))

    def seeing_wholes(self, stages: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
        """The same weights in the same order, all of which see the whole."""
        return tuple(tuple(self.whole_of.get(name, name) for name in each) for each in stages)

    def divided_as(self, other: Pool) -> Pool:
        """The division of these samples that is that of another pool; this pool if there is none.

        Args:
            other: One division of other samples.
        """
        parts = other.whole_of.keys()
        found = (each for each in self.divisions if each.whole_of.keys() == parts)
        return next(found, self.divisions[0])

    def divided_like(self, other: Pool) -> Pool:
        """These samples in the divisions of another pool, and in no others."""
        first, *rest = (self.divided_as(each) for each in other.divisions)
        return replace(first, divided=tuple(rest)) if rest or self.divided else self

    def prices(self, unit: str) -> dict[str, float]:
        """What one sample costs in each model, whatever part of it the model sees.

        Raises:
            CostError: If a model has no cost in that unit.
        """
        return {n: c for each in self.divisions for n, c in each.costs.values(unit).items()}

    def __len__(self) -> int:
        return len(self.samples)

    def identity(self, names: Iterable[str]) -> str:
        """Changes when the samples are others; see :attr:`committee.pool.samples.Samples.identity`.

        Where ids only count, it is made of the outputs of some models.

        Args:
            names: Names of these models.

        Raises:
            UnknownNameError: If one is not in the pool.
        """
        if self.samples.identity or not self.keeps_outputs:
            return self.samples.identity
        return fingerprint(self._prints(name) for name in sorted(names))

    def shared_with(self, other: Pool) -> Shared:
        """Which samples another pool has too: by content, by id, else by equal outputs.

        Samples of equal ids to which the same models answer otherwise are other samples.
        """
        found = shared(self.samples, other.samples)
        known = self.samples.content is not None and other.samples.content is not None
        if known or not (self.keeps_outputs and other.keeps_outputs):
            return found
        names = [n for n in self.names if n in other.outputs and self.kind == other.kind]
        if len(found) and not self._answers_otherwise(other, names):
            return found
        found = replace(found, first=found.first[:0], second=found.second[:0])
        rows = alike(self._digests(names), other._digests(names)) if names else ()
        return Shared(self.samples, other.samples, *rows) if rows else found

    def _answers_otherwise(self, other: Pool, names: Sequence[str]) -> bool:
        """Return whether models answer otherwise to samples of the same ids in another pool."""
        rows = places(self.samples, other.samples)
        theirs = np.flatnonzero(rows >= 0)[:_ROWS]
        return bool(names) and all(
            mostly_differ(self.model(name).rows(rows[theirs]), other.model(name).rows(theirs))
            for name in names
        )

    @cached_property
    def copies(self) -> str:
        """How many samples are copies of others by their outputs, for people; often nothing.

        Nothing is said where contents are known, or there are very many samples.
        """
        known = self.samples.content is not None or not self.keeps_outputs
        if known or len(self) > _MOST_COMPARED:
            return ""
        precise = np.zeros(len(self), bool)
        for name in self.names:
            precise |= precise_rows(self.model(name))
        if not precise.any():
            return ""
        return output_copies(self.samples, self._digests(self.names), precise)

    def _digests(self, names: Iterable[str]) -> Array:
        """A number for what some models answer to each sample, shape (N,), uint64."""
        total: Array = np.zeros(len(self), np.uint64)
        for name in names:
            if name not in self._known[0]:
                self._known[0][name] = output_digests(name, self.model(name))
            total = total + self._known[0][name]
        return total

    def _prints(self, name: str) -> str:
        """Changes when what a model answers to these samples does, whatever their order."""
        if name not in self._known[1]:
            digests = np.sort(self._digests([name])).astype("<u8")
            self._known[1][name] = fingerprint([digests.tobytes().hex()])
        return self._known[1][name]

    @cached_property
    def _known(self) -> tuple[dict[str, Array], dict[str, str]]:
        # What was computed of models that were asked for: many compare the same two pools.
        return {}, {}

    def __repr__(self) -> str:
        names = ", ".join(self.names[:4]) + (", …" if len(self.names) > 4 else "")
        return f"<Pool: {len(self.names)} models ({names}), {self.kind} on {self.samples!r}>"

    def is_self_cascade(self, cascade: Cascade) -> bool:
        """Whether a cascade's models are one set of weights at rising resolutions.

        One of a single stage is an ensemble or a model, and no cascade.
        """
        names = cascade.names
        return len(cascade.stages) > 1 and any(
            [name for name in each if name in names] == list(names) for each in self.same_weights
        )

    def model(self, name: str) -> Outputs:
        """Outputs of one model.

        Raises:
            UnknownNameError: If it is not in the pool.
        """
        if name not in self.outputs:
            raise UnknownNameError.of("pool", "model", name, self.outputs)
        return self.outputs[name]

    def only(self, names: Iterable[str]) -> Pool:
        """The pool of some of the models."""
        chosen = {name: self.model(name) for name in names}
        costs = CostTable({name: self.costs.costs[name] for name in chosen})
        specs = {name: self.specs[name] for name in chosen if name in self.specs}
        families = {name: self.families[name] for name in chosen if name in self.families}
        calibrations = {n: self.calibrations[n] for n in chosen if n in self.calibrations}
        sets = (tuple(n for n in names if n in chosen) for names in self.same_weights)
        several = tuple(names for names in sets if len(names) > 1)
        return replace(
            self,
            outputs=chosen,
            costs=costs,
            specs=specs,
            families=families,
            calibrations=calibrations,
            same_weights=several,
            whole_of={n: self.whole_of[n] for n in chosen if n in self.whole_of},
            blocks={n: each for n, each in self.blocks.items() if chosen.keys() >= {*each}},
            divided=tuple(each._of_weights(chosen) for each in self.divided),
        )

    def _of_weights(self, names: Collection[str]) -> Pool:
        """The pool of some models that see the whole, and of their weights that see parts."""
        return self.only([n for n in self.names if self.whole_of.get(n, n) in names])

    def with_calibrations(self, calibrations: Mapping[str, Calibration]) -> Pool:
        """The same pool, with calibrations in place of those that it had.

        Raises:
            UnknownNameError: If one is of a model that is not there.
        """
        return replace(self, calibrations=dict(calibrations))

    def labelled_by(self, models: str | Sequence[str], combine: str | None = None) -> Pool:
        """The same pool with the predictions of a model, or of an ensemble, in place of labels.

        What is searched and evaluated then is agreement with that reference, which needs no label.
        A calibrated pool's reference is calibrated too.

        Args:
            models: Name of the reference model, or names of the models of the ensemble.
            combine: How outputs of several models are combined; by default the mean of what they
                give.

        Raises:
            UnknownNameError: If a model is not in the pool.
            CascadeError: If no model is named, or several whose decisions nothing combines.

        >>> pool = Pool.from_arrays(None, {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits")
        >>> pool.labelled_by("a").samples.labels
        array([0, 1])
        """
        self._require_outputs("labelled_by", "they tell no class to agree with")
        names = [models] if isinstance(models, str) else list(models)
        outputs = {name: self.model(name) for name in names}
        combine = combine or DEFAULT_COMBINE[self.kind]
        if not names or (len(names) > 1 and combine not in ORDER_FREE):
            raise CascadeError(
                f"labelled_by: {', '.join(names) or 'no model'} cannot be one reference; name one "
                "model, or several whose outputs a mean combines"
            )

        def some(start: int) -> dict[str, Outputs]:
            rows = slice(start, start + _ROWS)
            return calibrated({n: o.rows(rows) for n, o in outputs.items()}, self.calibrations)

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

    def rows(self, index: Any, split: str) -> Pool:
        """The pool on some of the samples, as a split of its own.

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
        outputs = {name: each.rows(index) for name, each in self.outputs.items()}
        return replace(self, samples=samples, outputs=outputs)


def _cost(name: str, value: Any, unit: str) -> Cost:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        told = printable(str(value)[:30])
        raise CostError(f"Pool: costs: {name!r} costs '{told}', no number; write 5e6") from None
    return Cost(number, unit)


def _labels(labels: ArrayLike | None, classes: Sequence[str]) -> Array | None:
    """Return labels as indices; None if no sample has one.

    Raises:
        MisalignedError: If a label is no class.
        ShapeError: If only some samples have one.
    """
    if labels is None:
        return None
    array = as_array("labels", labels)
    if array.ndim == 1 and array.dtype.kind in "iu" and (array >= 0).all():
        return array
    found = indices("labels", array, classes)
    lacking = np.flatnonzero(found < 0)
    if len(lacking) == len(found):
        return None
    if len(lacking):
        raise ShapeError(
            f"Pool: {len(lacking):,} of {len(found):,} samples have no label, rows "
            f"{listed(lacking.tolist())}. Label them, or leave these samples out"
        )
    return found
