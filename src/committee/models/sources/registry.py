"""Which sources of models there are, and how the source of a pool file is read."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from committee.errors import ModelError, PoolFileError
from committee.models.base import Source
from committee.text import first_line

GROUP = "committee.sources"
# The sources of this package, in the same form as those that other packages bring.
_OWN = {
    scheme: EntryPoint(scheme, f"committee.models.sources.{scheme}:{scheme.title()}Source", GROUP)
    for scheme in ("onnx", "python", "pytorchvideo", "timm", "torchvision", "transformers")
}
_AT = re.compile(r"(.+)@(\d+)(?:x(\d+))?")


def source_of(source: str) -> Source:
    """Return the source that a text such as ``timm:resnet50`` names by its scheme.

    Other packages add schemes by entry points of the group ``committee.sources``: the entry's name
    is the scheme, its value a class without arguments that keeps
    :class:`~committee.models.base.Source`.

    Raises:
        PoolFileError: If there is no such scheme.
        ModelError: If the package that adds it is broken.
    """
    scheme, colon, _ = source.partition(":")
    entries = _OWN if scheme in _OWN else {each.name: each for each in entry_points(group=GROUP)}
    if not colon or scheme not in entries:
        forms = [entry.load().form for entry in _OWN.values()]
        forms += [f"{name}:NAME" for name in sorted(entries.keys() - _OWN.keys())]
        raise PoolFileError(f"source {source!r} must be one of {', '.join(forms)}")
    try:
        made: Source = entries[scheme].load()()
    except Exception as error:
        raise ModelError(
            f"source {source!r}: {entries[scheme].value}, which adds it, cannot be loaded "
            f"({first_line(error)}). Fix or reinstall that package"
        ) from error
    return made


def located(source: str, folder: Path) -> tuple[str, tuple[int, int] | None]:
    """Read the source of a pool file, such as ``timm:mobilenetv2_100@192``.

    Returns:
        The source without ``@R`` and with absolute paths, and the height and width of ``@R`` or
        ``@HxW``; None if there is none.

    Raises:
        PoolFileError: If it has not the form that its scheme wants.
    """
    own = source_of(source)
    scheme, _, text = source.partition(":")
    size = None
    if at := _AT.fullmatch(text):
        text, height, width = at.groups()
        size = (int(height), int(width or height))
    try:
        return f"{scheme}:{own.located(text, folder)}", size
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise PoolFileError(f"source {source!r} must be {own.form}{why}") from None
