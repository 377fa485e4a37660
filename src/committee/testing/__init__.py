"""Contract tests that plug-ins can run on what they bring."""

from committee.testing.sources import check_source

__all__ = ["check_source"]
