"""A store opened for writing, by one process at a time: its index and the samples of a split."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from committee.errors import ChangedError, StoreError
from committee.files import disk_errors, sync_folder
from committee.pool.samples import Samples
from committee.store.entry import (
    SAMPLES,
    SCHEMA,
    Entry,
    begun_models,
    finished_models,
    read_index,
    write_index,
)
from committee.store.split import (
    Split,
    check_apart,
    check_split_name,
    known_split,
    store_order,
    with_known_facts,
    with_labels,
    write_split,
)
from committee.store.writer import Writer
from committee.text import changes


class Store:
    """A folder of predictions, opened for writing by one process at a time; see :func:`writing`.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Splits whose record was there and right, so that outputs of others samples are outdated.
        self._recorded: set[str] = set()

    def add_models(
        self, models: Mapping[str, Mapping[str, Any]], classes: tuple[str, ...]
    ) -> list[str]:
        """Record models and classes.

        Args:
            models: For each model what :meth:`committee.models.ModelSpec.to_json` gives; outputs
                made elsewhere have no source, fingerprint or preprocessing.
            classes: Names of the classes; empty if unnamed.

        Returns:
            What to know of costs that are others than the store had, a line each.

        Raises:
            ChangedError: If the store knows other classes, or another model under the same name.
        """
        path = self.root / "store.json"
        known: dict[str, Any] = {"schema": SCHEMA, "classes": list(classes), "models": {}}
        if path.exists():
            known = read_index(path)
        begun = self._models_with_outputs()
        if known["classes"] != list(classes) and not begun:
            # Refused before the first output: nothing was computed by these classes.
            known = {"schema": SCHEMA, "classes": list(classes), "models": {}}
            for record in self.root.glob(f"*/{SAMPLES}"):
                record.unlink()
        if known["classes"] != list(classes):
            raise ChangedError(
                f"{path}: the store has {len(known['classes'])} classes "
                f"({', '.join(known['classes'][:3])} …), the models given now have {len(classes)} "
                f"({', '.join(classes[:3])} …). Write to another store with --out"
            )
        notes = []
        for name, new in models.items():
            old = known["models"].get(name, new) if name in begun else new
            notes += _other_costs(name, old["costs"], new["costs"])
            for key in ("fingerprint", "preprocessing", "kind", "layout", "output", "columns"):
                # Most models have no choice of the last three.
                before, now = changes(*(model.get(key, "") for model in (old, new)))
                if before != now:
                    raise ChangedError(
                        f"{path}: model {name!r} has changed: {key} was {before}, "
                        f"is {now}. Give it another name, or write to another store with --out"
                    )
            # A cost in a unit that is not told now stays as it was.
            costs = {cost["unit"]: cost for cost in [*old["costs"], *new["costs"]]}
            # A calibration is of the model, which is still the same.
            kept = {key: old[key] for key in ("calibration",) if key in old}
            # Outputs imported for another split may not name the family again.
            kept["family"] = new.get("family") or old.get("family", "")
            known["models"][name] = {**new, "costs": list(costs.values()), **kept}
        with disk_errors(path, StoreError):
            write_index(path, known)
        return notes

    def _models_with_outputs(self) -> set[str]:
        """Names of the models of which outputs are stored or begun in some split."""
        folders = [path for path in self.root.iterdir() if path.is_dir()]
        return {n for each in folders for n in finished_models(each) | begun_models(each)}

    def split(self, name: str, classes: tuple[str, ...]) -> Split | None:
        """What the store knows of a split; None if it is new or its record is damaged."""
        check_split_name(name)
        return known_split(self.root / name, classes)

    def add_samples(
        self, split: Split, *, fewer: bool = False, known_apart: Collection[str] = ()
    ) -> list[str]:
        """Record the samples of a split: those that it has, in their order, and maybe more.

        Args:
            split: All of its samples.
            fewer: True if some are left out that the store has, because they cannot be read.
            known_apart: Names of splits that are known to have other samples.

        Returns:
            What to know of samples that other splits share, a line each.

        Raises:
            ChangedError: If the store has other samples under that name.
            StoreError: If the name of the split can be no folder's, or another split has some of
                the samples.
        """
        samples = split.samples
        folder = self.root / samples.split
        known = self.split(samples.split, samples.classes)
        notes = check_apart(self.root, split, known_apart)
        if known is not None:
            self._recorded.add(samples.split)
        if known is not None and fewer:
            split = with_labels(known, split)
        elif known is not None:
            order = store_order(folder, known, split)
            if (order != np.arange(len(order))).any():
                raise ChangedError(
                    f"{folder}: split {samples.split!r} has its samples in another order: "
                    f"fingerprint is {known.samples.fingerprint}, of those given now "
                    f"{samples.fingerprint}. Sort them by id as they were"
                )
            split = with_known_facts(folder, known, with_labels(known, split))
        write_split(folder, split)
        return notes

    def forget_content(self, split: Split, names: Collection[str]) -> None:
        """Forget what the bytes of some samples were, which are not to stay as they are.

        Args:
            split: All samples, as they were recorded.
            names: Ids of those that cannot be read.
        """
        known = self.split(split.samples.split, split.samples.classes)
        split = split if known is None else with_labels(known, split)
        broken = np.array([name in names for name in split.samples.ids], bool)
        if split.content is not None:
            content = np.where(broken, np.uint64(0), split.content)
            mended = replace(split.samples, content=content)
            write_split(self.root / split.samples.split, replace(split, samples=mended))

    def writer(self, samples: Samples, model: str, entry: Entry) -> Writer:
        """Start or resume writing one model's outputs; see :class:`Writer`."""
        folder = self.root / samples.split
        return Writer(folder, model, entry, samples, samples.split in self._recorded)


def _other_costs(
    name: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what to know of costs of a model that replace others, which hold for all splits."""
    before = {cost["unit"]: cost["value"] for cost in old}
    return [
        f"{name} costs {cost['value']:.6g} {cost['unit']} now, it was "
        f"{before[cost['unit']]:.6g}; the new cost holds for all splits of the store"
        for cost in new
        if before.get(cost["unit"], cost["value"]) != cost["value"]
    ]


def known_classes(root: Path) -> tuple[str, ...]:
    """Return the names of the classes that a store has; empty if there is no store, or no names."""
    path = root / "store.json"
    return tuple(read_index(path)["classes"]) if path.is_file() else ()


@contextmanager
def writing(root: Path) -> Iterator[Store]:
    """Open a store for writing; a second process is refused until the first has finished.

    Raises:
        StoreError: If another process writes to it, or the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        sync_folder(root.parent)
        lock = FileLock(root / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{root}: another process is writing to this store; wait for it") from None
    except OSError as error:
        raise StoreError(f"{root}: cannot be written ({error.strerror})") from None
    try:
        with disk_errors(root, StoreError):
            # A process that was killed may have left half a file.
            for path in [
                *root.glob("*.json.tmp"),
                *root.glob("*/*.json.tmp"),
                *root.glob("*/*.npy.tmp"),
            ]:
                path.unlink()
        yield Store(root)
    finally:
        lock.release()
