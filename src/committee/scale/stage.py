"""One stage, as an actor runs it: samples in, the same samples one stage further out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset
from committee.data.open import open_data
from committee.errors import ChangedError
from committee.models.failures import Streak
from committee.models.inputs import ModelInputs
from committee.rule.cascade import Cascade
from committee.rule.outputs import Outputs, joined
from committee.run.batching import KEPT, run_stage
from committee.run.deciding import Decider
from committee.run.loading import Models
from committee.run.read_ahead import read_prepared
from committee.run.runner import group_size
from committee.run.sample_batch import SampleBatch
from committee.run.scoring import ScoringInParts
from committee.scale.blocks import FAILED, Block, Layout, kept
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe

# Batches that are read and decided together, if their samples are small.
_MOST = 64


@dataclass(frozen=True)
class Source:
    """Samples as a command names them; each worker opens them for itself.

    Args:
        spec: See :func:`committee.data.open.open_data`, as are the four that follow.
        classes: Names of the classes.
        rows: Which samples.
        fraction: Which share of them.
        seed: Chooses that share.
        fingerprint: Of the samples, which must be the same on every worker.
    """

    spec: str
    classes: tuple[str, ...] = ()
    rows: str | None = None
    fraction: str | None = None
    seed: int = 0
    fingerprint: str = ""

    def open(self, models: Sequence[ModelSpec]) -> Dataset:
        """Open the samples."""
        dataset = open_data(
            self.spec,
            "run",
            self.classes,
            self.rows,
            self.fraction,
            self.seed,
            models,
            "if they fit",
        )
        if self.fingerprint not in ("", dataset.samples.fingerprint):
            raise ChangedError(
                f"data {self.spec}: this worker finds {len(dataset.samples):,} samples there, and "
                "not those that the job began with. All nodes must see the same files"
            )
        return dataset


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker needs to know of a run.

    Args:
        cascade: The rule.
        specs: How its models are loaded, by name.
        source: The samples.
        batch_size: Samples a forward pass.
        allow_code: Python files and modules that may be run.
    """

    cascade: Cascade
    specs: Mapping[str, ModelSpec]
    source: Source
    batch_size: int
    allow_code: tuple[str, ...] = ()

    def recipes(self, stage: int) -> tuple[Recipe, ...]:
        """Return what the models of a stage take, each once."""
        models = self.cascade.stages[stage].models
        return tuple(dict.fromkeys(self.specs[name].preprocessing for name in models))

    def layout(self, stage: int) -> Layout:
        """Return what samples carry that wait at a stage.

        What a later stage takes too is carried; samples that need another preparation are read
        again, as are clips and records, whose inputs are made when a model runs.
        """
        before, after = range(stage), range(stage, len(self.cascade.stages))
        if stage in (0, len(self.cascade.stages)):
            return Layout()
        later = {recipe for each in after for recipe in self.recipes(each)}
        made = dict.fromkeys(recipe for each in before for recipe in self.recipes(each))
        names = [name for each in before for name in self.cascade.stages[each].models]
        return Layout(
            tuple(recipe for recipe in made if recipe in later and not recipe.lazy),
            {name: self.specs[name].kind for name in names},
        )


class _Unit(NamedTuple):
    """Samples that are decided together.

    Args:
        places: Their places in the block, shape (n,).
        among: Their places among those that wait, shape (n,).
        batch: What they are prepared to.
    """

    places: Array
    among: Array
    batch: SampleBatch


@dataclass(frozen=True)
class _Batch:
    """A :class:`committee.run.batching.ModelBatch` of samples that lie ready."""

    models: tuple[str, ...]
    batch: SampleBatch

    def __len__(self) -> int:
        return len(self.batch)

    def inputs_of(self, some: Array, recipe: Recipe) -> ModelInputs:
        """See :class:`committee.run.batching.ModelBatch`."""
        return self.batch.only(some, [recipe]).inputs(recipe)


