"""Samples in requests: tensors, uploaded files and JSON, read within limits.

Each sample that cannot be used has a reason of its own. Nothing in a request is opened as a path or
an address.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from committee.arrays import Array
from committee.data.records import first_forms, problems_of
from committee.errors import (
    CascadeError,
    DataError,
    RequestError,
    UnknownNameError,
)
from committee.models.inputs import RawSamples
from committee.models.records import check_whole
from committee.serve.image_files import ImageDecoder, raw_image
from committee.serve.tensors import BYTES, Tensor, named, where_of
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record
from committee.spec.task import TASKS, Task
from committee.text import brief, listed

if TYPE_CHECKING:
    pass

# Names of the input of an image cascade, and of one whose records have no columns.
IMAGES, RECORD = "images", "record"
# Datatypes of columns.
_DATATYPES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}

# The tensors that images may be.
IMAGE_FORMS = "UINT8 [N, H, W, 3], [N, H, W, 1] or [N, H, W], or BYTES [N], each a JPEG or PNG file"
# Name, datatype and shape of an input.
InputForm: TypeAlias = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class ReadSamples:
    """The samples of a request.

    Args:
        count: How many there are.
        rows: Which of them can be used, rising.
        samples: Those.
        failed: Why each of the others cannot.
    """

    count: int
    rows: tuple[int, ...]
    samples: RawSamples
    failed: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: RawSamples, failed: Mapping[int, str]) -> ReadSamples:
        """Return samples without those that failed."""
        count = len(samples)
        if not failed:
            return cls(count, tuple(range(count)), samples)
        rows = tuple(row for row in range(count) if row not in failed)
        reasons = {row: brief(reason) for row, reason in failed.items()}
        return cls(count, rows, [samples[row] for row in rows], reasons)


def check_served(task: Task) -> None:
    """Raise a CascadeError if samples of a task are not served."""
    if task.views or task.dense:
        served = listed([each.name for each in TASKS.values() if not (each.views or each.dense)])
        raise CascadeError(
            f"serve: cascades of {task.name} are not served, but those of {served} are. Run this "
            "one with committee run"
        )


@dataclass(frozen=True)
class SampleReader:
    """Reads the samples of a cascade from requests.

    Args:
        task: The task of its models.
        recipes: How its models take a sample.
        most_pixels: The most pixels that an image may have.
        most_samples: The most samples that a request may have.
        whole: Keep images as they were sent, though models see less of them.

    Raises:
        CascadeError: If samples of the task are not served.
    """

    task: Task
    recipes: frozenset[Recipe]
    most_pixels: int = 2**25
    most_samples: int = 1024
    whole: bool = False

    def __post_init__(self) -> None:
        check_served(self.task)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that models take, sorted; none if they take whole samples."""
        return tuple(sorted({name for each in self._records for name in each.columns}))

    @property
    def inputs(self) -> tuple[InputForm, ...]:
        """The inputs that a request of tensors has; sizes that vary are -1."""
        if not self.task.records:
            return ((IMAGES, "UINT8", (-1, -1, -1, -1)),)
        return tuple((name, _datatype_of(self._records, name), (-1,)) for name in self._names)

    def decodes(self, inputs: Mapping[str, Tensor]) -> bool:
        """Return True if images are to be decoded, which takes long however few bytes they have."""
        files = any(each.datatype == BYTES for each in inputs.values())
        return files and not self.task.records

    def tensors(self, inputs: Mapping[str, Tensor]) -> ReadSamples:
        """Return the samples that tensors hold, one a row.

        Raises:
            RequestError: If they are not the inputs of the cascade.
        """
        counts = {name: len(each.values) for name, each in inputs.items()}
        if len(set(counts.values())) > 1:
            raise RequestError(f"inputs must have one row a sample, not {_counted(counts)}")
        self._check_count(next(iter(counts.values())))
        return self._from_columns(inputs) if self.task.records else self._images_of(inputs)

    def warm(self) -> None:
        """Load what reads samples."""
        if not self.task.records:
            self._decoder.warm()

    def files(self, files: Sequence[bytes]) -> ReadSamples:
        """Return the samples that uploaded files hold: images, or records of bytes.

        Raises:
            RequestError: If there are too many, or records have columns.
        """
        self._check_count(len(files))
        if not self.task.records:
            return ReadSamples.of(*self._decoder(files))
        if self.columns:
            raise RequestError(
                f"a record must be JSON, an object of {listed(self.columns)}, not a file", 415
            )
        return self._checked([*files])

    def records(self, given: Any) -> ReadSamples:
        """Return the records that JSON holds: one, or a list of them.

        Raises:
            RequestError: If there are too many, or they are no records.
        """
        records = given if isinstance(given, list) else [given]
        self._check_count(len(records))
        return self._checked(records)

    def doubt(self, record: Any) -> str:
        """Return what may be wrong with a record that a model failed on; empty if nothing is seen.

        A model may leave open what a column holds. It is then listed as text.
        """
        whole = not isinstance(record, Mapping)
        values = {self._names[0]: record} if whole else record
        for name in self._names if self.task.records else ():
            value = values.get(name)
            open_type = _datatype_of(self._records, name) == BYTES
            if open_type and not isinstance(value, str | bytes):
                return f"{named(name)} may have to be text, and is {_kind_of(value)}"
        return ""

    @cached_property
    def _decoder(self) -> ImageDecoder:
        recipes = [each for each in self.recipes if isinstance(each, Preprocessing)]
        return ImageDecoder(recipes, self.most_pixels, self.whole)

    @property
    def _records(self) -> tuple[Record, ...]:
        return tuple(each for each in self.recipes if isinstance(each, Record))

    @property
    def _names(self) -> tuple[str, ...]:
        return self.columns or (RECORD,)

    def _check_count(self, count: int) -> None:
        if not count:
            raise RequestError("the request has no sample")
        if count > self.most_samples:
            raise RequestError(
                f"{count:,} samples are too many; {self.most_samples:,} may be sent at once", 413
            )

    def _images_of(self, inputs: Mapping[str, Tensor]) -> ReadSamples:
        _check_names(inputs, (IMAGES,))
        tensor = inputs[IMAGES]
        values, shape = tensor.values, tensor.values.shape
        if tensor.datatype == BYTES and shape[1:] in ((), (1,)):
            return ReadSamples.of(*self._decoder([raw_image(each) for each in values.ravel()]))
        shaped = len(shape) in (3, 4) and shape[3:] in ((), (1,), (3,))
        if tensor.datatype != "UINT8" or not shaped:
            raise RequestError(
                f"input {IMAGES!r}: must be {IMAGE_FORMS}; not {tensor.datatype} {list(shape)}"
            )
        if len(shape) == 3 and shape[2] == 3:
            raise RequestError(
                f"input {IMAGES!r}: {list(shape)} looks like one image; its number comes first: "
                f"{[1, *shape]}"
            )
        if shape[1] * shape[2] > self.most_pixels:
            raise RequestError(
                f"input {IMAGES!r}: images have {shape[1]:,} x {shape[2]:,} pixels; "
                f"{self.most_pixels:,} may be sent",
                413,
            )
        return ReadSamples.of(values, {})

    def _from_columns(self, inputs: Mapping[str, Tensor]) -> ReadSamples:
        """Return the records of columns, one a tensor, or of one tensor that holds them whole."""
        if inputs.keys() == {RECORD} and RECORD not in self.columns:
            return self._checked(_values(inputs[RECORD], whole=True))
        _check_names(inputs, self._names)
        columns = [_values(inputs[name]) for name in self.columns]
        rows = zip(*columns, strict=True)
        return self._checked([dict(zip(self.columns, row, strict=True)) for row in rows])

    def _checked(self, records: Array | list[Any]) -> ReadSamples:
        """Return records, with a reason for each that does not fit the models."""
        recipes, failed = self._records, {}
        if _nameless(records, recipes):
            whys = {row: _nameless([record], recipes) for row, record in enumerate(records)}
            failed = {row: why for row, why in whys.items() if why}
        rest = ReadSamples.of(records, failed)
        forms = first_forms(([record] for record in rest.samples), recipes)
        problems = problems_of(rest.samples, recipes, forms)
        return ReadSamples.of(records, failed | {rest.rows[at]: w for at, w in problems.items()})


