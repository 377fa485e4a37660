"""Which samples a split of a store has: written, read, and compared with those given now."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from committee.errors import ChangedError, CommitteeError, DamagedError, StoreError
from committee.files import sync_folder, write_bytes, write_text
from committee.predictions import Array
from committee.samples import Broken, Samples, fingerprint
from committee.store.entry import SCHEMA, read_journal, read_json, read_manifest, told
from committee.text import listed

SAMPLES = "samples.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Until all models follow: how many first rows of an earlier state of the split are still its own.
_FEWER = "samples.json.part"


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of a split and what their bytes were.

    Args:
        samples: The samples.
        content: Digest of each, shape (N,), uint64, 0 where it could not be read; None where
            outputs were made elsewhere.
        checked: Whether each was read once, and those that cannot be read were left out.
    """

    samples: Samples
    content: Array | None = None
    checked: bool = False

    def taken(self, rows: Array) -> Split:
        """Some of the samples, in the order of ``rows``, indices of shape (n,)."""
        content = None if self.content is None else self.content[rows]
        return Split(self.samples.taken(rows), content, self.checked)


def check_split_name(name: str) -> None:
    """Refuse a name of a split that can be no folder's.

    Raises:
        StoreError: If it cannot.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"split {name!r} must be letters, digits and . _ -, for it names a folder")


def write_split(folder: Path, split: Split) -> None:
    """Record the samples of a split; a reader sees what was there before, or all of this."""
    samples, content = split.samples, split.content
    encoded = None if content is None else content.astype(">u8").tobytes().hex()
    data = {
        "schema": SCHEMA,
        "split": samples.split,
        "fingerprint": samples.fingerprint,
        "content_fingerprint": None if encoded is None else fingerprint([encoded]),
        "rule": samples.rule,
        "checked": split.checked,
        "broken": [asdict(each) for each in samples.broken],
        "ids": list(samples.ids),
        "labels": None if samples.labels is None else samples.labels.tolist(),
        # 16 hexadecimal digits a sample.
        "content": encoded,
    }
    # Bytes of a name that are no UTF-8 become escapes of JSON.
    text = (json.dumps(data, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    path = folder / SAMPLES
    with told(path):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        # Written again if it was altered: what is wrong in it is mended.
        if not path.exists() or path.read_bytes() != text:
            write_bytes(path, text)


def read_split(folder: Path, classes: tuple[str, ...]) -> Split:
    """What is recorded of a split.

    Raises:
        DamagedError: If the file was altered.
        StoreError: If it is missing or of a newer schema.
    """
    path = folder / SAMPLES
    data = read_json(path)
    try:
        labels = None if data["labels"] is None else np.array(data["labels"], np.int64)
        samples = Samples(
            ids=tuple(data["ids"]),
            labels=labels,
            classes=classes,
            split=data["split"],
            rule=data["rule"],
            broken=tuple(Broken(**each) for each in data["broken"]),
        )
        content, encoded = None, data["content"]
        intact = samples.fingerprint == data["fingerprint"]
        if encoded is not None:
            content = np.frombuffer(bytes.fromhex(encoded), ">u8").astype(np.uint64)
            intact &= fingerprint([encoded]) == data["content_fingerprint"]
            intact &= len(content) == len(samples)
        split = Split(samples, content, bool(data["checked"]))
    except (CommitteeError, KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{path}: altered; it does not give its own fingerprint. "
            "Run the same committee predict or import again"
        )
    return split


def known_split(folder: Path, classes: tuple[str, ...]) -> Split | None:
    """What is recorded of a split; None if nothing is, or what is there is damaged.

    A damaged record is no loss: it is written again from the samples given now, and the outputs
    beside it know the fingerprint of the samples that they belong to.
    """
    if not (folder / SAMPLES).exists():
        return None
    try:
        return read_split(folder, classes)
    except DamagedError:
        return None


def store_order(where: Path, known: Split | None, given: Split) -> Array:
    """Rows of the samples given now in the order of the store: known ones first, then new ones.

    Args:
        where: Folder of the split, for errors.
        known: What the store has.
        given: What is given now.

    Returns:
        Indices of all given samples, shape (N,).

    Raises:
        ChangedError: If a known sample is not given any more, or its label or content changed.
    """
    new = given.samples
    if known is None:
        return np.arange(len(new))
    old = known.samples
    place = {name: row for row, name in enumerate(new.ids)}
    lost = [name for name in old.ids if name not in place]
    if lost:
        told = f"{len(lost)} of its {len(old)} samples are not given any more, {lost[0]!r} first"
        raise _changed(where, known, given, told)
    rows = np.array([place[name] for name in old.ids], np.int64)
    told = _difference(known, given.taken(rows))
    if told:
        raise _changed(where, known, given, told)
    rest = np.ones(len(new), bool)
    rest[rows] = False
    return np.concatenate([rows, np.flatnonzero(rest)])


def _difference(known: Split, now: Split) -> str:
    """What differs in the same samples: the first label, or the first content; empty if nothing."""
    ids, then_labels, now_labels = known.samples.ids, known.samples.labels, now.samples.labels
    if then_labels is None or now_labels is None:
        # Labels may come later, and what is known of them stays known: outputs do not depend on it.
        return _different_content(known, now)
    changed = np.flatnonzero(then_labels != now_labels)
    if len(changed):
        row = int(changed[0])
        return (
            f"{len(changed):,} of {len(ids):,} labels differ, that of {listed([ids[row]])} was "
            f"{then_labels[row]}, is {now_labels[row]}; to correct labels of a store: committee "
            "relabel"
        )
    return _different_content(known, now)


def _different_content(known: Split, now: Split) -> str:
    if known.content is None or now.content is None:
        return ""
    # What could not be read may have been mended.
    changed = np.flatnonzero((known.content != now.content) & (known.content != 0))
    if not len(changed):
        return ""
    row = int(changed[0])
    return (
        f"content of {known.samples.ids[row]!r} was {known.content[row]:016x}, is "
        f"{now.content[row]:016x}, and {len(changed)} of {len(known.content)} have changed"
    )


def _changed(where: Path, known: Split, given: Split, told: str) -> ChangedError:
    return ChangedError(
        f"{where}: split {given.samples.split!r} holds other samples: fingerprint is "
        f"{known.samples.fingerprint}, the data given now have {given.samples.fingerprint}; "
        f"{told}. Use another --split, another store with --out, or remove {where} to start anew"
    )


def check_apart(root: Path, given: Split) -> None:
    """Refuse samples that another split of the store has.

    Raises:
        StoreError: If there is such a sample.
    """
    name = given.samples.split
    for other in other_splits(root, name):
        both = shared_ids(other, given)
        if both:
            raise StoreError(
                f"{root}: splits {other.samples.split!r} and {name!r} would share {len(both)} "
                f"samples, {min(both)!r} for one; what chooses must not judge. Take what the other "
                "leaves, with --fraction or --rows, or use another store with --out"
            )


def other_splits(root: Path, name: str) -> list[Split]:
    """The splits of a store but one; damaged ones are left out."""
    folders = [path.parent for path in sorted(root.glob(f"*/{SAMPLES}"))]
    found = [known_split(folder, ()) for folder in folders if folder.name != name]
    return [split for split in found if split is not None]


def shared_ids(one: Split, two: Split) -> frozenset[str]:
    """Ids of the samples that two splits have in common.

    Two samples are the same if their ids and contents are. Where contents are not known, ids that
    only count say nothing.
    """
    if one.content is None or two.content is None:
        if one.samples.numbered or two.samples.numbered:
            return frozenset()
        return frozenset(one.samples.ids) & frozenset(two.samples.ids)
    contents = dict(zip(one.samples.ids, one.content.tolist(), strict=True))
    pairs = zip(two.samples.ids, two.content.tolist(), strict=True)
    return frozenset(name for name, content in pairs if contents.get(name) == content)


def record_fewer(folder: Path, before: Samples, rows: int) -> None:
    """Note, before samples are left out of a split, how many first rows stay as they were.

    Args:
        folder: Folder of the split.
        before: Its samples until now.
        rows: How many of the first stay.
    """
    noted = {**_noted(folder), before.ids_fingerprint: rows, before.fingerprint: rows}
    text = json.dumps({key: min(n, rows) for key, n in noted.items()}) + "\n"
    with told(folder / _FEWER):
        write_text(folder / _FEWER, text)


def forget_fewer(folder: Path, samples: Samples) -> None:
    """Remove that note when every model of the split has followed."""
    if not (folder / _FEWER).exists():
        return
    finished = [read_manifest(p)[0] for p in folder.glob("*.json") if p.name != SAMPLES]
    begun = [read_journal(p)[0] for p in folder.glob("*.json.part") if p.name != _FEWER]
    if all(is_of(entry.samples, samples) for entry in [*finished, *begun]):
        (folder / _FEWER).unlink()


def _noted(folder: Path) -> dict[str, int]:
    try:
        noted = json.loads((folder / _FEWER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def shared_rows(folder: Path, samples: Samples, before: str, count: int) -> int:
    """How many first rows of an earlier state of the split are its first rows now.

    Args:
        folder: Folder of the split.
        samples: The split now.
        before: Fingerprint of its samples then.
        count: How many there were.
    """
    noted = _noted(folder)
    if before in noted:
        return min(noted[before], len(samples))
    if count <= len(samples) and is_of(before, samples.taken(np.arange(count))):
        return count
    return 0


def is_of(noted: str, samples: Samples) -> bool:
    """Whether outputs that note this fingerprint are of these samples.

    Before labels could be changed, outputs noted the fingerprint with labels.
    """
    return noted in (samples.ids_fingerprint, samples.fingerprint)


def with_labels(known: Split, given: Split) -> Split:
    """Return what is given with the labels that the store knows, where none are given.

    Raises:
        ChangedError: If only some of the samples would have a label.
    """
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
