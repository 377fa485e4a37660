"""The form of a graph: how a model's prepared inputs are fed to it and its outputs are read.

Models take inputs (N, channels, height, width), float32, in any number, and answer with one output
(N, C). A graph may declare another order of axes, another type, a fixed batch or several outputs;
it is adapted to that, or refused when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, UnknownNameError
from committee.models.graph_file import Port, Ports, Side
from committee.spec.model import ModelSpec

# Types of inputs that float32 is cast to, and types of outputs that hold scores.
_CAST = ("float32", "float16", "float64")
_FLOATS = (*_CAST, "bfloat16")
_NUMBERS = (*_FLOATS, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
# How far from 1 or 1/255 a deviation may be that means bytes.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Form:
    """How a model's inputs are fed to a graph and its outputs are read.

    Args:
        input: The input that is fed.
        output: The output that is read.
        last: True if the channels are the input's last axis.
        rows: The fixed number of samples that the graph takes; None for any number.
        scale: The factor that turns a prepared value back into a byte; None unless the graph takes
            bytes.
        dense: True if outputs are maps (N, C, height, width), not rows (N, C).
    """

    input: Port
    output: Port
    last: bool = False
    rows: int | None = None
    scale: float | None = None
    dense: bool = False

    @property
    def plain(self) -> bool:
        """True if a batch is fed just as it is prepared."""
        return not self.last and self.rows is None and self.input.dtype == "float32"

    def shape(self, one: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the graph's input, batch included, from that of a prepared input."""
        return (self.rows or 1, *(one[1:] + one[:1] if self.last else one))

    def fed(self, batch: Array) -> Array:
        """Return a prepared batch as the graph takes it."""
        if self.last:
            batch = np.moveaxis(batch, 1, -1)
        if self.scale is not None:
            batch = np.rint(batch * np.float32(self.scale))
        return np.ascontiguousarray(batch, self.input.dtype)

    def read(self, answer: Array) -> Array:
        """Return what the graph answered as models answer: float32, channels first."""
        if self.last and self.dense and answer.ndim == 4:
            answer = np.moveaxis(answer, -1, 1)
        return answer.astype(np.float32, copy=False) if answer.dtype.kind == "f" else answer


def fed_in_parts(run: Callable[[Array], Array], form: Form, batch: Array) -> Array:
    """Run a graph on a prepared batch of any number of samples, (N, channels, height, width)."""
    fed, rows = form.fed(batch), form.rows
    if rows is None or len(fed) == rows:
        return form.read(run(fed))
    parts = []
    for start in range(0, len(fed), rows):
        part = fed[start : start + rows]
        # Filled up with the last row: unlike zeros it is an input as others are.
        whole = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
        parts.append(form.read(run(whole))[: len(part)])
    return np.concatenate(parts)


def form_of(where: str, spec: ModelSpec, inputs: Ports, outputs: Ports) -> Form:
    """Return how a model feeds and reads a graph that declares these inputs and outputs.

    Raises:
        ModelError: If the graph cannot take the model's inputs, or has several outputs of which
            the spec names none.
    """
    if len(inputs) != 1:
        raise ModelError(
            f"{where}: has inputs {', '.join(map(str, inputs))}, needs just one. Export it with "
            "the image alone"
        )
    taken, dense = inputs[0], spec.does.dense
    first = taken.shape[0] if taken.shape else None
    return Form(
        taken,
        _output(where, spec, outputs, dense),
        _channels_last(where, spec, taken),
        first if isinstance(first, int) else None,
        _scale(where, spec, taken),
        dense,
    )


def _channels_last(where: str, spec: ModelSpec, taken: Port) -> bool:
    wanted = spec.preprocessing.shape
    shapes = {"NCHW": wanted}
    if len(wanted) == 3:
        shapes["NHWC"] = (*wanted[1:], wanted[0])
    elif spec.layout:
        raise ModelError(f"{where}: layout is of images; for clips write views.layout")
    sides = None if taken.shape is None else taken.shape[1:]
    fitting = [name for name, shape in shapes.items() if sides is None or _fits(sides, shape)]
    # Where both would do, ONNX's own order is meant.
    layout = spec.layout or next(iter(fitting), "")
    if layout not in fitting:
        size = _fixed_size(sides or ())
        remedy = f"resolution = {list(size)} and its channels" if size else "that resolution"
        shape = ", ".join(map(str, shapes.get(spec.layout, wanted)))
        raise ModelError(
            f"{where}: the graph takes {taken}, not (N, {shape}). Give it {remedy}, or "
            "export it with dynamic height and width"
        )
    return layout == "NHWC"


