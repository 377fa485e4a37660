"""Predictions on disk: resumable at any moment, checked, memory-mapped.

    STORE/store.json            classes, and of each model how it is loaded and what it costs
    STORE/SPLIT/samples.json    ids and labels
    STORE/SPLIT/MODEL.npy       outputs (N, C); of decisions (N, 2): class and confidence
    STORE/SPLIT/MODEL.json      kind, fingerprints, and a checksum of every chunk of rows

While a model is being written its rows grow in MODEL.npy.part, and MODEL.json.part gets one line a
chunk, after the chunk itself is safely on disk. Whatever moment a process dies at, the rows that
the journal vouches for are kept, the rest is computed again, and the files end up the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from committee.cost import Cost, CostTable
from committee.errors import (
    ChangedError,
    CommitteeError,
    DamagedError,
    StoreError,
    UnknownNameError,
)
from committee.files import write_text
from committee.pool import Pool
from committee.predictions import Array, Kind, Outputs, check_kind
from committee.samples import Samples

SCHEMA = 1
CHUNK_ROWS = 256
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """What a store says of one model's outputs on one split.

    Args:
        kind: Kind of the outputs.
        samples: Fingerprint of the samples.
        classes: Fingerprint of the classes.
        fingerprint: Of the model; if the outputs were made elsewhere, of the outputs.
        batch_size: Samples a forward pass; 0 if made elsewhere. Rounding depends on it.
        dtype: NumPy's name of the type of the numbers.
        rows: How many samples.
    """

    kind: Kind
    samples: str
    classes: str
    fingerprint: str
    batch_size: int
    dtype: str
    rows: int


def _dump(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _read_json(path: Path) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: not there; make it with committee predict or import") from None
    except (OSError, ValueError) as error:
        raise DamagedError(
            f"{path}: damaged ({error}). Delete it and run committee predict again"
        ) from None
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise _altered(path)
    if data["schema"] > SCHEMA:
        raise StoreError(
            f"{path}: schema {data['schema']} is newer than {SCHEMA}, which this version reads. "
            "Upgrade with: pip install --upgrade committee"
        )
    return data


def _altered(path: Path) -> DamagedError:
    return DamagedError(f"{path}: altered. Delete it and run committee predict or import again")


def _read_index(path: Path) -> dict[str, Any]:
    """What ``store.json`` holds."""
    data: dict[str, Any] = _read_json(path)
    try:
        for spec in data["models"].values():
            [Cost(**cost) for cost in spec["costs"]]
            intact = {"source", "kind", "preprocessing", "fingerprint"} <= set(spec)
            if not intact:
                raise KeyError
        if not isinstance(data["classes"], list):
            raise TypeError
    except (KeyError, TypeError, AttributeError, CommitteeError):
        raise _altered(path) from None
    return data


def _read_manifest(path: Path) -> tuple[Entry, int, list[int]]:
    """What ``MODEL.json`` holds: the entry, the width of a row, and the checksums of the chunks."""
    data = _read_json(path)
    try:
        entry = Entry(**{field.name: data[field.name] for field in fields(Entry)})
        width, checksums = int(data["width"]), [int(each) for each in data["crc32"]]
        np.dtype(entry.dtype)
        check_kind(str(path), entry.kind)
        intact = data["chunk_rows"] == CHUNK_ROWS and len(checksums) == -(-entry.rows // CHUNK_ROWS)
    except (KeyError, TypeError, ValueError, CommitteeError):
        intact = False
    if not intact:
        raise _altered(path)
    return entry, width, checksums


def _read_journal(path: Path) -> tuple[Entry, int, list[int]]:
    """What ``MODEL.json.part`` holds; checksums of the chunks that are safely on disk."""
    try:
        # Only lines that end in a line feed were written whole.
        head, *checksums = path.read_text(encoding="utf-8").split("\n")[:-1]
        known = json.loads(head)
        width = int(known.pop("width"))
        return Entry(**known), width, [int(line) for line in checksums]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _altered(path) from None


class Store:
    """A folder of predictions, opened for writing by one process at a time; see :func:`writing`.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add_models(self, models: Mapping[str, Mapping[str, Any]], classes: tuple[str, ...]) -> None:
        """Record models and classes.

        Args:
            models: For each model what :meth:`committee.models.ModelSpec.to_json` gives; outputs
                made elsewhere have no source, fingerprint or preprocessing.
            classes: Names of the classes; empty if unnamed.

        Raises:
            ChangedError: If the store knows other classes, or another model under the same name.
        """
        path = self.root / "store.json"
        known: dict[str, Any] = {"schema": SCHEMA, "classes": list(classes), "models": {}}
        if path.exists():
            known = _read_index(path)
        if known["classes"] != list(classes):
            raise ChangedError(
                f"{path}: the store has {len(known['classes'])} classes "
                f"({', '.join(known['classes'][:3])} …), the models given now have {len(classes)} "
                f"({', '.join(classes[:3])} …). Write to another store with --out"
            )
        for name, new in models.items():
            old = known["models"].get(name, new)
            for key in ("fingerprint", "preprocessing", "kind"):
                if old[key] != new[key]:
                    raise ChangedError(
                        f"{path}: model {name!r} has changed: {key} was {old[key]}, "
                        f"is {new[key]}. Give it another name, or write to another store with --out"
                    )
            # A cost in a unit that is not told now stays as it was.
            costs = {cost["unit"]: cost for cost in [*old["costs"], *new["costs"]]}
            known["models"][name] = {**new, "costs": list(costs.values())}
        write_text(path, _dump(known))

    def add_samples(self, samples: Samples) -> None:
        """Record the samples of a split.

        Raises:
            ChangedError: If the store has other samples under that name.
            StoreError: If the name of the split can be no folder's.
        """
        if not _SPLIT.fullmatch(samples.split):
            raise StoreError(
                f"split {samples.split!r} must be letters, digits and . _ -, for it names a folder"
            )
        path = self.root / samples.split / "samples.json"
        if path.exists():
            known = _read_json(path).get("fingerprint")
            if known != samples.fingerprint:
                raise ChangedError(
                    f"{path}: split {samples.split!r} holds other samples: fingerprint is {known}, "
                    f"the data given now have {samples.fingerprint}. "
                    "Use another --split or another store with --out"
                )
        # Written even if it is there: what was altered in it is mended.
        labels = None if samples.labels is None else samples.labels.tolist()
        data = {
            "schema": SCHEMA,
            "split": samples.split,
            "fingerprint": samples.fingerprint,
            "ids": list(samples.ids),
            "labels": labels,
        }
        write_text(path, json.dumps(data, ensure_ascii=False) + "\n")

    def writer(self, split: str, model: str, entry: Entry) -> Writer:
        """Start or go on writing one model's outputs; see :class:`Writer`."""
        return Writer(self.root / split, model, entry)


