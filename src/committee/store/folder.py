"""Write the index of a store and the samples of its splits, one process at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from committee.errors import ChangedError, CommitteeError, CostError, StoreError, UnknownNameError
from committee.files import disk_errors, sync_folder, write_bytes
from committee.pool.samples import Samples
from committee.spec.cost import MEAN, Cost
from committee.spec.model import ModelSpec
from committee.store.entry import (
    COSTS,
    SAMPLES,
    SCHEMA,
    Entry,
    begun_models,
    finished_models,
    read_index,
    write_index,
)
from committee.store.sample_costs import splits_by_sample
from committee.store.split import (
    Split,
    check_split_name,
    known_split,
    other_splits,
    refuse_shared,
    store_order,
    with_known_facts,
    write_split,
)
from committee.store.writer import Writer
from committee.text import changes, listed

# What a model of a store keeps; most lack the last four.
_FIXED = ("fingerprint", "preprocessing", "kind", "layout", "output", "columns", "bounds")


class Store:
    """A folder of predictions that is open for writing; see :func:`writing`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Splits with an intact record: stored outputs on other samples are outdated.
        self._recorded: set[str] = set()

    def add_models(
        self, models: Mapping[str, Mapping[str, Any]], classes: tuple[str, ...]
    ) -> list[str]:
        """Record models and classes, and return notes on costs that changed.

        Imported outputs have no source, fingerprint or preprocessing.
        """
        path = self.root / "store.json"
        known: dict[str, Any] = {"schema": SCHEMA, "classes": list(classes), "models": {}}
        if path.exists():
            known = read_index(path)
        begun = self._models_with_outputs()
        if known["classes"] != list(classes) and not begun:
            # No output was computed with these classes yet.
            known = {"schema": SCHEMA, "classes": list(classes), "models": {}}
            for record in self.root.glob(f"*/{SAMPLES}"):
                record.unlink()
        if known["classes"] != list(classes):
            raise ChangedError(
                f"{path}: the store has {len(known['classes'])} classes "
                f"({', '.join(known['classes'][:3])} …), the models now have {len(classes)} "
                f"({', '.join(classes[:3])} …). Write to another store with --out"
            )
        notes = []
        for name, new in models.items():
            old = known["models"].get(name, new) if name in begun else new
            notes += _other_costs(name, old["costs"], new["costs"])
            for key in _FIXED:
                before, now = changes(*(model.get(key, "") for model in (old, new)))
                if before != now:
                    raise ChangedError(
                        f"{path}: model {name!r} has changed: {key} was {before}, "
                        f"is {now}. Give it another name, or write to another store with --out"
                    )
            # Costs in other units stay; so does a number where another split has costs by sample.
            costs = {cost["unit"]: cost for cost in old["costs"]}
            for cost in new["costs"]:
                known_cost = costs.get(cost["unit"], cost)
                replaces = cost["conditions"] != MEAN or known_cost["conditions"] == MEAN
                costs[cost["unit"]] = cost if replaces else known_cost
            # The model is still the same, so its calibration holds.
            stored = {key: old[key] for key in ("calibration",) if key in old}
            # An import of another split may not repeat the family.
            stored["family"] = new.get("family") or old.get("family", "")
            known["models"][name] = {**new, "costs": list(costs.values()), **stored}
        with disk_errors(path, StoreError):
            write_index(path, known)
        return notes

    def _models_with_outputs(self) -> set[str]:
        folders = [path for path in self.root.iterdir() if path.is_dir()]
        return {n for each in folders for n in finished_models(each) | begun_models(each)}

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Put the records of the store back as they were if what follows is refused."""
        folders = self._folders()
        before = {path: path.read_bytes() for path in self._records()}
        try:
            yield
        except CommitteeError:
            for path in self._records():
                if path not in before:
                    path.unlink()
            for path, data in before.items():
                if not path.exists() or path.read_bytes() != data:
                    write_bytes(path, data)
            for path in sorted(self._folders() - folders, reverse=True):
                with suppress(OSError):  # It holds outputs.
                    path.rmdir()
            raise

    def _folders(self) -> set[Path]:
        return {*self.root.glob("*/"), *self.root.glob(f"*/{COSTS}/")}

    def _records(self) -> list[Path]:
        """Return the files that say what the store holds, without the outputs."""
        patterns = ("store.json", f"*/{SAMPLES}", f"*/{COSTS}/*.json")
        return [path for pattern in patterns for path in self.root.glob(pattern)]

    def split(self, name: str, classes: tuple[str, ...]) -> Split | None:
        """Return the record of a split; None if it is new or its record is damaged."""
        check_split_name(name)
        return known_split(self.root / name, classes)

    def add_samples(
        self, split: Split, *, fewer: bool = False, known_apart: Collection[str] = ()
    ) -> list[str]:
        """Record the samples of a split, and return notes on samples shared with other splits.

        ``split`` has the stored samples in their order, and possibly more; with ``fewer`` it lacks
        some that cannot be read. Splits of ``known_apart`` are known to have other samples.
        """
        samples = split.samples
        folder = self.root / samples.split
        known = self.split(samples.split, samples.classes)
        notes = _check_apart(self.root, split, known_apart)
        if known is not None:
            self._recorded.add(samples.split)
        if known is not None and fewer:
            split = _with_labels(known, split)
        elif known is not None:
            order = store_order(folder, known, split)
            if (order != np.arange(len(order))).any():
                raise ChangedError(
                    f"{folder}: the samples of {samples.split!r} are in another order: fingerprint "
                    f"was {known.samples.fingerprint}, is {samples.fingerprint}. Sort them by id "
                    "as they were"
                )
            split = with_known_facts(folder, known, _with_labels(known, split))
        write_split(folder, split)
        return notes

    def forget_content(self, split: Split, names: Collection[str]) -> None:
        """Remove the content digests of samples that cannot be read, so that they may be fixed."""
        known = self.split(split.samples.split, split.samples.classes)
        split = split if known is None else _with_labels(known, split)
        broken = np.array([name in names for name in split.samples.ids], bool)
        if split.content is not None:
            content = np.where(broken, np.uint64(0), split.content)
            samples = replace(split.samples, content=content)
            write_split(self.root / samples.split, replace(split, samples=samples))

    def writer(self, samples: Samples, model: str, entry: Entry) -> Writer:
        """Start or resume writing one model's outputs; see :class:`Writer`."""
        folder = self.root / samples.split
        return Writer(folder, model, entry, samples, samples.split in self._recorded)


