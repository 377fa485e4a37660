"""Which samples two splits share: by content where it is known, else by names that mean something.

Content is a digest of each sample's bytes. Ids that only count, 0, 1, …, say nothing of which
sample is meant; there the outputs of the same models say whether two splits are the same samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.samples import Samples
from committee.rule.outputs import Outputs
from committee.text import listed, printable

# Rows whose outputs are looked at together.
_ROWS = 4096
# Bytes of a number that is hardly the same by chance, and decimals beyond which none is rounded.
_SINGLE, _DECIMALS = 4, 4
# By which share of its largest number a row may differ and be the same, of another machine.
_ROUNDED = 1e-2
_NONE = np.zeros(0, np.int64)
# So few rows may be alike by chance, where they are not all of a split.
_FEW = 10
# Outputs that chance makes alike more often than this say nothing of samples.
_BY_CHANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Shared:
    """Which samples two splits have in common.

    Args:
        one: A split.
        two: Another.
        first: Numbers of the samples of ``one`` that are also in ``two``, rising.
        second: Numbers of the samples of ``two`` that are also in ``one``, rising.
    """

    one: Samples
    two: Samples
    first: Array
    second: Array

    def __len__(self) -> int:
        return max(len(self.first), len(self.second))

    @property
    def most(self) -> bool:
        """Return True if more than half of the smaller split is shared."""
        smaller = min((self.one.wholes, len(self.first)), (self.two.wholes, len(self.second)))
        return 2 * smaller[1] > smaller[0]

    def text(self, what: str = "samples") -> str:
        """Say how many are shared, with the first names; ``what`` is the word for samples."""
        names = [_whole_names(self.two)[row] for row in self.second.tolist()]
        is_one = len(names) == 1
        return (
            f"{len(names):,} of {self.two.wholes:,} {what} of '{printable(self.two.split)}' "
            f"{'is' if is_one else 'are'} also in '{printable(self.one.split)}': {listed(names)}"
        )


def shared(one: Samples, two: Samples) -> Shared:
    """Return which samples two splits have in common.

    Where the contents of both are known, equal contents are one sample, whatever it is called.
    Else equal ids are, unless they only count. A sample whose content could not be read is in
    nothing else.
    """
    if one.content is not None and two.content is not None:
        mine, others = one.content[:: one.parts], two.content[:: two.parts]
        first = np.isin(mine, others) & (mine != 0)
        second = np.isin(others, mine) & (others != 0)
    elif one.only_count or two.only_count:
        return Shared(one, two, _NONE, _NONE)
    else:
        names = _whole_names(one), _whole_names(two)
        first, second = _among(*names), _among(*names[::-1])
    return Shared(one, two, np.flatnonzero(first), np.flatnonzero(second))


def places(known: Samples, given: Samples) -> Array:
    """Return for each given sample its row among the known ones, -1 where it is not there.

    Where contents are known these decide, whatever the samples are called; a content that could
    not be read says nothing, and the id decides.
    """
    rows = {name: row for row, name in enumerate(known.ids)}
    if known.content is None or given.content is None:
        return np.array([rows.get(name, -1) for name in given.ids], np.int64)
    unread = {name: row for name, row in rows.items() if not known.content[row]}
    by_content = {each: row for row, each in enumerate(known.content.tolist()) if each}
    places = []
    for name, each in zip(given.ids, given.content.tolist(), strict=True):
        row = rows.get(name, -1)
        same = row >= 0 and each and known.content[row] == each
        places.append(row if same else by_content.get(each, unread.get(name, -1)))
    return np.array(places, np.int64)


def alike(one: Array, two: Array) -> tuple[Array, Array]:
    """Return which rows of two splits are one sample, as the outputs of the same models say.

    Rows are taken for the same if all are alike in their order, and chance would not make them so:
    a few constant outputs say nothing. Or if no fewer than ten have outputs that stand once in
    each split, and these are more than half of the smaller, or many beside what stands twice in
    one: where outputs are rounded, rows are alike by chance, in a split as between two.

    Args:
        one: From :func:`output_digests`, added up over the same models, shape (N,).
        two: The same of another split.

    Returns:
        Rows of ``one`` and rows of ``two``, rising.
    """
    if np.array_equal(one, two) and _chance_of_order(one) < _BY_CHANCE:
        return np.arange(len(one)), np.arange(len(two))
    both = np.intersect1d(_once(one), _once(two), assume_unique=True)
    by_chance = 2 * (_repeated(one) + _repeated(two)) + 1
    if len(both) < max(_FEW, min(by_chance, min(len(one), len(two)) / 2) + 0.5):
        return _NONE, _NONE
    return np.flatnonzero(np.isin(one, both)), np.flatnonzero(np.isin(two, both))


def mostly_differ(one: Outputs, two: Outputs) -> bool:
    """Return True if a model's answers to two sets of samples differ beyond rounding in most rows.

    Args:
        one: Outputs of some samples.
        two: Of as many others, in the order in which they are compared.
    """
    first, second = (
        np.asarray(each.values if each.confidence is None else each.confidence, np.float64)
        for each in (one, two)
    )
    if first.shape != second.shape:
        return False
    first, second = (np.nan_to_num(each.reshape(len(each), -1)) for each in (first, second))
    off = np.abs(first - second).max(axis=1, initial=0)
    differ = off > _ROUNDED * np.abs(first).max(axis=1, initial=0)
    if one.confidence is not None:
        differ |= np.asarray(one.values != two.values)
    return bool(2 * differ.sum() > len(differ))


def output_digests(name: str, outputs: Outputs) -> Array:
    """Return a number for what a model answers to each sample, shape (N,), uint64.

    Equal outputs have equal numbers, in single or double precision; the numbers of several models
    may be added up. Of outputs that are kept as counts all numbers are 0.

    Args:
        name: Name of the model.
        outputs: What it answers.
    """
    digests = np.zeros(len(outputs), np.uint64)
    for start in range(0, len(outputs), _ROWS):
        rows = outputs.rows(slice(start, start + _ROWS))
        columns = [rows.values.reshape(len(rows), -1)]
        if rows.confidence is not None:
            columns.append(np.asarray(rows.confidence).reshape(len(rows), -1))
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(np.hstack(columns), np.float32).view(np.uint32)
        weights = np.random.default_rng(zlib.crc32(name.encode(errors="surrogateescape"))).integers(
            1, 2**63, block.shape[1], np.uint64
        )
        digests[start : start + _ROWS] = block.astype(np.uint64) @ weights
    return digests


def content_copies(samples: Samples) -> str:
    """Return a note on samples whose content stands before in the split; empty if there is none."""
    if samples.content is None:
        return ""
    content = samples.content[:: samples.parts]
    names = _repeated_names(_whole_names(samples), content, content != 0)
    if not names:
        return ""
    are = "is a copy" if len(names) == 1 else "are copies"
    return (
        f"{len(names):,} of {samples.wholes:,} samples {are} of another in "
        f"'{printable(samples.split)}', by content: {listed(names)}; each counts as a sample"
    )


def output_copies(samples: Samples, digests: Array, precise: Array) -> str:
    """Return a note on rows that have the outputs of another in all models; empty if none has.

    Args:
        samples: The samples, whose contents nobody knows.
        digests: From :func:`output_digests`, added up over all models, shape (N,).
        precise: True where no two samples are likely to have the same outputs, shape (N,).
    """
    names = _repeated_names(samples.ids, digests, precise)
    if not names or (digests == digests[0]).all():
        return ""
    has = "row has" if len(names) == 1 else "rows have"
    return (
        f"{len(names):,} of {len(samples):,} {has} the outputs of another in all models of "
        f"'{printable(samples.split)}': {listed(names)}. Are these copies? Each counts as a sample"
    )


def _repeated_names(names: Sequence[str], values: Array, counts: Array) -> list[str]:
    """Return the names of the rows, of those that count, whose value stands before."""
    first = np.unique(values, return_index=True)[1]
    return [names[row] for row in np.setdiff1d(np.flatnonzero(counts), first).tolist()]


def precise_rows(outputs: Outputs) -> Array:
    """Return True for each row whose outputs no other is likely to have: none are rounded."""
    if outputs.kind not in ("logits", "probabilities") or outputs.values.dtype.itemsize < _SINGLE:
        return np.zeros(len(outputs), bool)
    values = np.asarray(outputs.values)
    # What overflows when it is rounded is no rounded number.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((values != np.round(values, _DECIMALS)).sum(axis=1) > 1)


def shared_note(both: Shared, what: str = "samples") -> str:
    """Return a note on the samples that two splits share; empty if none is shared."""
    if not len(both):
        return ""
    return f"{both.text(what)}; figures of '{printable(both.two.split)}' look better for it"


def _whole_names(samples: Samples) -> Sequence[str]:
    return samples.ids[:: samples.parts]


def _among(names: Sequence[str], others: Sequence[str]) -> Array:
    known = set(others)
    return np.array([name in known for name in names], bool)


def _chance_of_order(digests: Array) -> float:
    """Return how likely as many draws from the same digests are to come in the same order."""
    _, counts = np.unique(digests, return_counts=True)
    return float(np.exp(np.sum(counts * np.log(counts / max(len(digests), 1)))))


def _repeated(digests: Array) -> int:
    """Return how many numbers stand more than once."""
    return int((np.unique(digests, return_counts=True)[1] > 1).sum())


def _once(digests: Array) -> Array:
    """Return the numbers that stand once, rising."""
    values, counts = np.unique(digests, return_counts=True)
    once: Array = values[counts == 1]
    return once
