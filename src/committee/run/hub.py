"""Bundles on the Hugging Face Hub: ``hf://OWNER/NAME``, or ``hf://OWNER/NAME@REVISION``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from committee.errors import CascadeError, ExportError, needing
from committee.export.bundle import SUMS
from committee.text import first_line

# A pathlib.Path of an address has one slash.
_ADDRESS = re.compile(r"hf:/{1,2}(.*)")
_REPOSITORY = re.compile(r"([^/@]+/[^/@]+)(?:@([^@]+))?")


def is_on_hub(path: str | Path) -> bool:
    """Return True for an address on the Hub."""
    return _ADDRESS.fullmatch(str(path)) is not None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the client's log: it tells every try of a request, and the error tells the last."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def downloaded(address: str | Path) -> Path:
    """Return the folder of a bundle on the Hub, in the Hub's cache; what is there is not fetched.

    Nothing in it is run, nor checked; :func:`committee.export.bundle.read_bundle` does that.
    """
    given = _ADDRESS.fullmatch(str(address))
    found = _REPOSITORY.fullmatch(given[1]) if given else None
    if given is None or found is None:
        raise CascadeError(f"{address}: write hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    name, where = f"hf://{given[1]}", {"repo_id": found[1], "revision": found[2]}
    with needing(name, "huggingface_hub", "hub"):
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    try:
        with _quiet():
            # A repository may be large and no bundle at all.
            hf_hub_download(filename=SUMS, **where)
            return Path(snapshot_download(**where))
    except LocalEntryNotFoundError as error:
        raise ExportError(
            f"{name}: cannot be fetched, for the Hub cannot be reached, and its cache on this "
            f"machine does not hold it ({first_line(error.__cause__ or error)}). Check the "
            f"connection, or copy the bundle here and give its path"
        ) from None
    except EntryNotFoundError:
        raise ExportError(f"{name}: is no bundle, for it has no file {SUMS}") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = first_line(error)
    raise ExportError(
        f"{name}: cannot be fetched ({reason}). Check the name, the revision, and for a private "
        "repository the token: hf auth login"
    )
