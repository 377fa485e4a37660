"""Export: a cascade in a form that leaves this library, or Python, behind."""

from committee.export.bundle import is_bundle, read_bundle, write_bundle
from committee.export.graph import write_graph

__all__ = ["is_bundle", "read_bundle", "write_bundle", "write_graph"]
