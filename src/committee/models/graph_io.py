"""How a graph is fed and read: what it declares, beside what the pool file says of it.

Models take inputs (N, channels, height, width), float32, in any number, and answer with one output
(N, C). A graph may be made for another order of the axes, another type or one number of samples at
a time, and may have several outputs. That is seen here, when the graph is opened, and adapted or
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, UnknownNameError
from committee.models.graph_declaration import Port, Ports, Side, told
from committee.spec.model import ModelSpec
from committee.spec.task import SEMANTIC_SEGMENTATION

# Types of inputs that float32 is cast to.
_CAST = ("float32", "float16", "float64")
_FLOATS = (*_CAST, "bfloat16")
# How far from 1 or 1/255 a deviation may be that means bytes.
_CLOSE = 1e-6


@dataclass(frozen=True)
class Form:
    """How one model feeds a graph and reads it.

    Args:
        input: What is fed.
        output: What is read.
        last: Whether the channels are the input's last axis.
        rows: How many samples the graph takes at a time; None for any number.
        scale: What a prepared value is multiplied by to be a byte again; None unless the graph
            takes bytes.
        dense: Whether outputs are maps (N, C, height, width), not rows (N, C).
    """

    input: Port
    output: Port
    last: bool = False
    rows: int | None = None
    scale: float | None = None
    dense: bool = False

    @property
    def plain(self) -> bool:
        """Whether a batch is fed just as it is prepared."""
        return not self.last and self.rows is None and self.input.dtype == "float32"

    def shape(self, one: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the graph's input, the batch included, for one prepared input."""
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


class Run(Protocol):
    """A graph that an engine runs."""

    def __call__(self, batch: Array, output: str) -> Array:
        """Feed its one input and return the output of that name."""


def adapted(run: Run, form: Form, batch: Array) -> Array:
    """Run a graph on a prepared batch of any number of samples.

    Args:
        run: What runs it.
        form: How it is fed and read.
        batch: Shape (N, channels, height, width), float32.
    """
    name, rows = form.output.name, form.rows
    fed = form.fed(batch)
    if rows is None or len(fed) == rows:
        return form.read(run(fed, name))
    parts = []
    for start in range(0, len(fed), rows):
        part = fed[start : start + rows]
        # The last row again: unlike zeros it is an input as others are.
        whole = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
        parts.append(form.read(run(whole, name))[: len(part)])
    return np.concatenate(parts)


def form_of(where: str, spec: ModelSpec, inputs: Ports, outputs: Ports) -> Form:
    """Return how a model feeds and reads a graph.

    Args:
        where: Whose graph it is, for errors.
        spec: What the model is.
        inputs: What the graph declares.
        outputs: What the graph declares.

    Raises:
        ModelError: If the graph cannot be fed what the model makes of a sample, or it does not
            show which of several outputs is the model's.
    """
    if len(inputs) != 1:
        raise ModelError(
            f"{where}: has inputs {told(inputs)}, needs just one. Export it with the image alone"
        )
    taken, dense = inputs[0], spec.task == SEMANTIC_SEGMENTATION.name
    return Form(
        taken,
        _output(where, spec, outputs, dense),
        _last(where, spec, taken),
        _rows(taken),
        _scale(where, spec, taken),
        dense,
    )


def _rows(taken: Port) -> int | None:
    first = taken.shape[0] if taken.shape else None
    return first if isinstance(first, int) else None


def _last(where: str, spec: ModelSpec, taken: Port) -> bool:
    """Whether the input's channels are its last axis."""
    wanted = spec.preprocessing.shape
    forms = {"NCHW": wanted}
    if len(wanted) == 3:
        forms["NHWC"] = (*wanted[1:], wanted[0])
    elif spec.layout:
        raise ModelError(f"{where}: layout is of images; for clips write views.layout")
    sides = None if taken.shape is None else taken.shape[1:]
    fitting = [name for name, form in forms.items() if sides is None or _fits(sides, form)]
    # Where both would do, ONNX's own order is meant.
    layout = spec.layout or next(iter(fitting), "")
    if layout not in fitting:
        shape = ", ".join(map(str, forms.get(spec.layout, wanted)))
        raise ModelError(
            f"{where}: the graph takes {taken}, not (N, {shape}). Give it {_remedy(sides)}, or "
            "export it with dynamic height and width"
        )
    return layout == "NHWC"


def _remedy(sides: Sequence[Side] | None) -> str:
    """The settings that would fit a graph's sides, as far as those tell."""
    size = _size(sides or ())
    if size is None or not all(isinstance(side, int) for side in size):
        return "that resolution and channels"
    return f"resolution = {list(size)} and its channels"


