"""The format of a cascade file: JSON in and out, every field of its declared type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from committee.errors import CascadeError, CommitteeError, UnknownNameError, UnreadableError
from committee.files import write_text
from committee.paths import portable, resolved
from committee.reading import read_json, typed, written_json
from committee.rule.calibration import Calibration
from committee.rule.calibration_format import calibration_from_json
from committee.rule.certificate import CertificateRecord
from committee.rule.expected import Expected
from committee.rule.origin import Origin
from committee.spec.model import KnownModel, model_from_json

SCHEMA = 2


@dataclass(frozen=True)
class _StageFields:
    """One stage as a file holds it.

    Args:
        models: Names of the models that run together.
        threshold: A sample exits when its score is at least this; ``always`` or ``never`` where it
            is infinite.
    """

    models: tuple[str, ...]
    threshold: float | Literal["always", "never"]

    @property
    def number(self) -> float:
        """The threshold, infinite where it is a word."""
        if isinstance(self.threshold, str):
            return -math.inf if self.threshold == "always" else math.inf
        return float(self.threshold)


@dataclass(frozen=True)
class CascadeFields:
    """A cascade as a file holds it.

    Args:
        stages: In the order in which they run.
        confidence: Name of the function that scores a sample.
        combine: Name of the combination of outputs; empty for the usual one of their kind.
        classes: Names of the classes, in the order of the outputs.
        models: What is known of each model, by name, as in the index of a store.
        origin: What the choice rests on.
        calibrations: Of each model that has one, by name.
        certificate: What is promised on new data; None without a promise.
        expected: Where samples exited that are like those to come, for alarms; None if unknown.
    """

    stages: tuple[_StageFields, ...]
    confidence: str
    combine: str = ""
    classes: tuple[str, ...] = ()
    models: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    calibrations: Mapping[str, Any] = field(default_factory=dict)
    certificate: CertificateRecord | None = None
    expected: Expected | None = None

    def known_models(self, where: str) -> dict[str, KnownModel]:
        """Return what the file says of each model, by name."""
        return {name: model_from_json(name, each, where) for name, each in self.models.items()}

    def known_calibrations(self) -> dict[str, Calibration]:
        """Return the calibration of each model, by name."""
        return {name: calibration_from_json(each) for name, each in self.calibrations.items()}


def fields_of(data: Any, where: str) -> CascadeFields:
    """Return the fields of a cascade file."""
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise CascadeError(f"{where}: this is no cascade file; it has no schema number")
    if data["schema"] != SCHEMA:
        older = data["schema"] < SCHEMA
        remedy = (
            "Write it again with committee search"
            if older
            else "Use the version of committee that wrote it, or a newer one"
        )
        raise CascadeError(
            f"{where}: schema {data['schema']} is {'older' if older else 'newer'} than {SCHEMA}, "
            f"which this version reads. {remedy}"
        )
    try:
        own = {key: value for key, value in data.items() if key != "schema"}
        return typed("cascade", own, CascadeFields)
    except UnknownNameError as error:
        raise CascadeError(
            f"{where}: {error}. Fix or remove it; notes belong into origin.notes"
        ) from None
    except UnreadableError as error:
        raise CascadeError(f"{where}: {error}. Write it again with committee search") from None
    except CommitteeError as error:
        raise CascadeError(f"{where}: {error}") from None


def read(path: Path) -> Any:
    """Return what a cascade file holds, the paths in it absolute."""
    try:
        data = read_json(path)
    except OSError as error:
        raise CascadeError(f"{path}: cannot be read ({error.strerror})") from None
    except UnreadableError as error:
        if path.suffix.lower() == ".toml":
            raise CascadeError(
                f"{path}: this is a pool file, not a cascade; committee search writes one: "
                "committee search STORE --match MODEL --out cascade.json"
            ) from None
        raise CascadeError(f"{path}: {error}") from None
    models = data.get("models") if isinstance(data, dict) else None
    if isinstance(models, dict) and all(isinstance(each, dict) for each in models.values()):
        data["models"] = resolved(models, path)
    return data


def write(path: Path, data: Mapping[str, Any]) -> Path:
    """Write a cascade file, whole or not at all; paths in it are relative where they can be."""
    data = {**data, "models": portable(data["models"], path)}
    return write_text(path, written_json(data, indent=2) + "\n")
