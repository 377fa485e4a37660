"""Pool: models of one task, aligned on the same samples and the same classes, with their costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from committee.calibration import Calibration, calibrated, fit
from committee.combine import DEFAULT_COMBINE, ORDER_FREE, combined
from committee.cost import Cost, CostTable
from committee.errors import CascadeError, MisalignedError, UnknownNameError
from committee.predictions import Kept, Kind, Outputs, checked_outputs
from committee.samples import Samples

# Rows that are combined at once.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Pool:
    """Predictions of several models on the samples of one split.

    Args:
        samples: Ids, labels and classes of the split.
        outputs: For each model, its outputs, one row a sample, in the order of ``samples``.
        costs: What one sample costs in each model.
        specs: How each model is loaded, by name; empty where predictions were made elsewhere.
        families: Of models that are trainings of one architecture, the architecture's name.
        calibrations: What committees of this pool apply to a model's outputs before they are
            combined, by name. ``outputs`` are as the models gave them.
        views: Of models that see only the part of a whole that is asked for, the name of the model
            with the same weights that sees the whole. A committee begins with the latter.

    Raises:
        UnknownNameError: If there is a calibration of a model that is not there.
        MisalignedError: If models differ in samples, classes or kind of outputs.
    """

    samples: Samples
    outputs: Mapping[str, Outputs]
    costs: CostTable
    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)

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
        self._require_one({n: o.kind for n, o in self.outputs.items()}, "kind of outputs")
        if self.kind in ("decisions", "counts"):
            return
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
    ) -> Pool:
        """Build a pool from arrays.

        Args:
            labels: Class index of each sample, shape (N,), or None.
            outputs: For each model an array (N, C); for ``decisions`` a pair of predicted classes
                (N,) and confidence (N,).
            kind: ``logits``, ``probabilities`` or ``decisions``.
            costs: What one sample costs in each model, in ``unit``.
            unit: Unit of the costs.
            ids: Names of the samples; 0, 1, … if left out.
            classes: Names of the classes, in the order of the outputs.
            split: Name of the split.
            families: Of models that are trainings of one architecture, the architecture's name.

        Raises:
            ShapeError, NotFiniteError: If a model's outputs cannot be used; the model is named.
            MisalignedError: If models or labels do not cover the same samples or classes.
            UnknownNameError: If a cost or a family is given for a model that is not there.

        >>> pool = Pool.from_arrays([0, 1], {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits")
        >>> pool.names
        ['a']
        """
        checked = {}
        for name, values in outputs.items():
            pair = values if kind == "decisions" else (values, None)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise MisalignedError(
                    f"Pool: {name!r}: decisions are a pair of classes (N,) and confidence (N,)"
                )
            checked[name] = checked_outputs(f"model {name!r}", kind, pair[0], pair[1])
        for what, table in (("costs", costs), ("families", families)):
            for name in table or {}:
                if name not in checked:
                    raise UnknownNameError.of(f"Pool: {what}", "model", name, checked)
        count = len(next(iter(checked.values()), []))
        priced = {
            name: [Cost(float(costs[name]), unit)] if costs and name in costs else []
            for name in checked
        }
        samples = Samples.of(labels, ids, classes, split, count)
        return cls(samples, checked, CostTable.of(priced), families=dict(families or {}))

    @classmethod
    def load(
        cls, path: str | Path, models: Iterable[str] | None = None, *, calibrated: bool = False
    ) -> Pool:
        """Open one split of a store, ``STORE/SPLIT``; arrays stay on disk until they are used.

        Args:
            path: Folder of the split.
            models: Names of the models; all if left out.
            calibrated: Whether to take along the calibrations that ``committee calibrate`` kept.

        Raises:
            StoreError: If there is no store or no such split, a file is damaged, or a model has no
                calibration where they are asked for.
            MisalignedError: If the models do not cover the same samples and classes.
        """
        from committee.store import load_pool

        return load_pool(Path(path), models, calibrated)

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order given."""
        return list(self.outputs)

    @property
    def kind(self) -> Kind:
        """Kind of outputs that all models give."""
        return next(iter(self.outputs.values())).kind

    def confidence_or(self, asked: str) -> str:
        """The confidence that the outputs were scored with when they were kept, else that asked."""
        first = next(iter(self.outputs.values()))
        kept = first.together if isinstance(first, Kept) else None
        return asked if kept is None else kept.confidence

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        names = ", ".join(self.names[:4]) + (", …" if len(self.names) > 4 else "")
        return f"<Pool: {len(self.names)} models ({names}), {self.kind} on {self.samples!r}>"

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
        views = {n: self.views[n] for n in chosen if n in self.views}
        return Pool(self.samples, chosen, costs, specs, families, calibrations, views)

    def fit_calibrations(self, method: str = "temperature") -> dict[str, Calibration]:
        """Fit a calibration of each model to the labels of these samples.

        Use samples that neither choose nor judge, and :meth:`with_calibrations` on those that do.

        Args:
            method: ``temperature`` or ``platt``; see :mod:`committee.calibration`.

        Raises:
            CalibrationError: If there are no labels, or no calibration is best; the model is named.
            MisalignedError: If labels are predictions of a reference.
            UnknownNameError: If there is no such method.
        """
        samples = self.samples
        if samples.labelled_by:
            raise MisalignedError(
                f"Pool: labels of {samples.split!r} are predictions of {samples.labelled_by}; "
                "calibrations are fitted to true labels"
            )
        return {
            name: fit(
                outputs,
                samples.labels,
                method,
                where=f"model {name!r} on {samples.split!r}",
                split=samples.split,
                samples=samples.fingerprint,
            )
            for name, outputs in self.outputs.items()
        }

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

    def rows(self, index: Any, split: str) -> Pool:
        """The pool on some of the samples, as a split of its own.

        Args:
            index: As in NumPy: a slice, indices, or a mask of shape (N,).
            split: Name of the new split.
        """
        chosen = np.arange(len(self))[index]
        labels = None if self.samples.labels is None else self.samples.labels[chosen]
        ids = tuple(self.samples.ids[i] for i in chosen)
        samples = replace(self.samples, ids=ids, labels=labels, split=split)
        outputs = {name: each.rows(index) for name, each in self.outputs.items()}
        return replace(self, samples=samples, outputs=outputs)
