"""The names that models publish for their outputs, compared with the classes of the pool."""

from __future__ import annotations

from collections.abc import Sequence

from committee.errors import MisalignedError, PoolFileError
from committee.models.base import RANDOM
from committee.models.sources.registry import source_of
from committee.names import doubled, permutation
from committee.pool.imagenet import imagenet_classes, is_imagenet
from committee.spec.model import ModelSpec
from committee.text import tidy

# Share of ImageNet's classes that two lists of it word alike; in a wrong order it would be none.
_MOST = 0.9


def published_labels(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of a model's outputs that its source publishes; none of random weights.

    Raises:
        CommitteeError: If they cannot be read.
    """
    return () if spec.weights == RANDOM else tuple(source_of(spec.source).labels(spec.text))


def published_classes(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names that a library has for outputs of published weights; none of others."""
    return () if spec.weights else tuple(source_of(spec.source).classes(spec.text))


def columns_of(spec: ModelSpec, labels: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return for each class which output is its own; nothing if outputs are in that order already.

    Args:
        spec: The model.
        labels: Names of its outputs, in their order, that must be those of the classes; none if
            they are not known.
        classes: Names of the classes of the pool; none if they are not known.

    Raises:
        PoolFileError: If the two are not the same names.
    """
    if not classes:
        return ()
    labels = labels or _matching_classes(spec, classes)
    if not labels or _same_order(labels, classes):
        return ()
    where = f"model {spec.name!r}: id2label of {spec.source}"
    try:
        columns = permutation(where, labels, classes, "labels")
    except MisalignedError as error:
        raise PoolFileError(
            f"{error}. If outputs are in the order of the classes all the same, write "
            "id2label = false in its [[model]]"
        ) from None
    return tuple(columns.tolist())


def _matching_classes(spec: ModelSpec, classes: Sequence[str]) -> tuple[str, ...]:
    """Return a library's names of published outputs if they are just those of the classes.

    Libraries word them in many ways, so that other names say nothing.
    """
    labels = published_classes(spec)
    same = set(map(tidy, labels)) == set(map(tidy, classes)) and not doubled(labels)
    return labels if same else ()


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
