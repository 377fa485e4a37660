"""A store opened for writing, by one process at a time: its index and the samples of a split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from committee.errors import ChangedError, StoreError
from committee.files import write_text
from committee.samples import Samples
from committee.store.entry import SCHEMA, Entry, dump, read_index, read_json
from committee.store.writer import Writer

_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
            known = read_index(path)
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
            # A calibration is of the model, which is still the same.
            kept = {key: old[key] for key in ("calibration",) if key in old}
            known["models"][name] = {**new, "costs": list(costs.values()), **kept}
        write_text(path, dump(known))

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
            known = read_json(path).get("fingerprint")
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
