"""The reference of what is served: its rule, and whether its models can be loaded."""

from __future__ import annotations

from dataclasses import replace

from committee.certificates.certificate import Certificate
from committee.errors import CascadeError
from committee.export.graph import INSIDE
from committee.rule.cascade import Cascade
from committee.selection.notes import target_of
from committee.spec.model import ModelSpec


def reference_rule(cascade: Cascade) -> Cascade:
    """Return the reference of a cascade: of its certificate, else what it was chosen to match.

    Raises:
        CascadeError: If there is none, or it is the cascade itself.
    """
    found = None
    if cascade.is_certified:
        found = Certificate.of(cascade).reference()
    elif (target := target_of(cascade)) is not None:
        found = target[1]
    if found is None:
        raise CascadeError(
            f"shadow: the file of {cascade} names no reference; search with --match, or certify"
        )
    found = replace(found, models=cascade.models, classes=cascade.classes)
    if found.rule_json() == cascade.rule_json():
        raise CascadeError(f"shadow: {cascade} is the reference itself; leave --shadow out")
    return found


def check_loadable(reference: Cascade) -> None:
    """Refuse a reference whose models nobody says how to load.

    Raises:
        CascadeError: If a model is not described, or inside one ONNX file.
    """
    for name in reference.names:
        model = reference.models.get(name)
        if not isinstance(model, ModelSpec) or model.source.startswith(INSIDE):
            raise CascadeError(
                f"shadow: nothing says how the reference's model {name!r} is loaded. Serve the "
                "cascade file, with the pool file that lists it: --pool POOL.toml"
            )
