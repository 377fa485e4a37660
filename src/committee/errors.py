"""Every error that committee raises on purpose, each one line: where, what, why, remedy.

CommitteeError
├── ShapeError              an array has the wrong shape or type
├── NotFiniteError          outputs hold NaN or infinity
├── MisalignedError         models do not cover the same samples or classes
├── UnknownNameError        a model, function, unit or split that is not there
├── CostError               a cost is missing, negative, or of another unit
├── CalibrationError        a calibration that cannot be fitted, or cannot be read
├── CascadeError            a cascade that cannot be, or a cascade file that cannot be read
├── PoolFileError           a pool file that cannot be read
├── StoreError              a store that cannot be used
│   ├── DamagedError        a file of the store is truncated or altered
│   └── ChangedError        the store was made from other models, samples or settings
├── UnreadableError         a file from outside that holds what it must not
├── DataError               samples that cannot be read
├── ModelError              a model that cannot be loaded or answers wrongly
├── ExportError             a cascade that cannot be exported, or an export that was altered
├── UntrustedCodeError      a file asks to run code that the user has not named
├── TooLargeError           a search that would not end, or not fit into memory
├── MissingExtraError       an optional dependency is not installed
├── Unsupported             a pool lacks what an analysis needs
└── Infeasible              no committee of the pool meets the target
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from committee.extras import install_line, missing, requirements

# Above this many, an error names the nearest names only.
MANY = 50


class CommitteeError(Exception):
    """Root of the tree; catch it to catch everything that committee raises on purpose."""


class ShapeError(CommitteeError, ValueError):
    """An array has the wrong shape or type."""


class NotFiniteError(CommitteeError, ValueError):
    """Outputs hold NaN or infinity."""


class MisalignedError(CommitteeError, ValueError):
    """Models, labels or splits do not cover the same samples or classes."""


class UnknownNameError(CommitteeError, LookupError):
    """A model, function, unit or split that is not there."""

    @classmethod
    def of(cls, where: str, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Say which name is unknown, which is nearest, and which there are."""
        names = sorted(known)
        many = len(names) > MANY
        near = difflib.get_close_matches(name, names, 3 if many else 1)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        there = f"{len(names)}, too many to list" if many else ", ".join(names) or "none"
        return cls(f"{where}: no {what} {name!r}.{hint} There are: {there}")


class CostError(CommitteeError, ValueError):
    """A cost is missing, negative, not finite, or of another unit."""


class CalibrationError(CommitteeError, ValueError):
    """A calibration that cannot be fitted, or that cannot be read."""


class CascadeError(CommitteeError, ValueError):
    """A cascade that cannot be, or a cascade file that cannot be read."""


class PoolFileError(CommitteeError, ValueError):
    """A pool file that cannot be read."""


class StoreError(CommitteeError):
    """A store that cannot be used."""


class DamagedError(StoreError):
    """A file of the store is truncated or altered."""


class ChangedError(StoreError):
    """The store was made from other models, samples or settings than those given now."""


class UnreadableError(CommitteeError, ValueError):
    """A file from outside that is no regular file, or holds what it must not.

    The message says why; whoever reads the file adds where and the remedy.
    """


class DataError(CommitteeError):
    """Samples that cannot be read."""


class ModelError(CommitteeError):
    """A model that cannot be loaded, or that answers with the wrong shape."""


class ExportError(CommitteeError, ValueError):
    """A cascade that cannot be exported, or an exported one that is altered or incomplete."""


class UntrustedCodeError(CommitteeError):
    """A file asks to run code that the user has not named."""


class TooLargeError(CommitteeError, ValueError):
    """A search that would not end, or whose statistics would not fit into memory."""


class MissingExtraError(CommitteeError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, feature: str, package: str, extra: str) -> MissingExtraError:
        """Name the feature, the package it needs, and the line that installs it."""
        needs = missing(extra) or requirements(extra) or package.lower().split(" and ")
        return cls(f"{feature} needs {package}. Install it with: {install_line(*needs)}")


def require(feature: str, *extras: str) -> None:
    """Refuse work for which packages are missing, all at once, before any of it is done.

    Args:
        feature: What needs them, for the error.
        extras: Extras of this package; a name that is none needs nothing.

    Raises:
        MissingExtraError: If a package of these extras is not installed.
    """
    needs = missing(*extras)
    if needs:
        raise MissingExtraError(
            f"{feature} needs {', '.join(needs)}. Install with: {install_line(*needs)}"
        )


class Unsupported(CommitteeError):
    """A pool lacks what an analysis of the study needs; the message names it."""


class Infeasible(CommitteeError):
    """No committee of the pool meets the target; the message names the nearest that can be had."""
