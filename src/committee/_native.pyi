# The compiled part; see src/native/module.cpp.

from committee.arrays import Array

def instruction_sets() -> list[str]: ...
def use(name: str) -> str: ...
def lanes() -> int: ...
def mean_logits(
    models: list[Array],
    labels: Array,
    sizes: list[Array],
    entropy: bool,
    offset: int,
    samples: int,
    first: list[Array],
    second: list[Array],
    hit: list[Array],
) -> float: ...
def mean_probabilities(
    models: list[Array],
    softmax: bool,
    labels: Array,
    sizes: list[Array],
    offset: int,
    samples: int,
    first: list[Array],
    second: list[Array],
    hit: list[Array],
) -> None: ...
def halt(stop: Array) -> None: ...
def lead(models: list[Array], out: Array) -> int | None: ...
def normalise(images: Array, scale_and_shift: Array, backwards: bool, out: Array) -> None: ...
def reached(scores: Array, rising: Array, out: Array) -> None: ...
def sweep(
    passed: Array,
    values: Array,
    widths: Array,
    sequences: Array,
    costs: Array,
    limits: Array,
    known_costs: Array,
    known_values: Array,
    stop: Array,
) -> tuple[Array, Array, Array, Array, Array]: ...