def _nameless(records: Array | Sequence[Any], recipes: Iterable[Record]) -> str:
    """Return why values without names cannot be records; empty if they can."""
    try:
        check_whole(records, recipes)
    except DataError as error:
        return str(error)
    return ""


def _values(tensor: Tensor, whole: bool = False) -> Any:
    """Return the value of each sample: text, bytes, a number, or an array."""
    values = tensor.values[:, 0] if tensor.values.shape[1:] == (1,) else tensor.values
    if tensor.datatype == BYTES:
        if values.ndim > 1:
            where = where_of("input", tensor.name)
            raise RequestError(f"{where}: must be BYTES [N], not {list(values.shape)}")
        return [text_of(each) for each in values]
    if values.ndim == 1:
        return values.tolist()
    return values if whole else list(values)


def text_of(data: bytes) -> str | bytes:
    """Return bytes as text if they are text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _check_names(inputs: Collection[str], names: Sequence[str]) -> None:
    """Refuse inputs that the cascade does not have, and name those that are missing."""
    for name in inputs:
        if name not in names:
            raise RequestError(str(UnknownNameError.of("request", "input", name[:60], names)))
    missing = [name for name in names if name not in inputs]
    if missing:
        raise RequestError(f"request: no input {listed(missing)}")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} of {named(name)}" for name, count in list(counts.items())[:5])


def _kind_of(value: Any) -> str:
    """Return what a value of JSON or of a tensor is, in a word."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "a number"
    return "an object" if isinstance(value, Mapping) else "a list"


def _datatype_of(recipes: Iterable[Record], name: str) -> str:
    """Return the type of a column; BYTES where models leave it open."""
    for recipe in recipes:
        for each in recipe.fields:
            types = dict(zip(each.columns, each.types, strict=False))
            dtype = each.dtype or types.get(name, "")
            if dtype and (name in each.columns or not each.columns):
                return _DATATYPES.get(dtype, dtype.upper())
    return BYTES
