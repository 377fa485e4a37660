"""What a request is answered: decisions as tensors, or as labels with scores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import RequestError, UnknownNameError
from committee.rule.calibration import made_kinds
from committee.rule.cascade import Cascade
from committee.rule.outputs import Kind
from committee.rule.scores import softmax
from committee.run.decision import Decision, class_name
from committee.run.runner import Runner
from committee.serve.calls import Served
from committee.serve.oip import InferRequest
from committee.serve.tensors import BYTES, Column, Tensor

# The outputs of a request, with their types; the first five come unless others are asked for.
OUTPUTS = {
    "class": "INT64",
    "label": BYTES,
    "confidence": "FP64",
    "stage": "INT32",
    "cost": "FP64",
    "probabilities": "FP32",
    "limited": "BOOL",
    "explanation": BYTES,
    "error": BYTES,
}
_USUAL = ("class", "label", "confidence", "stage", "cost")

# Of each output that is a field of a decision, or follows from it: what a sample that failed has,
# and the field.
_COLUMNS: dict[str, tuple[Any, Any]] = {
    "class": (-1, attrgetter("class_index")),
    "label": ("", attrgetter("class_name")),
    "confidence": (0.0, attrgetter("confidence")),
    "stage": (-1, attrgetter("stage")),
    "cost": (0.0, attrgetter("cost")),
    "limited": (False, None),
    "explanation": ("", None),
}


def check_outputs(names: Collection[str], runner: Runner) -> None:
    """Refuse outputs that the cascade does not have.

    Raises:
        RequestError: If a name is unknown, or the models give no probabilities.
    """
    for name in names:
        if name not in OUTPUTS:
            raise RequestError(str(UnknownNameError.of("request", "output", name[:60], OUTPUTS)))
    if "probabilities" in names and _kind(runner) is None:
        raise RequestError("output 'probabilities': the models of this cascade give none")
    if "cost" in names and not runner.unit:
        raise RequestError("output 'cost': the costs of the models are not known")


def answer_tensors(
    runner: Runner, request: InferRequest, served: Sequence[Served]
) -> list[Tensor | Column]:
    """Return the outputs that a request wants, a row a sample.

    A sample that failed has class -1, and the output ``error`` says why.
    """
    failed = any(each.reason for each in served)
    names = list(request.outputs) or [name for name in _USUAL if name != "cost" or runner.unit]
    names += ["limited"] if request.max_stage is not None else []
    names += ["explanation"] if request.explain else []
    names += ["error"] if failed else []
    return [_tensor(name, runner, request, served) for name in dict.fromkeys(names)]


def _tensor(
    name: str, runner: Runner, request: InferRequest, served: Sequence[Served]
) -> Tensor | Column:
    if name == "probabilities":
        return Tensor(name, OUTPUTS[name], _probability_rows(runner, served))
    if name == "error":
        return Column(name, BYTES, [each.reason for each in served])
    failed, field = _COLUMNS[name]
    decisions = [each.decision for each in served]
    if field is not None and None not in decisions:
        values = [*map(field, decisions)]
    elif field is not None:
        values = [failed if made is None else field(made) for made in decisions]
    else:
        say = is_limited if name == "limited" else explanation
        about = runner.cascade, request.max_stage
        values = [failed if made is None else say(made, *about) for made in decisions]
    return Column(name, OUTPUTS[name], values)


def is_limited(made: Decision, cascade: Cascade, limit: int | None) -> bool:
    """Return True if a sample exited only because no later stage might run."""
    return made.stage == limit and made.confidence < cascade.stages[made.stage].threshold


def explanation(made: Decision, cascade: Cascade, limit: int | None) -> str:
    """Return in one line why a sample exited where it did."""
    stage, last = cascade.stages[made.stage], len(cascade.stages) - 1
    where = f"stage {made.stage} ({' + '.join(stage.models)})"
    score = f"{cascade.confidence} {made.confidence:.4g}"
    if is_limited(made, cascade, limit):
        return f"{where}: {score} is below {stage.threshold:.4g}, but no later stage may run"
    if made.stage == last:
        return f"{where}: {score}; the last stage always exits"
    return f"{where}: {score} reaches {stage.threshold:.4g}"


def labels_with_scores(
    runner: Runner, served: Served, top: int, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return the likeliest labels of a sample, as Hugging Face's image classification does.

    Each also says where the sample exited, at which confidence and cost; where a request limits
    the stages, also whether the sample would have gone on.

    Raises:
        RequestError: 422 with the reason if the sample failed.
    """
    made = served.decision
    if made is None:
        raise RequestError(served.reason, 422)
    about = {"stage": made.stage, "confidence": made.confidence, "cost": made.cost}
    about |= {} if limit is None else {"limited": is_limited(made, runner.cascade, limit)}
    if _kind(runner) is None or served.values is None:
        return [{"label": made.class_name, "score": made.confidence, **about}]
    shares, first = _shares(runner, served.values[None])[0], made.class_index
    # What was decided stands first, also among equals.
    order = [first, *(row for row in np.argsort(-shares, kind="stable").tolist() if row != first)]
    classes = runner.cascade.classes
    return [
        {"label": class_name(classes, row), "score": float(shares[row]), **about}
        for row in order[:top]
    ]


def _probability_rows(runner: Runner, served: Sequence[Served]) -> Array:
    rows = [
        None if each.values is None else _shares(runner, each.values[None])[0] for each in served
    ]
    count = next((len(row) for row in rows if row is not None), len(runner.cascade.classes))
    empty = np.zeros(count)
    return np.stack([empty if row is None else row for row in rows]).astype(np.float32)


def _shares(runner: Runner, values: Array) -> Array:
    """Return probabilities (N, C) of combinations."""
    shares: Array = softmax(values, _kind(runner) or "logits")
    return shares


def _kind(runner: Runner) -> Kind | None:
    """Return the kind of the combinations; None if they are no rows of numbers by class."""
    cascade = runner.cascade
    kinds = {name: spec.kind for name, spec in runner.specs.items()}
    made = {*made_kinds(kinds, cascade.calibrations).values()}
    if not made <= {"logits", "probabilities"}:
        return None  # a vote with decisions is a decision
    if cascade.combine in ("mean_probabilities", "vote"):
        return "probabilities"
    return made.pop() if len(made) == 1 else None
