"""Which sources of models there are, and how the source of a pool file is read."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from committee.errors import ModelError, PoolFileError
from committee.models.base import Source

GROUP = "committee.sources"
# The sources of this package, in the same form as those that other packages bring.
_OWN = {
    scheme: EntryPoint(scheme, f"committee.models.sources.{scheme}:{scheme.title()}Source", GROUP)
    for scheme in ("onnx", "python", "pytorchvideo", "timm", "torchvision", "transformers")
}
_AT = re.compile(r"(.+)@(\d+)(?:x(\d+))?")


def source_of(source: str) -> Source:
    """The source that a text such as ``timm:resnet50`` names by its scheme.

    Other packages add schemes by entry points of the group ``committee.sources``: the entry's name
    is the scheme, its value a class without arguments that keeps
    :class:`~committee.models.base.Source`.

    Raises:
        PoolFileError: If there is no such scheme.
        ModelError: If the package that adds it is broken.
    """
    scheme, colon, _ = source.partition(":")
    if colon and scheme in _OWN:
        own: Source = _OWN[scheme].load()()
        return own
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not colon or scheme not in others:
        forms = [entry.load().form for entry in _OWN.values()]
        raise PoolFileError(
            f"source {source!r} must be one of {', '.join(forms)}"
            + "".join(f", {other}:NAME" for other in sorted(others))
        )
    try:
        made: Source = others[scheme].load()()
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"source {source!r}: {others[scheme].value}, which adds it, cannot be loaded "
            f"({type(error).__name__}: {reason}). Mend or reinstall that package"
        ) from error
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
