"""``pytorchvideo:NAME``: X3D networks as PyTorchVideo builds them, by the installed package.

Nothing of its hub's code is fetched and run; its weights are read as tensors. X3D-XL is a layout of
the paper for which PyTorchVideo publishes no weights: give a file, or count with random ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from committee.errors import MissingExtraError, ModelError, UnknownNameError
from committee.models.base import RANDOM, Model
from committee.models.engines.exported import model_of
from committee.models.engines.weights import drawn, fill, read_weights
from committee.models.sources.by_name import ByName
from committee.models.sources.hub import check_reachable
from committee.models.sources.torchvision import import_torchvision
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch

_HUB = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


@dataclass(frozen=True)
class _Layout:
    """One member of the family.

    Args:
        frames: Frames of a view, every ``stride``-th of a clip of 30 a second.
        stride: See there.
        size: Side of the square views of ten temporal and three spatial crops; the head of the
            network pools over a square as large as it was built for.
        width: Factor of the channels.
        depth: Factor of the blocks.
        weights: Name of the published file; empty if there is none.
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
    """X3D of every size, with the weights that PyTorchVideo publishes or with others."""

    form = "pytorchvideo:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """What its authors tested with: 10 x 3 views, the shorter side resized to the view's."""
        layout = _layout(text)
        return {
            "size": (layout.size, layout.size),
            "interpolation": "bilinear",
            "mean": (0.45, 0.45, 0.45),
            "std": (0.225, 0.225, 0.225),
            "views": {"frames": layout.frames, "stride": layout.stride, "antialias": False},
        }

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        return model_of(spec, _module(spec), spec.text, threads, any_size=False)


def _layout(text: str) -> _Layout:
    if text not in _LAYOUTS:
        raise UnknownNameError.of("pytorchvideo", "model", text, _LAYOUTS)
    return _LAYOUTS[text]


def _module(spec: ModelSpec) -> torch.nn.Module:
    """The network of a spec, giving logits."""
    where = f"model {spec.name!r}"
    layout = _layout(spec.text)
    if spec.weights == RANDOM:
        with drawn(spec.seed):
            return _built(spec, layout, 400)
    if spec.weights:
        state = read_weights(where, Path(spec.weights))
    elif layout.weights:
        state = _from_hub(where, f"{_HUB}/{layout.weights}")
    else:
        raise ModelError(
            f"{where}: PyTorchVideo publishes no weights of {spec.text}. Give a file, weights = "
            '"FILE" in the pool file, or weights = "random" to count multiply-adds'
        )
    heads = [value for name, value in state.items() if name.endswith("proj.weight")]
    module = _built(spec, layout, len(heads[-1]) if heads else 400)
    return fill(where, spec.weights or layout.weights, module, state)


def _built(spec: ModelSpec, layout: _Layout, classes: int) -> torch.nn.Module:
    where = f"model {spec.name!r}"
    import_torchvision(where)
    try:
        from pytorchvideo.models.x3d import create_x3d
    except ImportError as error:
        raise MissingExtraError.of(
            f"{where} ({error})", "pytorchvideo, fvcore and iopath", "pytorchvideo"
        ) from None
    frames = layout.frames if spec.preprocessing.views is None else spec.preprocessing.views.frames
    module: torch.nn.Module = create_x3d(
        input_clip_length=frames,
        # The pool of its head is square and as large as the smaller side allows.
        input_crop_size=min(spec.preprocessing.size),
        model_num_class=classes,
        width_factor=layout.width,
        depth_factor=layout.depth,
        # It would answer probabilities; the paper averages logits.
        head_activation=None,
    )
    return module


def _from_hub(where: str, url: str) -> Mapping[str, torch.Tensor]:
    """The published weights, from torch's cache or from where PyTorchVideo keeps them."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / Path(url).name).is_file():
        check_reachable(where, url, "TORCH_HOME")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(folder / Path(url).name), progress=False)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                f"{where}: {url} cannot be loaded ({type(error).__name__}: {reason}). "
                'Give the weights as a file, weights = "FILE" in the pool file'
            ) from error
    return read_weights(where, folder / Path(url).name)
