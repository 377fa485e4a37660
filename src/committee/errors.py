"""Every error that committee raises on purpose: one line that says where, what, why and the remedy.

CommitteeError
├── ShapeError              an array has the wrong shape or type
├── NotFiniteError          outputs hold NaN or infinity
├── MisalignedError         models do not cover the same samples or classes
├── UnknownNameError        a model, function, unit or split does not exist
├── CostError               a cost is missing, negative, or of another unit
├── CalibrationError        a calibration cannot be fitted or read
├── CascadeError            a cascade is impossible, or its file cannot be read
├── PoolFileError           a pool file cannot be read
├── StoreError              a store cannot be used
│   ├── DamagedError        a file of the store is truncated or altered
│   └── ChangedError        the store was made from other models, samples or settings
├── UnreadableError         a file from outside has the wrong form
├── DataError               samples cannot be read
├── RequestError            a request to a server cannot be answered
├── ModelError              a model cannot be loaded, or its outputs have the wrong shape
├── ExportError             a cascade cannot be exported, or an export was altered
├── UntrustedCodeError      a file asks to run code that the user has not named
├── ClusterError            a Ray cluster cannot be joined, or a job ended there
├── TooLargeError           a search would not end, or not fit into memory
├── MissingExtraError       an optional dependency is not installed
├── Unsupported             a pool lacks what an analysis needs
└── Infeasible              no committee of the pool meets the target
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec

from committee.text import brief

# With more names than this, an error lists only the nearest.
MANY = 50


class CommitteeError(Exception):
    """Base of all errors that committee raises on purpose."""


class ShapeError(CommitteeError, ValueError):
    """An array has the wrong shape or type."""


class NotFiniteError(CommitteeError, ValueError):
    """Outputs hold NaN or infinity."""


class MisalignedError(CommitteeError, ValueError):
    """Models, labels or splits do not cover the same samples or classes."""


class UnknownNameError(CommitteeError, LookupError):
    """A model, function, unit or split does not exist."""

    @classmethod
    def of(cls, where: str, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Return an error with the unknown name, the nearest known one, and all known ones."""
        names = sorted(known)
        many = len(names) > MANY
        near = difflib.get_close_matches(name, names, 3 if many else 1)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        there = f"{len(names)}, too many to list" if many else ", ".join(names) or "none"
        return cls(f"{where}: no {what} {name!r}.{hint} There are: {there}")


class CostError(CommitteeError, ValueError):
    """A cost is missing, negative, not finite, or of another unit."""


class CalibrationError(CommitteeError, ValueError):
    """A calibration cannot be fitted or read."""


class CascadeError(CommitteeError, ValueError):
    """A cascade is impossible, or its file cannot be read."""


class PoolFileError(CommitteeError, ValueError):
    """A pool file cannot be read."""


class StoreError(CommitteeError):
    """A store cannot be used."""


class DamagedError(StoreError):
    """A file of the store is truncated or altered."""


class ChangedError(StoreError):
    """The store was made from other models, samples or settings."""


class UnreadableError(CommitteeError, ValueError):
    """A file from outside is no regular file, or has the wrong form.

    The message says why; the code that reads the file adds where, and the remedy.
    """


class DataError(CommitteeError):
    """Samples cannot be read."""


class RequestError(CommitteeError):
    """A request to a server cannot be answered; ``status`` is the code of HTTP for it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(brief(message))
        self.status = status


class ModelError(CommitteeError):
    """A model cannot be loaded, or its outputs have the wrong shape."""


class ExportError(CommitteeError, ValueError):
    """A cascade cannot be exported, or an export is altered or incomplete."""


class UntrustedCodeError(CommitteeError):
    """A file asks to run code that the user has not named."""


class ClusterError(CommitteeError):
    """A Ray cluster cannot be joined, or lacks what a job needs, or a job ended there."""


class TooLargeError(CommitteeError, ValueError):
    """A search would not end, or its statistics would not fit into memory."""


class MissingExtraError(CommitteeError, ImportError):
    """An optional dependency is not installed."""


@contextmanager
def needing(feature: str, package: str, extra: str) -> Iterator[None]:
    """Name the line that installs a package of an extra if it cannot be imported inside."""
    try:
        yield
    except ImportError:
        names, every = package.lower().split(" and "), _requirements(extra)
        own = [need for need in every if _name(need).lower() in names]
        needs = list(dict.fromkeys([*own, *_missing(extra)])) or every or names
        raise MissingExtraError(
            f"{feature} needs {package}. Install it with: {_install_line(*needs)}"
        ) from None


def require(feature: str, *extras: str) -> None:
    """Check that the packages of some extras are installed, before any work is done."""
    needs = _missing(*extras)
    if needs:
        raise MissingExtraError(
            f"{feature} needs {', '.join(needs)}. Install it with: {_install_line(*needs)}"
        )


class Unsupported(CommitteeError):
    """A pool lacks what an analysis of the study needs; the message names it."""


class Infeasible(CommitteeError):
    """No committee of the pool meets the target; the message names the nearest that can be had."""


_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OWN = re.compile(r"committee\[([^\]]*)\]")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
# Modules that are not named like their distribution.
_MODULES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
    "grpcio": "grpc",
    "protobuf": "google.protobuf",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}
_TORCH = (
    "; where there is no GPU, first: "
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
)


def _requirements(*extras: str) -> list[str]:
    """Return the requirements of some extras, each with its oldest version.

    >>> _requirements("onnx")
    ['onnx>=1.17', 'onnxruntime>=1.20']
    """
    found: dict[str, None] = {}
    for line in _declared():
        need, _, marker = (part.strip() for part in line.partition(";"))
        extra = _EXTRA.search(marker)
        if extra is None or extra[1] not in extras:
            continue
        own = _OWN.match(need)
        needs = _requirements(*own[1].split(",")) if own else [need]
        found |= dict.fromkeys(needs)
    return sorted(found)


def _missing(*extras: str) -> list[str]:
    """Return the requirements of some extras that are not installed."""
    return [each for each in _requirements(*extras) if not _is_there(each)]


def _install_line(*needs: str) -> str:
    """Return the command that installs packages.

    >>> _install_line("pillow>=10.3")
    'pip install "pillow>=10.3"'
    """
    line = "pip install " + " ".join(f'"{need}"' for need in needs)
    return line + (_TORCH if any(_name(need).startswith("torch") for need in needs) else "")


@lru_cache(maxsize=1)
def _declared() -> list[str]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return requires("committee") or []
    except PackageNotFoundError:  # a copy of the sources that was never installed
        return []


def _name(need: str) -> str:
    found = _NAME.match(need)
    return found[0] if found else need


def _is_there(need: str) -> bool:
    module = _MODULES.get(_name(need), _name(need))
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it lies in is not there
        return False
