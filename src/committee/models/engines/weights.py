"""Weights of torch modules: read from a file without running code, or drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from committee.errors import MissingExtraError, ModelError, needing
from committee.models.base import check_file
from committee.text import first_line

if TYPE_CHECKING:
    import torch

# Keys under which checkpoints of training scripts store the weights.
_WITHIN = ("state_dict", "model", "model_state")
# Prefixes of all names if the module was wrapped for several devices, or compiled.
_WRAPPED = ("module.", "_orig_mod.")
# Counters of batches, which only training reads; older files do not have them.
_COUNTER = "num_batches_tracked"


def read_weights(where: str, path: Path) -> Mapping[str, torch.Tensor]:
    """Read a state dict from ``.safetensors``, or from what ``torch.save`` wrote; run no code."""
    check_file(where, path, "file of weights")
    read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_torch
    try:
        state = read(path)
    except MissingExtraError:
        raise
    except Exception as error:
        raise ModelError(
            f"{where}: {path} cannot be read as weights ({first_line(error)}). "
            "Save the state dict alone, best as safetensors"
        ) from None
    for prefix in _WRAPPED:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    with needing(str(path), "safetensors", "safetensors"):
        from safetensors.torch import load_file
    state: Mapping[str, torch.Tensor] = load_file(path)
    return state


def _read_torch(path: Path) -> Mapping[str, torch.Tensor]:
    import torch

    state: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WITHIN:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise TypeError("no mapping of names to tensors")
    # Not a copy: torch stores beside the items which version of each layer wrote them.
    return state


def fill(
    where: str, path: str, module: torch.nn.Module, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Put weights into a module and return it."""
    own = module.state_dict()
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    problems = [
        f"{len(names)} {what}, first {names[0]!r}"
        for what, names in (
            ("missing", [n for n in own if n not in state and not n.endswith(_COUNTER)]),
            ("unknown", [name for name in state if name not in own]),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise ModelError(f"{where}: weights of {path} do not fit the model: {'; '.join(problems)}")
    try:
        module.load_state_dict(state, strict=False)  # missing names are refused above
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{where}: weights of {path} do not fit the model ({first_line(error)})"
        ) from error
    return module