@dataclass(eq=False)
class StageStep:
    """Runs one stage on blocks of samples.

    Args:
        job: What is run.
        stage: Which stage, from 0.
        threads: How many threads a model may use; 0 leaves the choice to its engine.
    """

    job: Job
    stage: int
    threads: int = 0

    def __post_init__(self) -> None:
        job = self.job
        self._names = job.cascade.stages[self.stage].models
        self._streaks, self._scores = {name: Streak() for name in self._names}, Streak()
        self._recipes = {name: job.specs[name].preprocessing for name in self._names}
        self._decider = Decider(job.cascade)
        self._after = job.layout(self.stage + 1)
        specs = {name: job.specs[name] for name in self._names}
        self._models = Models(specs, job.cascade.classes, job.allow_code, self.threads)
        self._unit = group_size(job.recipes(self.stage), job.batch_size, _MOST)

    @cached_property
    def _dataset(self) -> Dataset:
        return self.job.source.open(list(self.job.specs.values()))

    def __call__(self, block: Block) -> Block:
        """Return the same samples one stage further."""
        made = replace(
            block,
            stage=block.stage.copy(),
            predicted=block.predicted.copy(),
            score=block.score.copy(),
            failed=dict(block.failed),
            divided=dict(block.divided),
            inputs={},
            outputs={},
        )
        carried: list[Block] = []
        for unit in self._units(block, made):
            outputs = self._outputs(unit, made)
            good = np.flatnonzero(made.stage[unit.places] != FAILED)
            earlier = {name: each.rows(unit.among[good]) for name, each in block.outputs.items()}
            on, staying = self._decide(unit, good, {**earlier, **outputs}, made)
            for recipe in self._after.recipes if len(staying) else ():
                own = recipe in self._recipes.values()
                every = unit.batch.inputs(recipe) if own else block.inputs[recipe][unit.among]
                on.inputs[recipe] = np.asarray(every)[staying]
            carried.append(on)
        if any(len(each.rows) for each in carried):
            some = [each for each in carried if len(each.rows)]
            for recipe in some[0].inputs:
                made.inputs[recipe] = kept([each.inputs[recipe] for each in some])
            for name in some[0].outputs:
                made.outputs[name] = joined([each.outputs[name] for each in some])
        return made

    def _units(self, block: Block, made: Block) -> Iterator[_Unit]:
        """Yield the samples that wait; note in ``made`` which of them cannot be read."""
        places, step = block.waiting, self._unit
        recipes = self.job.recipes(self.stage)
        spans = [np.arange(at, min(at + step, len(places))) for at in range(0, len(places), step)]
        if all(recipe in block.inputs for recipe in recipes):
            for among in spans:
                # Models may write to what they are given, and what Ray gives is read-only.
                own = {r: block.inputs[r][among[0] : among[-1] + 1].copy() for r in recipes}
                yield _Unit(places[among], among, SampleBatch(len(among), {}, own))
            return
        numbers = (block.rows[places[among]] for among in spans)
        for among, read in zip(
            spans, read_prepared(self._dataset, numbers, recipes, ()), strict=True
        ):
            here = np.isin(read.rows, read.good)
            reasons = dict(read.broken)
            for place in places[among[~here]].tolist():
                name = self._dataset.samples.ids[block.rows[place]]
                made.stage[place], made.failed[place] = FAILED, reasons[name]
            if here.any():
                yield _Unit(places[among[here]], among[here], read.batch)

    def _outputs(self, unit: _Unit, made: Block) -> dict[str, Outputs]:
        """Return what the models answer to the samples on which none fails."""
        parts, step = [], self.job.batch_size
        for at in range(0, len(unit.places), step):
            some = np.arange(at, min(at + step, len(unit.places)))
            batch = _Batch(self._names, unit.batch.only(some, set(self._recipes.values())))
            answered = run_stage(batch, self._recipes, self._models.usable_outputs, self._streaks)
            made.divided = {**answered.divided, **made.divided}
            for name in self._names:
                if self._streaks[name].over:
                    raise self._streaks[name].error(f"model {name!r}", KEPT)
            for row, reason in answered.failed.items():
                place = int(unit.places[some[row]])
                made.stage[place], made.failed[place] = FAILED, reason
            if answered.outputs:
                good = np.array([r for r in range(len(some)) if r not in answered.failed], int)
                parts.append({name: o.rows(good) for name, o in answered.outputs.items()})
        return {name: joined([each[name] for each in parts]) for name in self._names if parts}

    def _decide(
        self, unit: _Unit, good: Array, outputs: dict[str, Outputs], made: Block
    ) -> tuple[Block, Array]:
        """Write decisions into ``made``; return the samples that go on, and their rows."""
        places = unit.places[good]
        scoring = ScoringInParts()
        decisions, staying = self._decider(self.stage, outputs, len(places), scoring)
        if decisions is not None:
            gone = np.ones(len(places), bool)
            gone[staying] = False
            made.predicted[places[gone]] = decisions.predicted[gone]
            made.score[places[gone]] = decisions.score[gone]
            made.stage[places[gone]] = decisions.stage[gone]
        failed = scoring.taken()
        for row in range(len(places)) if failed else [-1]:
            if self._scores.adds(failed.get(row, "")):
                raise self._scores.error(f"confidence {self.job.cascade.confidence!r}", KEPT)
            if row in failed:
                place = int(places[row])
                made.stage[place], made.failed[place] = FAILED, failed[row]
        on = Block.begun(made.rows[places[staying]])
        if len(staying):
            on.outputs = {name: outputs[name].rows(staying) for name in self._after.kinds}
        return on, good[staying]
