"""The contracts of models and of their sources, and what runs a model and checks its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, ModelError, NotFiniteError, PoolFileError
from committee.models.inputs import ModelInputs, ViewedClips
from committee.models.records import RecordBatch
from committee.paths import MOVED
from committee.rule.outputs import Kind, Outputs, checked_outputs, usable_rows
from committee.spec.model import ModelSpec
from committee.spec.record import Record
from committee.text import first_line, listed

# What a pool file writes for weights that are drawn, not learned.
RANDOM = "random"


class SomeFailedError(ModelError):
    """Calls that failed for some samples of a batch; the others have answers.

    Args:
        answer: The model's answer, with any row in place of those that failed; None if all did.
        reasons: Why, by row.
        total: Number of samples in the batch.
    """

    def __init__(self, answer: Any, reasons: Mapping[int, str], total: int) -> None:
        self.answer, self.reasons = answer, dict(reasons)
        row, reason = next(iter(sorted(reasons.items())))
        super().__init__(
            f"{len(reasons):,} of {total:,} calls failed, first that of row {row} of the batch "
            f"({reason})"
        )


class WrongClassesError(ModelError):
    """A model has other classes than the cascade that runs it."""


class Source:
    """Base of a scheme of the pool file: where models come from.

    ``committee.testing.check_source`` tests a source.
    """

    form: ClassVar[str]
    """How it is written, for errors: ``timm:NAME``."""

    weights: ClassVar[frozenset[str]] = frozenset()
    """Which weights a pool file may name beside the source's own: ``file``, ``random``."""

    engines: ClassVar[tuple[str, ...]] = ()
    """Engines that run its models, its own first; of :data:`~committee.spec.model.ENGINES`."""

    choices: ClassVar[tuple[str, ...]] = ()
    """Which of ``layout``, ``output`` and ``concurrency`` a pool file may choose."""

    named_when_loaded: ClassVar[bool] = False
    """True if the names of a model's outputs may show only when it is loaded: its ``names``."""

    kind: ClassVar[Kind] = "logits"
    """What its models give unless a pool file says otherwise."""

    def located(self, text: str, folder: Path) -> str:
        """Return what stands after the scheme, with paths made absolute from ``folder``.

        Raises:
            ValueError: If it has not the form; the message may be empty.
        """
        if not text:
            raise ValueError
        return text

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return the preprocessing that the publisher of a model states; weights are not touched.

        Args:
            text: What :meth:`located` returned.
            size: Height and width that the user wants; None for the published ones.

        Returns:
            Fields of :class:`~committee.spec.preprocessing.Preprocessing`, without those that are
            not stated. ``size`` is stated if it can be.

        Raises:
            CommitteeError: If the model is unknown.
        """
        return {}

    def record(self, text: str, columns: Any, dtype: Any) -> Record:
        """Return what a model takes of a record.

        Args:
            text: What :meth:`located` returned.
            columns: ``input`` of the pool file; None if it says nothing.
            dtype: ``dtype`` of the pool file; empty if it says nothing.

        Raises:
            CommitteeError: If the model takes no records, or these columns are none.
        """
        raise PoolFileError(f"{self.form} is for images; a pool of records cannot have it")

    def labels(self, text: str) -> Sequence[str]:
        """Return the names of the outputs, in their order, which the pool's classes must match.

        Raises:
            CommitteeError: If they cannot be read.
        """
        return ()

    def classes(self, text: str) -> Sequence[str]:
        """Return the names of the outputs of published weights; empty if they are not known.

        Unlike :meth:`labels`, a library words them its own way; other names are no error.
        """
        return ()

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> str | None:
        """Return the fingerprint of the model that :meth:`load` would load; None if unknown.

        Raises:
            CommitteeError: If it could not be loaded; the model is named.
        """
        return None

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """Load a model; 0 threads leaves their number to its engine.

        Raises:
            CommitteeError: If it cannot be loaded; the model is named.
        """
        raise NotImplementedError


class Model(Protocol):
    """A loaded model. It must be pure: the same input, the same outputs, whatever ran before.

    It may also have: ``keeps_input``, True if it never changes its input in place (others are given
    a copy); ``takes``, what it declares of its input, for errors; ``macs_unknown``, why
    :attr:`macs` is None; ``states``, what people should know of its inputs; ``one_by_one``, True if
    samples of a batch are calls of their own; ``names``, its
    :class:`~committee.models.columns.OutputNames`, and ``reordered(columns)``, the same model with
    its outputs in another order, where names show only when it is loaded.
    """

    @property
    def fingerprint(self) -> str:
        """Changes when weights or code change, or the engine that runs it."""

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one input of the spec's size, or None if they are not known.

        One input is an image, or one view of a clip.
        """

    @property
    def parameters(self) -> int | None:
        """How many numbers were learned, or None if that is not known."""

    @property
    def engine(self) -> str:
        """What runs it, with its version and build."""

    def __call__(self, batch: Any) -> Any:
        """Map inputs (N, channels, height, width), float32, to outputs (N, C).

        Views of clips have one axis more, in the order that ``views.layout`` names. Records come as
        a list or an array, or if the model has several inputs as a dict of these.

        A model of kind ``decisions`` returns a pair: classes (N,) and confidence (N,). Tensors,
        lists, and mappings or objects that hold ``logits`` are read as arrays.
        """


