"""Loading a model, whatever its source."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from committee.cost import Cost
from committee.errors import ModelError, PoolFileError, UnknownNameError
from committee.models.base import Model
from committee.models.sources import source_of
from committee.models.spec import ModelSpec


def load_model(
    spec: ModelSpec, allow_code: Collection[str] = (), threads: int = 0
) -> tuple[Model, ModelSpec]:
    """Load a model.

    Args:
        spec: What to load.
        allow_code: Python files and modules that may be run, as the user named them.
        threads: How many threads the model may use; 0 leaves the choice to its engine.

    Returns:
        The model, and its spec with fingerprint and what costs can be counted.

    Raises:
        ModelError: If it cannot be loaded, or is not the one that the spec's fingerprint names.
        UntrustedCodeError: If it needs code that is not allowed.
    """
    try:
        model = source_of(spec.source).load(spec, threads, allow_code)
    except (PoolFileError, UnknownNameError) as error:
        # These are worded for a pool file, whose reader says whose they are.
        raise ModelError(f"model {spec.name!r}: {error}") from None
    if spec.fingerprint not in ("", model.fingerprint):
        raise ModelError(
            f"model {spec.name!r}: {spec.source} has changed since: fingerprint was "
            f"{spec.fingerprint}, is {model.fingerprint}. Restore it, or predict and search again"
        )
    known = replace(spec, fingerprint=model.fingerprint)
    given = any(cost.unit == "macs" for cost in spec.costs)
    if not given and model.macs is not None:
        recipe = spec.preprocessing
        known = known.with_cost(
            Cost(model.macs * recipe.inputs, "macs", "counted", f"one {recipe.sample}")
        )
    return model, known
