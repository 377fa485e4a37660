"""Which samples a split of a store has: written, read, and compared with those given now."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import ChangedError, CommitteeError, DamagedError, StoreError
from committee.files import disk_errors, sync_folder, write_bytes
from committee.pool.identity import shared, shared_note
from committee.pool.pool import store_readers
from committee.pool.samples import Broken, Samples
from committee.reading import sealed_json, typed
from committee.rule.origin import Origin
from committee.store.entry import SAMPLES, SCHEMA, read_json
from committee.text import listed, printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of a split.

    ``checked`` says that each was read once, and that those that cannot be read were left out.
    """

    samples: Samples
    checked: bool = False

    @property
    def content(self) -> Array | None:
        """Return the digest of each sample; see :class:`~committee.pool.samples.Samples`."""
        return self.samples.content

    def taken(self, rows: Array) -> Split:
        """Return some of the samples, in the order of ``rows``, indices of shape (n,)."""
        return replace(self, samples=self.samples.taken(rows))


@dataclass(frozen=True)
class _Record:
    """What ``samples.json`` holds.

    Args:
        split: Name of the split.
        rule: How it was drawn from a larger set; empty if it was not.
        checked: True if each sample was read once, and those that cannot be read were left out.
        broken: The samples that were left out.
        ids: Name of each sample.
        labels: Index of each sample's class, -1 for none; None without labels.
        content: A digest of each sample's bytes, 16 hexadecimal digits each; None if unknown.
    """

    split: str
    rule: str
    checked: bool
    broken: tuple[Broken, ...]
    ids: tuple[str, ...]
    labels: list[int] | None
    content: str | None


def check_split_name(name: str) -> None:
    """Refuse a name of a split that no folder can have."""
    if not _NAME.fullmatch(name) or name in store_readers():
        raise StoreError(
            f"split '{printable(name[:80])}' must be letters, digits and . _ -, 200 at most, and "
            "not the name of a file of the store, for it names a folder"
        )


def write_split(folder: Path, split: Split) -> None:
    """Record the samples of a split; a reader sees what was there before, or all of this."""
    samples, content = split.samples, split.content
    record = _Record(
        samples.split,
        samples.rule,
        split.checked,
        samples.broken,
        samples.ids,
        None if samples.labels is None else samples.labels.tolist(),
        None if content is None else content.astype(">u8").tobytes().hex(),
    )
    # vars, not asdict, which copies every id.
    text = sealed_json(
        {"schema": SCHEMA, **vars(record), "broken": [vars(each) for each in record.broken]}
    )
    path = folder / SAMPLES
    with disk_errors(path, StoreError):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        # Written again if it was altered.
        if not path.exists() or path.read_bytes() != text:
            write_bytes(path, text)


def read_split(folder: Path, classes: tuple[str, ...]) -> Split:
    """Return what is recorded of a split."""
    path = folder / SAMPLES
    data = read_json(path)
    del data["schema"]
    try:
        record = typed("samples", data, _Record, whole=True)
        content = record.content
        samples = Samples(
            ids=record.ids,
            labels=None if record.labels is None else np.array(record.labels, np.int64),
            classes=classes,
            split=record.split,
            rule=record.rule,
            broken=record.broken,
            content=None
            if content is None
            else np.frombuffer(bytes.fromhex(content), ">u8").astype(np.uint64),
        )
    except (CommitteeError, ValueError, OverflowError):
        raise DamagedError(
            f"{path}: altered. Run the same committee predict or import again"
        ) from None
    return Split(samples, record.checked)


def known_split(folder: Path, classes: tuple[str, ...]) -> Split | None:
    """Return what is recorded of a split, or None if nothing is, or it is damaged.

    A damaged record is no loss: it is written again from the samples given now, and the outputs
    beside it know the fingerprints of the samples that they belong to.
    """
    if not (folder / SAMPLES).exists():
        return None
    try:
        return read_split(folder, classes)
    except DamagedError:
        return None


def store_order(where: Path, known: Split | None, given: Split) -> Array:
    """Return the rows of the samples given now in the order of the store, known ones first.

    Returns:
        Indices of all given samples, shape (N,).
    """
    new = given.samples
    if known is None:
        return np.arange(len(new))
    old = known.samples
    place = {name: row for row, name in enumerate(new.ids)}
    lost = [row for row, name in enumerate(old.ids) if name not in place]
    hint = _label_hint(where, old, new)
    if lost:
        raise _changed(where, _lost_text(old, new, lost), hint)
    rows = np.array([place[name] for name in old.ids], np.int64)
    if how := _difference(known, given.taken(rows)):
        raise _changed(where, how, hint)
    rest = np.ones(len(new), bool)
    rest[rows] = False
    return np.concatenate([rows, np.flatnonzero(rest)])


def _lost_text(old: Samples, new: Samples, lost: list[int]) -> str:
    """Describe which samples are not given any more, and which of them have another name now."""
    names = [old.ids[row] for row in lost]
    text = f"{len(lost):,} of its {len(old):,} samples are not given any more: {listed(names)}"
    if old.content is not None and new.content is not None:
        name_of = dict(zip(new.content.tolist(), new.ids, strict=True))
        renamed = [row for row in lost if old.content[row] and int(old.content[row]) in name_of]
        if renamed:
            before = printable(old.ids[renamed[0]])
            now = printable(name_of[int(old.content[renamed[0]])])
            text += f" ({len(renamed):,} have another name: '{before}' is '{now}' now)"
    if old.rule != new.rule:
        now = f"is {new.rule}" if new.rule else f"are {len(new):,} samples without such a rule"
        text += f". The split is {old.rule or 'all of its data'}, given now {now}"
    return text


