"""The results of a job: a folder of parquet parts, each of a fixed range of samples, and settings.

``_settings.json``
    What decides on what. A job goes on in a folder only with the same.
``part-FIRST-END.parquet``
    One row for each sample from FIRST to END - 1, in their order. A part is written whole or not at
    all, so that a file that is there is finished, and a job that died goes on with the others.

The folder may be on this machine, or wherever pyarrow or fsspec write: ``s3://``, ``gs://``,
``memory://``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from committee.data.remote import filesystem_of
from committee.errors import ChangedError, CommitteeError, DataError, require
from committee.files import disk_errors, write_bytes
from committee.text import first_line

SETTINGS = "_settings.json"
_PART = re.compile(r"part-(\d{12})-(\d{12})\.parquet")


@dataclass(frozen=True)
class Parts:
    """A folder of results.

    Args:
        where: The folder, as the user named it.
        count: How many samples there are in all.
        size: Samples of a part; the last may have fewer.
    """

    where: str
    count: int
    size: int

    @classmethod
    def begun(
        cls, where: str, count: int, size: int, settings: Mapping[str, str], overwrite: bool = False
    ) -> Parts:
        """Return a folder with these settings, which is made if it is not there.

        Args:
            where: The folder.
            count: How many samples there are.
            size: Samples of a part.
            settings: What must be the same for a job to go on, by name.
            overwrite: True to remove the parts and settings that are there.

        Raises:
            ChangedError: If it holds parts of other settings.
            DataError: If it cannot be read or written.
        """
        require("Writing parquet", "parquet")
        parts = cls(where, count, size)
        with parts._errors():
            filesystem, root = filesystem_of(where)
            names = _names(filesystem, root)
            if overwrite:
                for name in names:
                    if name == SETTINGS or _PART.fullmatch(name):
                        filesystem.delete_file(f"{root}/{name}")
                names = []
            own = {**settings, "samples of a part": str(size)}
            if SETTINGS in names:
                with filesystem.open_input_stream(f"{root}/{SETTINGS}") as file:
                    _compare(where, file.read(), own)
            elif any(map(_PART.fullmatch, names)):
                raise ChangedError(f"{where}: has parts, and no {SETTINGS}. Name another folder")
            else:
                filesystem.create_dir(root, recursive=True)
                parts._write(SETTINGS, json.dumps(own, indent=1).encode())
        return parts

    def done(self) -> dict[int, str]:
        """Return the parts that are there: the first sample of each, and its name."""
        with self._errors():
            found = map(_PART.fullmatch, _names(*filesystem_of(self.where)))
            spans = {int(each[1]): (int(each[2]), each[0]) for each in found if each}
        return {a: name for a, (b, name) in sorted(spans.items()) if b == self.end(a)}

    def end(self, first: int) -> int:
        """Return the number after the last sample of a part."""
        return min(first + self.size, self.count)

    def firsts(self) -> range:
        """Return the first sample of each part."""
        return range(0, self.count, self.size)

    def read(self, name: str) -> Any:
        """Return a part as an Arrow table; None if it is damaged, and then it is removed."""
        import pyarrow as pa
        import pyarrow.parquet

        first, end = map(int, _PART.fullmatch(name).groups())  # type: ignore[union-attr]
        with self._errors():
            filesystem, root = filesystem_of(self.where)
            with filesystem.open_input_stream(f"{root}/{name}") as file:
                data = pa.BufferReader(file.read())
            try:
                table = pyarrow.parquet.read_table(data, page_checksum_verification=True)
            except (pa.ArrowException, OSError):  # whatever it says of damage
                table = None
            if table is None or len(table) != end - first:
                filesystem.delete_file(f"{root}/{name}")
                return None
        return table

    def write(self, first: int, table: Any) -> None:
        """Write a part, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet

        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, write_page_checksum=True)
        with self._errors():
            self._write(f"part-{first:012}-{self.end(first):012}.parquet", sink.getvalue())

    def _write(self, name: str, data: Any) -> None:
        filesystem, root = filesystem_of(self.where)
        if filesystem.type_name == "local":
            path = Path(root) / name
            with disk_errors(path, DataError):
                write_bytes(path, bytes(data), alone=False)  # two jobs may write one folder
            return
        # An object of a store is there when it is closed.
        with filesystem.open_output_stream(f"{root}/{name}") as file:
            file.write(data)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CommitteeError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            raise DataError(
                f"{self.where}: cannot be read or written ({first_line(error)}). Parts that are "
                "there stay; mend it and run the same command again"
            ) from error


def _names(filesystem: Any, root: str) -> list[str]:
    from pyarrow import fs

    found = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    return [each.base_name for each in found if each.is_file]


def _compare(where: str, data: bytes, now: Mapping[str, str]) -> None:
    """Refuse to go on with other settings than those that a folder began with."""
    try:
        then = json.loads(data)
        differ = [key for key, each in now.items() if then.get(key) != each]
    except (ValueError, AttributeError):
        raise ChangedError(f"{where}: {SETTINGS} is damaged. Name another folder") from None
    if differ:
        key = differ[0]
        raise ChangedError(
            f"{where}: was begun with other settings: {key} was {then.get(key)}, is {now[key]}. "
            "Finish it with the same, name another folder, or replace it: --overwrite"
        )
