"""Options and arguments that several commands share, each with its help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer

from committee.errors import CascadeError, CostError, UnknownNameError
from committee.rule.combinations import COMBINES
from committee.rule.scores import AGREEMENTS, BUILT_IN
from committee.selection.front import check_within
from committee.selection.options import OPTION_HELP
from committee.selection.targets import Target

_N = TypeVar("_N", int, float)

# The exit code of a check that fails: too many flips, or a promise that is broken or void.
FAILED = 1

# Every command has this one.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

# Models, and how they are loaded.
PoolPath = Annotated[str, typer.Argument(metavar="POOL.toml", help="The pool file.")]
CascadePath = Annotated[
    str,
    typer.Argument(
        metavar="CASCADE",
        help="A cascade file, a bundle, a cascade as ONNX file, or hf://OWNER/NAME[@REVISION].",
    ),
]
LoadedAs = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="POOL.toml",
        help="Load the models as this pool file says, not as the cascade file does.",
    ),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="What the pool file may run: a Python file or module, or a .skops file. Repeatable.",
    ),
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Only this model. Repeatable.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Samples per forward pass; default: 32 images, 4 clips or 256 records."
    ),
]

# Samples.
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH",
        help="A folder with one folder of files per class; a csv of paths and labels; an npz or "
        "npy of images; a folder saved by Hugging Face datasets; one image or clip; "
        "embedded:val or embedded:test of the demo; NAME:REST of a plug-in. Records: csv, jsonl, "
        "parquet, npz, npy, a saved folder, or files as bytes; TABLE:label=COLUMN,id=COLUMN.",
    ),
]
Rows = Annotated[
    str | None,
    typer.Option(metavar="START:STOP:STEP", help="Take only these samples, as in Python."),
]
Fraction = Annotated[
    str | None,
    typer.Option(
        metavar="F|START:STOP",
        help="Take a share of every class, 0 to 1; the split 'test' takes the rest.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Chooses the samples of --fraction; default: 0.")]
SkipBroken = Annotated[
    bool,
    typer.Option(
        "--skip-broken",
        help="Skip samples that cannot be read, or on which a model fails, and name them.",
    ),
]

# Stores.
Store = Annotated[str, typer.Argument(metavar="STORE", help="Predictions: STORE, or STORE/SPLIT.")]
Stores = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="Predictions: STORE, STORE/SPLIT, or a folder of stores, whose samples count as one "
        "split and need not fit in memory.",
    ),
]
StoreFolder = Annotated[
    str, typer.Argument(metavar="STORE", help="Predictions: the folder of the store.")
]
NewStore = Annotated[str, typer.Option(help="Folder of the store.")]
SplitName = Annotated[str, typer.Option(help="Name of the split.")]
ValSplit = Annotated[str | None, typer.Option(help="The split that chooses; default: val.")]
TestSplit = Annotated[str | None, typer.Option(help="The split that evaluates; default: test.")]

# Targets.
Match = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Cheapest that is as accurate as MODEL.")
]
Within = Annotated[
    float | None,
    typer.Option(help="With --match: the accuracy it may lose, 0 to 1; default: 0."),
]
MinAccuracy = Annotated[
    float | None, typer.Option(help="Cheapest with at least this accuracy, 0 to 1.")
]
CostLimit = Annotated[
    str | None,
    typer.Option(
        metavar="COST",
        help="Where costs differ by sample, what a promise of --max-cost needs: the most that one "
        "sample can cost, all stages together.",
    ),
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="COST|PERCENT",
        help="Most accurate for at most this average cost: 5M, 1.2G, or 50% of the cost of the "
        "model of --match, else of the most accurate model.",
    ),
]

# Search and scoring.
ConfidenceName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"{OPTION_HELP['confidence']} Names: {', '.join((*BUILT_IN, *AGREEMENTS))}.",
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(metavar="|".join((*COMBINES, "auto")), help=OPTION_HELP["combine"]),
]
Grid = Annotated[int, typer.Option(help=OPTION_HELP["grid"])]
MaxModels = Annotated[int | None, typer.Option(help="Most models of a committee; default: 3.")]
Calibrated = Annotated[
    bool,
    typer.Option("--calibrated", help="Apply the calibrations that committee calibrate fitted."),
]
SelfCascades = Annotated[
    bool,
    typer.Option(
        "--self-cascades", help="Only cascades of one set of weights at rising resolutions."
    ),
]
Unit = Annotated[str | None, typer.Option(help="Unit of the costs, if there are several.")]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="top-K|balanced|weights:FILE.csv",
        help="What accuracy is: the label is among the K likeliest classes; the mean of the "
        "recalls of all classes; or samples weigh what their class does in a file of class and "
        "weight. Default: top-1.",
    ),
]
AgreeWith = Annotated[
    str | None,
    typer.Option(
        metavar="A[,B,...]", help="Replace labels by what this model or ensemble predicts."
    ),
]

# Alarms.
Alpha = Annotated[
    float, typer.Option(help="Chance that a false alarm is ever raised, however many samples.")
]
Tau = Annotated[
    float, typer.Option(help="How far a share of exits may lie from the certified one.")
]
MostFailed = Annotated[float, typer.Option(help="The share of samples that may fail.")]

# Ray.
On = Annotated[
    str | None,
    typer.Option(metavar="ray", help="Run the models on Ray (the extra ray); see docs/scale.md."),
]
CountOn = Annotated[
    str | None,
    typer.Option(
        "--on", metavar="ray", help="Count samples on Ray (the extra ray); see docs/scale.md."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="With --on ray: the cluster. Default: what RAY_ADDRESS names, else Ray is started "
        "on this machine.",
    ),
]
Cpus = Annotated[
    float, typer.Option(min=0, help="With --on ray: processors of one worker that runs models.")
]
Gpus = Annotated[
    float, typer.Option(min=0, help="With --on ray: GPUs of one worker that runs models.")
]

# A margin of accuracy beyond which points may have been meant.
_WIDE = 0.1

_MULTIPLES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def names(text: str) -> list[str]:
    """Return the names of models in ``A,B,...``."""
    return [name.strip() for name in text.split(",")]


def amount(option: str, text: str) -> float:
    """Return the cost that a text such as ``5e6``, ``5M`` or ``1.2G`` gives."""
    multiple = _MULTIPLES.get(text[-1:], 1.0)
    try:
        return float(text if multiple == 1.0 else text[:-1]) * multiple
    except ValueError:
        raise CostError(f"{option}: {text!r} is no cost; write 5000000, 5e6 or 5M") from None


def amounts(option: str, texts: Sequence[str] | None, unit: str | None) -> dict[str, float]:
    """Return costs by unit from ``UNIT=COST``; ``unit`` is the default unit."""
    costs = {}
    for text in texts or ():
        own, _, number = text.rpartition("=")
        if not (own or unit):
            raise CostError(f"{option}: {text!r} names no unit; write UNIT=COST")
        costs[own or str(unit)] = amount(option, number)
    return costs


def by_stage(option: str, text: str, kind: type[_N], least: float = 0) -> list[_N]:
    """Return the numbers that an option gives: one for all stages, or one of each."""
    try:
        numbers = [kind(each) for each in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(least <= each < math.inf for each in numbers):
        whole = "whole and " if kind is int else ""
        raise CascadeError(
            f"{option} {text!r}: must be one number for all stages or one of each, {whole}at least "
            f"{least:g}; write for example 64 or 64,32"
        )
    return numbers


def target_of(
    match: str | None, within: float | None, min_accuracy: float | None, max_cost: str | None
) -> Target:
    """Return the target that the four options describe."""
    if within is not None:
        if match is None:
            raise CascadeError("--within needs --match MODEL")
        check_within(within, "--within")
    if max_cost is None:
        return Target(match, within or 0.0, min_accuracy)
    most, share = amount("--max-cost", max_cost.removesuffix("%")), max_cost.endswith("%")
    return Target(match, within or 0.0, min_accuracy, most / 100 if share else most, share)


def wide_margin(within: float | None) -> list[str]:
    """Return a note on a margin so wide that points may have been meant; mostly empty.

    >>> wide_margin(0.5)
    ['--within 0.5 is 50 points; half a point is 0.005']
    """
    if within is None or within <= _WIDE:
        return []
    return [f"--within {within:g} is {100 * within:g} points; half a point is 0.005"]


def refuse(why: str, **is_given: bool) -> None:
    """Refuse the options that are true, because this call would not use them."""
    named = [f"--{name.replace('_', '-')}" for name, given in is_given.items() if given]
    if named:
        goes, them = ("go", "them") if len(named) > 1 else ("goes", "it")
        raise CascadeError(f"{', '.join(named)} {goes} with {why}; otherwise leave {them} out")


def check_on(on: str | None, **is_given: bool) -> None:
    """Refuse an engine that is not known, and without one the options that are true."""
    if on is None:
        refuse("--on ray", **is_given)
    elif on != "ray":
        raise UnknownNameError.of("--on", "engine", on, ("ray",))


def refuse_for_segmentation(**is_given: bool) -> None:
    """Refuse the options that are true, because segmentation lacks them."""
    named = [f"--{name.replace('_', '-')}" for name, given in is_given.items() if given]
    if named:
        raise CascadeError(
            f"{', '.join(named)}: not for semantic segmentation; docs/segmentation.md says what is"
        )
