"""A cascade as a torch module: the same decisions, wherever its models are.

The exit rule here is a translation of :func:`committee.rule.flow.exits` to tensors on a device; the
tests hold it to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from committee.errors import ExportError, ModelError, NotFiniteError, UnknownNameError
from committee.export.model_files import refuse_clips, segmenting
from committee.models.engines.torch_module import TorchModel
from committee.models.load import load_models, specs_of
from committee.rule.calibration import Calibration
from committee.rule.cascade import ALWAYS, NEVER, Cascade
from committee.rule.combinations import COMBINES
from committee.rule.outputs import Kind
from committee.rule.scores import BUILT_IN, SUREST
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing


class Answer(NamedTuple):
    """What a cascade decided for N samples; all on the device of the inputs.

    Args:
        predicted: Class index, (N,), int64.
        confidence: Score of the combination at the exit, (N,), float64.
        stage: Stage of exit, from 0, (N,), int64.
        outputs: The combination at the exit, (N, C), float64: logits, or probabilities if that is
            what is combined.
    """

    predicted: Tensor
    confidence: Tensor
    stage: Tensor
    outputs: Tensor


class CascadeModule(nn.Module):
    """A cascade of torch modules, for inference only: ``train()`` leaves it as it is.

    After each stage the undecided samples are gathered on the device and go on alone; the host
    waits for the device once a stage. Scores are computed in float64, which some devices do not
    have (MPS).

    Args:
        cascade: The rule.
        modules: The models by name; each maps inputs (n, …) to outputs (n, C).
        kinds: Kind of outputs of each model, by name: logits or probabilities.
        inputs: For each model, which of the tensors given to :meth:`forward` it takes.
        preprocessings: How each of these tensors is prepared, if that is known.

    Attributes:
        preprocessings: As given; :func:`committee.models.prepared` follows them.

    Raises:
        ExportError: If the models' kinds or the confidence function cannot be used.
        UnknownNameError: If a model of the cascade has no module.
    """

    def __init__(
        self,
        cascade: Cascade,
        modules: Mapping[str, nn.Module],
        kinds: Mapping[str, Kind],
        inputs: Mapping[str, int],
        preprocessings: Sequence[Preprocessing] = (),
    ) -> None:
        super().__init__()
        cascade = cascade.of_kinds(kinds.values())
        for name in cascade.names:
            if name not in modules:
                raise UnknownNameError.of("as_module", "module for the model", name, modules)
            _check_kind(cascade, name, kinds[name])
        if cascade.confidence not in BUILT_IN:
            raise ExportError(
                f"as_module: confidence {cascade.confidence!r} is your own function of arrays. "
                f"There are: {', '.join(BUILT_IN)}"
            )
        self.cascade, self.preprocessings = cascade, tuple(preprocessings)
        self._kinds, self._inputs = dict(kinds), dict(inputs)
        # Names may hold points, which a ModuleDict does not take.
        self.models = nn.ModuleList(modules[name] for name in cascade.names)
        self.eval()

    def train(self, mode: bool = True) -> CascadeModule:
        """Stay in evaluation mode: a decision that depends on the batch would be no decision."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Answer:
        """Decide on N samples.

        Args:
            inputs: Prepared images (N, channels, height, width), one tensor for each of
                the cascade's preprocessings, in the order in which models first use them.

        Raises:
            ModelError: If tensors are missing, or of different lengths.
            NotFiniteError: If a model answered with NaN or infinity.
        """
        self._check(inputs)
        count, device = len(inputs[0]), inputs[0].device
        rows = torch.arange(count, device=device)
        sound = torch.ones(count, dtype=torch.bool, device=device)
        answer: Answer | None = None
        ran: dict[str, Tensor] = {}
        waiting = iter(self.models)
        for index, stage in enumerate(self.cascade.stages):
            for name in stage.models:
                taken = inputs[self._inputs[name]]
                ran[name] = self._calibrated(name, next(waiting)(taken).double())
            values, kind = self._combined(ran)
            scores = _SCORES[self.cascade.confidence](values, kind)
            # Minus infinity is a class that is masked; the largest is NaN if any is.
            sound = sound & values.amax(1).isfinite() & scores.isfinite()
            own = Answer(values.argmax(1), scores, torch.full_like(rows, index), values)
            answer = _placed(answer, own, rows)
            if stage.threshold == ALWAYS:
                break
            if stage.threshold == NEVER:
                continue
            # What is not sound never leaves, so that whenever all have left, all was sound.
            left = (scores >= stage.threshold) & sound
            going = torch.nonzero(~left).squeeze(1)  # here the host waits
            if not len(going):
                return answer
            if len(going) < len(rows):
                rows, sound = rows[going], sound[going]
                ran = {name: outputs[going] for name, outputs in ran.items()}
                inputs = tuple(each[going] for each in inputs)
        assert answer is not None  # a cascade has a stage
        if not bool(sound.all()):  # here too, at the last stage only
            first = int(rows[~sound][0])
            raise NotFiniteError(
                f"as_module: NaN or infinite outputs, first at sample {first} of {count}. Are "
                "inputs and weights finite, and is the precision wide enough?"
            )
        return answer

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        needed = max(self._inputs.values()) + 1
        if len(inputs) != needed or len({len(each) for each in inputs}) != 1:
            told = ", ".join(str(tuple(each.shape)) for each in inputs)
            raise ModelError(
                f"as_module: needs {needed} tensors of the same samples, one for each "
                f"preprocessing in the order of use, not {told or 'none'}"
            )

    def _calibrated(self, name: str, outputs: Tensor) -> Tensor:
        calibration = self.cascade.calibrations.get(name)
        if calibration is None:
            return outputs
        made = _applied(calibration, outputs, self._kinds[name])
        # Who led before stays ahead where rounding let another overtake.
        before, after = outputs.argmax(1, keepdim=True), made.argmax(1, keepdim=True)
        ahead = made.gather(1, after).nextafter(made.new_tensor(torch.inf))
        ahead = ahead.where(before != after, made.gather(1, before))
        return made.scatter(1, before, ahead)

    def _combined(self, ran: Mapping[str, Tensor]) -> tuple[Tensor, Kind]:
        if self.cascade.combine == "last":
            newest = list(ran)[-1]
            return ran[newest], self._kinds[newest]
        # Summed in the order of the names, as the library does everywhere.
        names = sorted(ran)
        kind: Kind = "logits"
        values = [ran[name] for name in names]
        if self.cascade.combine == "mean_probabilities":
            values = [_softmax(ran[name], self._kinds[name]) for name in names]
            kind = "probabilities"
        total = values[0]
        for other in values[1:]:
            total = total + other
        return total / len(values), kind


