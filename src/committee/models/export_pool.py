"""A pool of torch models as a folder of ONNX files with a pool file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from committee.errors import ModelError
from committee.files import write_bytes, write_text
from committee.models.load import load_model
from committee.models.pool_file import PoolFile
from committee.models.sessions import OWN
from committee.models.spec import ModelSpec


def export_pool(
    pool: PoolFile,
    folder: Path,
    allow_code: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write every model of a pool as an ONNX file, and a pool file that lists them.

    Graphs keep the preprocessing and the costs of their models. They are models of their own, with
    fingerprints of their own: predict again with the new pool file.

    Args:
        pool: The models; those that are graphs already are copied.
        folder: Where to; made if it is not there.
        allow_code: Python files and modules that may be run.
        progress: Called with (models done, models in all).

    Returns:
        The pool file.

    Raises:
        ModelError: If a model cannot be loaded or exported, or its graph answers otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"task = {_toml(pool.task.name)}", f"classes = {_toml(pool.classes)}"]
    for done, spec in enumerate(pool.models):
        model, known = load_model(replace(spec, engine=OWN, precision="float32"), allow_code)
        graph = getattr(model, "path", None)
        if graph is None:
            raise ModelError(f"model {spec.name!r}: {spec.source} is no torch module and no graph")
        write_bytes(folder / f"{spec.name}.onnx", graph.read_bytes())
        lines += _entry(known)
        if progress is not None:
            progress(done + 1, len(pool.models))
    return write_text(folder / "pool.toml", "\n".join(lines) + "\n")


def _entry(spec: ModelSpec) -> list[str]:
    """One model's lines of a pool file."""
    recipe = spec.preprocessing.to_json()
    fields = {
        "name": spec.name,
        "source": f"onnx:{spec.name}.onnx",
        "resolution": recipe.pop("size"),
        "kind": spec.kind,
        "family": spec.family,
        **{f"preprocessing.{key}": value for key, value in recipe.items()},
        **{f"costs.{_toml(cost.unit)}": cost.value for cost in spec.costs},
    }
    return ["", "[[model]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]


def _toml(value: Any) -> str:
    # Texts, numbers and lists are written alike in JSON and in TOML.
    return json.dumps(value, ensure_ascii=False)
