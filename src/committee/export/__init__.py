"""Export: a cascade in a form that leaves this library, or Python, behind."""

from committee.export.bundle import is_bundle, read_bundle, write_bundle

__all__ = ["is_bundle", "read_bundle", "write_bundle"]
