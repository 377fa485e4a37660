"""Contract tests that plug-ins can run on what they bring."""

from committee.testing.data import check_data

__all__ = ["check_data"]
