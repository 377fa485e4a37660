"""Images inside a graph: nodes from bytes to the inputs of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.export.nodes import Nodes
from committee.export.plan import Plan
from committee.spec.preprocessing import Preprocessing


@dataclass(frozen=True)
class InGraph:
    """The images of the samples that reached a branch.

    Args:
        bytes: Tensors (n, height, width, channels), by what they are resized to.
        ready: Inputs of models (n, channels, height, width) that were made of them.
    """

    bytes: Mapping[Preprocessing, str]
    ready: dict[Preprocessing, str]

    def prepared(self, nodes: Nodes, plan: Plan, name: str) -> str:
        """Return the input of a model, which is made once."""
        recipe = plan.specs[name].preprocessing
        if recipe not in self.ready:
            fit = plan.input_of(name)
            values = nodes.add("Transpose", self.bytes[fit], perm=[0, 3, 1, 2])
            values = nodes.add("Cast", values, to=1)
            if recipe.size != fit.size:
                values = shrunk(nodes, values, fit, recipe)
            if recipe.order == "bgr" and recipe.channels > 1:
                values = nodes.add("Gather", values, nodes.ints(2, 1, 0), axis=1)
            scale, shift = recipe.scale_and_shift
            values = nodes.add("Mul", values, nodes.constant(scale[:, None, None], np.float32))
            values = nodes.add("Add", values, nodes.constant(shift[:, None, None], np.float32))
            self.ready[recipe] = values
        return self.ready[recipe]

    def gathered(self, nodes: Nodes, plan: Plan, rows: str, stage: int) -> InGraph:
        """Return the images of some rows, in the sizes that are needed from a stage on."""
        later = [name for each in plan.cascade.stages[stage:] for name in each.models]
        needed = {plan.input_of(name) for name in later}
        kept = {fit: each for fit, each in self.bytes.items() if fit in needed}
        return InGraph({fit: nodes.add("Gather", each, rows) for fit, each in kept.items()}, {})


def shrunk(nodes: Nodes, values: str, fit: Preprocessing, recipe: Preprocessing) -> str:
    """Resize images (n, channels, height, width) as Pillow does.

    Pillow resizes rows, rounds to bytes, resizes columns, and rounds again. It computes with whole
    numbers and the graph in float32, so that some bytes differ by one.
    """
    height, width = recipe.size
    if recipe.interpolation == "nearest":
        for axis, (old, new) in ((2, (fit.size[0], height)), (3, (fit.size[1], width))):
            # Pillow walks in steps of old / new, rounding as it goes; ties depend on that.
            steps = np.full(new, old / new)
            steps[0] /= 2
            taken = np.minimum(np.add.accumulate(steps).astype(np.int64), old - 1).tolist()
            values = nodes.add("Gather", values, nodes.ints(*taken), axis=axis)
        return values
    options: dict[str, Any] = {"antialias": 1, "exclude_outside": 1, "mode": "linear"}
    if recipe.interpolation == "bicubic":
        options |= {"mode": "cubic", "cubic_coeff_a": -0.5}
    for size in ((fit.size[0], width), (height, width)):
        samples = nodes.add("Shape", values, start=0, end=1)
        shape = nodes.add("Concat", samples, nodes.ints(fit.channels, *size), axis=0)
        values = nodes.add("Resize", values, "", "", shape, **options)
        # Half a byte goes up in Pillow; Round would send it to the even neighbour.
        values = nodes.add("Floor", nodes.add("Add", values, nodes.constant(0.5, np.float32)))
        low, high = nodes.constant(0, np.float32), nodes.constant(255, np.float32)
        values = nodes.add("Clip", values, low, high)
    return values
