"""Names that models publish for their outputs, held against the classes of the pool."""

from __future__ import annotations

from collections.abc import Sequence

from committee.errors import MisalignedError, PoolFileError
from committee.models.base import RANDOM, Naming
from committee.models.sources.registry import source_of
from committee.names import doubled, permutation
from committee.pool.imagenet import imagenet_classes, is_imagenet
from committee.spec.model import ModelSpec
from committee.text import tidy

# Share of ImageNet's classes that two lists of it word alike; in a wrong order it would be none.
_MOST = 0.9


def published_labels(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of a model's outputs that its source publishes; none if it does not.

    Of random weights the outputs mean nothing, and so they have no names.

    Raises:
        CommitteeError: If they cannot be read.
    """
    labels = getattr(source_of(spec.source), "labels", None)
    if labels is None or spec.weights == RANDOM:
        return ()
    names: tuple[str, ...] = labels(spec.text)
    return names


def columns_of(spec: ModelSpec, labels: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return for each class which output is its own; nothing if outputs are in that order already.

    Args:
        spec: The model.
        labels: Names of its outputs that bind, in their order; none if they are not known.
        classes: Names of the classes of the pool; none if they are not known.

    Raises:
        PoolFileError: If the two are not the same names.
    """
    labels = labels or _hinted(spec, classes)
    if not labels or not classes or _alike(labels, classes):
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


def _hinted(spec: ModelSpec, classes: Sequence[str]) -> tuple[str, ...]:
    """Names that a library has for published outputs, if they are just those of the classes.

    They are worded in many ways, so that other names say nothing.
    """
    source = source_of(spec.source)
    if not isinstance(source, Naming) or spec.weights or not classes:
        return ()
    labels = tuple(source.classes(spec.text))
    same = set(map(tidy, labels)) == set(map(tidy, classes)) and not doubled(labels)
    return labels if same else ()


def _alike(labels: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether labels are the classes in their order, if in more words: ``tench, Tinca tinca``."""
    if len(labels) != len(classes):
        return False
    least = len(classes)
    if is_imagenet(classes) and list(classes) == sorted(classes):
        classes = imagenet_classes()  # numbers of WordNet, in the order of the names
    if tuple(classes) == imagenet_classes():
        least = round(_MOST * least)
    pairs = zip(labels, classes, strict=True)
    words = ((tidy(each), (tidy(label), *map(tidy, label.split(",")))) for label, each in pairs)
    return sum(each in told for each, told in words) >= least
