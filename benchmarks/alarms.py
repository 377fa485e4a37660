"""How often do alarms ring when nothing changes, and how soon when something does?

    python benchmarks/alarms.py            # an hour of one core; writes docs/alarms.md

Without a change: certifying samples and 100,000 new ones are drawn from one population, 1,000
times. With a change: the cascade runs on all images of a data set after the change, and new samples
are drawn from those after 5,000 good ones. The CIFAR-10 images are read from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import committee as cm
import worlds
from committee.arrays import Array
from committee.certificates.monitors import Monitors
from committee.embedded import embedded_images, pool_file
from committee.models.pool_file import read_pool_file
from committee.pool.evaluate import stored_decisions
from committee.rule.expected import Expected
from committee.rule.flow import Decisions
from result_rows import append, read, write_tables

ROOT = Path(__file__).parent
PAGE, ROWS = ROOT.parent / "docs" / "alarms.md", ROOT / "results"
CIFAR = ROOT.parents[1] / "shared" / "data" / "cifar10"
CERTIFYING = 2500
NO_CHANGE = "nothing changes"
# World, alpha and tau of runs in which nothing changes.
SETTINGS = [
    (name, alpha, tau)
    for name in ("embedded", "cifar10")
    for alpha, tau in ((0.1, 0.0), (0.01, 0.02))
]
BEFORE, AFTER = 5000, 20_000


@dataclass(frozen=True)
class World:
    """A cascade, and images that it decides on.

    Args:
        cascade: The cascade, which knows how its models are loaded.
        images: Shape (N, H, W) or (N, H, W, 3), bytes.
        labels: Shape (N,).
        often: A class that the cascade finds hard.
        allow_code: Code that the models need.
    """

    cascade: cm.Cascade
    images: Array
    labels: Array
    often: int
    allow_code: tuple[str, ...] = ()
    made: dict[str, Decisions] = field(default_factory=dict)

    def decisions(self, change: str) -> Decisions:
        """Return what the cascade decides after a change."""
        if change not in self.made:
            runner = cm.Runner(self.cascade, allow_code=self.allow_code)
            self.made[change] = runner.decide(CHANGES[change](self.images), batch_size=256)
        return self.made[change]


def expected(made: Decisions, rows: Array) -> Expected:
    """Return the exits of some samples as a cascade file would hold them."""
    stage, stages = made.stage[rows], int(made.stage.max()) + 1
    return Expected.of("", "certifying", stage, made.score[rows], stages)


def _noisy(images: Array, sigma: float) -> Array:
    noise = np.random.default_rng(0).normal(scale=sigma, size=images.shape)
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


def _moved(images: Array) -> Array:
    return np.roll(images, (2, 2), axis=(1, 2))


def _dark(images: Array) -> Array:
    return (images / 2).round().astype(np.uint8)


def _same(images: Array) -> Array:
    return images


CHANGES: dict[str, Callable[[Array], Array]] = {
    NO_CHANGE: _same,
    "noise, 5 of 255": lambda images: _noisy(images, 5),
    "noise, 10 of 255": lambda images: _noisy(images, 10),
    "noise, 25 of 255": lambda images: _noisy(images, 25),
    "broken preprocessing: half as bright": _dark,
    "broken preprocessing: 2 pixels off": _moved,
    "broken preprocessing: blue for red": lambda images: images[..., ::-1],
    "broken preprocessing: upside down": lambda images: images[:, ::-1],
    "broken preprocessing: 0 for 255": lambda images: 255 - images,
}
# Changes of how often samples come, and of what they are called.
OFTEN, TWICE, SWAPPED = "often", "twice", "swapped"
MIXES = {
    OFTEN: "a hard class comes four times as often",
    TWICE: "a hard class comes twice as often",
    SWAPPED: "two classes swap their names",
}


# The pool of stored outputs of each population, and the model that its cascade matches.
POOLS = {"embedded": (worlds.embedded, "large"), "cifar10": (worlds.cifar10, "resnet56")}


@cache
def chosen(name: str) -> cm.Cascade:
    """Return the cascade of a population."""
    pool, match = POOLS[name]
    return cm.search(pool(), max_models=3).matching(match).cascade


@cache
def world(name: str) -> World:
    """Return a world by name: ``embedded`` or ``cifar10``."""
    return {"embedded": _embedded, "cifar10": _cifar}[name]()


def _embedded() -> World:
    cascade = chosen("embedded")
    halves = [embedded_images(split) for split in ("val", "test")]
    images = np.concatenate([each.read(np.arange(5000)) for each in halves])
    labels = np.concatenate([each.samples.labels for each in halves])
    return World(pool_file().described(cascade), images, labels, often=6)


def _cifar() -> World:
    os.environ["CIFAR10_DATA"] = str(CIFAR)
    example = ROOT.parent / "examples" / "cifar10_resnet"
    cascade = read_pool_file(example / "pool.toml").described(chosen("cifar10"))
    images = np.asarray(Image.open(CIFAR / "test_batch.png").convert("RGB"))
    labels = np.array(json.loads((CIFAR / "test_labels.json").read_text()))
    code = (str(example / "models.py"),)
    return World(cascade, images.reshape(-1, 32, 32, 3), labels, often=3, allow_code=code)


@dataclass(frozen=True)
class Quiet:
    """Runs in which nothing changed."""

    world: str
    alpha: float
    tau: float
    certifying: int
    runs: int
    samples: int
    alarms: int
    of_exits: int
    of_scores: int
    of_failures: int


@dataclass(frozen=True)
class Changed:
    """Runs in which something changed after ``BEFORE`` samples; delays are in samples.

    ``exits_before`` and ``exits`` are shares of exits at the first stage; ``early`` counts alarms
    before the change, ``by_exits`` and ``by_scores`` those of each kind after it.
    """

    world: str
    change: str
    runs: int
    accuracy_before: float
    accuracy: float
    exits_before: float
    exits: float
    early: int
    alarms: int
    by_exits: int
    by_scores: int
    median: float
    most: float


def raised(own: Monitors, cells: Array, seed: int) -> dict[str, int]:
    """Return the sample at which each monitor raised its alarm, of those that did."""
    readings = own.readings(own.advance(own.start(seed), cells))
    return {each.name: each.alarm_at for each in readings if each.alarm_at is not None}


def quiet(
    name: str, alpha: float, tau: float, runs: int, samples: int, failed: float = 0.005
) -> Quiet:
    """Draw certifying and new samples from one population, again and again."""
    made, found = stored_decisions(chosen(name), POOLS[name][0]()), []
    for run in range(runs):
        rng = np.random.default_rng(run)
        rows = rng.integers(0, len(made.stage), CERTIFYING)
        monitors = Monitors(expected(made, rows), alpha, tau)
        rows = rng.integers(0, len(made.stage), samples)
        stage = np.where(rng.random(samples) < failed, -1, made.stage[rows])
        found.append(raised(monitors, monitors.cells(stage, made.score[rows]), run))
    kinds = [sum(any(n.startswith(k) for n in each) for each in found) for k in _KINDS]
    return Quiet(name, alpha, tau, CERTIFYING, runs, samples, sum(map(bool, found)), *kinds)


_KINDS = ("exits", "scores", "failures")


def changed(name: str, change: str, runs: int) -> Changed:
    """Let something change after good samples, again and again."""
    own = world(name)
    before, after = (
        own.decisions(NO_CHANGE),
        own.decisions(change if change in CHANGES else NO_CHANGE),
    )
    labels, chances = own.labels, np.ones(len(own.labels))
    if change in (MIXES[OFTEN], MIXES[TWICE]):
        chances[labels == own.often] = 4 if change == MIXES[OFTEN] else 2
    if change == MIXES[SWAPPED]:
        labels = np.select([labels == own.often, labels == 0], [0, own.often], labels)
    chances /= chances.sum()
    correct = after.predicted == labels
    delays, kinds, early = [], [], 0
    for run in range(runs):
        rng = np.random.default_rng(run)
        good = rng.integers(0, len(labels), BEFORE)
        bad = rng.choice(len(labels), AFTER, p=chances)
        monitors = Monitors(expected(before, rng.integers(0, len(labels), CERTIFYING)))
        stage = np.concatenate([before.stage[good], after.stage[bad]])
        score = np.concatenate([before.score[good], after.score[bad]])
        found = raised(monitors, monitors.cells(stage, score), run)
        if found and min(found.values()) <= BEFORE:
            early += 1
            continue
        kinds += [kind for kind in _KINDS if any(n.startswith(kind) for n in found)]
        delays.append(min(found.values(), default=np.inf) - BEFORE)
    return Changed(
        name, change, runs,
        float((before.predicted == own.labels).mean()), float(chances @ correct),
        float((before.stage == 0).mean()), float(chances @ (after.stage == 0)),
        early, int(np.isfinite(delays).sum()), kinds.count("exits"), kinds.count("scores"),
        float(np.quantile(delays, 0.5, method="higher")),
        float(np.quantile(delays, 0.9, method="higher")),
    )  # fmt: skip


def changes_of(name: str) -> Iterator[str]:
    """Yield the changes of a world; grey images have no colours to exchange."""
    colours = world(name).images.ndim == 4
    for change in [*CHANGES, *MIXES.values()]:
        if change != NO_CHANGE and (colours or "red" not in change):
            yield change


def quiet_table(rows: list[Quiet]) -> str:
    """Return the table of runs in which nothing changed."""
    lines = [
        "| population | alpha | tau | runs | with a false alarm | of exits | of scores "
        "| of failures |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        share = f"{each.alarms} ({100 * each.alarms / each.runs:.1f} %)"
        lines.append(
            f"| {each.world} | {each.alpha:g} | {each.tau:g} | {each.runs:,} of {each.samples:,} "
            f"samples | {share} | {each.of_exits} | {each.of_scores} | {each.of_failures} |"
        )
    return "\n".join(lines)


def changed_table(rows: list[Changed]) -> str:
    """Return the table of runs in which something changed."""
    lines = [
        "| population | change | accuracy | exits at stage 0 | alarm in | by exits, scores "
        "| samples to the alarm, median (nine in ten) |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        delay = f"{each.median:,.0f} ({_delay(each.most)})" if np.isfinite(each.median) else "none"
        accuracy = _from_to(each.accuracy_before, each.accuracy)
        exits = _from_to(each.exits_before, each.exits)
        lines.append(
            f"| {each.world} | {each.change} | {accuracy} | {exits} | {each.alarms} of "
            f"{each.runs - each.early} | {each.by_exits}, {each.by_scores} | {delay} |"
        )
    return "\n".join(lines)


def _from_to(one: float, two: float) -> str:
    return f"{100 * one:.1f} to {100 * two:.1f} %"


def _delay(samples: float) -> str:
    return f"{samples:,.0f}" if np.isfinite(samples) else f"more than {AFTER:,}"


def tables(folder: Path) -> Mapping[str, str]:
    """Return the tables of the page."""
    quiets, others = (read(folder / f"alarms_{n}.csv", k) for n, k in _FILES.items())
    return {"quiet": quiet_table(quiets), "changed": changed_table(others)}


_FILES = {"quiet": Quiet, "changed": Changed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs in which nothing changes")
    parser.add_argument("--samples", type=int, default=100_000, help="samples of each of these")
    parser.add_argument("--changed-runs", type=int, default=100, help="runs of each change")
    parser.add_argument("--only", choices=_FILES, help="one of the two tables")
    arguments = parser.parse_args()
    there = ["embedded", *(["cifar10"] if CIFAR.is_dir() else [])]
    for name in [arguments.only] if arguments.only else _FILES:
        (ROWS / f"alarms_{name}.csv").unlink(missing_ok=True)
    if arguments.only != "quiet":
        for name in there:
            for change in changes_of(name):
                row = changed(name, change, arguments.changed_runs)
                append(ROWS / "alarms_changed.csv", [row])
                print(row, flush=True)
    if arguments.only != "changed":
        for name, alpha, tau in SETTINGS:
            if name in there:
                row = quiet(name, alpha, tau, arguments.runs, arguments.samples)
                append(ROWS / "alarms_quiet.csv", [row])
                print(row, flush=True)
    if PAGE.exists():
        write_tables(PAGE, tables(ROWS))


if __name__ == "__main__":
    main()
