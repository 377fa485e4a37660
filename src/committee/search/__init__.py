"""Search: prefix statistics, thresholds, the front and its targets."""

from committee.search.exhaustive import ensembles, search
from committee.search.fixed import as_cascade, as_ensemble, in_order, threshold_sweep
from committee.search.front import Committee, Front, Settings
from committee.search.greedy import greedy
from committee.search.guided import guided
from committee.search.judging import evaluate_all
from committee.search.thresholds import percentile_thresholds

__all__ = [
    "Committee",
    "Front",
    "Settings",
    "as_cascade",
    "as_ensemble",
    "ensembles",
    "evaluate_all",
    "greedy",
    "guided",
    "in_order",
    "percentile_thresholds",
    "search",
    "threshold_sweep",
]
