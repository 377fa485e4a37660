"""Study: every analysis of Wang et al. (2022), for any pool.

One file an analysis, named for what it shows: one function that returns data, one that draws.
"""

from committee.search.paired import Estimate
from committee.study.analyses import ANALYSES, chosen_analyses, figure_of, run_study
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.context import Reference, Study, Training, study_of
from committee.study.given import read_references, read_training
from committee.study.page import study_page
from committee.study.write import study_json, write_study

__all__ = [
    "ANALYSES",
    "About",
    "Analysis",
    "Column",
    "Estimate",
    "Finding",
    "Reference",
    "Study",
    "Table",
    "Training",
    "chosen_analyses",
    "figure_of",
    "read_references",
    "read_training",
    "run_study",
    "study_json",
    "study_of",
    "study_page",
    "write_study",
]
