"""A cascade in a model repository of Triton Inference Server.

``REPOSITORY/NAME`` holds ``1/model.onnx``, the one ONNX file of :mod:`.graph`, ``config.pbtxt`` and
``labels.txt``. Later stages stand inside ``If`` nodes, so Triton exits early without a script.

The configuration is read off the file that was written. A graph that takes any number of samples
has ``max_batch_size`` and the dynamic batcher, and Triton adds the number of samples to every
shape. A graph that takes one sample has neither: the first side of every shape is 1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from committee.errors import ExportError
from committee.export.graph import write_graph
from committee.export.plan import Form
from committee.files import naming
from committee.models.graph import Port, ports_of
from committee.rule.cascade import Cascade
from committee.spec.model import ModelSpec, task_of
from committee.store.chunks import exclusive

# Triton's names of the types that its onnxruntime backend takes.
_TYPES = {
    **{"bool": "BOOL", "string": "STRING"},
    **{
        f"{kind}int{bits}": f"{kind}int{bits}".upper()
        for kind in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_LABELS = "labels.txt"


def write_triton(
    cascade: Cascade,
    repository: str | Path,
    name: str,
    *,
    form: Form = "any",
    precision: Literal["float64", "float32"] = "float64",
    resize_inside: bool | None = None,
    onnx: Mapping[str, str | Path] | None = None,
) -> Path:
    """Write a cascade into a model repository, whole or not at all.

    Args:
        cascade: A cascade that can be one ONNX file.
        repository: The folder of all models; it may hold others.
        name: The model's name there, of which no folder may exist.
        form: ``any`` for batches of any number of samples, which Triton forms of several requests;
            ``one`` for requests of one sample, which Triton runs one by one.
        precision: See :func:`~committee.export.graph.write_graph`, as the next two.
        resize_inside: Likewise.
        onnx: Likewise.

    Returns:
        The model's folder.

    Raises:
        ExportError: If the cascade cannot be one ONNX file, Triton cannot take its inputs, or the
            folder is there already.
        ModelError: If a model's file is missing, altered or unreadable.
        MissingExtraError: If the onnx package is not installed.
        DataError: If another process writes into the repository.
        OSError: If it cannot be written.
    """
    repository = Path(repository)
    folder = repository / name
    _check_absent(folder)
    # Beside the repository: a server that watches it must not see half a model.
    with naming(repository), exclusive(repository, make_parents=True):
        _check_absent(folder)
        with tempfile.TemporaryDirectory(dir=repository.parent, suffix=".tmp") as place:
            made = Path(place) / name
            graph = write_graph(
                cascade,
                made / "1" / "model.onnx",
                form=form,
                precision=precision,
                resize_inside=resize_inside,
                onnx=onnx,
            )
            config = _config(graph, cascade, form)
            (made / "config.pbtxt").write_text(config, encoding="utf-8")
            if cascade.classes:
                lines = [" ".join(each.split()) for each in cascade.classes]
                (made / _LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")
            repository.mkdir(exist_ok=True)
            made.rename(folder)
    return folder


def _check_absent(folder: Path) -> None:
    if folder.exists():
        raise ExportError(
            f"{folder}: is there already; remove it, or name another repository: --triton DIR"
        )


def _config(graph: Path, cascade: Cascade, form: Form) -> str:
    """Return the text of ``config.pbtxt`` for a graph that :func:`write_graph` wrote."""
    inputs, outputs = ports_of(graph)
    batches = form == "any"
    lines = [f"# {' '.join(str(cascade).split())}", 'backend: "onnxruntime"']
    if batches:
        specs = [spec for spec in cascade.models.values() if isinstance(spec, ModelSpec)]
        lines += [f"max_batch_size: {task_of(specs).batch_size}", "dynamic_batching { }"]
    else:
        lines.append("max_batch_size: 0")
    lines += [_tensor("input", port, batches) for port in inputs]
    # The first output has a value for each class, by which Triton's classification extension ranks.
    labels = f"\n  label_filename: {json.dumps(_LABELS)}" if cascade.classes else ""
    lines.append(_tensor("output", outputs[0], batches, labels))
    lines += [_tensor("output", port, batches) for port in outputs[1:]]
    return "\n".join(lines) + "\n"


def _tensor(role: str, port: Port, batches: bool, more: str = "") -> str:
    kind = _TYPES.get(port.dtype)
    if kind is None or port.shape is None:
        raise ExportError(
            f"export: Triton cannot take {role} {port}; it needs one of its own types and a known "
            "number of dimensions. Export the model again with both"
        )
    sides = [side if isinstance(side, int) else -1 for side in port.shape[batches:]]
    # Triton has no empty shape: what is (samples,) in the graph is (samples, 1) in requests.
    shape = f"dims: {sides}" if sides else "dims: [ 1 ]\n  reshape: { shape: [ ] }"
    name = json.dumps(port.name, ensure_ascii=False)
    return f"{role} {{\n  name: {name}\n  data_type: TYPE_{kind}\n  {shape}{more}\n}}"
