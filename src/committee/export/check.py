"""Load an export and run it once before it is moved to its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, ExportError, ModelError, NotFiniteError
from committee.models.base import answer_of, outputs_of
from committee.models.engines.session import onnxruntime_session
from committee.models.inputs import fitted, inputs_of
from committee.models.load import load_models
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

# Largest difference of scores, as a share of the score.
_TOLERANCE = 1e-2


def check_graph(
    path: Path,
    cascade: Cascade,
    specs: Mapping[str, ModelSpec],
    inputs: Mapping[Preprocessing, str],
    rows: int,
    *,
    exact: bool = True,
) -> None:
    """Load a cascade that was written as one ONNX file, and compare it with its models on a batch.

    Args:
        path: The file.
        cascade: The rule.
        specs: Its models, by name.
        inputs: Name of each input, by how its images are resized.
        rows: Images a run.
        exact: True if the models see the same images as in the cascade, so that scores must agree.

    Raises:
        ExportError: If it does not load, fails where the models do not, or its scores differ.
        ModelError: If a model fails.
    """
    try:
        session = onnxruntime_session("export", path, 0)
    except ModelError as error:
        raise ExportError(f"{error}: onnxruntime does not load the new graph") from None
    reference = _reference(cascade, specs, next(iter(inputs)), rows)
    if reference is None:
        return
    images, expected = reference
    try:
        feed = {name: fitted(images, fit) for fit, name in inputs.items()}
        _, _, score, stage = session.run(None, feed)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"export: the new graph fails ({reason})") from None
    same = stage == expected.stage
    apart = np.abs(score - expected.score)[same] > _TOLERANCE * (1 + np.abs(expected.score[same]))
    if exact and apart.any():
        raise ExportError(
            "export: the new graph decides otherwise than the models: its score is "
            f"{score[same][apart][0]:.4g} where theirs is {expected.score[same][apart][0]:.4g}. "
            "Write a bundle instead: --out FOLDER"
        )


def check_models(specs: Mapping[str, ModelSpec]) -> None:
    """Load models and run each on one sample; a ModelError names the first that fails."""
    for model, spec in load_models(specs.values()):
        blank: Any = np.zeros((1, *spec.preprocessing.shape), np.float32)
        answer_of(model, spec, blank)


def _reference(
    cascade: Cascade, specs: Mapping[str, ModelSpec], fit: Preprocessing, rows: int
) -> tuple[Array, Decisions] | None:
    """Return images and the models' decisions on them; None if a model gives NaN."""
    models = dict(zip(specs, load_models(specs.values()), strict=True))
    noise = np.random.default_rng(0).integers(0, 256, (rows, *fit.size, fit.channels), np.uint8)
    failed: CommitteeError | None = None
    # A model may fail on noise, but not on everything.
    for images in (noise, np.zeros_like(noise)):

        def answer(request: Request, images: Array = images) -> Answers:
            return {
                name: outputs_of(
                    *models[name],
                    inputs_of(images[request.rows], specs[name].preprocessing),
                )
                for name in request.models
            }

        try:
            return images, drive(decide(cascade, rows), answer)
        except NotFiniteError:
            return None
        except CommitteeError as error:
            failed = error
    raise failed or ModelError("export: no model runs")
