"""Check the certificate of a cascade on what a run of it decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from committee.arrays import Array
from committee.certificates.certificate import Certificate, Checked, identities, seen_as
from committee.data.base import Dataset, content_of
from committee.errors import CascadeError, MisalignedError
from committee.pool.costs import SampleCost, costs_of_stages
from committee.pool.metrics import TOP_1
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions
from committee.run.verify import Stored, Way


@dataclass(frozen=True, eq=False)
class PromiseCheck:
    """What a run must be compared with to check a certificate.

    Args:
        where: What the samples are called.
        certificate: The certificate; None if it is void.
        void: Why it is void; else empty.
        labels: Class index of each sample, shape (N,); None if the promise needs none.
        reference: How the reference decides; None if the promise needs none.
    """

    where: str
    certificate: Certificate | None
    void: str = ""
    labels: Array | None = None
    reference: Way | None = None

    @classmethod
    def of(
        cls,
        cascade: Cascade,
        dataset: Dataset,
        where: str,
        stored: Stored | None,
        reference_way: Callable[[Cascade], Way],
    ) -> PromiseCheck:
        """Return what checks the certificate of a cascade on the samples of a data set.

        Args:
            cascade: The cascade, whose certificate may be void.
            dataset: The samples, labelled unless the stored predictions are or an agreement was
                certified.
            where: What the samples are called.
            stored: Stored predictions of them, or None.
            reference_way: Takes the reference and returns how it decides on the samples.
        """
        try:
            certificate = Certificate.of(cascade)
        except CascadeError as error:
            if cascade.certificate is None:
                raise
            return cls(where, None, str(error))
        _check_unseen(cascade, dataset, where, stored)
        promise, labels, way = certificate.record.promise, None, None
        if certificate.is_reference and promise != "at least":
            return cls(where, certificate)
        if promise != "agreement":
            if (measure := certificate.record.measure) != TOP_1.name:
                raise MisalignedError(
                    f"--promise: the promise is of {measure}, and decisions show {TOP_1.name} "
                    "alone. Check it with: committee evaluate CASCADE STORE"
                )
            labels = _labels(cascade, dataset, where, stored)
        if (reference := certificate.reference()) is not None:
            way = reference_way(reference)
        return cls(where, certificate, "", labels, way)

    def checked(
        self, made: Decisions, reference: Decisions | None, rows: Array | slice = slice(None)
    ) -> Checked:
        """Return what decisions on some rows of the samples say of the certificate."""
        if self.certificate is None:
            return Checked(self.where, None, None, self.void)
        others = None
        if self.labels is not None:
            labels = self.labels[rows]
            values = made.predicted == labels
            if reference is not None:
                others = reference.predicted == labels
        else:
            theirs = made if reference is None else reference
            values = made.predicted == theirs.predicted
        costs = _costs(self.certificate)
        outcome = self.certificate.outcome(values, others, made.stage, costs)
        return Checked(self.where, self.certificate, outcome)


def _costs(certificate: Certificate) -> Sequence[SampleCost] | None:
    """Return the cost of each stage if a cost was promised; None where the file lacks some."""
    own, cascade = certificate.record, certificate.cascade
    if own.max_cost is None:
        return None
    costs = {
        name: cost.value
        for name, known in cascade.models.items()
        for cost in known.costs
        if cost.unit == own.unit
    }
    if lacking := sorted({*cascade.names} - costs.keys()):
        raise MisalignedError(
            f"--promise: a cost in {own.unit} was promised, and the cascade file has none of "
            f"{', '.join(lacking)}. Check it with: committee evaluate CASCADE STORE"
        )
    return costs_of_stages(cascade.models_of_stages, costs)


def _check_unseen(cascade: Cascade, dataset: Dataset, where: str, stored: Stored | None) -> None:
    samples = dataset.samples
    known = {samples.identity, replace(samples, content=content_of(dataset)).identity}
    if stored is not None:
        known |= identities(cascade, stored.pool)
    if seen := seen_as(cascade, known):
        raise MisalignedError(f"{where}: {seen}. Verify the promise on others")


def _labels(cascade: Cascade, dataset: Dataset, where: str, stored: Stored | None) -> Array:
    if dataset.samples.labels is not None:
        return dataset.samples.labels
    if stored is not None and stored.pool.samples.labels is not None:
        classes = stored.pool.samples.classes
        if cascade.classes and classes and classes != cascade.classes:
            raise MisalignedError(
                f"split {stored.pool.samples.split!r}: its classes are not those of the cascade. "
                "Name a store of the same classes"
            )
        return np.asarray(stored.pool.samples.labels[stored.rows])
    raise MisalignedError(
        f"{where}: no labels that fit the classes of the cascade; the promise needs them. Put the "
        "samples into one folder per class or a csv with labels, or name labelled predictions of "
        "them: --predictions STORE"
    )
