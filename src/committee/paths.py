"""Paths of models in files that may move: relative to the file where they can be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

# What a relative path begins with in a file: a source may also be a name, ``transformers:a/b``.
_HERE = ("./", "../")
# The remedy where a file of a model is not there.
MOVED = (
    "Correct its path. If the files of a cascade have moved, name the pool file that lists them "
    "where they are now, --pool POOL.toml, or run what committee export writes: a folder that "
    "moves as one"
)


def anywhere(spec: str) -> str:
    """Return what names the same file from any folder; what names no file here stays."""
    return str(Path(spec).absolute()) if Path(spec).exists() else spec


def portable(models: Mapping[str, Mapping[str, Any]], file: Path) -> dict[str, dict[str, Any]]:
    """Return models with paths relative to the file that will hold them.

    A path stays absolute unless it lies below the file's folder, or below that folder's parent.
    """
    folder = file.parent.resolve()
    return _with_paths(models, lambda path: _relative(path, folder))


def resolved(models: Mapping[str, Mapping[str, Any]], file: Path) -> dict[str, dict[str, Any]]:
    """Return models with absolute paths: the inverse of :func:`portable`.

    If the file is a link, paths are relative to what it leads to.
    """
    folder = file.resolve().parent
    return _with_paths(models, lambda path: _absolute(path, folder))


def unplaced(models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return models with the names of their files only, which stay when files move together."""
    return _with_paths(models, lambda path: PurePath(path).name if _is_absolute(path) else path)


def expanded(path: str, folder: Path) -> Path:
    """Return an absolute path from what a person wrote, ``~`` being the home."""
    with suppress(RuntimeError):  # a user whom this machine does not know
        path = str(Path(path).expanduser())
    return (folder / path).resolve()


def _with_paths(
    models: Mapping[str, Mapping[str, Any]], changed: Callable[[str], str]
) -> dict[str, dict[str, Any]]:
    return {name: _with_path(dict(model), changed) for name, model in models.items()}


def _with_path(model: dict[str, Any], changed: Callable[[str], str]) -> dict[str, Any]:
    source, weights = model.get("source"), model.get("weights")
    if isinstance(source, str) and ":" in source:
        scheme, _, text = source.partition(":")
        model["source"] = f"{scheme}:{changed(text)}"
    if isinstance(weights, str):
        model["weights"] = changed(weights)
    return model


def _relative(path: str, folder: Path) -> str:
    if not _is_absolute(path):
        return path
    try:
        text = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return path
    if text.startswith("../../") or (text.startswith("../") and _is_root(folder.parent)):
        return path
    return text if text.startswith("../") else f"./{text}"


def _is_absolute(path: str) -> bool:
    return PurePath(path).is_absolute()


def _is_root(folder: Path) -> bool:
    return folder.parent == folder


def _absolute(path: str, folder: Path) -> str:
    if path.startswith((".\\", "..\\")):
        path = PureWindowsPath(path).as_posix()
        path = path if path.startswith(_HERE) else f"./{path}"
    if path.startswith("~/"):
        return str(Path(path).expanduser())
    return os.path.normpath(folder / path) if path.startswith(_HERE) else path
