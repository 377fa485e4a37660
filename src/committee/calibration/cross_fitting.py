"""Cross-fitting: calibrated outputs of samples that a calibration was fitted to.

A calibration by class knows the samples that it was fitted to too well: on them a model looks surer
than it is. Where the samples that choose committees have also fitted the calibrations, each is
therefore calibrated by a fit to the others: five folds, drawn by a fixed seed. The committees that
are chosen carry the fit to all samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from committee.arrays import Array
from committee.calibration.fitting import BY_CLASS, classes_of, fit
from committee.pool.comparison import identity_of
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel
from committee.rule.outputs import Outputs

FOLDS = 5
_SEED = 0


def cross_fitted(pool: Pool) -> Pool:
    """Return a pool calibrated out of fold where its samples fitted calibrations by class.

    Other pools come back as they are.
    """
    here = [name for name, each in pool.models.items() if _fitted_here(pool, name, each)]
    if not here:
        return pool
    classes = classes_of(pool)
    fold = np.random.default_rng(_SEED).permutation(np.arange(len(pool)) % FOLDS)
    made = {name: _apart(pool, name, fold, classes) for name in here}
    models = {n: replace(m, cross_fitted=made.get(n)) for n, m in pool.models.items()}
    return replace(pool, models=models)


def _fitted_here(pool: Pool, name: str, model: PoolModel) -> bool:
    known = model.calibration
    if known is None or known.method not in BY_CLASS or model.cross_fitted is not None:
        return False
    labels = pool.samples.labels
    # Labels by a reference are not those that it was fitted to.
    return (
        labels is not None
        and not pool.samples.labelled_by
        and known.samples == identity_of(pool, [name])
    )


def _apart(pool: Pool, name: str, fold: Array, classes: int) -> Outputs:
    """Return the outputs of a model, each row calibrated by a fit to the rows of other folds."""
    model, labels = pool.models[name], np.asarray(pool.samples.labels)
    method = model.calibration.method if model.calibration else None
    parts, rows = [], []
    for number in range(FOLDS):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        where = f"model {name!r} on {pool.samples.split!r}, a fold"
        known = fit(
            model.outputs.rows(others), labels[others], method, where=where, classes=classes
        )
        parts.append(known.apply(model.outputs.rows(own)))
        rows.append(own)
    back = np.argsort(np.concatenate(rows), kind="stable")
    confidences = [each.confidence for each in parts if each.confidence is not None]
    return Outputs(
        parts[0].kind,
        np.concatenate([each.values for each in parts])[back],
        np.concatenate(confidences)[back] if confidences else None,
    )
