"""The contracts that models and their sources keep."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from committee.errors import ModelError
from committee.models.spec import ModelSpec
from committee.predictions import Array, Outputs, checked_outputs

# What a pool file writes for weights that are drawn, not learned.
RANDOM = "random"


class Source(Protocol):
    """One scheme of the pool file: where models come from.

    ``committee.testing.check_source`` is this contract as a test.
    """

    form: ClassVar[str]
    """How it is written, for errors: ``timm:NAME``."""

    weights: ClassVar[frozenset[str]]
    """Which weights a pool file may ask for beside its own: ``file``, ``random``."""

    engines: ClassVar[tuple[str, ...]]
    """Engines that run its models, its own first; of :data:`~committee.models.spec.ENGINES`."""

    def located(self, text: str, folder: Path) -> str:
        """What stands after the scheme, with paths made absolute from ``folder``.

        Raises:
            ValueError: If it has not the form; the message may be empty.
        """

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """The preprocessing that the publisher of a model states; weights are not touched.

        Args:
            text: What :meth:`located` returned.
            size: Height and width that the user wants; None for the published ones.

        Returns:
            Fields of :class:`~committee.models.Preprocessing`; those that are not stated are left
            out. ``size`` is stated if it can be.

        Raises:
            CommitteeError: If the model is unknown.
        """

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """Load a model.

        Raises:
            CommitteeError: If it cannot be loaded; the model's name stands in the line.
        """


class Model(Protocol):
    """A loaded model. It must be pure: the same input, the same outputs, whatever ran before."""

    @property
    def fingerprint(self) -> str:
        """Changes when weights or code change, or the engine or precision that it runs in."""

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one sample of the spec's size, or None if they are not known."""

    @property
    def parameters(self) -> int | None:
        """How many numbers were learned, or None if that is not known."""

    @property
    def engine(self) -> str:
        """What runs it, with its version and build."""

    def __call__(self, batch: Array) -> Any:
        """Map inputs (N, channels, height, width), float32, to outputs (N, C).

        A model of kind ``decisions`` returns a pair: classes (N,) and confidence (N,).
        """


def outputs_of(model: Model, spec: ModelSpec, batch: Array, first: int = 0) -> Outputs:
    """Run a model on a batch and check what it answers.

    Args:
        model: What to run.
        spec: What it is.
        batch: Inputs (N, channels, height, width), float32.
        first: Number of the batch's first sample, for the error.

    Raises:
        ModelError: If it fails, or does not answer with one row a sample.
        NotFiniteError, ShapeError: If its outputs cannot be used; the model is named.
    """
    where = f"model {spec.name!r}"
    answer = answer_of(model, spec, batch)
    pair = answer if spec.kind == "decisions" else (answer, None)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ModelError(f"{where}: decisions are a pair of classes (N,) and confidence (N,)")
    values, confidence = pair
    outputs = checked_outputs(where, spec.kind, values, confidence, first)
    if len(outputs) != len(batch):
        raise ModelError(f"{where}: answered {len(outputs)} rows to {len(batch)} samples")
    return outputs


def answer_of(model: Model, spec: ModelSpec, batch: Array) -> Any:
    """What a model answers to a batch, not yet checked; arguments as of :func:`outputs_of`.

    Raises:
        ModelError: If it fails.
    """
    where = f"model {spec.name!r}"
    try:
        return model(batch)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: failed on input {batch.shape} ({type(error).__name__}: {reason}). "
            "Do resolution and channels in the pool file fit the model?"
        ) from error


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def run_print(fingerprint: str, spec: ModelSpec, own: str) -> str:
    """The fingerprint of a model as it is run: another engine or precision is another model.

    Args:
        fingerprint: Of weights and code.
        spec: What the user asked for.
        own: The engine that the source takes by itself.
    """
    run = (spec.engine or own, spec.precision)
    if run == (own, "float32"):
        return fingerprint
    return hashlib.sha256(" ".join((fingerprint, *run)).encode()).hexdigest()[:16]
