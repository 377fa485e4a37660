"""What a model costs: multiply-adds."""

from committee.profile.macs import torch_macs

__all__ = ["torch_macs"]
