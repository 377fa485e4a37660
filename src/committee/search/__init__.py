"""Search: prefix statistics, thresholds, the front and its targets."""

from committee.search.exhaustive import ensembles, search
from committee.search.front import Committee, Front, Settings
from committee.search.judging import evaluate_all
from committee.search.thresholds import percentile_thresholds

__all__ = [
    "Committee",
    "Front",
    "Settings",
    "ensembles",
    "evaluate_all",
    "percentile_thresholds",
    "search",
]
