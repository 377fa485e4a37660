"""Open what a runner runs: a cascade file, a bundle, here or on the Hub, or one ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, ExportError, ModelError
from committee.export.bundle import is_bundle, read_bundle
from committee.export.graph import CASCADE_KEY, FORM_KEY, INPUTS_KEY
from committee.models.failures import Streak, run_in_parts
from committee.models.graph import onnxruntime_session
from committee.models.inputs import RawSamples
from committee.models.load import specs_of
from committee.models.record_graph import fed_graph
from committee.reading import parsed_json, typed
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.rule.namespace import NUMPY
from committee.rule.outputs import checked_outputs, usable_rows
from committee.run.batching import KEPT, Gathered, undecided
from committee.run.hub import downloaded, is_on_hub
from committee.run.sample_batch import SampleBatch
from committee.spec.model import ModelSpec, task_of
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record
from committee.spec.task import Task


@dataclass(frozen=True)
class _Input:
    """The metadata of one input."""

    name: str
    preprocessing: dict[str, Any]


class CascadeGraph:
    """A cascade file that :func:`committee.export.graph.write_graph` wrote.

    Attributes:
        cascade: The rule inside the file, for class names and costs.
        name: Name of the file.
        inputs: How images are resized, or which column of records there is, for each input of the
            graph, by name.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ModelError(f"{path}: no such file")
        self._session = onnxruntime_session("cascade", self._path, threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if not {CASCADE_KEY, INPUTS_KEY, FORM_KEY} <= metadata.keys():
            raise ExportError(
                f"{path}: is an ONNX model, but not a cascade. Write one with: "
                "committee export cascade.json --out cascade.onnx"
            )
        try:
            self.cascade = Cascade.from_json(parsed_json(metadata[CASCADE_KEY]), str(path))
            inputs = typed("inputs", parsed_json(metadata[INPUTS_KEY]), list[_Input])
            records = task_of(specs_of(self.cascade, str(path)).values()).records
            read = Record.from_json if records else Preprocessing.from_json
            self.inputs: dict[str, Recipe] = {i.name: read(i.preprocessing) for i in inputs}
        except CommitteeError as error:
            raise ExportError(f"{path}: its metadata was altered ({error})") from None
        if {each.name for each in self._session.get_inputs()} != self.inputs.keys():
            raise ExportError(
                f"{path}: its metadata names other inputs than the graph has. Export it again"
            )
        self.name = self._path.name
        self._one = metadata[FORM_KEY] == "one"
        self._kind = self._session.get_outputs()[0].name

    def decide(self, images: RawSamples, batch_size: int = 32) -> Decisions:
        """Return the decisions on N samples."""
        step = 1 if self._one else batch_size
        starts = range(0, len(images), step)
        parts = [self._checked(images[start : start + step], start) for start in starts]
        return joined_decisions(parts)

    def _checked(self, images: RawSamples, first: int) -> Decisions:
        values, decisions = self._run(fed_graph(lambda _: images, self.inputs, self._session))
        checked_outputs(str(self._path), self._kind, values, first=first)
        NUMPY.checked_scores(decisions.score, self.cascade.confidence)
        return decisions

    def gathered(self, batch: SampleBatch, batch_size: int, keep_values: bool = False) -> Gathered:
        """Return the decisions on a batch; NaN for one sample does not affect the others."""
        feed = fed_graph(batch.raw, self.inputs, self._session)
        step = 1 if self._one else batch_size
        parts, failed = [], {}
        for start in range(0, len(batch), step):
            values, decisions = self._run({n: v[start : start + step] for n, v in feed.items()})
            # A score of a user's own function may not be finite though the outputs are.
            wrong = ~usable_rows(values, self._kind) | ~np.isfinite(decisions.score)
            for row in np.flatnonzero(wrong).tolist():
                failed[start + row] = f"{self.name}: NaN or infinite outputs"
            parts.append(replace(decisions, values=values) if keep_values else decisions)
        return Gathered(joined_decisions(parts), failed)

    def gathered_in_parts(
        self,
        batch: SampleBatch,
        batch_size: int,
        keep_values: bool = False,
        streak: Streak | None = None,
    ) -> Gathered:
        """Return the decisions on a batch; a sample on which the graph fails does so alone."""

        def run(rows: Array) -> tuple[Decisions, Mapping[int, str]]:
            some = batch.only(rows, self.inputs.values())
            gathered = self.gathered(some, batch_size, keep_values)
            return gathered.decisions, gathered.failed

        made = run_in_parts(len(batch), run, joined_decisions, streak)
        decisions = undecided(len(batch)) if made.answer is None else made.answer
        return Gathered(decisions, made.failed, {self.name: made.divided} if made.divided else {})

    def _run(self, feed: dict[str, Array]) -> tuple[Array, Decisions]:
        try:
            values, predicted, score, stage = self._session.run(None, feed)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ModelError(f"{self._path}: failed ({reason})") from error
        classes = len(self.cascade.classes) or values.shape[1]
        if (stage >= len(self.cascade.stages)).any() or (predicted >= classes).any():
            raise ExportError(
                f"{self._path}: gives stages or classes that its metadata lacks. Export it again"
            )
        return values, Decisions(predicted, score.astype(np.float64), stage)


class GraphGathering:
    """Runs a graph on batches of images as they arrive; a :class:`.batching.Gatherer`."""

    def __init__(self, graph: CascadeGraph, batch_size: int, go_on: bool = False) -> None:
        self._graph, self._batch_size = graph, batch_size
        self._streak = Streak() if go_on else None
        self._parts: list[Gathered] = []

    @property
    def exits(self) -> Array:
        """See :class:`.batching.Gatherer`."""
        stages = _joined_gathered(self._parts).decisions.stage
        return np.bincount(stages, minlength=len(self._graph.cascade.stages))

    def add(self, batch: SampleBatch) -> None:
        """See :class:`.batching.Gatherer`."""
        streak = self._streak
        if streak is None:
            self._parts.append(self._graph.gathered(batch, self._batch_size))
        elif len(batch):
            made = self._graph.gathered_in_parts(batch, self._batch_size, streak=streak)
            if streak.over:
                raise streak.error(self._graph.name, KEPT)
            self._parts.append(made)

    def finish(self) -> Gathered:
        """See :class:`.batching.Gatherer`."""
        parts, self._parts = self._parts, []
        return _joined_gathered(parts)


@dataclass(frozen=True)
class LoadedCascade:
    """A cascade that can be run, by its models or by its graph, and the path it was opened from."""

    cascade: Cascade
    graph: CascadeGraph | None = None
    path: Path | None = None

    @property
    def task(self) -> Task:
        """Return the task of its models."""
        models = self.cascade.models.values()
        return task_of(model for model in models if isinstance(model, ModelSpec))


# What `open_cascade` accepts.
CascadeLike: TypeAlias = str | Path | Cascade | LoadedCascade


def what_is(path: str | Path) -> str:
    """Return what :func:`open_cascade` opens a path as: ONNX file, bundle or cascade file."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return "ONNX file"
    return "bundle" if is_on_hub(path) or is_bundle(path) else "cascade file"


def open_cascade(cascade: CascadeLike, threads: int = 0) -> LoadedCascade:
    """Open a cascade file, a bundle (its folder, or the cascade file in it) or an ONNX file.

    Args:
        cascade: Its path, or of a bundle on the Hub ``hf://OWNER/NAME``. An object is used as is.
        threads: How many threads an ONNX file may use; 0 leaves the choice to onnxruntime.
    """
    if isinstance(cascade, LoadedCascade):
        return cascade
    if isinstance(cascade, Cascade):
        return LoadedCascade(cascade)
    path = downloaded(cascade) if is_on_hub(cascade) else Path(cascade)
    if path.suffix.lower() == ".onnx":
        graph = CascadeGraph(path, threads)
        return LoadedCascade(graph.cascade, graph, path)
    if is_bundle(path):
        return LoadedCascade(read_bundle(path if path.is_dir() else path.parent), path=path)
    return LoadedCascade(Cascade.load(path), path=path)


def load(path: str | Path) -> Cascade:
    """Return the cascade of a cascade file, a bundle, here or on the Hub, or one ONNX file.

    The models are not loaded: ``committee.Runner`` takes the same path and runs it. No code of a
    bundle runs.

    Args:
        path: A path, or ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Raises:
        CommitteeError: If it cannot be opened; see :func:`open_cascade`.
    """
    return open_cascade(path).cascade


def _joined_gathered(parts: Sequence[Gathered]) -> Gathered:
    """Return the results for consecutive samples as one."""
    starts = accumulate((len(part.decisions.stage) for part in parts), initial=0)
    failed = {
        start + row: reason
        for start, part in zip(starts, parts, strict=False)
        for row, reason in part.failed.items()
    }
    divided = {name: why for part in reversed(parts) for name, why in part.divided.items()}
    return Gathered(joined_decisions([part.decisions for part in parts]), failed, divided)
