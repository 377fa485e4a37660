"""What models cost on this machine: latency, throughput, and what a lower precision changes."""

from committee.measure.latency import Timing, timed
from committee.measure.precision import Change, changed_by_precision
from committee.measure.profile import Profile, profile
from committee.measure.record import record_costs

__all__ = [
    "Change",
    "Profile",
    "Timing",
    "changed_by_precision",
    "profile",
    "record_costs",
    "timed",
]