def _difference(known: Split, now: Split) -> str:
    """Describe how the same samples differ now: in labels, else in contents; empty if they do not.

    Labels may be added later, and known ones stay known, for outputs do not depend on them.
    """
    then_labels, now_labels = known.samples.labels, now.samples.labels
    if then_labels is not None and now_labels is not None:
        changed = np.flatnonzero(then_labels != now_labels)
        if len(changed):
            row = int(changed[0])
            return (
                f"{len(changed):,} of {len(then_labels):,} labels differ, that of "
                f"{listed([known.samples.ids[row]])} was {then_labels[row]}, is {now_labels[row]}; "
                "to correct labels of a store: committee relabel"
            )
    if known.content is None or now.content is None:
        return ""
    # A sample that could not be read may have been fixed.
    changed = np.flatnonzero((known.content != now.content) & (known.content != 0))
    return changed_text(known.samples, now.samples, changed, changed) if len(changed) else ""


def changed_text(old: Samples, new: Samples, then: Array, now: Array) -> str:
    """Describe which samples have another content now, the first with both digests.

    ``then`` and ``now`` are the rows of the same names, shape (n,).
    """
    assert old.content is not None
    assert new.content is not None
    names = [old.ids[row] for row in then.tolist()]
    before, after = int(old.content[then[0]]), int(new.content[now[0]])
    is_now = f"is {after:016x}" if after else "cannot be read now"
    have = "has" if len(names) == 1 else "have"
    return (
        f"{len(names):,} of its {len(old):,} samples {have} changed: {listed(names)}; content of "
        f"{listed(names[:1])} was {before:016x}, {is_now}"
    )


def _label_hint(where: Path, old: Samples, new: Samples) -> str:
    """Return how labels are added to stored outputs, if they are what is new; else nothing."""
    if old.labels is not None or new.labels is None:
        return ""
    return (
        "To add labels and compute nothing again: committee relabel "
        f"{shlex.quote(str(where.parent))} --split {where.name} --labels DATA:label=COLUMN. Else "
    )


def _changed(where: Path, how: str, hint: str = "") -> ChangedError:
    give = f"{hint}give" if hint else "Give"
    return ChangedError(
        f"{where}: split {where.name!r} holds other samples: {how}. {give} the "
        "samples as they were, use another --split or another store with --out, or remove "
        f"{where} to start anew"
    )


def with_known_facts(where: Path, known: Split, given: Split) -> Split:
    """Add to the samples given now what only the store knows: contents, rule, broken samples.

    The known samples are the first of the given ones, in this order.
    """
    old, new = known.samples, given.samples
    if old.rule and not new.rule and len(new) > len(old):
        raise _changed(
            where,
            f"it is {old.rule}, and {len(new) - len(old):,} more samples are given now without "
            "such a rule; name it again, with --fraction",
        )
    samples = replace(new, rule=new.rule or old.rule)
    if new.content is not None:
        return replace(given, samples=samples)
    content = old.content
    if content is not None:
        unknown = np.zeros(len(new) - len(old), np.uint64)
        content = np.concatenate([content, unknown])
    return Split(replace(samples, content=content, broken=old.broken), known.checked)


def refuse_shared(
    root: Path, others: Iterable[Samples], given: Samples, what: str = "samples"
) -> list[str]:
    """Refuse samples that another split has; return a note on each that has fewer of them."""
    notes = []
    for other in others:
        both = shared(other, given)
        names = {other.ids[row] for row in both.first.tolist()}
        if both.most or any(given.ids[row] in names for row in both.second.tolist()):
            raise StoreError(
                f"{root}: splits {other.split!r} and {given.split!r} would share {len(both):,} "
                f"{what}: {both.text(what)}; what chooses must not evaluate. Name samples of its "
                f"own ({_remedy(given)}), or use another store with --out"
            )
        if note := shared_note(both, what):
            notes.append(note)
    return notes


def _remedy(given: Samples) -> str:
    """Return how samples are taken that no other split has."""
    if given.content is None:
        return "committee import: files of other samples, or a share for each, --fraction 0.5"
    return "committee predict: what the other split leaves, with --fraction or --rows"


def note_on_chooser(root: Path, origin: Origin, samples: Samples) -> str:
    """Return a note on samples that a split of a store shares with the one that chose a cascade.

    Returns:
        An empty text if nothing is shared, or the split that chose is not in this store.
    """
    folder = root / origin.split
    known = known_split(folder, ()) if folder.is_dir() and folder != root else None
    if known is None or known.samples.identity != origin.samples_fingerprint:
        return ""
    return shared_note(shared(known.samples, samples))


def other_splits(root: Path, name: str) -> list[Split]:
    """Return the splits of a store except one, without damaged ones."""
    folders = [path.parent for path in sorted(root.glob(f"*/{SAMPLES}"))]
    found = [known_split(folder, ()) for folder in folders if folder.name != name]
    return [split for split in found if split is not None]
