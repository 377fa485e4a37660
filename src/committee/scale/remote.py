"""Folders of images in an object store, ``s3://`` or ``gs://``, or wherever fsspec reads."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, digest
from committee.data.files import ENDINGS, Walk, decoded, reason_of, samples_in
from committee.errors import DataError
from committee.pool.samples import Samples
from committee.scale.parts import filesystem_of
from committee.spec.model import ModelSpec, task_of
from committee.text import first_line


def is_remote(spec: str) -> bool:
    """Return True if samples lie behind an address such as ``s3://BUCKET/FOLDER``."""
    return "://" in spec


def open_remote(spec: str, classes: Sequence[str], models: Sequence[ModelSpec]) -> Dataset:
    """Open a folder of images behind an address: one folder for each class, or no labels.

    Raises:
        DataError: If it is no folder of images, or cannot be read.
    """
    task = task_of(models)
    if task.records or task.views:
        raise DataError(
            f"data {spec}: of addresses only folders of images are read. Bring the "
            f"{task.samples} to a disk that all nodes share, and name the path there"
        )
    filesystem, root = filesystem_of(spec)
    try:
        contents = _walk(filesystem, root)
    except OSError as error:
        raise DataError(f"data {spec}: cannot be read ({first_line(error)})") from None
    return _RemoteImages(
        filesystem, root, samples_in(spec, contents, "run", classes, labels="if they fit")
    )


def _walk(filesystem: Any, root: str) -> Walk:
    from pyarrow import fs

    contents = Walk()
    for each in filesystem.get_file_info(fs.FileSelector(root, recursive=True)):
        name = str(PurePosixPath(each.path).relative_to(root))
        ending = PurePosixPath(name).suffix.lower()
        if not each.is_file:
            continue
        if any(part.startswith(".") for part in name.split("/")):
            contents.hidden.append(name)
        elif ending in ENDINGS:
            contents.names.append(name)
        else:
            contents.others[ending or "none"] += 1
    return contents


class _RemoteImages:
    """Image files behind an address, fetched when they are read."""

    def __init__(self, filesystem: Any, root: str, samples: Samples) -> None:
        self._filesystem, self._root = filesystem, root
        self.samples = samples

    def read(self, rows: Array) -> list[Any]:
        """See :class:`committee.data.base.Dataset`."""
        read, broken = [], []
        for row in rows.tolist():
            try:
                read.append(decoded(BytesIO(self._bytes(row))))
            except Exception as error:  # decoders raise many kinds
                broken.append((self.samples.ids[row], reason_of(error)))
        if broken:
            raise BrokenSamplesError(broken, where=self._root)
        return read

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([digest(self._bytes(row)) for row in rows.tolist()], np.uint64)

    def _bytes(self, row: int) -> bytes:
        with self._filesystem.open_input_file(f"{self._root}/{self.samples.ids[row]}") as file:
            data: bytes = file.read()
        return data