def as_module(
    cascade: Cascade,
    modules: Mapping[str, nn.Module] | None = None,
    *,
    allow_code: Collection[str] = (),
) -> CascadeModule:
    """A cascade as a torch module.

    Args:
        cascade: The rule.
        modules: Models by name, for those that the cascade cannot load itself: from files that
            are no Python, or where it does not say how. They give logits, unless the cascade knows
            better.
        allow_code: Python files and modules that may be run, named by the user.

    Raises:
        ExportError: If a model is no torch module, or takes clips.
        ModelError: If a model cannot be loaded.
        UntrustedCodeError: If a model needs code that is not allowed.
    """
    given = dict(modules or {})
    for name in given:
        if name not in cascade.names:
            raise UnknownNameError.of("as_module", "model", name, cascade.names)
    known = specs_of(cascade) if set(cascade.names) <= set(cascade.models) else {}
    refuse_clips(known.values())
    if segmenting(cascade):
        raise ExportError(
            "as_module: the cascade segments, which no module does. Run the cascade file itself: "
            "committee run, or export it as a folder"
        )
    if not known and set(given) < set(cascade.names):
        missing = ", ".join(name for name in cascade.names if name not in given)
        raise ExportError(
            f"as_module: the cascade does not say how to load {missing}; give the modules: "
            "as_module({name: module})"
        )
    own = _loaded([known[name] for name in cascade.names if name not in given], allow_code)
    loaded = {name: given[name] if name in given else own[name] for name in cascade.names}
    recipes: list[Preprocessing] = list(
        dict.fromkeys(spec.preprocessing for spec in known.values())
    )
    return CascadeModule(
        cascade,
        loaded,
        {name: known[name].kind if known else "logits" for name in cascade.names},
        {name: recipes.index(known[name].preprocessing) if known else 0 for name in cascade.names},
        recipes,
    )


