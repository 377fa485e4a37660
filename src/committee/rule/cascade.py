"""Cascade: ordered stages of models, each with a threshold. Frozen data, JSON in and out."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from committee.errors import (
    CalibrationError,
    CascadeError,
    MisalignedError,
    UnknownNameError,
    UnreadableError,
)
from committee.files import write_text
from committee.paths import portable, resolved
from committee.reading import read_json
from committee.rule.calibration import Calibration
from committee.rule.calibration_format import calibration_from_json
from committee.rule.combinations import COMBINES, DEFAULT_COMBINE, usual_combine
from committee.rule.scores import CONFIDENCES, LARGEST_SCORE, confidence_of

if TYPE_CHECKING:
    pass

SCHEMA = 1
ALWAYS = -math.inf
NEVER = math.inf
_WORDS = {ALWAYS: "always", NEVER: "never"}
_KEYS = ("schema", "stages", "confidence", "combine", "classes", "models", "origin", "calibrations")
_STAGE_KEYS = ("models", "threshold")
# Stored probabilities may sum to a little more than 1.
_SLACK = 0.05


@dataclass(frozen=True)
class Stage:
    """One step of a cascade.

    Args:
        models: Names of the models that run at this stage, one or more.
        threshold: A sample exits here when its score is at least this; ``-inf`` always exits.

    Raises:
        CascadeError: If ``models`` is one text, which would be read letter by letter.
    """

    models: tuple[str, ...]
    threshold: float = ALWAYS

    def __post_init__(self) -> None:
        if isinstance(self.models, str):
            raise CascadeError(f"Stage: models must be names in a tuple: ({self.models!r},)")


@dataclass(frozen=True)
class Cascade:
    """Stages in order; after each the running combination of all outputs so far is scored.

    Args:
        stages: One or more. An ensemble is a cascade of one stage. The last always exits.
        confidence: Name of the confidence function.
        combine: ``mean_logits``, ``mean_probabilities`` or ``last``; None for what the kind of
            outputs implies, which a pool or the described models tell.
        classes: Names of the classes, in the order of the outputs; may be empty if unknown.
        models: How each model is loaded (see :class:`committee.models.ModelSpec`), by name; may be
            empty for a cascade that is only evaluated on stored predictions.
        calibrations: What is applied to a model's outputs before they are combined, by name; those
            of other models are left out.
        origin: What the choice rests on: split, kind of outputs, promised figures. For people, and
            for what runs it to compare itself with.

    Raises:
        CascadeError: If a stage is empty, a model stands twice, or a threshold is NaN.

    >>> Cascade.of(["small", "large"], thresholds=[0.8]).names
    ('small', 'large')
    """

    stages: tuple[Stage, ...]
    confidence: str = "max_prob"
    combine: str | None = None
    classes: tuple[str, ...] = ()
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False, hash=False)
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.stages or not all(stage.models for stage in self.stages):
            raise CascadeError("Cascade: every cascade has a stage and every stage has a model")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise CascadeError(
                f"Cascade: {', '.join(repeated)} stands twice; a model runs once for a sample. "
                "A second training of the same architecture is a model with its own name"
            )
        if any(math.isnan(stage.threshold) for stage in self.stages):
            raise CascadeError("Cascade: a threshold is NaN; use -inf for always, inf for never")
        if self.stages[-1].threshold != ALWAYS:
            raise CascadeError("Cascade: the last stage always exits; leave its threshold out")
        kinds = {str(self.models.get(name, {}).get("kind")) for name in self.names}
        if self.combine is None and kinds <= DEFAULT_COMBINE.keys():
            object.__setattr__(self, "combine", usual_combine(kinds))
        if self.combine is not None and self.combine not in COMBINES:
            known = ", ".join(COMBINES)
            raise CascadeError(f"Cascade: no combination {self.combine!r}. There are: {known}")
        own = {n: self.calibrations[n] for n in self.names if n in self.calibrations}
        object.__setattr__(self, "calibrations", own)

    @classmethod
    def of(
        cls,
        models: Sequence[str | Sequence[str]],
        thresholds: Sequence[float] = (),
        confidence: str | None = None,
        combine: str | None = None,
        calibrations: Mapping[str, Calibration] | None = None,
    ) -> Cascade:
        """Build a cascade from model names, a list of names for a stage of several models.

        Args:
            models: One entry a stage.
            thresholds: One for each stage but the last.
            confidence: Name of the confidence function; ``max_prob`` if left out. Decisions bring
                their own.
            combine: ``mean_logits``, ``mean_probabilities`` or ``last``; what the kind of outputs
                implies if left out.
            calibrations: By model; those of other models are left out.

        Raises:
            CascadeError: If the number of thresholds is not one less than that of stages.
        """
        if models and len(thresholds) != len(models) - 1:
            raise CascadeError(
                f"Cascade.of: {len(models)} stages need {len(models) - 1} thresholds, "
                f"not {len(thresholds)}; the last stage always exits"
            )
        steps = [(name,) if isinstance(name, str) else tuple(name) for name in models]
        bounds = [*map(float, thresholds), ALWAYS]
        return cls(
            # No models at all have one bound too many; the constructor says what is wrong.
            tuple(Stage(step, bound) for step, bound in zip(steps, bounds, strict=False)),
            confidence or "max_prob",
            combine,
            calibrations=calibrations or {},
        )

    @classmethod
    def ensemble(
        cls,
        models: Sequence[str],
        confidence: str | None = None,
        combine: str | None = None,
        calibrations: Mapping[str, Calibration] | None = None,
    ) -> Cascade:
        """Build an ensemble: one stage that runs all models."""
        return cls.of([list(models)], (), confidence, combine, calibrations)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, in the order in which they run."""
        return tuple(name for stage in self.stages for name in stage.models)

    @property
    def models_of_stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of the models of each stage."""
        return tuple(stage.models for stage in self.stages)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Thresholds of all stages but the last."""
        return tuple(stage.threshold for stage in self.stages[:-1])

    @property
    def combination(self) -> str:
        """Name of the combination.

        Raises:
            CascadeError: If none was named, and nothing says what kind of outputs the models give.
        """
        if self.combine is None:
            raise CascadeError(
                f"{self}: neither combine= nor the models' kind of outputs is known. Name combine, "
                "or describe the cascade with its pool: pool.described(cascade)"
            )
        return self.combine

    def of_kinds(self, kinds: Collection[str]) -> Cascade:
        """Return the same cascade with the combination that these kinds imply, if it names none."""
        return self if self.combine else replace(self, combine=usual_combine(kinds))

    def check_kinds(self, kinds: Mapping[str, str], where: str) -> None:
        """Refuse outputs of another kind than those that the cascade was chosen on.

        Args:
            kinds: Kind of outputs of each model, by name.
            where: Whose they are, for the error.

        Raises:
            MisalignedError: If the cascade knows another kind.
        """
        for name, kind in kinds.items():
            known = [self.origin.get("kind"), self.models.get(name, {}).get("kind")]
            # Counts are what is kept of the logits of pixels.
            others = [each for each in known if each not in (None, "counts", kind)]
            if others and kind != "counts":
                raise MisalignedError(
                    f"{where}: model {name!r} gives {kind}, but the cascade was chosen on "
                    f"{others[0]}, whose scores its thresholds and calibrations are for. Name the "
                    f'pool that it was chosen on, declare kind = "{others[0]}", or search again'
                )

    def check_calibrated(self, models: Mapping[str, Mapping[str, Any]], where: str) -> None:
        """Refuse models other than those that the calibrations were fitted to.

        Args:
            models: What is known of each model, by name.
            where: Whose they are, for the error.

        Raises:
            MisalignedError: If a calibrated model has another fingerprint.
        """
        for name in self.calibrations:
            known, now = (each.get(name, {}).get("fingerprint") for each in (self.models, models))
            if known and now and known != now:
                raise MisalignedError(
                    f"{where}: model {name!r} has fingerprint {now}, but the cascade's calibration "
                    f"was fitted to {known}. Name the store that it was chosen on, or calibrate "
                    "and search again"
                )

    @property
    def kind(self) -> str:
        """``model``, ``ensemble`` or ``cascade``."""
        if len(self.stages) > 1:
            return "cascade"
        return "model" if len(self.names) == 1 else "ensemble"

    def __str__(self) -> str:
        """``small -> large``; the models of one stage are joined by ``+``."""
        return " -> ".join("+".join(stage.models) for stage in self.stages)

    def joined(self) -> Cascade:
        """The same decisions by the same models: stages that never exit are joined with the next.

        What follows a stage that always exits is left out.
        """
        stages: list[Stage] = []
        waiting: tuple[str, ...] = ()
        for stage in self.stages:
            waiting += stage.models
            if stage.threshold == NEVER:
                continue
            stages.append(Stage(waiting, stage.threshold))
            waiting = ()
            if stage.threshold == ALWAYS:
                break
        return replace(self, stages=tuple(stages))

    def simplified(self) -> Cascade:
        """The same decisions in the fewest stages and models.

        As :meth:`joined`; models that :func:`~committee.rule.combinations.last` overrides are left
        out.
        """
        short = self.joined()
        if self.combine != "last":
            return short
        stages = [Stage(stage.models[-1:], stage.threshold) for stage in short.stages]
        return replace(short, stages=tuple(stages))

    def to_json(self) -> dict[str, Any]:
        """What a cascade file holds; thresholds that are infinite are words.

        A combination that is not known yet is left out.
        """
        return {
            "schema": SCHEMA,
            "stages": [
                {"models": list(stage.models), "threshold": _threshold_to_json(stage.threshold)}
                for stage in self.stages
            ],
            "confidence": self.confidence,
            **({"combine": self.combine} if self.combine else {}),
            "classes": list(self.classes),
            "models": {name: dict(self.models[name]) for name in self.names if name in self.models},
            "origin": dict(self.origin),
            "calibrations": {name: each.to_json() for name, each in self.calibrations.items()},
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "cascade") -> Cascade:
        """Read what :meth:`to_json` wrote.

        Raises:
            CascadeError: If the schema is newer than this version knows, or a field is missing,
                unknown or of the wrong type. What people note belongs into ``origin``.
        """
        if not isinstance(data, dict) or type(data.get("schema")) is not int:
            raise CascadeError(f"{where}: this is no cascade file; it has no schema number")
        if data["schema"] > SCHEMA:
            raise CascadeError(
                f"{where}: schema {data['schema']} is newer than {SCHEMA}, which this version "
                "reads. Use the version of committee that wrote it, or a newer one"
            )
        try:
            _check_keys("cascade", data, _KEYS)
            return cls(
                stages=tuple(_stage_from_json(i, each) for i, each in enumerate(data["stages"], 1)),
                confidence=_text(data["confidence"]),
                combine=_text(data["combine"]) if "combine" in data else None,
                classes=_texts(data.get("classes", [])),
                models={
                    name: _object(each) for name, each in _object(data.get("models", {})).items()
                },
                origin=_object(data.get("origin", {})),
                calibrations={
                    name: calibration_from_json(each)
                    for name, each in _object(data.get("calibrations", {})).items()
                },
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, CascadeError | CalibrationError):
                raise CascadeError(f"{where}: {error}") from None
            raise CascadeError(
                f"{where}: missing or wrong field ({type(error).__name__}: {error}). "
                "Write it again with committee search"
            ) from None

    def save(self, path: str | Path) -> Path:
        """Write the cascade as JSON, whole or not at all.

        Paths of models are relative to the file where they can be; see :mod:`committee.paths`.
        """
        path, data = Path(path), self.to_json()
        data["models"] = portable(data["models"], path)
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        return write_text(path, text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Cascade:
        """Read a cascade file. Nothing in it is run; relative paths in it begin where it lies.

        Raises:
            CascadeError: If the file is missing, no JSON, no cascade of a known schema, or no
                score can reach one of its thresholds.
        """
        try:
            data = read_json(Path(path))
        except OSError as error:
            raise CascadeError(f"{path}: cannot be read ({error.strerror})") from None
        except UnreadableError as error:
            if Path(path).suffix.lower() == ".toml":
                raise CascadeError(
                    f"{path}: this is a pool file, not a cascade; committee search writes one: "
                    "committee search STORE --match MODEL --out cascade.json"
                ) from None
            raise CascadeError(f"{path}: {error}") from None
        cascade = cls.from_json(data, str(path))
        if confidence_of(cascade.confidence) is None:
            known = ", ".join(CONFIDENCES)
            raise CascadeError(
                f"{path}: no confidence function {cascade.confidence!r}. There are: {known}. "
                "One of your own must be registered first, with register_confidence"
            )
        _check_reachable(cascade, str(path))
        return replace(cascade, models=resolved(cascade.models, Path(path)))


def refuse_confidence(confidence: str) -> None:
    """Refuse a confidence that is not the default, of decisions.

    Raises:
        CascadeError: If it is not.
    """
    if confidence != "max_prob":
        raise CascadeError(
            f"confidence {confidence!r}: decisions bring their own confidence; leave it out"
        )


def _threshold_to_json(threshold: float) -> float | str:
    return _WORDS.get(threshold, threshold)


def _check_keys(where: str, data: Any, known: Collection[str]) -> None:
    """Refuse keys that mean nothing: who wrote one meant something by it."""
    for key in _object(data):
        if key not in known:
            unknown = UnknownNameError.of(where, "key", key, known)
            raise CascadeError(f"{unknown}. Mend or remove it; notes belong into origin")


def _check_reachable(cascade: Cascade, where: str) -> None:
    """Refuse thresholds above every score there can be, where that is known."""
    largest = LARGEST_SCORE.get(cascade.confidence.partition(">")[0], math.inf)
    kinds = {str(cascade.models.get(name, {}).get("kind")) for name in cascade.names}
    # Decisions bring scores of their own, of any size.
    if "decisions" in kinds or (cascade.combine == "last" and "None" in kinds):
        return
    for number, threshold in enumerate(cascade.thresholds, 1):
        if largest + _SLACK < threshold < NEVER:
            raise CascadeError(
                f"{where}: stage {number}: threshold {threshold:g} is above every score, for "
                f'{cascade.confidence} is at most {largest:g}. Mend it, or write "never" if no '
                "sample is to leave there"
            )


def _stage_from_json(number: int, stage: Any) -> Stage:
    _check_keys(f"stage {number}", stage, _STAGE_KEYS)
    threshold = stage["threshold"]
    for value, word in _WORDS.items():
        if threshold == word:
            threshold = value
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise TypeError(f"threshold {threshold!r} is neither a number, 'always' nor 'never'")
    return Stage(_texts(stage["models"]), float(threshold))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} must be an object")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    # A text is a sequence of texts too, which is never what is meant.
    if not isinstance(value, list):
        raise TypeError(f"{value!r} must be a list")
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} must be text")
    return value
