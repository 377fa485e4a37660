"""What ``committee run`` counts of its results and says at the end, wherever it ran."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from committee.cli.output import Notes, broken_text, cost_text, print_json, say, say_wrapped
from committee.errors import DataError
from committee.rule.cascade import Cascade
from committee.run.promise import Promise
from committee.run.results import Result
from committee.spec.model import ModelSpec, task_of
from committee.text import counted, percent, shares


@dataclass
class Tally:
    """Counts over all results, including those of an earlier run.

    Args:
        cascade: What decided.
        unit: Unit of the costs; empty if they are unknown.
    """

    cascade: Cascade
    unit: str
    exits: Any = None
    earlier: Any = 0
    resumed: int = 0
    started: float | None = None
    cost: float = 0.0
    priced: int = 0
    labelled: int = 0
    correct: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exits = np.zeros(len(self.cascade.stages), np.int64)
        self.promise = Promise.of(self.cascade)

    def begin(self, done: int) -> None:
        """Start the clock at the first progress; earlier results are of an earlier run."""
        if self.started is None:
            self.earlier, self.resumed = self.exits.copy(), done
            self.started = time.perf_counter()

    def begin_again(self) -> None:
        """Start the clock anew, where what went before is not the speed of the models."""
        self.started = time.perf_counter()

    def add(self, blocks: Iterable[list[Result]]) -> None:
        """Count results."""
        for result in (each for block in blocks for each in block):
            if result.stage is None:
                self.broken.append((result.id, result.error))
                continue
            self.exits[result.stage] += 1
            if result.cost is not None:
                self.cost, self.priced = self.cost + result.cost, self.priced + 1
            if result.label is not None:
                self.labelled += 1
                self.correct += result.class_index == result.label

    def add_table(self, table: Any) -> None:
        """Count results that lie in an Arrow table."""
        columns = ("stage", "cost", "class_index", "label")
        stage, cost, predicted, label = (
            table[name].to_numpy().astype(np.float64) for name in columns
        )
        sound = ~np.isnan(stage)
        self.exits += np.bincount(stage[sound].astype(int), minlength=len(self.exits))
        self.cost += float(np.nansum(cost))
        self.priced += int((~np.isnan(cost)).sum())
        self.labelled += int((sound & ~np.isnan(label)).sum())
        self.correct += int((sound & (predicted == label)).sum())
        for row in np.flatnonzero(~sound).tolist():
            self.broken.append((table["id"][row].as_py(), table["error"][row].as_py()))

    def summary(self) -> dict[str, Any]:
        """Return the counts by name, for programs."""
        samples = int(self.exits.sum())
        seconds = time.perf_counter() - (self.started or 0.0)
        new = samples + len(self.broken) - self.resumed
        return {
            "samples": samples,
            "resumed": self.resumed,
            "seconds": seconds,
            "samples_per_second": new / seconds,
            "exit_ratios": (self.exits / max(samples, 1)).tolist(),
            "promised_exit_ratios": self.promise and list(self.promise.ratios),
            "average_cost": self.cost / self.priced if self.priced else None,
            "unit": self.unit,
            "correct": self.correct if self.labelled else None,
        }

    def other_exits(self) -> list[str]:
        """Return a note if exits differ from the expected ones by more than chance explains."""
        promise = self.promise
        if promise is None or promise.explained(self.exits.tolist()):
            return []
        samples = int(self.exits.sum())
        return [
            f"exits by stage are {shares(self.exits / samples)} of {counted(samples, 'sample')}; "
            f"expected were {shares(promise.ratios)} of {promise.samples:,}. The difference is "
            "more than chance explains: these data differ from those that chose or certified the "
            "cascade, or the models do. committee verify --predictions shows which"
        ]


def _say_summary(
    tally: Tally, summary: Mapping[str, Any], specs: Mapping[str, ModelSpec], out: str
) -> None:
    """Write what a run has decided."""
    broken, task = tally.broken, task_of(specs.values())
    samples, correct = summary["samples"], summary["correct"]
    every = counted(samples + len(broken), "sample")
    of = f", {samples:,} decided and {len(broken):,} broken" if broken else ""
    speed = f"{summary['seconds']:.1f} s at {summary['samples_per_second']:,.0f} per second"
    resumed = f"; {summary['resumed']:,} were done before" if summary["resumed"] else ""
    say(f"{every}{of}, {speed}{resumed}")
    if samples:
        ratios = summary["promised_exit_ratios"]
        expected = f" (expected {shares(ratios)})" if ratios else ""
        exits = f"{shares(summary['exit_ratios'])}{expected}"
        say_wrapped(f"Exits by stage: {exits} of {tally.cascade}")
    if line := cost_text(summary["average_cost"], tally.unit, specs):
        say(line)
    if correct is not None and samples:
        say(f"Correct: {correct:,} of {samples:,}, {percent(correct / samples)}")
    if broken:
        row = "It has a row" if len(broken) == 1 else "Each has a row"
        say(f"{broken_text(broken, task.sample)}. {row} with the reason.")
    say(f"Written: {out}")


def finish(tally: Tally, data: str, out: str, specs: Mapping[str, ModelSpec], notes: Notes) -> None:
    """Write what a run has decided, for people or for programs.

    Raises:
        DataError: If no sample could be decided.
    """
    summary = tally.summary()
    notes += tally.other_exits()
    if notes.quiet:
        broken = [{"id": name, "reason": reason} for name, reason in tally.broken]
        print_json({**summary, "broken": broken, "notes": notes, "out": out})
    else:
        notes.show()
        _say_summary(tally, summary, specs, out)
    if tally.broken and not summary["samples"]:
        raise DataError(_none_decided(data, tally.broken, task_of(specs.values()).sample, out))


def _none_decided(data: str, broken: Sequence[tuple[str, str]], sample: str, out: str) -> str:
    (name, reason), count = broken[0], len(broken)
    what = "the only " + sample
    could = "could not be decided:"
    if count > 1:
        what, could = f"none of the {count:,} {sample}s", "could be decided; the first:"
    return (
        f"data {data}: {what} {could} {name} ({reason}). {out} has the reason of each; fix them, "
        "or name other data"
    )
