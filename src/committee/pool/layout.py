"""Layout: which models of a pool are one set of weights, seen at other sizes or in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from committee.errors import MisalignedError, UnknownNameError
from committee.spec.model import KnownModel, ModelSpec

Stages = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Layout:
    """How the models of a pool belong together.

    Args:
        same_weights: Names of models that are one set of weights at several resolutions, each set
            by rising resolution; a model is in one set at most.
        view_groups: By the name of a whole model the names of the models that each see a group of
            its views, in their order.
        whole_of: By the name of a model that sees tiles the name of the model with the same weights
            that sees the whole image. A committee begins with the latter.
        tiling: How samples are divided into tiles, in a word; empty if they are not.
    """

    same_weights: tuple[tuple[str, ...], ...] = ()
    view_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    whole_of: Mapping[str, str] = field(default_factory=dict, hash=False)
    tiling: str = ""

    def __post_init__(self) -> None:
        named = [name for names in self.same_weights for name in names]
        for name in named:
            if named.count(name) > 1:
                raise MisalignedError(
                    f"Pool: same_weights: {name!r} stands twice; a model is of one set of weights, "
                    "and runs at one resolution"
                )

    @classmethod
    def of(cls, models: Mapping[str, KnownModel]) -> Layout:
        """Return the layout of models by what is known of them."""
        return cls(same_weights(models), view_groups(models))

    def check_names(self, known: Collection[str]) -> None:
        """Refuse sets of weights that name models that are not there."""
        for name in (name for names in self.same_weights for name in names):
            if name not in known:
                raise UnknownNameError.of("Pool: same_weights", "model", name, known)

    def only(self, names: Collection[str]) -> Layout:
        """Return the layout of some of the models."""
        sets = (tuple(name for name in each if name in names) for each in self.same_weights)
        groups = {whole: each for whole, each in self.view_groups.items() if {*each} <= {*names}}
        whole_of = {name: whole for name, whole in self.whole_of.items() if name in names}
        several = tuple(each for each in sets if len(each) > 1)
        return Layout(several, groups, whole_of, self.tiling)

    def singles(self, names: Iterable[str], *, averaged: bool) -> dict[str, tuple[str, ...]]:
        """Return what each trained model is alone, by its name.

        Args:
            names: Names of the models of the pool.
            averaged: True if outputs are averaged: the groups of a model's views together are the
                model then.
        """
        groups = self.view_groups if averaged else {}
        of = {name: whole for whole, each in groups.items() for name in each}
        wholes = [name for name in names if name not in self.whole_of]
        return {of.get(n, n): groups[of[n]] if n in of else (n,) for n in wholes}

    def begins_whole(self, stages: Sequence[Sequence[str]]) -> bool:
        """Return True if a committee begins with whole samples and goes on with tiles, if any."""
        first, *later = stages
        return not self.whole_of or (
            any(name not in self.whole_of for name in first)
            and all(name in self.whole_of for stage in later for name in stage)
        )

    def on_tiles(self, stages: Sequence[Sequence[str]]) -> Stages:
        """Return the same weights in the same order; all stages but the first see tiles."""
        of = {whole: name for name, whole in self.whole_of.items()}
        first, *later = stages
        return (tuple(first), *(tuple(of.get(name, name) for name in each) for each in later))

    def on_wholes(self, stages: Sequence[Sequence[str]]) -> Stages:
        """Return the same weights in the same order; all stages see whole samples."""
        return tuple(tuple(self.whole_of.get(name, name) for name in each) for each in stages)


def same_weights(models: Mapping[str, KnownModel]) -> tuple[tuple[str, ...], ...]:
    """Return which models are one set of weights at several resolutions.

    Returns:
        Names of each set, two or more, by rising resolution (pixels of the input). If several
        models of a set have one resolution (they differ in the crop, say), only the first is in it.
    """
    sets: dict[tuple[Any, ...], dict[int, str]] = {}
    for name, model in models.items():
        if isinstance(model, ModelSpec) and not model.does.records:
            height, width = model.image.size
            sets.setdefault(model.weights_key, {}).setdefault(height * width, name)
    rising = (tuple(names[size] for size in sorted(names)) for names in sets.values())
    return tuple(names for names in rising if len(names) > 1)


def view_groups(models: Mapping[str, KnownModel]) -> dict[str, tuple[str, ...]]:
    """Return which models see the groups of one model's views.

    Returns:
        By the name of the whole model the names of all groups, in their order. A model of which a
        group is missing is left out.
    """
    groups: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for name, model in models.items():
        views = model.preprocessing.views if isinstance(model, ModelSpec) else None
        if isinstance(model, ModelSpec) and views is not None and views.blocks > 1:
            groups.setdefault(model.whole, {})[views.block] = name
            counts[model.whole] = views.blocks
    return {
        whole: tuple(names[block] for block in sorted(names))
        for whole, names in groups.items()
        if len(names) == counts[whole]
    }