@contextmanager
def writing(root: Path) -> Iterator[Store]:
    """Open a store for writing; a second process is refused until the first has finished.

    Raises:
        StoreError: If another process writes to it, or the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{root}: another process is writing to this store; wait for it") from None
    except OSError as error:
        raise StoreError(f"{root}: cannot be written ({error.strerror})") from None
    try:
        yield Store(root)
    finally:
        lock.release()


class Writer:
    """Writes one model's outputs chunk by chunk, going on where an earlier process stopped.

    Args:
        folder: Folder of the split.
        model: Name of the model.
        entry: What is being written.

    Raises:
        ChangedError: If something else was begun or written under this name.
    """

    def __init__(self, folder: Path, model: str, entry: Entry) -> None:
        self._model = model
        self._entry = entry
        self._final = folder / f"{model}.npy"
        self._manifest = folder / f"{model}.json"
        self._part = folder / f"{model}.npy.part"
        self._journal = folder / f"{model}.json.part"
        self._width = 0
        self._checksums: list[int] = []
        self._resume()

    @property
    def rows_done(self) -> int:
        """How many rows are safely on disk."""
        return self._rows(self._checksums)

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.rows_done == self._entry.rows

    def append(self, outputs: Outputs) -> None:
        """Write the next chunk: ``CHUNK_ROWS`` rows, fewer only at the end.

        Raises:
            StoreError: If the disk is full or the chunk has another width than those before.
        """
        block = _as_block(outputs, self._entry.dtype)
        if not self._checksums:
            self._begin(block.shape[1])
        if block.shape[1] != self._width:
            raise StoreError(
                f"{self._part}: outputs had {self._width} columns, now {block.shape[1]}"
            )
        data = block.tobytes()
        try:
            with self._part.open("r+b") as file:
                file.seek(self._offset(len(self._checksums)))
                file.write(data)
                file.truncate()
                _sync(file)
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(f"{zlib.crc32(data)}\n")
                _sync(journal)
        except OSError as error:
            raise StoreError(
                f"{self._part}: cannot be written ({error.strerror}). What was written is kept; "
                "make room and run the same command again"
            ) from None
        self._checksums.append(zlib.crc32(data))
        if self.complete:
            self._finish()

    def _begin(self, width: int) -> None:
        self._width = width
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._part.write_bytes(_header(self._entry, width))
        write_text(self._journal, json.dumps({**vars(self._entry), "width": width}) + "\n")

    def _finish(self) -> None:
        self._part.replace(self._final)
        data = {
            "schema": SCHEMA,
            **vars(self._entry),
            "width": self._width,
            "chunk_rows": CHUNK_ROWS,
            "crc32": self._checksums,
        }
        write_text(self._manifest, _dump(data))
        self._journal.unlink()

    def _rows(self, checksums: list[int]) -> int:
        return min(len(checksums) * CHUNK_ROWS, self._entry.rows)

    def _offset(self, chunk: int) -> int:
        row_bytes = self._width * np.dtype(self._entry.dtype).itemsize
        return len(_header(self._entry, self._width)) + chunk * CHUNK_ROWS * row_bytes

    def _resume(self) -> None:
        if self._manifest.exists():
            known, self._width, promised = _read_manifest(self._manifest)
            self._require_same(known)
            self._checksums = self._vouched(self._final, promised)
            if not self.complete:
                self._reopen()
            else:
                # Stopped after the manifest was written and before the journal was removed.
                self._journal.unlink(missing_ok=True)
        elif self._journal.exists():
            if self._final.exists() and not self._part.exists():
                # Stopped after the data got their name and before the manifest was written.
                self._final.replace(self._part)
            known, self._width, promised = _read_journal(self._journal)
            self._require_same(known)
            self._checksums = self._vouched(self._part, promised)
            self._rewrite_journal()
            if self.complete:
                self._finish()

    def _reopen(self) -> None:
        """Turn a finished but damaged file into an unfinished one, its good beginning kept."""
        if not self._final.exists():
            self._final.write_bytes(b"")
        self._rewrite_journal()
        self._manifest.unlink()
        self._final.replace(self._part)

    def _rewrite_journal(self) -> None:
        lines = [json.dumps({**vars(self._entry), "width": self._width})]
        lines += [str(checksum) for checksum in self._checksums]
        write_text(self._journal, "\n".join(lines) + "\n")

    def _require_same(self, known: Entry) -> None:
        for key, value in vars(self._entry).items():
            if getattr(known, key) != value:
                raise ChangedError(
                    f"{self._final}: was written with {key} {getattr(known, key)}, asked for now: "
                    f"{value}. Use the same, or delete {self._model}.* in that folder"
                )

    def _vouched(self, path: Path, promised: list[int]) -> list[int]:
        """The checksums of the chunks from the start that are there and right."""
        good: list[int] = []
        if not path.exists():
            return good
        with path.open("rb") as file:
            if file.read(len(_header(self._entry, self._width))) != _header(
                self._entry, self._width
            ):
                return good
            for chunk, checksum in enumerate(promised):
                size = self._offset(chunk + 1) - self._offset(chunk)
                rows_left = self._entry.rows - chunk * CHUNK_ROWS
                if rows_left < CHUNK_ROWS:
                    size = size // CHUNK_ROWS * rows_left
                data = file.read(size)
                if len(data) != size or zlib.crc32(data) != checksum:
                    break
                good.append(checksum)
            if len(good) == len(promised) and self._rows(good) == self._entry.rows and file.read(1):
                # Writing the last chunk again cuts off what follows it.
                good.pop()
        return good


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _as_block(outputs: Outputs, dtype: str) -> Array:
    if outputs.confidence is not None:
        return np.stack([outputs.values, outputs.confidence], axis=1).astype(dtype)
    return np.ascontiguousarray(outputs.values, dtype=dtype)


def _header(entry: Entry, width: int) -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": np.lib.format.dtype_to_descr(np.dtype(entry.dtype)),
            "fortran_order": False,
            "shape": (entry.rows, width),
        },
    )
    return file.getvalue()


def load_pool(folder: Path, models: Iterable[str] | None = None) -> Pool:
    """Open one split of a store; see :meth:`committee.pool.Pool.load`."""
    root = folder.parent
    if not (folder / "samples.json").exists():
        _explain_missing(folder)
    index = _read_index(root / "store.json")
    samples = _samples(folder, tuple(index["classes"]))
    written = {path.stem for path in folder.glob("*.json") if path.name != "samples.json"}
    begun = {path.name.removesuffix(".json.part") for path in folder.glob("*.json.part")}
    if models is None:
        names = [name for name in index["models"] if name in written | begun]
    else:
        names = list(models)
    for name in names:
        if name not in (written | begun) & set(index["models"]):
            raise UnknownNameError.of(str(folder), "model", name, written)
        if name in begun:
            raise StoreError(
                f"{folder}: model {name!r} is unfinished. Run the same committee predict again; "
                "it goes on where it stopped"
            )
    if not names:
        raise StoreError(f"{folder}: no model's outputs yet; run the same committee predict again")
    outputs = {name: _load(folder, name, samples) for name in names}
    specs = {name: index["models"][name] for name in names}
    costs = {name: [Cost(**cost) for cost in spec["costs"]] for name, spec in specs.items()}
    runnable = {name: spec for name, spec in specs.items() if spec["source"]}
    return Pool(samples, outputs, CostTable.of(costs), runnable)


def _explain_missing(folder: Path) -> None:
    if (folder / "store.json").exists():
        splits = sorted(p.parent.name for p in folder.glob("*/samples.json"))
        raise StoreError(
            f"{folder}: this is a store; name one of its splits, for example "
            f"{folder / (splits or ['val'])[0]}"
        )
    known = sorted(p.parent.name for p in folder.parent.glob("*/samples.json"))
    if known:
        raise UnknownNameError.of(str(folder.parent), "split", folder.name, known)
    raise StoreError(f"{folder}: no store is there; make one with committee predict or import")


def _samples(folder: Path, classes: tuple[str, ...]) -> Samples:
    path = folder / "samples.json"
    data = _read_json(path)
    try:
        labels = None if data["labels"] is None else np.array(data["labels"], np.int64)
        samples = Samples(tuple(data["ids"]), labels, classes, data["split"])
        intact = samples.fingerprint == data["fingerprint"]
    except (CommitteeError, KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{path}: altered; it does not give its own fingerprint. "
            "Run the same committee predict or import again"
        )
    return samples


def _load(folder: Path, name: str, samples: Samples) -> Outputs:
    path = folder / f"{name}.npy"
    entry, width, checksums = _read_manifest(folder / f"{name}.json")
    remedy = (
        "Run the same committee predict or import again; all other models are kept, and in "
        f"{name!r} what stands before the damage"
    )
    for key, then, now in (
        ("samples", entry.samples, samples.fingerprint),
        ("classes", entry.classes, samples.classes_fingerprint),
    ):
        if then != now:
            raise ChangedError(
                f"{path}: was computed on other {key}: fingerprint {then}, "
                f"the store has {now}. Compute it again in a new store"
            )
    if not path.exists():
        raise DamagedError(f"{path}: missing. {remedy}")
    shape, dtype = (entry.rows, width), np.dtype(entry.dtype)
    size = path.stat().st_size
    wanted = len(_header(entry, width)) + dtype.itemsize * entry.rows * width
    if size != wanted:
        how = "truncated" if size < wanted else "altered"
        raise DamagedError(f"{path}: {how}, {size} bytes where {wanted} should be. {remedy}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError):
        raise DamagedError(f"{path}: altered, its header cannot be read. {remedy}") from None
    if array.shape != shape or array.dtype != dtype:
        raise DamagedError(f"{path}: holds {array.dtype} {array.shape}, not {shape}. {remedy}")
    for chunk, checksum in enumerate(checksums):
        start = chunk * CHUNK_ROWS
        if zlib.crc32(array[start : start + CHUNK_ROWS].tobytes()) != checksum:
            raise DamagedError(f"{path}: altered, first at sample {start} or after. {remedy}")
    if entry.kind == "decisions":
        return Outputs("decisions", array[:, 0].astype(np.int64), np.asarray(array[:, 1]))
    return Outputs(entry.kind, array)
