"""Find the samples that two splits share: by content where it is known, otherwise by id.

Content is a digest of each sample's bytes. Ids that only count, 0, 1, …, do not identify samples;
the outputs of the same models then show which rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.samples import Samples
from committee.text import listed, printable

_NONE = np.zeros(0, np.int64)
# Fewer equal rows than this may be chance, unless they are the whole split.
_FEW = 10
# Outputs that coincide by chance with a higher probability do not identify samples.
_BY_CHANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Shared:
    """The samples that two splits have in common.

    Args:
        one: A split.
        two: Another split.
        first: Rows of ``one`` that are also in ``two``, ascending.
        second: Rows of ``two`` that are also in ``one``, ascending.
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
        """Return a text with the number of shared samples and the first names."""
        names = [_whole_names(self.two)[row] for row in self.second.tolist()]
        is_one = len(names) == 1
        return (
            f"{len(names):,} of {self.two.wholes:,} {what} of '{printable(self.two.split)}' "
            f"{'is' if is_one else 'are'} also in '{printable(self.one.split)}': {listed(names)}"
        )


def shared(one: Samples, two: Samples) -> Shared:
    """Return the samples that two splits have in common.

    Equal contents are the same sample, whatever its id, if both splits have contents. Otherwise
    equal ids are, unless the ids only count. A sample with unreadable content is never shared.
    """
    if one.content is not None and two.content is not None:
        mine, others = one.content[:: one.parts], two.content[:: two.parts]
        first = _isin(mine, others) & (mine != 0)
        second = _isin(others, mine) & (others != 0)
    elif one.has_counting_ids or two.has_counting_ids:
        return Shared(one, two, _NONE, _NONE)
    else:
        names = _whole_names(one), _whole_names(two)
        first, second = _among(*names), _among(*names[::-1])
    return Shared(one, two, np.flatnonzero(first), np.flatnonzero(second))


def _isin(digests: Array, among: Array) -> Array:
    """Return which digests are among others. By sorting: a table overflows on NumPy 1."""
    found: Array = np.isin(digests, among, kind="sort")
    return found


def places(known: Samples, given: Samples) -> Array:
    """Return the row among the known samples of each given sample, -1 if it is not there.

    Content decides where it is known and could be read, otherwise the id.
    """
    rows = {name: row for row, name in enumerate(known.ids)}
    if known.content is None or given.content is None:
        return np.array([rows.get(name, -1) for name in given.ids], np.int64)
    unread = {name: row for name, row in rows.items() if not known.content[row]}
    by_content = {each: row for row, each in enumerate(known.content.tolist()) if each}
    found = []
    for name, each in zip(given.ids, given.content.tolist(), strict=True):
        row = rows.get(name, -1)
        same = row >= 0 and each and known.content[row] == each
        found.append(row if same else by_content.get(each, unread.get(name, -1)))
    return np.array(found, np.int64)


def same_rows(one: Array, two: Array) -> tuple[Array, Array]:
    """Return the rows of two splits with the same outputs, ascending.

    Rows count as the same if all outputs are equal in order, unless that is likely by chance, as
    with a few constant outputs. Otherwise at least ten outputs that are unique in each split must
    be equal, and these must be more than half of the smaller split, or clearly more than the
    outputs that repeat within a split: rounded outputs coincide by chance within a split as often
    as between two.

    Args:
        one: Digests of outputs, summed over the same models, shape (N,).
        two: The same for another split.
    """
    if np.array_equal(one, two) and _chance_of_order(one) < _BY_CHANCE:
        return np.arange(len(one)), np.arange(len(two))
    both = np.intersect1d(_once(one), _once(two), assume_unique=True)
    by_chance = 2 * (_repeated(one) + _repeated(two)) + 1
    if len(both) < max(_FEW, min(by_chance, min(len(one), len(two)) / 2) + 0.5):
        return _NONE, _NONE
    return np.flatnonzero(_isin(one, both)), np.flatnonzero(_isin(two, both))


def content_copies(samples: Samples) -> str:
    """Return a note on samples with the content of an earlier one; empty if there is none."""
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
    """Return a note on rows with the outputs of another row in all models; empty if none has."""
    names = _repeated_names(samples.ids, digests, precise)
    if not names or (digests == digests[0]).all():
        return ""
    has = "row has" if len(names) == 1 else "rows have"
    return (
        f"{len(names):,} of {len(samples):,} {has} the outputs of another in all models of "
        f"'{printable(samples.split)}': {listed(names)}. Are these copies? Each counts as a sample"
    )


def _repeated_names(names: Sequence[str], values: Array, counts: Array) -> list[str]:
    """Return the names of the rows that count and repeat an earlier value."""
    first = np.unique(values, return_index=True)[1]
    return [names[row] for row in np.setdiff1d(np.flatnonzero(counts), first).tolist()]


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
    """Return the probability that random draws from the digests come in the same order."""
    _, counts = np.unique(digests, return_counts=True)
    return float(np.exp(np.sum(counts * np.log(counts / max(len(digests), 1)))))


def _repeated(digests: Array) -> int:
    """Return how many values appear more than once."""
    return int((np.unique(digests, return_counts=True)[1] > 1).sum())


def _once(digests: Array) -> Array:
    """Return the values that appear once, ascending."""
    values, counts = np.unique(digests, return_counts=True)
    once: Array = values[counts == 1]
    return once
