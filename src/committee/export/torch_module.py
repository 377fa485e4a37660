"""A cascade as a torch module: the same decisions, on the device where its models are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from committee.arrays import Array
from committee.errors import ExportError, ModelError, UnknownNameError
from committee.export.model_files import refuse_clips, segmenting
from committee.models.engines.torch_module import TorchModel
from committee.models.load import load_models, specs_of
from committee.rule.calibration import made_kinds
from committee.rule.cascade import Cascade
from committee.rule.combinations import COMBINES
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.namespace import Floats
from committee.rule.outputs import Kind, Outputs
from committee.rule.scores import AGREEMENTS, CONFIDENCES, is_portable
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing


class _Answer(NamedTuple):
    """What a cascade decided for N samples; all on the device of the inputs.

    Args:
        predicted: Class index, (N,), int64.
        confidence: Score of the combination at the exit, (N,), float64.
        stage: Stage of exit, from 0, (N,), int64.
        outputs: The combination at the exit, (N, C), float64: logits, or probabilities if that is
            what is combined; of a vote, shares of votes; of models calibrated per class the
            predicted class, (N,).
    """

    predicted: Tensor
    confidence: Tensor
    stage: Tensor
    outputs: Tensor


class _Torch:
    """Torch as an :class:`~committee.rule.namespace.Eager` namespace, on one device."""

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    where = staticmethod(torch.where)
    copy = staticmethod(torch.clone)

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def floats(self, values: Tensor) -> Tensor:
        return values.double()

    def minimum(self, values: Tensor, bound: float) -> Tensor:
        return values.clamp(max=bound)

    def maximum(self, values: Tensor, bound: float) -> Tensor:
        return values.clamp(min=bound)

    def sum(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.sum(1, keepdim=keepdims)

    def max(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.amax(1, keepdim=keepdims)

    def argmax(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.argmax(1, keepdim=keepdims)

    def two_largest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        two = values.topk(2, dim=1).values
        return two[:, 0], two[:, 1]

    def next_larger(self, values: Tensor) -> Tensor:
        return values.nextafter(torch.full_like(values, torch.inf))

    def one_hot(self, index: Tensor, like: Tensor) -> Tensor:
        return torch.zeros_like(like, dtype=torch.float64).scatter(1, index, 1.0)

    def take_along(self, values: Tensor, index: Tensor) -> Tensor:
        return values.gather(1, index)

    def put_along(self, values: Tensor, index: Tensor, new: Tensor) -> Tensor:
        return values.scatter(1, index, new)

    def straight_pieces(
        self, values: Tensor, knots: Floats, heights: Floats, slopes: Floats
    ) -> Tensor:
        def table(numbers: Floats) -> Tensor:
            return _table(numbers, self._device)

        piece = torch.searchsorted(table(knots), values, right=True)
        start, height = table((knots[0], *knots)), table((heights[0], *heights))
        return height[piece] + table(slopes)[piece] * (values - start[piece])

    def column(self, values: Tensor) -> Tensor:
        return values[:, None]

    def lookup(self, table: Array, *index: Tensor) -> Tensor:
        inside = (i.clamp(max=end - 1) for i, end in zip(index, table.shape, strict=False))
        return torch.as_tensor(table, device=self._device)[tuple(inside)]

    def reached(self, values: Tensor, knots: Floats) -> Tensor:
        return torch.searchsorted(_table(knots, self._device), values, right=True)

    def by_rows(self, function: Callable[[Any], Any], values: Tensor) -> Any:
        return function(values.double())

    def checked_scores(self, scores: Tensor, confidence: str) -> Tensor:
        """Make scores that are not finite NaN, which never exits: the flow sees it at its end."""
        return torch.where(scores.isfinite(), scores, torch.nan)

    def arange(self, count: int) -> Tensor:
        return torch.arange(count, device=self._device)

    def full(self, count: int, value: int) -> Tensor:
        return torch.full((count,), value, device=self._device)

    def where_true(self, condition: Tensor) -> Tensor:
        return torch.nonzero(condition).squeeze(1)  # here the host waits


class CascadeModule(nn.Module):
    """A cascade of torch modules, for inference only: ``train()`` leaves it as it is.

    After each stage the undecided samples are gathered on the device and go on alone; the host
    waits for the device once a stage. Scores are computed in float64, which some devices do not
    have (MPS).

    Args:
        cascade: The rule.
        modules: The models by name; each maps inputs (n, …) to outputs (n, C).
        kinds: Kind of outputs of each model, by name: logits or probabilities.
        inputs: For each model, which of the tensors supplied to :meth:`forward` it takes.
        preprocessings: How each of these tensors is prepared, if that is known.

    Attributes:
        preprocessings: As supplied; :func:`committee.models.inputs.prepared` follows them.
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
        for name, kind in made_kinds(kinds, cascade.calibrations).items():
            if name in cascade.names:
                _check_kind(cascade, name, kind, kinds[name])
        if not is_portable(cascade.confidence):
            usable = ", ".join([*filter(is_portable, CONFIDENCES), *AGREEMENTS])
            raise ExportError(
                f"as_module: confidence {cascade.confidence!r} is your own function of NumPy's "
                f"arrays. Let it compute with a third parameter xp, or take one of: {usable}"
            )
        self.cascade, self.preprocessings = cascade, tuple(preprocessings)
        self._kinds, self._inputs = dict(kinds), dict(inputs)
        self._numbers = {name: number for number, name in enumerate(cascade.names)}
        # Names may hold points, which a ModuleDict does not take.
        self.models = nn.ModuleList(modules[name] for name in cascade.names)
        self.eval()

    def train(self, mode: bool = True) -> CascadeModule:
        """Stay in evaluation mode: a decision that depends on the batch would be no decision."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> _Answer:
        """Decide on N samples.

        Args:
            inputs: Prepared images (N, channels, height, width), one tensor for each of
                the cascade's preprocessings, in the order in which models first use them.
        """
        self._check(inputs)
        count, device = len(inputs[0]), inputs[0].device
        sound = torch.ones(count, dtype=torch.bool, device=device)

        def answer(request: Request) -> Answers:
            rows: Any = request.rows
            everyone = len(rows) == count
            needed = {self._inputs[name] for name in request.models}
            taken = {each: inputs[each] if everyone else inputs[each][rows] for each in needed}
            answers = {}
            for name in request.models:
                values = self.models[self._numbers[name]](taken[self._inputs[name]]).double()
                # Minus infinity is a class that is masked; the largest is NaN if any is. What was
                # not finite once stays NaN, which never exits, so that the flow sees it.
                sound[rows] &= values.amax(1).isfinite()
                values = values.where(sound[rows][:, None], torch.nan)
                answers[name] = Outputs(self._kinds[name], cast(Any, values))
            return answers

        xp: Any = _Torch(device)
        made: Any = drive(decide(self.cascade, count, xp, keep_values=True), answer)
        return _Answer(made.predicted, made.score, made.stage, made.values)

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        needed = max(self._inputs.values()) + 1
        if len(inputs) != needed or len({len(each) for each in inputs}) != 1:
            shapes = ", ".join(str(tuple(each.shape)) for each in inputs)
            raise ModelError(
                f"as_module: needs {needed} tensors of the same samples, one for each "
                f"preprocessing in the order of use, not {shapes or 'none'}"
            )


@lru_cache(maxsize=256)
def _table(values: Floats, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)


def as_module(
    cascade: Cascade,
    modules: Mapping[str, nn.Module] | None = None,
    *,
    allow_code: Collection[str] = (),
) -> CascadeModule:
    """Return a cascade as a torch module.

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
    supplied = dict(modules or {})
    for name in supplied:
        if name not in cascade.names:
            raise UnknownNameError.of("as_module", "model", name, cascade.names)
    known = specs_of(cascade) if cascade.is_loadable else {}
    refuse_clips(known.values())
    if segmenting(cascade):
        raise ExportError(
            "as_module: the cascade segments, which no module does. Run the cascade file itself: "
            "committee run, or export it as a folder"
        )
    if not known and set(supplied) < set(cascade.names):
        missing = ", ".join(name for name in cascade.names if name not in supplied)
        raise ExportError(
            f"as_module: the cascade does not say how to load {missing}; give the modules: "
            "as_module({name: module})"
        )
    own = _loaded([known[name] for name in cascade.names if name not in supplied], allow_code)
    loaded = {name: supplied[name] if name in supplied else own[name] for name in cascade.names}
    recipes: list[Preprocessing] = list(dict.fromkeys(spec.image for spec in known.values()))
    return CascadeModule(
        cascade,
        loaded,
        {name: known[name].kind if known else "logits" for name in cascade.names},
        {name: recipes.index(known[name].image) if known else 0 for name in cascade.names},
        recipes,
    )


def _loaded(specs: Sequence[ModelSpec], allow_code: Collection[str]) -> dict[str, nn.Module]:
    """Return modules by the models' names; one module for models that are one set of weights."""
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


def _check_kind(cascade: Cascade, name: str, kind: Kind, raw: Kind) -> None:
    """Refuse a model whose kind, once calibrated, cannot be combined or is no tensor of classes."""
    usable = ("logits",) if cascade.combine == "mean_logits" else ("logits", "probabilities")
    if cascade.combine == "last" and raw != "decisions":
        usable = (*usable, "decisions")
    if kind not in usable or raw == "decisions":
        others = ", ".join(each for each in COMBINES if each != cascade.combine)
        raise ExportError(
            f"as_module: model {name!r} gives {kind}, which {cascade.combine} cannot use in a "
            f"module. Other combinations: {others}"
        )