def _fits(sides: Sequence[Side], wanted: Sequence[int]) -> bool:
    return len(sides) == len(wanted) and all(
        not isinstance(side, int) or side == want for side, want in zip(sides, wanted, strict=True)
    )


def _scale(where: str, spec: ModelSpec, taken: Port) -> float | None:
    """What makes bytes of prepared values; None where the graph takes other types.

    Raises:
        ModelError: If values are prepared otherwise than a graph of bytes takes them, or a type is
            none that values can be cast to.
    """
    if taken.dtype in _CAST:
        return None
    mean, std = spec.preprocessing.mean, spec.preprocessing.std
    if taken.dtype != "uint8":
        raise ModelError(
            f"{where}: the graph takes {taken}; inputs can be {', '.join(_CAST)}, or uint8 for the "
            "image's bytes. Export it with one of these"
        )
    for scale in (255.0, 1.0):
        if not any(mean) and all(abs(each * 255 - scale) < _CLOSE * 255 for each in std):
            return scale
    raise ModelError(
        f"{where}: the graph takes {taken}, bytes from 0 to 255, which it normalises itself, but "
        f"mean is {list(mean)} and std {list(std)}. Give it mean 0 and std 1 for all channels"
    )


def _output(where: str, spec: ModelSpec, outputs: Ports, dense: bool) -> Port:
    """The output that a model answers with: the one of its name, or the only one that can be."""
    names = [port.name for port in outputs]
    if spec.output:
        if spec.output not in names:
            raise UnknownNameError.of(where, "output", spec.output, names)
        return outputs[names.index(spec.output)]
    fitting = [port for port in outputs if _answers(port, dense)]
    if len(outputs) == 1:
        fitting = [port for port in outputs if np.dtype(_known(port.dtype)).kind in "fiu"]
    if len(fitting) == 1:
        return fitting[0]
    wanted = "float (N, classes, height, width)" if dense else "float (N, classes)"
    which = f"; {len(fitting)} of them are {wanted}" if len(fitting) > 1 else f", none is {wanted}"
    example = (fitting or outputs)[-1].name if outputs else "NAME"
    raise ModelError(
        f"{where}: the graph has {len(outputs)} outputs: {_few(outputs)}{which}. Name the one to "
        f'take in its [[model]], as in output = "{example}"'
    )


def _few(outputs: Ports, most: int = 5) -> str:
    more = len(outputs) - most
    return told(outputs[:most]) + (f" and {more:,} more" if more > 0 else "")


def _known(dtype: str) -> Any:
    """The type, or one that holds no numbers if NumPy has none of that name."""
    try:
        return np.dtype("float32" if dtype == "bfloat16" else dtype)
    except TypeError:
        return np.dtype(object)


def _answers(port: Port, dense: bool) -> bool:
    """Whether an output can be scores of classes: floats, an axis of classes and no other."""
    if port.dtype not in _FLOATS:
        return False
    if port.shape is None or dense:
        return port.shape is None or len(port.shape) == 4
    sides = [side for side in port.shape[1:] if side != 1]
    return len(port.shape) > 1 and len(sides) == 1


def recipe_of(inputs: Ports) -> dict[str, Any]:
    """Return the preprocessing that a graph fixes: size and channels, as far as it declares them.

    Args:
        inputs: What it declares; nothing is known if it has several.
    """
    if len(inputs) != 1 or inputs[0].shape is None:
        return {}
    sides = inputs[0].shape[1:]
    recipe: dict[str, Any] = {}
    size = _size(sides)
    if size is not None and all(isinstance(side, int) for side in size):
        recipe["size"] = size
    ends = sides[::2] if len(sides) == 3 else ()
    channels = next((side for side in ends if side in (1, 3)), None)
    if channels is not None:
        recipe["channels"] = channels
    if inputs[0].dtype == "uint8":
        # Bytes; the graph normalises them itself.
        count = channels or 3
        recipe |= {"mean": (0.0,) * int(count), "std": (1.0,) * int(count)}
    return recipe


def _size(sides: Sequence[Side]) -> tuple[Side, Side] | None:
    """Height and width; None if the sides do not show where they are."""
    if len(sides) == 4:  # of clips they are the last in every order
        return sides[2], sides[3]
    if len(sides) != 3:
        return None
    first, last = (sides[0] in (1, 3)), (sides[2] in (1, 3))
    if last and not first:
        return sides[0], sides[1]
    return sides[1], sides[2]
