"""Which output of a model belongs to which class, by the names that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from committee.errors import MisalignedError, PoolFileError
from committee.names import doubled, permutation
from committee.pool.imagenet import imagenet_classes, is_imagenet
from committee.text import tidy

# Share of ImageNet's classes that two lists of it word alike; in a wrong order it would be none.
_MOST = 0.9


@dataclass(frozen=True)
class OutputNames:
    """What names the outputs of a model, in their order; see the two methods of ``Source``.

    ``labels`` must be the classes of the pool. ``published`` are worded in a library's own way.
    """

    labels: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


def columns_of(where: str, names: OutputNames, classes: Sequence[str]) -> tuple[int, ...]:
    """Return for each class which output is its own; nothing if outputs are in that order already.

    Names and classes are empty if they are not known.

    Raises:
        PoolFileError: If the labels are not those of the classes.
    """
    if not classes:
        return ()
    labels = names.labels or _matching(names.published, classes)
    if not labels or _same_order(labels, classes):
        return ()
    try:
        columns = permutation(where, labels, classes, "labels")
    except MisalignedError as error:
        raise PoolFileError(
            f"{error}. If outputs are in the order of the classes all the same, write "
            "id2label = false in its [[model]]"
        ) from None
    return tuple(columns.tolist())


def _matching(published: Sequence[str], classes: Sequence[str]) -> Sequence[str]:
    """Return a library's names of published outputs if they are just those of the classes.

    Libraries word them in many ways, so that other names say nothing.
    """
    same = set(map(tidy, published)) == set(map(tidy, classes)) and not doubled(published)
    return published if same else ()


def _same_order(labels: Sequence[str], classes: Sequence[str]) -> bool:
    """Return True if labels are the classes in order, if in more words: ``tench, Tinca tinca``."""
    if len(labels) != len(classes):
        return False
    least = len(classes)
    if is_imagenet(classes) and list(classes) == sorted(classes):
        classes = imagenet_classes()  # numbers of WordNet, in the order of the names
    if tuple(classes) == imagenet_classes():
        least = round(_MOST * least)
    pairs = zip(labels, classes, strict=True)
    matches = (tidy(c) in (tidy(label), *map(tidy, label.split(","))) for label, c in pairs)
    return sum(matches) >= least
