"""Costs into a store, so that search can use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from committee.errors import UnknownNameError
from committee.spec.model import ModelSpec
from committee.store.entry import read_index
from committee.store.folder import writing


def record_costs(store: str | Path, specs: Sequence[ModelSpec]) -> None:
    """Write what models cost into a store that holds their predictions.

    A cost replaces an older one in its unit; costs in other units stay.

    Args:
        store: Folder of the store.
        specs: Loaded models, with fingerprints and costs.

    Raises:
        StoreError: If there is no store, or another process writes to it.
        UnknownNameError: If the store has no model of that name.
        ChangedError: If it has another model under that name.
    """
    path = Path(store) / "store.json"
    known = read_index(path)  # before a folder is made for a store that is not there
    for spec in specs:
        if spec.name not in known["models"]:
            raise UnknownNameError.of(str(path), "model", spec.name, known["models"])
    with writing(Path(store)) as target:
        known = read_index(path)
        models = {spec.name: {**known["models"][spec.name], **_compared(spec)} for spec in specs}
        target.add_models(models, tuple(known["classes"]))


def _compared(spec: ModelSpec) -> dict[str, object]:
    """Costs, and what the store compares with what it knows."""
    data = spec.to_json()
    return {key: data[key] for key in ("costs", "fingerprint", "preprocessing", "kind")}
