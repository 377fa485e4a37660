"""Time cascades of the paper's shapes as torch modules, on a GPU or wherever torch runs.

    python benchmarks/gpu.py [--device cuda] [--shapes efficientnet vit] [--dtype float32]
        [--samples 1024] [--batch 128] [--rounds 5] [--out benchmarks/results/gpu.json]

The shapes are EfficientNet B3 + B5 + B5 + B5 against B7, and ViT-B + ViT-L at 384 against ViT-L, of
timm with random weights. Thresholds are set so that samples exit in the shares of the paper's
table 16: 67.3, 21.6, 5.6 and 5.5 % for the EfficientNets. The table has no ViT; 67.3 % exit early
there too, which is our choice. Inputs are random and lie ready on the device.

Throughput is that of calls with a whole batch, run in turns: the module, the largest model alone,
and a loop written by hand with boolean masks. The ideal is the sum over stages of the share that
reaches a stage times what its models alone take a sample at the same batch size. Latency is that of
calls with one sample, beside the bare calls of the models that ran for it.

It has run on processors only so far, with the shape `tiny`; no GPU was at hand.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from committee import Cascade
from committee.export.torch_module import CascadeModule
from committee.rule.flow import Decisions

RATIOS = (0.673, 0.216, 0.056, 0.055)


@dataclass(frozen=True)
class Shape:
    """Networks of timm with their input sizes, the largest one, and the shares that exit."""

    stages: tuple[tuple[str, int], ...]
    largest: tuple[str, int]
    ratios: tuple[float, ...]


_B3, _B5, _B7 = (
    ("tf_efficientnet_b3", 300), ("tf_efficientnet_b5", 456), ("tf_efficientnet_b7", 600)
)  # fmt: skip
SHAPES = {
    "efficientnet": Shape((_B3, _B5, _B5, _B5), _B7, RATIOS),
    "vit": Shape(
        (("vit_base_patch16_384", 384), ("vit_large_patch16_384", 384)),
        ("vit_large_patch16_384", 384),
        (RATIOS[0], 1 - RATIOS[0]),
    ),
    "tiny": Shape(
        (("test_resnet", 32), ("test_resnet", 64), ("test_efficientnet", 64)),
        ("test_efficientnet", 64),
        (0.5, 0.25, 0.25),
    ),
}


class Case:
    """One shape on one device: the models, random inputs, and a cascade with its thresholds."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype, samples: int, batch: int):
        torch.manual_seed(0)
        self.device, self.batch, self.shape = torch.device(device), batch, shape
        sizes = list(dict.fromkeys(size for _, size in shape.stages))
        self.names = [f"{number}-{name}" for number, (name, _) in enumerate(shape.stages)]
        self.which = {
            name: sizes.index(size)
            for name, (_, size) in zip(self.names, shape.stages, strict=True)
        }
        self.networks = {
            name: self._network(net, dtype)
            for name, (net, _) in zip(self.names, shape.stages, strict=True)
        }
        self.largest = self._network(shape.largest[0], dtype)
        self.inputs = [self._random(samples, size, dtype) for size in sizes]
        self.large_inputs = self._random(samples, shape.largest[1], dtype)
        self.module = self._cascade()

    def _network(self, name: str, dtype: torch.dtype) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False)
        return network.eval().to(self.device, dtype)

    def _random(self, samples: int, size: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(samples, 3, size, size, dtype=dtype).to(self.device)

    def _module(self, thresholds: Sequence[float]) -> CascadeModule:
        names = self.names[: len(thresholds) + 1]
        cascade = Cascade.of(names, thresholds)
        return CascadeModule(cascade, self.networks, dict.fromkeys(names, "logits"), self.which)

    def _cascade(self) -> CascadeModule:
        """Thresholds are found stage by stage, among those that reach it."""
        thresholds: list[float] = []
        left = 0.0
        for ratio in self.shape.ratios[:-1]:
            # A cascade that ends here: a sample that exited at no earlier stage exits here.
            found = self.decided(self._module(thresholds))
            scores = np.sort(found.score[found.stage == len(thresholds)])
            stay = round(len(scores) * (1 - ratio / (1 - left)))
            thresholds.append(float(scores[stay - 1 : stay + 1].mean()))
            left += ratio
        return self._module(thresholds)

    def decided(self, module: CascadeModule) -> Decisions:
        """Decisions on all samples, batch by batch."""
        parts = [module(*self.some(start)) for start in range(0, len(self.inputs[0]), self.batch)]
        predicted, score, stage = (
            torch.cat([getattr(part, name) for part in parts]).cpu().numpy()
            for name in ("predicted", "confidence", "stage")
        )
        return Decisions(predicted, score, stage)

    def some(self, start: int, count: int | None = None) -> list[Tensor]:
        """A batch of each input."""
        return [each[start : start + (count or self.batch)] for each in self.inputs]

    def by_hand(self, inputs: list[Tensor]) -> Tensor:
        """Stage by stage with boolean masks, as a user would write it."""
        count = len(inputs[0])
        total: Any = 0.0
        predicted = torch.zeros(count, dtype=torch.long, device=self.device)
        undecided = torch.ones(count, dtype=torch.bool, device=self.device)
        for k, name in enumerate(self.names):
            logits = self.networks[name](inputs[self.which[name]][undecided]).double()
            total = total + logits
            mean = total / (k + 1)
            predicted[undecided] = mean.argmax(1)
            if k == len(self.names) - 1:
                break
            staying = mean.softmax(1).amax(1) < self.module.cascade.thresholds[k]
            if not staying.any():
                break
            total = total[staying]
            undecided[undecided.clone()] = staying
        return predicted

    def seconds(self, function: Callable[[], object]) -> float:
        """Of one call, with the work left to the device."""
        self._wait()
        began = time.perf_counter()
        function()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def in_turns(
    case: Case, functions: dict[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Median seconds of each, run in turns after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            spent = case.seconds(function)
            if turn:
                times[name].append(spent)
    return {name: float(np.median(each)) for name, each in times.items()}


def throughput(case: Case, rounds: int) -> dict[str, Any]:
    """Milliseconds a sample in batches."""
    count, batch = len(case.inputs[0]), case.batch
    starts = range(0, count, batch)

    def alone(network: nn.Module, inputs: Tensor) -> Callable[[], object]:
        return lambda: [network(inputs[at : at + batch]) for at in starts]

    spent = in_turns(
        case,
        {
            "cascade": lambda: [case.module(*case.some(at)) for at in starts],
            "by hand": lambda: [case.by_hand(case.some(at)) for at in starts],
            "largest": alone(case.largest, case.large_inputs),
        }
        | {name: alone(case.networks[name], case.inputs[case.which[name]]) for name in case.names},
        rounds,
    )
    ms = {name: seconds / count * 1e3 for name, seconds in spent.items()}
    stage = case.decided(case.module).stage
    reach = [float((stage >= k).mean()) for k in range(len(case.names))]
    ideal = sum(share * ms[name] for share, name in zip(reach, case.names, strict=True))
    return {
        "ms_per_sample": ms,
        "exit_ratios": [float((stage == k).mean()) for k in range(len(case.names))],
        "ideal_ms_per_sample": ideal,
        "of_the_ideal_rate": ideal / ms["cascade"],
        "by_hand_over_cascade": ms["by hand"] / ms["cascade"],
        "speedup_over_the_largest": ms["largest"] / ms["cascade"],
    }


def latency(case: Case, rounds: int) -> dict[str, Any]:
    """Milliseconds of calls with one sample: the cascade, and the bare models that ran."""
    stage = case.decided(case.module).stage
    single = {name: case.inputs[case.which[name]][:1] for name in case.names}
    bare = in_turns(
        case,
        {name: lambda name=name: case.networks[name](single[name]) for name in case.names}
        | {"largest": lambda: case.largest(case.large_inputs[:1])},
        rounds,
    )
    # One sample of each exit, weighted by how many exit there.
    firsts = {k: int(np.flatnonzero(stage == k)[0]) for k in np.unique(stage).tolist()}
    own = in_turns(
        case,
        {str(k): lambda row=row: case.module(*case.some(row, 1)) for k, row in firsts.items()},
        rounds,
    )
    weights = {k: float((stage == k).mean()) for k in firsts}
    mean = sum(weights[k] * own[str(k)] for k in firsts)
    ran = sum(weights[k] * sum(bare[name] for name in case.names[: k + 1]) for k in firsts)
    return {
        "mean_ms": mean * 1e3,
        "bare_models_that_ran_ms": ran * 1e3,
        "by_exit_ms": {f"stage {k}": own[str(k)] * 1e3 for k in firsts},
        "largest_ms": bare["largest"] * 1e3,
    }


def measured(shape: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one shape."""
    dtype = getattr(torch, options.dtype)
    with torch.inference_mode():
        case = Case(SHAPES[shape], options.device, dtype, options.samples, options.batch)
        summary = {
            "stages": case.names,
            "largest": SHAPES[shape].largest[0],
            "throughput": throughput(case, options.rounds),
            "latency": latency(case, options.rounds),
        }
        same = case.decided(case.module).predicted
        hand = torch.cat([
            case.by_hand(case.some(at)) for at in range(0, options.samples, options.batch)
        ]).cpu().numpy()  # fmt: skip
        summary["same_as_by_hand"] = int((same == hand).sum())
    return summary


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Under what the figures were measured."""
    cuda = options.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if cuda else "processor",
        "torch": torch.__version__,
        "timm": timm.__version__,
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if cuda else None,
        "samples": options.samples,
        "batch": options.batch,
        "rounds": options.rounds,
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["efficientnet", "vit"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Where the figures go as JSON.")
    options = parser.parse_args(words)
    summary = {"conditions": conditions(options)}
    for shape in options.shapes:
        summary[shape] = measured(shape, options)
    text = json.dumps(summary, indent=1)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
