"""Ensembles and cascades of trained models: chosen exactly, judged honestly, run as promised.

The method is that of Wang et al., "Wisdom of Committees" (ICLR 2022).
"""

from typing import TYPE_CHECKING, Any

from committee import errors
from committee.calibration import Calibration
from committee.cascade import Cascade, Stage
from committee.confidence import register_confidence
from committee.cost import Cost
from committee.errors import CommitteeError, Infeasible
from committee.evaluate import Evaluation, evaluate
from committee.pool import Pool
from committee.search import (
    Committee,
    Front,
    as_cascade,
    as_ensemble,
    ensembles,
    evaluate_all,
    greedy,
    guided,
    search,
    threshold_sweep,
)
from committee.utility import TOP_1, Exits, Utility, given, top_k, weighted

if TYPE_CHECKING:
    from committee.run import Runner

__version__ = "0.1.0"
__all__ = [
    "Calibration",
    "Cascade",
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
    "Utility",
    "as_cascade",
    "as_ensemble",
    "ensembles",
    "errors",
    "evaluate",
    "evaluate_all",
    "given",
    "greedy",
    "guided",
    "register_confidence",
    "search",
    "threshold_sweep",
    "top_k",
    "weighted",
]


def __getattr__(name: str) -> Any:
    # The runner stands on the models side, which needs more than the core; it is loaded when used.
    if name == "Runner":
        from committee.run import Runner

        return Runner
    raise AttributeError(f"module 'committee' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