def _fits(sides: Sequence[Side], wanted: Sequence[int]) -> bool:
    return len(sides) == len(wanted) and all(
        isinstance(side, str) or side == want for side, want in zip(sides, wanted, strict=True)
    )


def _scale(where: str, spec: ModelSpec, taken: Port) -> float | None:
    """Return the factor that turns prepared values into bytes; None if the graph takes floats."""
    if taken.dtype in _CAST:
        return None
    mean, std = spec.preprocessing.mean, spec.preprocessing.std
    if taken.dtype != "uint8":
        raise ModelError(
            f"{where}: the graph takes {taken}; inputs can be {', '.join(_CAST)}, or uint8 for the "
            "image's bytes. Export it with one of these"
        )
    for scale in (255.0, 1.0):
        if not any(mean) and all(abs(each - scale / 255) < _TOLERANCE for each in std):
            return scale
    raise ModelError(
        f"{where}: the graph takes {taken}, bytes from 0 to 255, which it normalises itself, but "
        f"mean is {list(mean)} and std {list(std)}. Give it mean 0 and std 1 for all channels"
    )


def _output(where: str, spec: ModelSpec, outputs: Ports, dense: bool) -> Port:
    """Return the output that the spec names, or the only one that can hold scores of classes."""
    ports = {port.name: port for port in outputs}
    if spec.output in ports:
        return ports[spec.output]
    if spec.output:
        raise UnknownNameError.of(where, "output", spec.output, ports)
    fitting = [port for port in outputs if _holds_scores(port, dense)]
    if len(outputs) == 1:
        fitting = [port for port in outputs if port.dtype in _NUMBERS]
    if len(fitting) == 1:
        return fitting[0]
    wanted = "float (N, classes, height, width)" if dense else "float (N, classes)"
    which = f"; {len(fitting)} of them are {wanted}" if fitting else f", none is {wanted}"
    shown = ", ".join(map(str, outputs[:5]))
    more = f" and {len(outputs) - 5:,} more" if len(outputs) > 5 else ""
    example = (fitting or outputs)[-1].name if outputs else "NAME"
    raise ModelError(
        f"{where}: the graph has {len(outputs)} outputs: {shown}{more}{which}. Name the one to "
        f'take in its [[model]], as in output = "{example}"'
    )


def _holds_scores(port: Port, dense: bool) -> bool:
    """Return True if an output has floats, an axis of classes and no other beside samples."""
    if port.dtype not in _FLOATS:
        return False
    if port.shape is None or dense:
        return port.shape is None or len(port.shape) == 4
    return len(port.shape) > 1 and len([side for side in port.shape[1:] if side != 1]) == 1


def preprocessing_of(inputs: Ports) -> dict[str, Any]:
    """Return the preprocessing that a graph fixes: size and channels as far as it declares them."""
    if len(inputs) != 1 or inputs[0].shape is None:
        return {}
    sides = inputs[0].shape[1:]
    size = _fixed_size(sides)
    recipe: dict[str, Any] = {} if size is None else {"size": size}
    ends = sides[::2] if len(sides) == 3 else ()
    channels = next((side for side in ends if side in (1, 3)), None)
    if channels is not None:
        recipe["channels"] = channels
    if inputs[0].dtype == "uint8":
        # Bytes, which the graph normalises itself.
        count = int(channels or 3)
        recipe |= {"mean": (0.0,) * count, "std": (1.0,) * count}
    return recipe


def _fixed_size(sides: Sequence[Side]) -> tuple[Side, Side] | None:
    """Return height and width; None if they may vary, or the sides do not show where they are."""
    if len(sides) == 4:  # of clips, whose last two axes they are in every order
        size = (sides[2], sides[3])
    elif len(sides) == 3:
        last = sides[2] in (1, 3) and sides[0] not in (1, 3)
        size = (sides[0], sides[1]) if last else (sides[1], sides[2])
    else:
        return None
    return None if any(isinstance(side, str) for side in size) else size
