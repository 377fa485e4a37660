"""Running a cascade: online, a picture at a time; offline, a data set; timed, compared, verified.

A runner opens cascade files, bundles and single ONNX files.
"""

from committee.run.agreement import Agreement, Promise, agreement
from committee.run.offline import Progress, run_into, run_offline
from committee.run.results import Result, check_ending, check_free, read_results, write_results
from committee.run.runner import Decision, Runner
from committee.run.timing import Timed, timed_offline, timed_online
from committee.run.verify import Compared, Flip, verify

__all__ = [
    "Agreement",
    "Compared",
    "Decision",
    "Flip",
    "Progress",
    "Promise",
    "Result",
    "Runner",
    "Timed",
    "agreement",
    "check_ending",
    "check_free",
    "read_results",
    "run_into",
    "run_offline",
    "timed_offline",
    "timed_online",
    "verify",
    "write_results",
]