def outputs_of(model: Model, spec: ModelSpec, inputs: ModelInputs, first: int = 0) -> Outputs:
    """Run a model on a batch and return its outputs, checked.

    Inputs are N images (N, channels, height, width), float32, N records, or N clips, whose outputs
    are the mean over their views. ``first`` is the number of the batch's first sample, for errors.
    """
    return checked_answer(spec, answer_of(model, spec, inputs), len(inputs), first)


def answer_of(model: Model, spec: ModelSpec, inputs: ModelInputs) -> Any:
    """Return what a model answers to a batch, as :func:`outputs_of`, but not yet checked."""
    if isinstance(inputs, ViewedClips):
        return _mean_over_views(model, spec, inputs)
    # Few calls are made here: online, after a model has run, the caches hold nothing of it.
    try:
        # A model that changed its input would change that of the next model.
        keeps = getattr(model, "keeps_input", False)
        if isinstance(inputs, RecordBatch):
            given = inputs.value(copied=not keeps)
        else:
            given = inputs if keeps else inputs.copy()
        answer = model(given)
        if type(answer) is np.ndarray and answer.dtype.kind == "f":
            return answer
        return _arrays(spec, answer)
    except SomeFailedError as error:
        if error.answer is not None:
            error.answer = _arrays(spec, error.answer)
        where = f"model {spec.name!r}: "
        error.args = (f"{where}{error}",)
        error.reasons = {row: f"{where}{reason}" for row, reason in error.reasons.items()}
        raise
    except CommitteeError as error:
        where = f"model {spec.name!r}"
        if str(error).startswith(where):
            raise
        raise ModelError(f"{where}: {error}") from error.__cause__
    except (Exception, SystemExit) as error:
        raise _failure(model, spec, inputs, error) from error


def checked_answer(spec: ModelSpec, answer: Any, samples: int, first: int = 0) -> Outputs:
    """Return the outputs in an answer to so many samples; for the rest see :func:`outputs_of`."""
    values, confidence = _rows(spec, answer, samples)
    return checked_outputs(f"model {spec.name!r}", spec.kind, values, confidence, first)


def usable_outputs_of(
    model: Model, spec: ModelSpec, inputs: ModelInputs
) -> tuple[Outputs, Mapping[int, str]]:
    """Run a model on a batch, and let samples that fail, or have NaN, not fail the others.

    Returns:
        The outputs, with all classes alike for such samples, and why each of them failed, by row.

    Raises:
        SomeFailedError: If all failed.
    """
    try:
        answer, reasons = answer_of(model, spec, inputs), {}
    except SomeFailedError as error:
        if error.answer is None:
            raise
        answer, reasons = error.answer, error.reasons
    outputs, wrong = _usable_answer(spec, answer, len(inputs))
    return outputs, {**wrong, **reasons}


