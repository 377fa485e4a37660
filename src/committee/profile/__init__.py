"""What a model costs: multiply-adds and parameters, counted."""

from committee.profile.graph import graph_macs, graph_parameters
from committee.profile.macs import torch_macs

__all__ = ["graph_macs", "graph_parameters", "torch_macs"]
