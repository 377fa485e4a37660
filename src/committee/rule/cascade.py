"""Cascade: ordered stages of models, each with a threshold. Frozen data and its laws."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from committee.errors import CalibrationError, CascadeError, MisalignedError
from committee.reading import plain
from committee.rule.calibration import Calibration, made_kinds
from committee.rule.certificate import CertificateRecord
from committee.rule.combinations import COMBINES, usual_combine
from committee.rule.expected import Expected
from committee.rule.format import SCHEMA, CascadeFields, fields_of, read, write
from committee.rule.origin import Origin
from committee.rule.outputs import WITH_CONFIDENCE, Kind
from committee.rule.scores import AGREEMENTS, CONFIDENCES, LARGEST_SCORE, is_confidence
from committee.spec.model import KnownModel, ModelSpec
from committee.text import html_table, printable

ALWAYS = -math.inf
NEVER = math.inf
_WORDS = {ALWAYS: "always", NEVER: "never"}
# What tab completion offers.
_SHOWN = (
    *("calibrations", "certificate", "classes", "combine", "confidence", "ensemble", "kind"),
    *("is_certified", "load", "models", "names", "of", "origin", "save", "stages", "thresholds"),
    "to_json",
)
# Stored probabilities may sum to a little more than 1.
_TOLERANCE = 0.05


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
        # A file writes 1 and 1.0 differently, so a fingerprint would change by saving.
        object.__setattr__(self, "threshold", float(self.threshold))


@dataclass(frozen=True)
class Cascade:
    """Stages in order; after each the running combination of all outputs so far is scored.

    Args:
        stages: One or more. An ensemble is a cascade of one stage. The last always exits.
        confidence: Name of the confidence function.
        combine: ``mean_logits``, ``mean_probabilities``, ``last`` or ``vote``; None for what the
            kind of outputs implies, which a pool or the described models tell.
        classes: Names of the classes, in the order of the outputs; may be empty if unknown.
        models: What is known of each model, by name; may be empty for a cascade that is only
            evaluated on stored predictions.
        origin: What the choice rests on.
        calibrations: What is applied to a model's outputs before they are combined, by name; those
            of other models are left out.
        certificate: What was certified of it on new data, or None. It holds only as long as its
            checksum is right; see :meth:`certified`.
        expected: The exits that are expected on new data, or None; they hold for these decisions
            alone. Alarms compare with them.

    Raises:
        CascadeError: If a stage is empty, a model stands twice or is described by another name,
            or a threshold is NaN.

    >>> Cascade.of(["small", "large"], thresholds=[0.8]).names
    ('small', 'large')
    """

    stages: tuple[Stage, ...]
    confidence: str = "max_prob"
    combine: str | None = None
    classes: tuple[str, ...] = ()
    models: Mapping[str, KnownModel] = field(default_factory=dict, compare=False, hash=False)
    origin: Origin = field(default=Origin(), compare=False, hash=False)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict, hash=False)
    certificate: CertificateRecord | None = field(default=None, compare=False, hash=False)
    expected: Expected | None = field(default=None, compare=False, hash=False)

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
        for name, model in self.models.items():
            if model.name != name:
                raise CascadeError(f"Cascade: models: {name!r} is described as {model.name!r}")
        kinds = self._kinds
        if self.combine is None and len(kinds) == len(self.names):
            made = made_kinds(kinds, self.calibrations)
            object.__setattr__(self, "combine", usual_combine({*made.values()}))
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
            combine: ``mean_logits``, ``mean_probabilities``, ``last`` or ``vote``; what the kind of
                outputs implies if left out.
            calibrations: By model; those of other models are left out.

        Raises:
            CascadeError: If the number of thresholds is not one less than that of stages.
        """
        if isinstance(models, str):
            raise CascadeError(f"Cascade.of: give a list of models, [{models!r}], not a text")
        if isinstance(thresholds, str) or not hasattr(thresholds, "__len__"):
            raise CascadeError(f"Cascade.of: give a list of thresholds, not {thresholds!r}")
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
        if isinstance(models, str):
            raise CascadeError(f"Cascade.ensemble: give a list of models, [{models!r}], not a text")
        return cls.of([list(models)], (), confidence, combine, calibrations)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, in the order in which they run."""
        return tuple(name for stage in self.stages for name in stage.models)

    @property
    def _kinds(self) -> dict[str, Kind]:
        return {name: self.models[name].kind for name in self.names if name in self.models}

    @property
    def is_loadable(self) -> bool:
        """Return True if the cascade says how each of its models is loaded."""
        return all(isinstance(self.models.get(name), ModelSpec) for name in self.names)

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

    def of_kinds(self, kinds: Collection[Kind]) -> Cascade:
        """Return the same cascade with the combination that these kinds imply, if it names none."""
        if self.combine:
            return self
        made = [made_kinds(dict.fromkeys(self.names, kind), self.calibrations) for kind in kinds]
        return replace(self, combine=usual_combine({k for each in made for k in each.values()}))

    def check_kinds(self, kinds: Mapping[str, str], where: str) -> None:
        """Refuse outputs of another kind than those that the cascade was chosen on.

        Args:
            kinds: Kind of outputs of each model, by name.
            where: Whose they are, for the error.

        Raises:
            MisalignedError: If the cascade knows another kind.
        """
        for name, kind in kinds.items():
            chosen = self._kinds.get(name, kind)
            # Counts are what is kept of the logits of pixels.
            if kind != chosen:
                raise MisalignedError(
                    f"{where}: model {name!r} gives {kind}, but the cascade was chosen on "
                    f"{chosen}, whose scores its thresholds and calibrations are for. Name the "
                    f'pool that it was chosen on, declare kind = "{chosen}", or search again'
                )

    def check_calibrated(self, models: Mapping[str, KnownModel], where: str) -> None:
        """Refuse models other than those that the calibrations were fitted to.

        Args:
            models: What is known of each model, by name.
            where: Whose they are, for the error.

        Raises:
            MisalignedError: If a calibrated model has another fingerprint.
        """
        for name in self.calibrations:
            pair = [each[name].fingerprint for each in (self.models, models) if name in each]
            known, now = pair if len(pair) == 2 else ("", "")
            if known and now and known != now:
                raise MisalignedError(
                    f"{where}: model {name!r} has fingerprint {now}, but the cascade's calibration "
                    f"was fitted to {known}. Name the store that it was chosen on, or calibrate "
                    "and search again"
                )

    @property
    def rule_fingerprint(self) -> str:
        """A fingerprint that changes with any decision: stages, scores and calibrations.

        Cascades of the same simplest form have the same one.
        """
        rule = self.simplified().rule_json()
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def is_certified(self) -> bool:
        """Return True if there is a certificate, and neither it nor any decision was changed."""
        own = self.certificate
        return own is not None and own.checksum == self._checksum(own)

    def certified(self, record: CertificateRecord) -> Cascade:
        """Return the cascade with a certificate, whose checksum covers it and every decision."""
        return replace(self, certificate=replace(record, checksum=self._checksum(record)))

    def _checksum(self, record: CertificateRecord) -> str:
        data = {**plain(record), "checksum": self.rule_fingerprint}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """``model``, ``ensemble`` or ``cascade``."""
        if len(self.stages) > 1:
            return "cascade"
        return "model" if len(self.names) == 1 else "ensemble"

    def __str__(self) -> str:
        """``small -> large``; the models of one stage are joined by ``+``."""
        return " -> ".join("+".join(stage.models) for stage in self.stages)

    def __repr__(self) -> str:
        at = ", ".join(f"{each:.4g}" for each in self.thresholds)
        parts = [f"thresholds {at}"] if at else []
        parts += [self.confidence, *([self.combine] if self.combine else [])]
        parts += ["certified"] if self.is_certified else []
        return f"<Cascade: {printable(str(self))}; {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        def row(number: int, stage: Stage) -> list[tuple[str, str]]:
            at = _WORDS.get(stage.threshold, f"{stage.threshold:.4g}")
            return [(str(number), ""), (" + ".join(stage.models), ""), (at, "")]

        rows = [row(number, stage) for number, stage in enumerate(self.stages)]
        headings = ["stage", "models", f"exits if {self.confidence} is at least"]
        notes = [f"Combined by {self.combine}."] if self.combine else []
        notes += ["Certified."] if self.is_certified else []
        return html_table(self.kind.capitalize(), headings, rows, " ".join(notes))

    def __dir__(self) -> list[str]:
        return sorted(_SHOWN)

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
        out, unless the score tells how many agree.
        """
        short = self.joined()
        if self.combine != "last" or self.confidence in AGREEMENTS:
            return short
        stages = [Stage(stage.models[-1:], stage.threshold) for stage in short.stages]
        return replace(short, stages=tuple(stages))

    def to_json(self) -> dict[str, Any]:
        """Return the object that a cascade file holds; thresholds that are infinite are words."""
        return {
            "schema": SCHEMA,
            "stages": [
                {
                    "models": list(stage.models),
                    "threshold": _WORDS.get(stage.threshold, stage.threshold),
                }
                for stage in self.stages
            ],
            "confidence": self.confidence,
            **({"combine": self.combine} if self.combine else {}),
            "classes": list(self.classes),
            "models": {n: self.models[n].to_json() for n in self.names if n in self.models},
            "origin": plain(self.origin),
            "calibrations": plain(self.calibrations),
            **({"certificate": plain(self.certificate)} if self.certificate else {}),
            **({"expected": plain(self.expected)} if self.expected else {}),
        }

    def rule_json(self) -> dict[str, Any]:
        """Return the parts of the file that decide."""
        data = replace(self, certificate=None).to_json()
        return {
            name: data.get(name) for name in ("stages", "confidence", "combine", "calibrations")
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "cascade") -> Cascade:
        """Read what :meth:`to_json` wrote.

        Raises:
            CascadeError: If the schema is not this version's, or a field is missing, unknown or of
                the wrong type.
        """
        return _cascade(fields_of(data, where), where)

    def save(self, path: str | Path) -> Path:
        """Write the cascade as JSON, whole or not at all.

        Paths of models are relative to the file where they can be; see :mod:`committee.paths`.
        """
        return write(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Cascade:
        """Read a cascade file. Nothing in it is run; relative paths in it begin where it lies.

        Raises:
            CascadeError: If the file is missing, no JSON, no cascade of this version's schema, or
                no score can reach one of its thresholds.
        """
        cascade = cls.from_json(read(Path(path)), str(path))
        if not is_confidence(cascade.confidence):
            known = ", ".join((*CONFIDENCES, *AGREEMENTS))
            raise CascadeError(
                f"{path}: no confidence function {cascade.confidence!r}. There are: {known}. "
                "One of your own must be registered first, with register_confidence"
            )
        _check_reachable(cascade, str(path))
        return cascade


def _cascade(data: CascadeFields, where: str) -> Cascade:
    try:
        return Cascade(
            tuple(Stage(each.models, each.number) for each in data.stages),
            data.confidence,
            data.combine or None,
            data.classes,
            data.known_models(where),
            data.origin,
            data.known_calibrations(),
            data.certificate,
            data.expected,
        )
    except (CalibrationError, CascadeError) as error:
        raise CascadeError(f"{where}: {error}") from None


def refuse_confidence(confidence: str, kind: str) -> None:
    """Refuse a confidence that decisions or outcomes do not have: they bring their own."""
    own = AGREEMENTS if kind == "decisions" else ()
    if confidence not in ("max_prob", *own):
        raise CascadeError(
            f"confidence {confidence!r}: {kind} bring their own confidence; leave it out"
            f"{', or take ' + ' or '.join(own) if own else ''}"
        )


def _check_reachable(cascade: Cascade, where: str) -> None:
    """Refuse thresholds above every score there can be, where that is known."""
    largest = LARGEST_SCORE.get(cascade.confidence.partition(">")[0], math.inf)
    kinds = made_kinds(cascade._kinds, cascade.calibrations)
    # Decisions and outcomes bring scores of their own, of any size.
    unknown = cascade.combine in ("last", "vote") and len(kinds) < len(cascade.names)
    unbounded = unknown or not WITH_CONFIDENCE.isdisjoint(kinds.values())
    if unbounded and cascade.confidence not in AGREEMENTS:
        return
    for number, threshold in enumerate(cascade.thresholds):
        if largest + _TOLERANCE < threshold < NEVER:
            raise CascadeError(
                f"{where}: stage {number}: threshold {threshold:g} is above every score, for "
                f'{cascade.confidence} is at most {largest:g}. Fix it, or write "never" if no '
                "sample is to exit there"
            )