def _usable_answer(spec: ModelSpec, answer: Any, samples: int) -> tuple[Outputs, Mapping[int, str]]:
    """Return the outputs in an answer, all classes alike where it has NaN, and such rows.

    Raises:
        ModelError, ShapeError: If it has not one row a sample, or cannot be used.
    """
    where = f"model {spec.name!r}"
    values, confidence = _rows(spec, answer, samples)
    try:
        return checked_outputs(where, spec.kind, values, confidence), {}
    except NotFiniteError:
        scores = np.array(values if confidence is None else confidence)
        wrong = np.flatnonzero(~usable_rows(scores, spec.kind))
        scores[wrong] = 1 / scores.shape[1] if spec.kind == "probabilities" else 0
        usable = (scores, None) if confidence is None else (values, scores)
        broken = dict.fromkeys(wrong.tolist(), f"{where}: NaN or infinite outputs")
        return checked_outputs(where, spec.kind, *usable), broken


def _arrays(spec: ModelSpec, answer: Any) -> Any:
    """Return an answer as an array, or as a pair of arrays for decisions."""
    if spec.kind == "decisions" and isinstance(answer, tuple | list) and len(answer) == 2:
        return tuple(map(_as_array, answer))
    if answer is None:
        raise ModelError("answers with nothing (None). Does it return its outputs?")
    return _as_array(one_output(answer))


def _mean_over_views(model: Model, spec: ModelSpec, clips: ViewedClips) -> Array:
    """Return the mean of a model's outputs over the views of each of N clips, shape (N, C)."""
    parts = [
        np.asarray(_rows(spec, answer_of(model, spec, each), len(each))[0])
        for each in clips.parts()
    ]
    values: Array = np.concatenate(parts)
    count, views = clips.shape[:2]
    # Not in single precision: the mean of view groups is then that of all views.
    means: Array = values.reshape(count, views, *values.shape[1:]).mean(axis=1, dtype=np.float64)
    return means.astype(values.dtype)


def _rows(spec: ModelSpec, answer: Any, samples: int) -> tuple[Any, Any]:
    """Return the rows of an answer, and their confidence if the model gives decisions."""
    values, confidence = answer, None
    if spec.kind == "decisions":
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise ModelError(
                f"model {spec.name!r}: decisions are a pair of classes (N,) and confidence (N,)"
            )
        values, confidence = answer
    if np.ndim(values) and len(values) != samples:
        raise ModelError(
            f"model {spec.name!r}: answered {len(values)} rows to {samples} samples; let it give "
            "one row for each, in their order"
        )
    if confidence is None and not spec.does.dense:
        values = _rows_of(np.asarray(values))
        if values.shape[1:] == (1,):
            raise ModelError(
                f"model {spec.name!r}: gives one output a sample, which is no choice between "
                "classes. Let it give one for each class: of a score p in [0, 1] these are 1 - p "
                "and p, of a logit z they are 0 and z"
            )
    return values, confidence


def _failure(
    model: Model, spec: ModelSpec, batch: Array | RecordBatch, error: BaseException
) -> ModelError:
    """Return an error with the input, what the model declares, and whether one sample would do."""
    takes = getattr(model, "takes", "")
    declares = f"; {takes}" if takes else ""
    form = f"{batch.shape} {batch.dtype}" if isinstance(batch, np.ndarray) else str(batch)
    remedy = ""
    if len(batch) > 1 and _takes_one(model, spec, batch):
        remedy = (
            ". It answers to one sample alone: run it with --batch-size 1, or export it with a "
            "dynamic batch"
        )
    return ModelError(
        f"model {spec.name!r}: failed on input {form} ({first_line(error)}){declares}{remedy}"
    )


