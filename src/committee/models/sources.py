"""Which sources of models there are, and how the source of a pool file is read."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from committee.errors import PoolFileError
from committee.models.base import Source

GROUP = "committee.sources"
# The sources of this package, in the same form as those that other packages bring.
_OWN = {
    scheme: EntryPoint(scheme, f"committee.models.{scheme}:{scheme.title()}Source", GROUP)
    for scheme in ("onnx", "python", "timm", "torchvision", "transformers")
}
_AT = re.compile(r"(.+)@(\d+)(?:x(\d+))?")


def source_of(source: str) -> Source:
    """The source that a text such as ``timm:resnet50`` names by its scheme.

    Other packages add schemes by entry points of the group ``committee.sources``: the entry's name
    is the scheme, its value a class without arguments that keeps
    :class:`~committee.models.base.Source`.

    Raises:
        PoolFileError: If there is no such scheme.
    """
    scheme, colon, _ = source.partition(":")
    entries = {entry.name: entry for entry in entry_points(group=GROUP)} | _OWN
    if not colon or scheme not in entries:
        forms = [entry.load().form for entry in entries.values()]
        raise PoolFileError(f"source {source!r} must be one of {', '.join(forms)}")
    made: Source = entries[scheme].load()()
    return made


def located(source: str, folder: Path) -> tuple[str, tuple[int, int] | None]:
    """Read the source of a pool file.

    Args:
        source: As the pool file has it, as in ``timm:mobilenetv2_100@192``.
        folder: Where relative paths begin.

    Returns:
        The source without ``@R`` and with absolute paths, and the height and width of ``@R`` or
        ``@HxW``; None if there is none.

    Raises:
        PoolFileError: If it has not the form that its scheme wants.
    """
    found = source_of(source)
    scheme, _, text = source.partition(":")
    size = None
    if at := _AT.fullmatch(text):
        text, height, width = at.groups()
        size = (int(height), int(width or height))
    try:
        return f"{scheme}:{found.located(text, folder)}", size
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise PoolFileError(f"source {source!r} must be {found.form}{why}") from None
