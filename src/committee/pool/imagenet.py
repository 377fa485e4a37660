"""ImageNet's 1,000 classes: their names and their WordNet ids, which name its folders.

``imagenet.csv`` lists both in the order of the outputs of published models. The names are those of
torchvision (BSD 3-Clause), all different; the order of the WordNet ids is that of ILSVRC 2012.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

# What a pool file writes for these classes.
IMAGENET = "imagenet"

# Other lists call two classes alike; these names alone do not say which is meant.
_AMBIGUOUS = {"crane": "crane bird", "maillot": "maillot tank suit"}


@cache
def _table() -> dict[str, str]:
    """WordNet ids by the names of the classes, in the order of the outputs."""
    text = Path(__file__).with_name("imagenet.csv").read_text(encoding="utf-8")
    return {row["name"]: row["wnid"] for row in csv.DictReader(text.splitlines())}


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's classes, in the order of the outputs."""
    return tuple(_table())


def is_imagenet(names: Collection[str]) -> bool:
    """Return whether all names are WordNet ids of ImageNet's classes."""
    return bool(names) and set(names) <= set(_table().values())


def spelling_of(classes: Sequence[str]) -> Callable[[str], str]:
    """Return how a folder spells the name of a class.

    ImageNet's folders are WordNet ids. Of other classes a slash is an underscore, for a folder's
    name can hold no slash.
    """
    if tuple(classes) == imagenet_classes():
        return _table().__getitem__
    return lambda name: name.replace("/", "_")


def ambiguous(names: Collection[str], classes: Sequence[str]) -> str:
    """Return why a name may mean two of ImageNet's classes, and the remedy; empty if none may."""
    if tuple(classes) != imagenet_classes():
        return ""
    for name, other in _AMBIGUOUS.items():
        if name in names and other not in names:
            ids = f"{_table()[other]} ('{other}') and {_table()[name]}"
            return f"'{name}' is the name of two classes of ImageNet, {ids}; write the WordNet id"
    return ""
