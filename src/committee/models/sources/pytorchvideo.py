"""``pytorchvideo:NAME``: X3D networks as PyTorchVideo builds them, by the installed package.

Code of its hub is never fetched or run; its weights are read as tensors. PyTorchVideo publishes no
weights of X3D-XL, which the paper names: give a file, or count with random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from committee.errors import ModelError, UnknownNameError, needing
from committee.models.sources.by_name import ByName, unloaded
from committee.models.sources.torchvision import import_torchvision
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch

_HUB = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


@dataclass(frozen=True)
class _Layout:
    """One network of the family.

    A view takes every ``stride``-th frame of 30 a second. ``size`` is the side of the square views,
    over which the head of the network pools. ``width`` and ``depth`` are factors.
    """

    frames: int
    stride: int
    size: int
    width: float = 2.0
    depth: float = 2.2
    weights: str = ""


# Feichtenhofer (2020), table 1 and section 4; sizes of 30 views as in SlowFast's configurations.
_LAYOUTS = {
    "x3d_xs": _Layout(4, 12, 182, weights="X3D_XS.pyth"),
    "x3d_s": _Layout(13, 6, 182, weights="X3D_S.pyth"),
    "x3d_m": _Layout(16, 5, 256, weights="X3D_M.pyth"),
    "x3d_l": _Layout(16, 5, 356, depth=5.0, weights="X3D_L.pyth"),
    "x3d_xl": _Layout(16, 5, 356, width=2.9, depth=5.0),
}


class PytorchvideoSource(ByName):
    """X3D of every size."""

    form = "pytorchvideo:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return how its authors tested it: 10 x 3 views, the shorter side resized to a view's."""
        layout = _layout(text)
        return {
            "size": (layout.size, layout.size),
            "interpolation": "bilinear",
            "mean": (0.45, 0.45, 0.45),
            "std": (0.225, 0.225, 0.225),
            "views": {"frames": layout.frames, "stride": layout.stride, "antialias": False},
        }

    def takes_any_size(self, spec: ModelSpec) -> bool:
        """Return False: the pool of its head is as large as the size that it was built for."""
        return False

    def pretrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module with PyTorchVideo's weights, from torch's cache or from its hub."""
        import torch

        where, file = f"model {spec.name!r}", _layout(spec.text).weights
        if not file:
            raise ModelError(
                f"{where}: PyTorchVideo publishes no weights of {spec.text}. Give a file, weights ="
                ' "FILE" in the pool file, or weights = "random" to count multiply-adds'
            )
        try:
            checkpoint = torch.hub.load_state_dict_from_url(
                f"{_HUB}/{file}", map_location="cpu", progress=False, weights_only=True
            )
        except Exception as error:
            raise unloaded(where, f"{_HUB}/{file}", error, "TORCH_HOME") from error
        return self.filled(spec, checkpoint["model_state"], file)

    def built(self, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """See :class:`ByName`."""
        where, layout = f"model {spec.name!r}", _layout(spec.text)
        import_torchvision(where)
        with needing(where, "pytorchvideo, fvcore and iopath", "pytorchvideo"):
            from pytorchvideo.models.x3d import create_x3d
        heads = [value for name, value in state.items() if name.endswith("proj.weight")]
        views = spec.preprocessing.views
        module: torch.nn.Module = create_x3d(
            input_clip_length=layout.frames if views is None else views.frames,
            # The pool of its head is square and as large as the smaller side allows.
            input_crop_size=min(spec.image.size),
            model_num_class=len(heads[-1]) if heads else 400,
            width_factor=layout.width,
            depth_factor=layout.depth,
            # It would answer probabilities; the paper averages logits.
            head_activation=None,
        )
        return module


def _layout(text: str) -> _Layout:
    if text not in _LAYOUTS:
        raise UnknownNameError.of("pytorchvideo", "model", text, _LAYOUTS)
    return _LAYOUTS[text]
