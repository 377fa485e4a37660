"""Ensembles and cascades of trained models: chosen exactly, evaluated honestly, run as promised.

The method is that of Wang et al., "Wisdom of Committees" (ICLR 2022).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from committee import errors
from committee.errors import CommitteeError, Infeasible
from committee.pool.evaluate import Evaluation, evaluate
from committee.pool.metrics import (
    BALANCED,
    TOP_1,
    Exits,
    Metric,
    class_weighted,
    precomputed,
    top_k,
    weighted,
)
from committee.pool.pool import Pool
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade, Stage
from committee.rule.scores import register_confidence
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import ensembles, search
from committee.selection.fixed_models import as_cascade, as_ensemble, threshold_sweep
from committee.selection.front import Committee, Front
from committee.selection.greedy import greedy
from committee.selection.guided import guided
from committee.spec.cost import Cost
from committee.version import __version__

if TYPE_CHECKING:
    from committee.certificates.certificate import Certificate
    from committee.certificates.certify import Certified, certify
    from committee.run.estimator import CommitteeClassifier as CommitteeClassifier
    from committee.run.open import load
    from committee.run.runner import Runner

__all__ = [
    "__version__",
    "BALANCED",
    "Calibration",
    "Cascade",
    "Certificate",
    "Certified",
    "Committee",
    "CommitteeError",
    "Cost",
    "Evaluation",
    "Exits",
    "Front",
    "Infeasible",
    "Pool",
    "Runner",
    "Stage",
    "TOP_1",
    "Metric",
    "as_cascade",
    "as_ensemble",
    "certify",
    "class_weighted",
    "ensembles",
    "errors",
    "evaluate",
    "evaluate_all",
    "precomputed",
    "greedy",
    "guided",
    "load",
    "register_confidence",
    "search",
    "threshold_sweep",
    "top_k",
    "weighted",
]


# These are loaded when they are used: the core needs none of them.
_LATER = {
    "Certificate": "committee.certificates.certificate",
    "Certified": "committee.certificates.certify",
    "CommitteeClassifier": "committee.run.estimator",
    "Runner": "committee.run.runner",
    "certify": "committee.certificates.certify",
    "load": "committee.run.open",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'committee' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    # Not in __all__: "from committee import *" must work without scikit-learn.
    return sorted([*__all__, *(["CommitteeClassifier"] if find_spec("sklearn") else [])])