def _loaded(specs: Sequence[ModelSpec], allow_code: Collection[str]) -> dict[str, nn.Module]:
    """Modules by the models' names; one module for models that are one set of weights."""
    for spec in specs:
        if spec.engine not in ("", "torch"):
            raise ExportError(
                f"model {spec.name!r}: was chosen on {spec.engine}, and a module runs on torch; "
                f"give one: as_module({{{spec.name!r}: module}})"
            )
        # A graph is not loaded only to be refused.
        if spec.source.startswith("onnx:"):
            raise _no_module(spec)
    modules: dict[str, nn.Module] = {}
    for model, spec in load_models(specs, allow_code):
        if not isinstance(model, TorchModel):
            raise _no_module(spec)
        modules[spec.name] = model.module
    return modules


def _no_module(spec: ModelSpec) -> ExportError:
    return ExportError(
        f"model {spec.name!r}: {spec.source} is no torch module; give one: "
        f"as_module({{{spec.name!r}: module}})"
    )


def _check_kind(cascade: Cascade, name: str, kind: Kind) -> None:
    usable = ("logits",) if cascade.combine == "mean_logits" else ("logits", "probabilities")
    if kind not in usable:
        others = ", ".join(each for each in COMBINES if each != cascade.combine)
        raise ExportError(
            f"as_module: model {name!r} gives {kind}, which {cascade.combine} cannot use in a "
            f"module. Other combinations: {others}"
        )


def _placed(answer: Answer | None, own: Answer, rows: Tensor) -> Answer:
    """The answer so far, overwritten for some rows."""
    if answer is None:
        return own
    return Answer(*(
        whole.index_copy(0, rows, part) for whole, part in zip(answer, own, strict=True)
    ))  # fmt: skip


def _applied(calibration: Calibration, outputs: Tensor, kind: Kind) -> Tensor:
    """:meth:`committee.rule.calibration.Calibration.apply`, on tensors (n, C)."""
    if calibration.method == "temperature":
        if kind == "logits":
            return outputs * calibration.slopes[0]
        powers = outputs ** calibration.slopes[0]
        return powers * (outputs.sum(1, keepdim=True) / powers.sum(1, keepdim=True))
    logarithms = outputs.log_softmax(1) if kind == "logits" else outputs.log()
    mapped = _rising(calibration, logarithms)
    return mapped if kind == "logits" else mapped.softmax(1)


def _rising(calibration: Calibration, values: Tensor) -> Tensor:
    """What each straight piece contributes, summed from the left."""
    slopes, knots = calibration.slopes, calibration.knots
    if not knots:
        return values * slopes[0] + calibration.offset
    mapped = (values.clamp(max=knots[0]) - knots[0]) * slopes[0] + calibration.offset
    for slope, low, high in zip(slopes[1:], knots, (*knots[1:], math.inf), strict=True):
        mapped = mapped + (values.clamp(low, high) - low) * slope
    return mapped


def _softmax(values: Tensor, kind: Kind) -> Tensor:
    return values if kind == "probabilities" else values.softmax(1)


def _two_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    if values.shape[1] == 1:
        return values[:, 0], torch.full_like(values[:, 0], -torch.inf)
    two = values.topk(2, dim=1).values
    return two[:, 0], two[:, 1]


def _max_prob(values: Tensor, kind: Kind) -> Tensor:
    return _softmax(values, kind).amax(1)


def _logit_gap(values: Tensor, kind: Kind) -> Tensor:
    first, second = _two_largest(values)
    if kind == "probabilities":
        first, second = first.log(), second.clamp(min=0).log()
    return (first - second).clamp(max=SUREST)


def _prob_gap(values: Tensor, kind: Kind) -> Tensor:
    first, second = _two_largest(_softmax(values, kind))
    return first - second.clamp(min=0)


def _neg_entropy(values: Tensor, kind: Kind) -> Tensor:
    probabilities = _softmax(values, kind)
    scores: Tensor = torch.special.xlogy(probabilities, probabilities.clamp(min=0)).sum(1)
    return scores


_SCORES: dict[str, Callable[[Tensor, Kind], Tensor]] = {
    "max_prob": _max_prob,
    "logit_gap": _logit_gap,
    "prob_gap": _prob_gap,
    "neg_entropy": _neg_entropy,
}
