"""Samples behind an address, ``s3://`` or ``gs://``, or wherever pyarrow and fsspec read.

A file of a folder is fetched when it is read, and then decoded as one of this machine. A table or
an array is fetched whole when it is opened.
"""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, digest, stamped
from committee.data.files import FileKind, Walk, is_hidden, samples_in
from committee.errors import CommitteeError, DataError, needing
from committee.models.inputs import RawSamples
from committee.pool.labels import LabelMode
from committee.pool.samples import Samples
from committee.text import first_line

# What `datasets` writes into the folders that it saves.
_SAVED = frozenset({"dataset_dict.json", "dataset_info.json"})
_AGAIN = "Mend it and run the same command again"


def is_remote(spec: str | Path) -> bool:
    """Return True if samples or results lie behind an address such as ``s3://BUCKET/FOLDER``."""
    return isinstance(spec, str) and "://" in spec


def filesystem_of(where: str) -> tuple[Any, str]:
    """Return the file system of pyarrow for a folder or file, and its path there."""
    with needing(where, "pyarrow", "parquet"):
        import pyarrow as pa
        from pyarrow import fs

    if "://" not in where:
        return fs.LocalFileSystem(), str(Path(where).absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(where)
        return filesystem, path.rstrip("/")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # a scheme that fsspec may know
    try:
        import fsspec

        found, path = fsspec.core.url_to_fs(where)
    except (ImportError, ValueError) as error:
        raise DataError(
            f"{where}: neither pyarrow nor fsspec opens it ({first_line(error)}). Name a folder, "
            "s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, or install what fsspec needs for it"
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path.rstrip("/")


@dataclass(frozen=True, eq=False)
class Place:
    """What lies behind an address.

    Args:
        address: The address.
        filesystem: Pyarrow's file system there.
        path: The path in it.
        is_folder: True for a folder.
        stamp: Tells whether a file has changed; empty if unknown.
    """

    address: str
    filesystem: Any
    path: str
    is_folder: bool
    stamp: str = ""

    @classmethod
    def of(cls, address: str) -> Place:
        """Return what lies behind an address.

        Raises:
            DataError: If nothing does, or what holds it does not answer.
        """
        from pyarrow import fs

        with _answering(address):
            filesystem, path = filesystem_of(address)
            info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise DataError(f"data {address}: does not exist")
        is_folder = info.type == fs.FileType.Directory
        return cls(address, filesystem, path, is_folder, "" if is_folder else _stamp([info]))

    @property
    def ending(self) -> str:
        """The ending of its name, in small letters, with the dot."""
        return PurePosixPath(self.path).suffix.lower()

    def folder(
        self, split: str, classes: Sequence[str], kind: FileKind, labels: LabelMode
    ) -> Dataset:
        """Open a folder; see :func:`committee.data.files.open_folder`."""
        contents = self._walk(kind)
        if not _SAVED.isdisjoint(contents.names):
            raise DataError(
                f"data {self.address}: a folder saved by datasets is read from a disk. Bring it to "
                "one, with --on ray to one that all nodes share, and name the path there"
            )
        samples = samples_in(self.address, contents, split, classes, kind, labels)
        return RemoteFiles(self, self.path, samples, kind, contents.stamp)

    def one(self, split: str, classes: Sequence[str], kind: FileKind) -> Dataset:
        """Open a file that is one sample, without a label."""
        folder, _, name = self.path.rpartition("/")
        samples = Samples((name,), None, tuple(classes), split)
        return RemoteFiles(self, folder, samples, kind, self.stamp)

    def beside(self, kind: FileKind) -> FileKind:
        """Return a kind of files that lie where a table behind this address says."""
        folder = self.path.rpartition("/")[0]
        return replace(kind, open=lambda _, samples: RemoteFiles(self, folder, samples, kind))

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        """Fetch a file, and the labels and ids beside an npy, into a folder that then is removed.

        What is mapped from it stays, as does what was read. Errors inside name the address.
        """
        with TemporaryDirectory(prefix="committee-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, PurePosixPath(self.path).name)
            beside = [f".{each}.npy" for each in ("labels", "ids")] if path.suffix == ".npy" else []
            try:
                self._copy(self.path, path)
                for ending in beside:
                    there = f"{self.path.removesuffix('.npy')}{ending}"
                    if self.exists(there):
                        self._copy(there, path.with_suffix(ending))
                yield path
            except CommitteeError as error:
                raise type(error)(str(error).replace(str(path), self.address)) from error

    def exists(self, path: str) -> bool:
        """Return True if a file is there."""
        with _answering(self.address):
            return bool(self.filesystem.get_file_info(path).is_file)

    def data(self, path: str) -> bytes | None:
        """Return the bytes of a file; None if it is not there.

        Raises:
            DataError: If what holds it does not answer. That is no fault of the file, and must not
                become a result.
        """
        file = BytesIO()
        with _answering(self.address, path):
            try:
                self._copy_into(path, file)
            except FileNotFoundError:
                return None
        return file.getvalue()

    def _copy(self, path: str, to: Path) -> None:
        with _answering(self.address, path), to.open("wb") as file:
            self._copy_into(path, file)

    def _copy_into(self, path: str, file: Any) -> None:
        with self.filesystem.open_input_stream(path) as there:
            shutil.copyfileobj(there, file, 1 << 22)

    def _walk(self, kind: FileKind) -> Walk:
        from pyarrow import fs

        contents, own = Walk(), []
        with _answering(self.address):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
        for each in found:
            if not each.is_file:
                continue
            name = each.path[len(self.path) + 1 :]
            ending = PurePosixPath(name).suffix.lower()
            if any(map(is_hidden, name.split("/"))):
                contents.hidden.append(name)
            elif kind.endings is None or ending in kind.endings:
                contents.names.append(name)
                own.append(each)
            else:
                contents.others[ending or "none"] += 1
        contents.stamp = _stamp(sorted(own, key=lambda each: each.path))
        return contents


class RemoteFiles:
    """Files behind an address; ids are paths relative to a folder there, or addresses.

    ``stamp`` tells whether they have changed; empty if unknown.
    """

    def __init__(
        self, place: Place, root: str, samples: Samples, kind: FileKind, stamp: str = ""
    ) -> None:
        self._place, self._root, self._kind = place, root, kind
        self.samples, self.stamp = samples, stamp

    def read(self, rows: Array) -> RawSamples:
        """See :class:`committee.data.base.Dataset`."""
        ids = [self.samples.ids[row] for row in rows.tolist()]
        # Names of strangers are no names of files here.
        names = [f"{at}{self._ending(each)}" for at, each in enumerate(ids)]
        with TemporaryDirectory(prefix="committee-") as folder:
            for name, each in zip(names, ids, strict=True):
                data = self._place.data(self._path(each))
                if data is not None:
                    Path(folder, name).write_bytes(data)
            own = self._kind.open(Path(folder), Samples(tuple(names), None, (), ""))
            try:
                return own.read(np.arange(len(names)))
            except BrokenSamplesError as error:
                known = dict(zip(names, ids, strict=True))
                broken = [(known[name], why) for name, why in error.broken]
                raise BrokenSamplesError(broken, where=self._place.address) from None

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        each = (self._place.data(self._path(self.samples.ids[row])) for row in rows.tolist())
        return np.array([0 if data is None else digest(data) for data in each], np.uint64)

    def _path(self, name: str) -> str:
        if is_remote(name):
            return name.removeprefix(f"{self._place.address.partition('://')[0]}://")
        return posixpath.normpath(posixpath.join(self._root, name))

    def _ending(self, name: str) -> str:
        ending = PurePosixPath(name).suffix.lower()
        return ending if ending in (self._kind.endings or ()) else ""


def _stamp(infos: Sequence[Any]) -> str:
    """Return what a listing tells of the sizes and times of files; empty if it tells no sizes."""
    if any(each.size is None for each in infos):
        return ""
    return stamped((each.size, each.mtime_ns or 0) for each in infos)


@contextmanager
def _answering(address: str, path: str = "") -> Iterator[None]:
    """Turn what a store of files raises inside into one line."""
    try:
        yield
    except CommitteeError:
        raise
    except Exception as error:  # each kind of store has errors of its own
        what = f"{path} of it " if path else ""
        raise DataError(
            f"data {address}: {what}cannot be read ({first_line(error)}). {_AGAIN}"
        ) from error