def _check_apart(root: Path, given: Split, known_apart: Collection[str] = ()) -> list[str]:
    """Refuse samples that another split of the store has.

    Returns:
        A note on each other split that has fewer of the samples under other names.
    """
    others = [each.samples for each in other_splits(root, given.samples.split)]
    others = [each for each in others if each.split not in known_apart]
    return refuse_shared(root, others, given.samples)


def _other_costs(
    name: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return notes on costs that replace those of a model; they hold for all splits.

    The mean over samples holds for the split of these samples alone, so nothing is replaced.
    """
    before = {cost["unit"]: cost for cost in old if cost["conditions"] != MEAN}
    return [
        f"{name} now costs {cost['value']:.6g} {cost['unit']}, before it was "
        f"{before[cost['unit']]['value']:.6g}; the new cost holds for all splits of the store"
        for cost in new
        if cost["conditions"] != MEAN and before.get(cost["unit"], cost)["value"] != cost["value"]
    ]


@contextmanager
def writing(root: Path) -> Iterator[Store]:
    """Open a store for writing, and refuse a second process meanwhile."""
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
            # A killed process may have left half a file.
            for path in [
                *root.glob("*.json.tmp"),
                *root.glob("*/*.json.tmp"),
                *root.glob("*/*.npy.tmp"),
            ]:
                path.unlink()
        yield Store(root)
    finally:
        lock.release()


def record_costs(store: str | Path, specs: Sequence[ModelSpec]) -> None:
    """Write what models cost into a store that holds their predictions.

    A cost replaces an older one in its unit; costs in other units stay.
    """
    _record(Path(store), {spec.name: _compared(spec) for spec in specs})


def add_costs(store: str | Path, costs: Mapping[str, Sequence[Cost]]) -> list[str]:
    """Same as :func:`record_costs` from the costs alone; return notes on those that changed."""
    return _record(
        Path(store), {n: {"costs": [each.to_json() for each in own]} for n, own in costs.items()}
    )


def _refuse_by_sample(store: Path, name: str, unit: str) -> None:
    """Refuse one cost for all samples where a split has costs by sample, which it hides."""
    splits = splits_by_sample(store, name, unit)
    if splits:
        raise CostError(
            f"{store}: each sample of {listed(splits)} has a cost of its own in {name!r}, in "
            f"{unit}, which one number does not replace. Give that number another unit, or import "
            f"{listed(splits)} again without the column, with --cost {name}=NUMBER --unit {unit}"
        )


def _record(store: Path, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write facts of models into the index of a store, and return notes on changed costs."""
    path = store / "store.json"
    known = read_index(path)  # before a folder is made for a store that is not there
    for name in facts:
        if name not in known["models"]:
            raise UnknownNameError.of(str(path), "model", name, known["models"])
        for cost in facts[name]["costs"]:
            _refuse_by_sample(store, name, cost["unit"])
    with writing(store) as target:
        known = read_index(path)
        models = {name: {**known["models"][name], **own} for name, own in facts.items()}
        return target.add_models(models, tuple(known["classes"]))


def _compared(spec: ModelSpec) -> dict[str, Any]:
    """Costs, and what the store compares with what it knows."""
    data = spec.to_json()
    return {key: data[key] for key in ("costs", "fingerprint", "preprocessing", "kind")}


def _with_labels(known: Split, given: Split) -> Split:
    """Return what is given with the labels that the store knows, where none are given."""
    old, new = known.samples, given.samples
    if new.labels is not None or old.labels is None:
        return given
    label_of = dict(zip(old.ids, old.labels.tolist(), strict=True))
    lacking = [name for name in new.ids if name not in label_of]
    if lacking:
        raise ChangedError(
            f"split {new.split!r} has labels, but {len(lacking):,} new samples have none: "
            f"{listed(lacking)}. Give these a label too"
        )
    labels = np.array([label_of[name] for name in new.ids], np.int64)
    return replace(given, samples=replace(new, labels=labels))
