"""A pool of torch models as a folder of ONNX files with a pool file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from committee.errors import ExportError, ModelError
from committee.files import write_bytes, write_text
from committee.models.engines.exported import cached_graph, difference
from committee.models.engines.torch_module import TorchModel
from committee.models.graph import Session
from committee.models.load import Loaded, load_model, load_models
from committee.models.pool_file import PoolFile
from committee.models.sources.onnx import OnnxModel
from committee.pool.layout import same_weights
from committee.spec.model import ModelSpec


def export_pool(
    pool: PoolFile,
    folder: Path,
    allow_code: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the models of a pool as ONNX files with a new pool file, and return its path.

    Graphs keep the preprocessing and the costs of their models. They have fingerprints of their
    own: predict again with the new pool file.
    """
    if pool.task.records:
        raise ExportError(
            "export-onnx: nothing says what shape records have. Export each model with "
            "torch.onnx.export, or what made it, and name the file as its source: onnx:FILE"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"task = {_toml(pool.task.name)}", f"classes = {_toml(pool.classes)}"]
    plain = [replace(spec, engine="") for spec in pool.models]
    sets = same_weights({spec.name: spec for spec in plain})
    set_of = {name: names for names in sets for name in names}
    specs = {spec.name: spec for spec in plain}
    done = 0
    # A set of weights stands where its first model does.
    for names in dict.fromkeys(set_of.get(name, (name,)) for name in specs):
        for graph, known in _graphs([specs[name] for name in names], allow_code):
            file = f"{known[0].name if len(known) == 1 else _name_of_set(names, specs)}.onnx"
            write_bytes(folder / file, graph.read_bytes())
            for spec in known:
                lines += _entry(spec, file)
            done += len(known)
            if progress is not None:
                progress(done, len(specs))
    return write_text(folder / "pool.toml", "\n".join(lines) + "\n")


def _name_of_set(names: Sequence[str], specs: Mapping[str, ModelSpec]) -> str:
    """Return the pool file's entry that lists them all, or the name of the first."""
    entries = {specs[name].entry for name in names}
    entry = entries.pop() if len(entries) == 1 else ""
    return names[0] if not entry or entry in specs else entry


def _graphs(
    specs: Sequence[ModelSpec], allow_code: Collection[str]
) -> Iterator[tuple[Path, list[ModelSpec]]]:
    """Yield graphs of one set of weights, if possible one, with the models that each serves."""
    if len(specs) > 1:
        loaded = load_models(specs, allow_code)
        first = loaded[0][0]
        if isinstance(first, OnnxModel):
            yield first.path, [known for _, known in loaded]
            return
        if isinstance(first, TorchModel) and first.at(specs[1]) is not None:
            yield _of_any_size(loaded), [known for _, known in loaded]
            return
    for spec in specs:
        model, known = load_model(replace(spec, engine="onnxruntime"), allow_code)
        graph = getattr(model, "path", None)
        if graph is None:
            raise ModelError(f"model {spec.name!r}: {spec.source} is no torch module and no graph")
        yield graph, [known]


def _of_any_size(loaded: Sequence[Loaded]) -> Path:
    """Return one graph for all sizes of a module, after comparing it with the module at each."""
    spec = loaded[0][1]
    path = cached_graph(spec, cast(TorchModel, loaded[0][0]), free=True)
    session = Session(spec.of_module(), path)
    for model, each in loaded:
        difference(each, model, session)
    return path


def _entry(spec: ModelSpec, file: str) -> list[str]:
    """Return the lines of one model in a pool file."""
    recipe = spec.preprocessing.to_json()
    fields = {
        "name": spec.name,
        "source": f"onnx:{file}",
        "resolution": recipe.pop("size"),
        "kind": spec.kind,
        "family": spec.family,
        **{f"preprocessing.{key}": value for key, value in recipe.items()},
        **{f"costs.{_toml(cost.unit)}": cost.value for cost in spec.costs},
    }
    return ["", "[[model]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(each)}' for key, each in value.items())}}}"
    # Texts, numbers and lists are written alike in JSON and in TOML.
    return json.dumps(value, ensure_ascii=False)
