"""Contract tests that plug-ins can run on what they bring."""

from committee.testing.data import check_data
from committee.testing.sources import check_source

__all__ = ["check_data", "check_source"]
