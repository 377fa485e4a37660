"""ONNX graphs: what a file declares, its fingerprint, and how a model is fed and read."""

from __future__ import annotations

import copy
import hashlib
import mmap
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, UnknownNameError, needing
from committee.models.base import check_file, file_fingerprint
from committee.spec.model import ModelSpec
from committee.text import first_line, printable

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

# A side that may vary has a name, or "N" or "?" if the file gives it none.
Side: TypeAlias = int | str

# ONNX's numbers of tensor types, by NumPy's names where NumPy has the type.
_TYPES = (
    *("untyped", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string"),
    *("bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
)
# A tensor in another file names it by an entry of two strings, as protobuf writes them: field 1 is
# the key, field 2 the value.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?)([\x00-\x7f])")


@dataclass(frozen=True)
class Port:
    """One input or output of a graph.

    ``shape`` has numbers where sides are fixed and names where they may vary; it is None if not
    even their number is declared.
    """

    name: str
    dtype: str
    shape: tuple[Side, ...] | None

    @property
    def number(self) -> int:
        """ONNX's number of the type."""
        return _TYPES.index(self.dtype)

    def __str__(self) -> str:
        """Return name, type and shape, for errors."""
        if self.shape is None:
            return f"{self.name!r} {self.dtype} of any shape"
        return f"{self.name!r} {self.dtype} ({', '.join(map(str, self.shape))})"


Ports: TypeAlias = tuple[Port, ...]


def parsed_graph(path: Path) -> ModelProto:
    """Return what an ONNX file holds, without the tensors in files beside it."""
    with needing(str(path), "onnx", "onnx"):
        import onnx
    if not path.is_file():  # reading a pipe would wait for ever
        raise FileNotFoundError(f"no file {path}")
    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's own
        raise ValueError(f"{path}: no ONNX model ({first_line(error)})") from None
    if not model.HasField("graph"):
        raise ValueError(f"{path}: no ONNX model (there is no graph in it)")
    return model


def ports_of(path: Path) -> tuple[Ports, Ports]:
    """Return the inputs and the outputs of an ONNX file; weights are no inputs."""
    graph = parsed_graph(path).graph
    weights = {each.name for each in graph.initializer}
    inputs = tuple(_port(each) for each in graph.input if each.name not in weights)
    return inputs, tuple(map(_port, graph.output))


def _port(value: ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Port(value.name, "no tensor", None)
    number = tensor.elem_type
    dtype = _TYPES[number] if number < len(_TYPES) else f"type {number}"
    if not tensor.HasField("shape"):
        return Port(value.name, dtype, None)
    sides = enumerate(tensor.shape.dim)
    shape = (max(side.dim_value, 0) or side.dim_param or ("?" if k else "N") for k, side in sides)
    return Port(value.name, dtype, tuple(shape))


def graph_fingerprint(path: Path) -> str:
    """Return sixteen hexadecimal digits that change with a graph or a file of its tensors."""
    own = file_fingerprint(path)
    beside = [path.parent / name for name in tensor_files(path)]
    if not beside:
        return own
    # A file that is missing or outside the folder is not opened; the engine refuses it by name.
    prints = [
        file_fingerprint(each) if is_inside(each, path.parent) and each.is_file() else "not there"
        for each in beside
    ]
    return hashlib.sha256(" ".join((own, *prints)).encode()).hexdigest()[:16]


def is_inside(path: Path, folder: Path) -> bool:
    """Return True if a path, every link followed, is in a folder.

    In the cache of the Hugging Face Hub, files of ``snapshots/COMMIT`` are links into ``blobs``.
    """
    try:
        whole, place = path.resolve(), folder.resolve()
        snapshots = [each for each in place.parents if each.name == "snapshots"]
        return any(
            whole.is_relative_to(each)
            for each in (place, *(each.with_name("blobs") for each in snapshots))
        )
    except (OSError, ValueError, RuntimeError):  # a NUL in its name, or links in a circle
        return False


def tensor_files(path: Path) -> list[str]:
    """Return the files that hold tensors of a graph, relative to its folder, sorted."""
    if not path.stat().st_size:
        return []
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        names = {data[at.end() : at.end() + _length(at)] for at in _LOCATION.finditer(data)}
    return sorted(name.decode("utf-8", "replace") for name in names)


def _length(location: re.Match[bytes]) -> int:
    low, high = location.groups()
    return (low[0] & 127) + (high[0] << 7) if low else high[0]


# Types of inputs that float32 is cast to, and types of outputs that hold scores.
_CAST = ("float32", "float16", "float64")
_FLOATS = (*_CAST, "bfloat16")
_NUMBERS = (*_FLOATS, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
# How far from 1 or 1/255 a deviation may be that means bytes.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Form:
    """How a model's inputs are fed to a graph and its outputs are read.

    ``last``: the channels are the input's last axis. ``rows``: the fixed number of samples; None
    for any number. ``scale`` turns a prepared value back into a byte; None unless the graph takes
    bytes. ``dense``: outputs are maps (N, C, height, width).
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

    def run(self, graph: Callable[[Array], Array], batch: Array) -> Array:
        """Run a graph on a prepared batch (N, channels, height, width), in parts if it must be."""
        if self.plain:
            return self.read(graph(batch))
        fed, rows = self.fed(batch), self.rows
        if rows is None or len(fed) == rows:
            return self.read(graph(fed))
        parts = []
        for start in range(0, len(fed), rows):
            part = fed[start : start + rows]
            # Filled up with the last row: unlike zeros it is an input as others are.
            whole = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
            parts.append(self.read(graph(whole))[: len(part)])
        return np.concatenate(parts)


def form_of(where: str, spec: ModelSpec, inputs: Ports, outputs: Ports) -> Form:
    """Return how a model feeds and reads a graph that declares these inputs and outputs."""
    if len(inputs) != 1:
        raise ModelError(
            f"{where}: has inputs {', '.join(map(str, inputs))}, needs just one. Export it with "
            "the image alone"
        )
    taken, dense = inputs[0], spec.does.dense
    first = taken.shape[0] if taken.shape else None
    return Form(
        taken,
        output_of(where, spec, outputs, dense),
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
    mean, std = spec.image.mean, spec.image.std
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


def output_of(where: str, spec: ModelSpec, outputs: Ports, dense: bool) -> Port:
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


class Session:
    """A graph, ready to run on the prepared inputs of a model."""

    def __init__(self, spec: ModelSpec, path: Path, threads: int = 0) -> None:
        where = f"model {spec.name!r}"
        check_file(where, path)
        self._session = onnxruntime_session(where, path, threads)
        import onnxruntime  # after the line that says what is missing

        self.engine = f"onnxruntime {onnxruntime.__version__}"
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._ports = declared(where, path)
        self.form = form_of(where, spec, *self._ports)

    def at(self, spec: ModelSpec) -> Session:
        """Return the same graph, not loaded again, for another spec."""
        other = copy.copy(self)
        other.form = form_of(f"model {spec.name!r}", spec, *self._ports)
        return other

    def __call__(self, batch: Array) -> Array:
        """Run the graph on a prepared batch of any size."""
        return self.form.run(self._run, batch)

    def _run(self, batch: Array) -> Array:
        answer: Array = self._session.run([self.form.output.name], {self._inputs[0]: batch})[0]
        return answer


def declared(where: str, path: Path) -> tuple[Ports, Ports]:
    """Return the inputs and outputs that a graph declares."""
    try:
        return ports_of(path)
    except (OSError, ValueError) as error:
        raise _no_graph(where, path, error) from None


def onnxruntime_session(where: str, path: Path, threads: int) -> Any:
    """Return a graph as onnxruntime's own session; 0 threads leaves their number to it."""
    with needing(f"{where}: {path.name}", "onnxruntime", "onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised, and told by us
    # Idle threads of one model would otherwise spin while the next model of the pool runs: on
    # two cores that halves the throughput and lengthens the slowest calls tenfold.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = _path_or_bytes(where, path)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _no_graph(where, path, error) from None


def _path_or_bytes(where: str, path: Path) -> str | bytes:
    """Return a graph's path, or its bytes where the path is no UTF-8, which onnxruntime needs."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        if tensor_files(path):
            raise ModelError(
                f"{where}: {printable(str(path))} keeps tensors in files beside it, and "
                "onnxruntime opens no path that is not UTF-8. Rename its folders"
            ) from None
        return path.read_bytes()
    return str(path)


def _no_graph(where: str, path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n")[0]
    return ModelError(f"{where}: {path} is no ONNX model ({reason})")
