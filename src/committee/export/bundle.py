"""A bundle: a folder that runs a cascade with numpy, onnxruntime and, of images, Pillow alone.

It holds ``cascade.json`` (stages, thresholds, classes, preprocessing of each model), the models
below ``models/``, a program that runs it, with a copy of the library's own files of the rule below
``committee/``, a card, and ``SHA256SUMS`` with the checksum of every file but the card, in the
format of ``sha256sum``.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.errors import ExportError, ModelError, UnreadableError
from committee.export.canonical import canonical, export_form
from committee.export.card import CARD, card
from committee.export.model_files import onnx_specs, segmenting
from committee.export.record_inputs import RecordForm
from committee.files import naming, write_text
from committee.models.base import answer_of
from committee.models.graph import Form, graph_fingerprint, is_inside, parsed_graph, tensor_files
from committee.models.load import load_models, specs_of
from committee.models.record_graph import RecordGraph
from committee.pool.evaluate import Evaluation
from committee.reading import read_text
from committee.rule.cascade import Cascade
from committee.spec.model import ModelSpec
from committee.store.chunks import exclusive

if TYPE_CHECKING:
    from onnx import ModelProto

CASCADE, SUMS, MODELS = "cascade.json", "SHA256SUMS", "models"
_AGAIN = "Copy the bundle again, or export it"
# The rule and its imports; tests check that it imports nothing else of the library.
RULE_FILES = (
    "arrays.py",
    "errors.py",
    "rule/__init__.py",
    "rule/agreement.py",
    "rule/calibration.py",
    "rule/class_calibration.py",
    "rule/combinations.py",
    "rule/flow.py",
    "rule/namespace.py",
    "rule/outputs.py",
    "rule/scores.py",
    "text.py",
)
# What brings records into the form that a graph takes.
RECORD_FILES = ("models/records.py",)
# What prepares images, and what cuts them into tiles.
IMAGE_FILE = "models/images.py"
TILE_FILES = ("segment/__init__.py", "segment/bilinear.py", "segment/tiling.py")
# Programs of a bundle, by the library file that each copies.
_OPENING = {"opening.py": "export/recipe/opening.py"}
_PROGRAMS = {**_OPENING, "run.py": "export/recipe/run.py"}
_RECORDS = {**_OPENING, "run.py": "export/recipe/records.py"}
_SEGMENTING = {**_PROGRAMS, "run.py": "segment/recipe.py", "classify.py": "export/recipe/run.py"}


def write_bundle(
    cascade: Cascade,
    folder: str | Path,
    *,
    onnx: Mapping[str, str | Path] | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> Path:
    """Write a bundle atomically.

    Args:
        cascade: A cascade of ONNX files.
        folder: A folder that is empty or does not exist.
        onnx: ONNX files that replace the sources of models, by name.
        evaluations: For the card: evaluations on samples that did not choose the cascade, by name,
            its own first.

    Returns:
        The folder.

    Raises:
        ExportError: If a model is not an ONNX file, or the folder is not empty.
        DataError: If another process writes the folder.
        ModelError: If a model's file is missing, altered or unreadable.
        MissingExtraError: If the onnx package is not installed.
        OSError: If the folder cannot be written; the error names it.
    """
    folder = Path(folder)
    _check_absent(folder)
    specs = onnx_specs(cascade, onnx, folder=True)
    with exclusive(folder, make_parents=True):
        _check_absent(folder)  # another process may have written it meanwhile
        _make(folder, cascade, specs, evaluations or {})
    return folder


def _check_absent(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder}: is there already; name another folder, or remove it")


def _make(
    folder: Path,
    cascade: Cascade,
    specs: list[ModelSpec],
    evaluations: Mapping[str, Evaluation],
) -> None:
    making = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(making, ignore_errors=True)
    try:
        with naming(folder):
            _fill(making, cascade, specs, evaluations)
            if folder.exists():
                folder.rmdir()
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _fill(
    folder: Path,
    cascade: Cascade,
    specs: list[ModelSpec],
    evaluations: Mapping[str, Evaluation],
) -> None:
    placed: dict[tuple[Path, Form | RecordForm], str] = {}
    models = {}
    for spec in specs:
        path, form = Path(spec.text), export_form(spec, several=spec.tile is not None)
        # Models of a self-cascade share one file, which is copied once.
        if (path, form) not in placed:
            placed[path, form] = f"{MODELS}/{spec.name}/model.onnx"
            _copy_model(spec, path, form, folder / placed[path, form])
        file = placed[path, form]
        digest = graph_fingerprint(folder / file)
        models[spec.name] = replace(spec.of_module(), source=f"onnx:{file}", fingerprint=digest)
    _check_models({spec.name: _inside(folder, models[spec.name]) for spec in specs})
    exported = replace(cascade, models=models)
    exported.save(folder / CASCADE)
    for target, source in _copies(cascade, specs).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes((files("committee") / source).read_bytes())
    write_text(folder / "committee" / "__init__.py", "")
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{checksum(path)}  {path.relative_to(folder).as_posix()}\n" for path in inside]
    write_text(folder / SUMS, "".join(lines))
    write_text(folder / CARD, card(exported, specs, evaluations))


def _copies(cascade: Cascade, specs: list[ModelSpec]) -> dict[str, str]:
    """Return the files of the library that a bundle holds, by the name that each has there."""
    rule, programs = (*RULE_FILES, *RECORD_FILES), _RECORDS
    if not any(spec.does.records for spec in specs):
        segments = segmenting(cascade)
        rule = (*RULE_FILES, IMAGE_FILE, *(TILE_FILES if segments else ()))
        programs = _SEGMENTING if segments else _PROGRAMS
    return {**{f"committee/{name}": name for name in rule}, **programs}


def _check_models(specs: Mapping[str, ModelSpec]) -> None:
    """Load models and run each on one sample; a ModelError names the first that fails."""
    for model, spec in load_models(specs.values()):
        blank: Any = np.zeros((1, *spec.preprocessing.shape), np.float32)
        if isinstance(model, RecordGraph):
            blank = model.blank
        answer_of(model, spec, blank)


def _inside(folder: Path, spec: ModelSpec) -> ModelSpec:
    """Return the spec of a model with its absolute path in the folder."""
    return replace(spec, source=f"onnx:{(folder / spec.text).resolve()}", fingerprint="")


def _copy_model(spec: ModelSpec, source: Path, form: Form | RecordForm, target: Path) -> None:
    """Copy a graph, rewritten to the form that bundles run, and the files of its tensors."""
    target.parent.mkdir(parents=True)
    model = _loaded(spec, source)
    rewritten = canonical(model, form)
    if rewritten is model:
        shutil.copyfile(source, target)
    else:
        target.write_bytes(rewritten.SerializeToString())
    for name in _external_files(spec, source):
        tensors = target.parent / name
        tensors.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, tensors)


def _loaded(spec: ModelSpec, path: Path) -> ModelProto:
    """Return a graph without its external tensors."""
    try:
        return parsed_graph(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {spec.name!r}: {error}") from None


def _external_files(spec: ModelSpec, path: Path) -> list[str]:
    """Return the files of a model's external tensors, relative to the model's folder."""
    where, names = f"model {spec.name!r}", tensor_files(path)
    for name in names:
        if not is_inside(path.parent / name, path.parent):
            raise ModelError(f"{where}: {path} stores tensors outside its folder, in {name!r}")
        if not (path.parent / name).is_file():
            raise ModelError(f"{where}: file {path.parent / name} with its tensors is missing")
    return names


def read_bundle(folder: str | Path) -> Cascade:
    """Return the cascade of a bundle with absolute paths of its models; check all files first."""
    folder = Path(folder).resolve()
    checked = _check_sums(folder)
    cascade = Cascade.load(folder / CASCADE)
    specs = specs_of(cascade, str(folder / CASCADE))
    # A model may have external tensors in files beside it.
    paths = [path for path in (folder / MODELS).rglob("*") if path.is_symlink() or path.is_file()]
    inside = [path.relative_to(folder).as_posix() for path in paths]
    for needed in (CASCADE, *(spec.text for spec in specs.values()), *sorted(inside)):
        if needed not in checked:
            raise ExportError(f"{folder}: {needed} has no line in {SUMS}. {_AGAIN}")
    models = {
        name: replace(spec, source=f"onnx:{folder / spec.text}") for name, spec in specs.items()
    }
    return replace(cascade, models=models)


def _check_sums(folder: Path) -> set[str]:
    """Return the names of all files with a checksum, after checking each."""
    try:
        lines = read_text(folder / SUMS).splitlines()
    except OSError as error:
        raise ExportError(f"{folder}: not a bundle: {SUMS}: {error.strerror}") from None
    except UnreadableError as error:
        raise ExportError(f"{folder}: {SUMS} was altered: {error}. {_AGAIN}") from None
    names = set()
    for line in lines:
        expected, _, name = line.partition("  ")
        path = folder / name
        # Links are followed first, because the file that runs must be in the folder.
        if ".." in Path(name).parts or not is_inside(path, folder):
            raise ExportError(f"{folder}: {SUMS} was altered: {name} leaves the folder. {_AGAIN}")
        if not path.is_file():
            raise ExportError(f"{folder}: {name} is missing. {_AGAIN}")
        if checksum(path) != expected:
            raise ExportError(f"{folder}: {name} was altered. {_AGAIN}")
        names.add(name)
    return names


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_bundle(path: Path) -> bool:
    """Return True for a bundle's folder, or the cascade file inside one."""
    return path.is_dir() or (path.name == CASCADE and (path.parent / SUMS).is_file())