def _takes_one(model: Model, spec: ModelSpec, batch: Array | RecordBatch) -> bool:
    """Whether the first sample has an answer, but not twice in a batch: no sample is to blame."""
    twice = batch[np.zeros(2, np.int64)]
    return _answers(model, spec, batch[:1]) and not _answers(model, spec, twice)


def _answers(model: Model, spec: ModelSpec, batch: Array | RecordBatch) -> bool:
    try:
        outputs_of(model, spec, batch)
    except (Exception, SystemExit):
        return False
    return True


def check_file(where: str, path: Path, what: str = "file") -> None:
    """Refuse what is no regular file: reading a pipe would wait, reading a device never end."""
    if path.is_file():
        return
    there = path.exists() and not path.is_dir()
    raise ModelError(
        f"{where}: {path} is a pipe, a device or a socket. Name a regular file"
        if there
        else f"{where}: no {what} {path}. {MOVED}"
    )


def file_fingerprint(path: Path) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of a file."""
    check_file("model", path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# What libraries call the scores of classes, in a mapping or as an attribute.
_LOGITS = "logits"
# Types of torch that NumPy does not have, or that lose nothing in float32.
_HALVES = ("torch.bfloat16", "torch.float16")


def one_output(answer: Any, output: str = "") -> Any:
    """Return the one output of an answer that may hold several.

    ``output`` is a key, an attribute or a number from 0; empty if there is no choice.
    """
    parts = _parts(answer)
    if parts is None:
        if output:
            raise ModelError(
                f"answers with one output, not with several; leave output {output!r} out"
            )
        return answer
    if output in parts:
        return parts[output]
    shown = listed([f"{name} {_form(value)}" for name, value in parts.items()])
    if output:
        raise ModelError(f"answers with no output {output!r}; there are {shown}")
    if _LOGITS in parts:
        return parts[_LOGITS]
    if len(parts) == 1:
        return next(iter(parts.values()))
    raise ModelError(
        f"answers with {len(parts)} outputs: {shown}. Name the one to take in its "
        f'[[model]], as in output = "{next(iter(parts), "")}"'
    )


def _parts(answer: Any) -> Mapping[str, Any] | None:
    """Return the outputs of an answer by their names or numbers; None if it is one output."""
    if _is_array(answer):
        return None
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, tuple | list):
        # Rows of one output have one axis, and all alike.
        axes = {_axes(value) for value in answer}
        if not axes or axes in ({0}, {1}):
            return None
        names = getattr(answer, "_fields", range(len(answer)))
        return {str(name): value for name, value in zip(names, answer, strict=True)}
    return {_LOGITS: answer.logits} if hasattr(answer, _LOGITS) else None


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _axes(value: Any) -> int:
    """Return how deeply lists and arrays are nested, as far as first entries show."""
    depth = 0
    while isinstance(value, list | tuple) and value and depth < 9:
        value, depth = value[0], depth + 1
    return depth + (np.ndim(value) if _is_array(value) else 0)


def _form(value: Any) -> str:
    if _is_array(value):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def _as_array(value: Any) -> Array:
    """Return an output as an array of real numbers.

    A tensor may have a gradient, lie on another device, or be of a type that NumPy does not have.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) in _HALVES else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        raise ModelError("answers with rows of different lengths") from None
    if array.dtype.kind not in "fiu":
        what = type(value).__name__ if array.ndim == 0 else f"{array.dtype} {array.shape}"
        raise ModelError(f"answers with {what}, which are no real numbers")
    return array


def _rows_of(values: Array) -> Array:
    """Return scores (N, C) from an output that has axes of length 1 beside that of the classes."""
    sides = [side for side in values.shape[1:] if side != 1]
    if values.ndim < 3 or len(sides) > 1:
        return values
    return values.reshape(len(values), *(sides or [1]))
