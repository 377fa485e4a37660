"""Blocks: some samples on their way through the stages, as the Arrow tables that Ray carries.

A sample that has exited carries its decision and nothing else, a few bytes. One that waits carries
the outputs of the models so far, and what it was prepared to for later stages. Of such a column the
bytes lie one after the other, so that they are read as one array without a copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from committee import errors
from committee.arrays import Array
from committee.errors import CommitteeError
from committee.rule.outputs import Kind, Outputs
from committee.spec.recipe import Recipe

# In place of the stage of exit.
WAITING, FAILED = -1, -2


@dataclass(frozen=True)
class Layout:
    """What samples that wait carry from one stage to the next.

    Args:
        recipes: What they are prepared to.
        kinds: The kind of outputs of each model that has run, by name.
    """

    recipes: tuple[Recipe, ...] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(eq=False)
class Block:
    """N samples, of which M wait.

    Args:
        rows: Their numbers in the data set, shape (N,), rising.
        stage: Stage of exit, :data:`WAITING` or :data:`FAILED`, shape (N,), int32.
        predicted: Class, where they have exited, shape (N,).
        score: Score, where they have exited, shape (N,).
        failed: Why samples failed, by their places.
        inputs: What the waiting ones are prepared to, shape (M, ...).
        outputs: Outputs for the waiting ones, by model.
        divided: Why models ran a batch in parts, by name.
        fatal: What ends the job: the class of an error, a colon and its message; else empty.
    """

    rows: Array
    stage: Array
    predicted: Array
    score: Array
    failed: dict[int, str] = field(default_factory=dict)
    inputs: dict[Recipe, Array] = field(default_factory=dict)
    outputs: dict[str, Outputs] = field(default_factory=dict)
    divided: dict[str, str] = field(default_factory=dict)
    fatal: str = ""

    @classmethod
    def begun(cls, rows: Array) -> Block:
        """Return samples that wait at the first stage."""
        count = len(rows)
        stage = np.full(count, WAITING, np.int32)
        return cls(rows, stage, np.zeros(count, np.int64), np.full(count, np.nan))

    @classmethod
    def failing(cls, rows: Array, error: CommitteeError) -> Block:
        """Return samples of which none is decided, with the error that ends the job.

        Ray hands on what a worker raises without its cause, so that an error is data here.
        """
        count = len(rows)
        stage = np.full(count, FAILED, np.int32)
        fatal = f"{type(error).__name__}: {error}"
        return cls(rows, stage, np.zeros(count, np.int64), np.full(count, np.nan), fatal=fatal)

    @property
    def error(self) -> CommitteeError | None:
        """The error that ends the job, if there is one."""
        if not self.fatal:
            return None
        name, _, text = self.fatal.partition(": ")
        kind = getattr(errors, name, CommitteeError)
        made: CommitteeError = kind(text)
        return made

    @property
    def waiting(self) -> Array:
        """The places of the samples that wait, shape (M,)."""
        return np.flatnonzero(self.stage == WAITING)

    def table(self, layout: Layout) -> Any:
        """Return it as an Arrow table that has what a layout names."""
        import pyarrow as pa

        reasons = [self.failed.get(place) for place in range(len(self.rows))]
        columns = {
            "row": pa.array(self.rows),
            "stage": pa.array(self.stage),
            "class": pa.array(self.predicted),
            "score": pa.array(self.score),
            "error": pa.array(reasons, pa.string()),
            "divided": _first(json.dumps(self.divided) if self.divided else None, len(reasons)),
            "fatal": _first(self.fatal or None, len(reasons)),
        }
        waits = self.stage == WAITING
        for number, recipe in enumerate(layout.recipes):
            columns.update(_columns(f"input {number}", self.inputs.get(recipe), waits))
        for name in layout.kinds:
            made = self.outputs.get(name)
            values, confidence = (None, None) if made is None else (made.values, made.confidence)
            columns.update(_columns(f"output {name}", values, waits))
            columns.update(_columns(f"confidence {name}", confidence, waits))
        return pa.table(columns)

    @classmethod
    def of(cls, table: Any, layout: Layout) -> Block:
        """Return the samples of a table that :meth:`table` made; arrays may not be written to."""
        table = table.combine_chunks()
        rows, stage, predicted, score = (
            _numbers(table, name) for name in ("row", "stage", "class", "score")
        )
        why, block = table["error"], cls(rows, stage, predicted, score)
        if why.null_count < len(why):
            failed = np.flatnonzero(stage == FAILED).tolist()
            block.failed = {place: why[place].as_py() for place in failed}
        block.fatal = next(iter(table["fatal"].drop_null().to_pylist()), "")
        for text in table["divided"].drop_null().to_pylist():
            block.divided |= json.loads(text)
        for number, recipe in enumerate(layout.recipes):
            if (values := _array(table, f"input {number}")) is not None:
                block.inputs[recipe] = values
        for name, kind in layout.kinds.items():
            if (values := _array(table, f"output {name}")) is not None:
                block.outputs[name] = Outputs(kind, values, _array(table, f"confidence {name}"))
        return block


def _first(text: str | None, count: int) -> Any:
    """Return a column whose first cell has a text."""
    import pyarrow as pa

    if text is None:
        return pa.nulls(count, pa.string())
    return pa.array([text, *[None] * (count - 1)], pa.string())


def _numbers(table: Any, name: str) -> Array:
    values: Array = table[name].to_numpy()
    return values


def _columns(name: str, values: Array | None, waits: Array) -> dict[str, Any]:
    """Return an array (M, ...) as a column of bytes, null where a sample does not wait.

    A second column says what the bytes are.
    """
    import pyarrow as pa

    count, form = len(waits), f"form of {name}"
    if values is None or not len(values):
        return {name: pa.nulls(count, pa.large_binary()), form: pa.nulls(count, pa.string())}
    values = np.ascontiguousarray(values)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(waits * (values.nbytes // len(values)), out=offsets[1:])
    valid = pa.py_buffer(np.packbits(waits, bitorder="little"))
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(values.reshape(-1).view(np.uint8))]
    text = ",".join([values.dtype.str, *map(str, values.shape[1:])])
    return {
        name: pa.Array.from_buffers(pa.large_binary(), count, buffers),
        form: pa.repeat(pa.scalar(text), count),
    }


def _array(table: Any, name: str) -> Array | None:
    """Return the array (M, ...) that a column of bytes holds; None if no sample has any."""
    column = table[name]
    if column.null_count == len(column):
        return None
    texts = table[f"form of {name}"].drop_null()
    dtype, *shape = texts[0].as_py().split(",")
    parts = [_flat(chunk, np.dtype(dtype)) for chunk in column.chunks if len(chunk)]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return values.reshape(-1, *map(int, shape))


def _flat(chunk: Any, dtype: np.dtype[Any]) -> Array:
    _, offsets, data = chunk.buffers()
    if data is None:
        return np.empty(0, dtype)
    ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view(dtype)


def kept(arrays: Sequence[Array]) -> Array:
    """Return arrays as one, (M, ...)."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
