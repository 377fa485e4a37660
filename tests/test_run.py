"""Running: offline, online and stored predictions decide alike, sample by sample."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from committee import Cascade, Pool, Runner, evaluate, search
from committee.arrays import Array
from committee.cli.demo import _timed
from committee.data.arrays import ArrayDataset
from committee.data.base import BrokenSamplesError, PartDataset
from committee.data.open import open_data
from committee.embedded import FOLDER, embedded_images, pool_file
from committee.errors import (
    CascadeError,
    ChangedError,
    CommitteeError,
    DataError,
    MisalignedError,
    ModelError,
)
from committee.pool.evaluate import stored_decisions
from committee.predict import predict
from committee.rule.flow import Decisions
from committee.rule.origin import Origin
from committee.run.offline import Progress, run_into, run_offline
from committee.run.results import Result, _write_results, check_ending, check_free, read_results
from committee.run.verify import agreement
from small_world import dataset, decisions_pool, read_pool

ROWS = 300
MODELS = ["nano", "micro", "tiny"]


@pytest.fixture(scope="module")
def some() -> ArrayDataset:
    whole = embedded_images("val")
    few = replace_samples(whole, ROWS)
    return ArrayDataset(whole.read(np.arange(ROWS)), few)


def replace_samples(whole: Any, rows: int) -> Any:
    of = whole.samples
    return replace(of, ids=of.ids[:rows], labels=of.labels[:rows])


@pytest.fixture(scope="module")
def stored(some: ArrayDataset, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    store = tmp_path_factory.mktemp("store")
    return Pool.load(predict(pool_file().only(MODELS), some, store, batch_size=64))


def with_models(cascade: Cascade, pool: Pool) -> Cascade:
    models = {name: pool.specs[name] for name in cascade.names}
    return replace(cascade, models=models, classes=pool.samples.classes)


def offline(runner: Runner, some: ArrayDataset, batch_size: int) -> Decisions:
    rows, parts = zip(*run_offline(runner, some, batch_size), strict=True)
    assert np.concatenate(rows).tolist() == list(range(len(some.samples)))
    return Decisions(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.stage for part in parts]),
    )


def online(runner: Runner, some: ArrayDataset) -> Decisions:
    images = some.read(np.arange(len(some.samples)))
    each = [runner(image) for image in images]
    return Decisions(
        np.array([one.class_index for one in each]),
        np.array([one.confidence for one in each]),
        np.array([one.stage for one in each]),
    )


def median(pool: Pool, cascade: Cascade) -> float:
    """A threshold at which half of the samples leave, between two scores."""
    scores = np.sort(stored_decisions(cascade, pool).score)
    return float(scores[149] + scores[150]) / 2


def cascades(pool: Pool) -> dict[str, Cascade]:
    """Cascades of every kind, half of the samples leaving at each stage."""
    found = {}
    for combine in ("mean_logits", "mean_probabilities", "last"):
        first = median(pool, Cascade.of(["nano"]))
        chain = Cascade.of(["nano", "micro", "tiny"], [first, first], "max_prob", combine)
        found[combine] = chain
    for confidence in ("logit_gap", "prob_gap", "neg_entropy"):
        bound = median(pool, Cascade.of(["nano"], confidence=confidence))
        found[confidence] = Cascade.of(["nano", "tiny"], [bound], confidence)
    pair = median(pool, Cascade.ensemble(["nano", "micro"]))
    found["several in a stage"] = Cascade.of([["nano", "micro"], "tiny"], [pair])
    found["several at the end"] = Cascade.of(["nano", ["tiny", "micro"]], [first])
    found["always"] = Cascade.of(["nano", "micro"], [-math.inf])
    found["never"] = Cascade.of(["nano", "micro"], [math.inf])
    found["ensemble"] = Cascade.ensemble(MODELS)
    found["model"] = Cascade.of(["micro"])
    return found


KINDS = [
    "mean_logits",
    "mean_probabilities",
    "last",
    "logit_gap",
    "prob_gap",
    "neg_entropy",
    "several in a stage",
    "several at the end",
    "always",
    "never",
    "ensemble",
    "model",
]


@pytest.mark.parametrize("kind", KINDS)
def test_all_drivers_decide_alike(some: ArrayDataset, stored: Pool, kind: str) -> None:
    runner = Runner(with_models(cascades(stored)[kind], stored), threads=1)
    promised = stored_decisions(runner.cascade, stored)
    for decisions in (
        *(offline(runner, some, size) for size in (1, 7, 64)),
        online(runner, some),
        runner.decide(some.read(np.arange(ROWS))),
        runner.decide(list(some.read(np.arange(ROWS)))),
    ):
        found = agreement(runner, stored, decisions)
        assert found.complete, found
        # Forward passes of other batch sizes add in another order.
        assert found.largest_difference < 1e-4 * max(1, np.abs(promised.score).max())
        np.testing.assert_array_equal(decisions.predicted, promised.predicted)
        np.testing.assert_array_equal(decisions.stage, promised.stage)


def test_the_cascades_of_the_test_use_their_stages(stored: Pool) -> None:
    for kind, cascade in cascades(stored).items():
        ratios = evaluate(cascade, stored).exit_ratios
        if kind not in ("always", "never", "ensemble", "model"):
            assert min(ratios) > 0.02, kind
    assert set(cascades(stored)) == set(KINDS)


def test_agreement_tells_what_differs(stored: Pool, some: ArrayDataset) -> None:
    runner = Runner(with_models(cascades(stored)["mean_logits"], stored))
    right = stored_decisions(runner.cascade, stored)
    predicted, stage = right.predicted.copy(), right.stage.copy()
    predicted[:3] += 1
    stage[:5] = (stage[:5] + 1) % 3
    found = agreement(runner, stored, Decisions(predicted, right.score + 0.5, stage))
    assert (found.samples, found.same_class, found.same_stage) == (ROWS, ROWS - 3, ROWS - 5)
    assert found.largest_difference == pytest.approx(0.5)
    assert not found.complete


def test_what_search_promised_runs_from_the_file(
    stored: Pool, some: ArrayDataset, tmp_path: Path
) -> None:
    chosen = search(stored, 3).matching("tiny")
    runner = Runner(chosen.cascade.save(tmp_path / "cascade.json"))
    decisions = offline(runner, some, 64)
    assert agreement(runner, stored, decisions).complete
    assert int((decisions.predicted == stored.samples.labels).sum()) == chosen.evaluation.correct
    explained = [runner.explained(decisions, row) for row in range(ROWS)]
    costs = [each.cost for each in explained if each.cost is not None]
    # A mean of 300 numbers adds in another order than the evaluation.
    assert np.mean(costs) == pytest.approx(chosen.evaluation.average_cost, rel=1e-12)


def test_a_sample_costs_the_stages_that_ran(stored: Pool) -> None:
    runner = Runner(with_models(cascades(stored)["several in a stage"], stored))
    macs = stored.costs.values("macs")
    first = macs["nano"] + macs["micro"]
    decisions = stored_decisions(runner.cascade, stored)
    for row in range(ROWS):
        each = runner.explained(decisions, row)
        assert each.cost == (first if each.stage == 0 else first + macs["tiny"])
        assert each.class_name == stored.samples.classes[each.class_index]
    assert runner.unit == "macs"


def test_a_cascade_without_costs_runs(stored: Pool, some: ArrayDataset) -> None:
    cascade = with_models(Cascade.of(["nano"]), stored)
    free = replace(cascade, models={"nano": replace(cascade.models["nano"], costs=())})
    runner = Runner(free)
    assert (runner.unit, runner(some.read(np.array([0]))[0]).cost) == ("", None)


def test_a_image_may_be_bytes_or_pil_or_in_colour(some: ArrayDataset, stored: Pool) -> None:
    runner = Runner(with_models(Cascade.ensemble(MODELS), stored))
    grey: Array = some.read(np.array([3]))[0]
    colour = np.repeat(grey[..., None], 3, axis=-1)
    decision = runner(grey)
    assert runner(grey[..., None]) == runner(Image.fromarray(grey)) == decision
    assert runner(colour) == runner(Image.fromarray(colour)) == decision


@pytest.mark.parametrize("image", [np.zeros((28, 28)), np.zeros((28, 28, 4), np.uint8)])
def test_what_is_no_image_is_refused(stored: Pool, image: Any) -> None:
    with pytest.raises(DataError, match="an image must be bytes of shape"):
        Runner(with_models(Cascade.of(["nano"]), stored))(image)


def test_no_images_no_decisions(stored: Pool) -> None:
    decisions = Runner(with_models(Cascade.of(["nano"]), stored)).decide([])
    assert len(decisions.predicted) == 0


def test_an_altered_model_file_is_refused(stored: Pool, tmp_path: Path) -> None:
    (tmp_path / "nano.onnx").write_bytes((FOLDER / "micro.onnx").read_bytes())
    spec = replace(stored.specs["nano"], source=f"onnx:{tmp_path / 'nano.onnx'}")
    cascade = replace(Cascade.of(["nano"]), models={"nano": spec})
    with pytest.raises(ModelError, match=r"'nano'.* has changed since: fingerprint was") as told:
        Runner(cascade.save(tmp_path / "cascade.json"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda spec: spec.pop("source"), r"cascade.json: model 'nano': source is missing"),
        (
            lambda spec: spec["preprocessing"].update(size=[0, 0]),
            r"cascade.json: model 'nano'.*size",
        ),
        (lambda spec: spec.update(source="tim:resnet"), "'nano': source 'tim:resnet' must be one"),
        (lambda spec: spec.update(source="onnx:/gone.onnx"), "'nano': no file /gone.onnx"),
    ],
)
def test_a_cascade_file_with_a_wrong_model_is_told(
    stored: Pool, tmp_path: Path, spoil: Any, line: str
) -> None:
    spec = stored.specs["nano"].to_json()
    spoil(spec)
    path = tmp_path / "cascade.json"
    path.write_text(json.dumps({**Cascade.of(["nano"]).to_json(), "models": {"nano": spec}}))
    with pytest.raises(CommitteeError, match=line) as told:
        Runner(path)
    assert "\n" not in str(told.value)


def test_a_runner_says_what_it_runs(stored: Pool) -> None:
    runner = Runner(with_models(Cascade.of(["nano", "tiny"], [0.9]), stored))
    assert repr(runner) == "<Runner: nano -> tiny; nano on onnxruntime, tiny on onnxruntime>"


def test_a_cascade_that_knows_no_models_says_why(tmp_path: Path) -> None:
    with pytest.raises(CascadeError, match="does not say how to load a, b"):
        Runner(Cascade.ensemble(["a", "b"]))


def test_code_in_a_cascade_runs_only_if_it_was_named(tmp_path: Path) -> None:
    pool, code = read_pool(tmp_path)
    small = Pool.load(predict(pool, dataset(20), tmp_path / "store", allow_code=code))
    path = search(small, 2)[0].cascade.save(tmp_path / "cascade.json")
    with pytest.raises(CommitteeError, match="--allow-code"):
        Runner(path)
    runner = Runner(path, allow_code=code)
    assert agreement(runner, small, offline(runner, dataset(20), 7)).complete


def test_decisions_run_as_they_were_stored(tmp_path: Path) -> None:
    pool_of_two, code = decisions_pool(tmp_path)
    folder = predict(pool_of_two, dataset(100), tmp_path / "store", allow_code=code)
    pool = Pool.load(folder)
    bound = float(np.median(np.asarray(pool.model("one").confidence))) + 1e-3
    cascade = with_models(Cascade.of(["one", "two"], [bound], combine="last"), pool)
    runner = Runner(cascade, allow_code=code)
    assert agreement(runner, pool, offline(runner, dataset(100), 7)).complete


def test_images_in_a_flat_folder_are_decided_alike(
    stored: Pool, some: ArrayDataset, tmp_path: Path
) -> None:
    for row, image in enumerate(some.read(np.arange(40))):
        Image.fromarray(image).save(tmp_path / f"{row:03}.png")
    runner = Runner(with_models(cascades(stored)["mean_logits"], stored))
    folder = open_data(tmp_path, "run", runner.cascade.classes)
    few = stored.rows(slice(40), "few")
    (_, decisions), *rest = run_offline(runner, folder, 7)
    assert (rest, folder.samples.labels) == ([], None)
    assert agreement(runner, few, decisions).complete


def test_offline_works_stretch_by_stretch(stored: Pool, some: ArrayDataset) -> None:
    runner = Runner(with_models(Cascade.of(["nano"]), stored))
    sizes = [len(rows) for rows, _ in run_offline(runner, some, 8)]
    assert sizes == [128, 128, 44]


RESULTS = [
    Result("a/1.png", 2, "Trouser, blue", 0.1 + 0.2, 0, 5.0, 2, "Trouser, blue"),
    Result('b "quoted".png', 0, "", 1e-30, 1, None, None),
    Result("ü\n.png", 1, "T-shirt/top", -1.5, 2, 1e9, 0),
    Result.broken("torn\u2028.png", "cut off, after 3 bytes", None),
]


def read_csv(path: Path) -> list[dict[str, Any]]:
    text = ("id", "class_name", "label_name", "error", "cascade")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in text else json.loads(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


READERS = {
    ".csv": read_csv,
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().split("\n")[:-1]],
    ".parquet": lambda path: pyarrow.parquet.read_table(path).to_pylist(),
}


@pytest.mark.parametrize("ending", READERS)
def test_results_are_read_back_as_they_were(tmp_path: Path, ending: str) -> None:
    path = _write_results(tmp_path / f"results{ending}", RESULTS)
    assert READERS[ending](path) == [vars(result) for result in RESULTS]
    assert read_results(path) == RESULTS
    empty = _write_results(tmp_path / f"empty{ending}", [])
    assert READERS[ending](empty) == []


class Torn:
    """A data set of which some samples cannot be read, and which may stop."""

    def __init__(self, whole: ArrayDataset, broken: set[int], stop: int = 10**9) -> None:
        self.whole, self.broken, self.stop = whole, broken, stop

    @property
    def samples(self) -> Any:
        return self.whole.samples

    def digests(self, rows: Any) -> Any:
        return self.whole.digests(rows)

    def read(self, rows: Any) -> Any:
        if rows.max(initial=0) >= self.stop:
            raise KeyboardInterrupt
        names = [self.samples.ids[row] for row in rows if row in self.broken]
        if names:
            raise BrokenSamplesError([(name, "torn") for name in names])
        return self.whole.read(rows)


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("broken", [set(), {0, 5, 200}, set(range(128, 256)), set(range(300))])
def test_a_stopped_run_goes_on_to_the_same_file(
    stored: Pool, some: ArrayDataset, tmp_path: Path, ending: str, broken: set[int]
) -> None:
    runner = Runner(with_models(cascades(stored)["mean_logits"], stored))
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"stopped{ending}"
    seen = [r for part in run_into(runner, Torn(some, broken), whole, 8) for r in part]
    assert [r.id for r in seen] == list(some.samples.ids)
    assert [i for i, r in enumerate(seen) if r.error] == sorted(broken)
    few = stored.rows(slice(300), "few")
    predicted = stored_decisions(runner.cascade, few).predicted
    assert all(r.class_index == predicted[i] for i, r in enumerate(seen) if not r.error)
    for stop in (100, 140, 299):
        with pytest.raises(KeyboardInterrupt):
            list(run_into(runner, Torn(some, broken, stop), out, 8))
        assert not out.exists()
        # What was done can be read, in the folder of parts.
        parts = sorted((tmp_path / f"{out.name}.part").glob(f"*{ending}"))
        done = [result for part in parts for result in read_results(part)]
        assert done == seen[: len(done)]
    again = [r for part in run_into(runner, Torn(some, broken), out, 8) for r in part]
    assert again == seen
    assert out.read_bytes() == whole.read_bytes() or ending == ".parquet"
    assert READERS[ending](out) == READERS[ending](whole) == [vars(r) for r in seen]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([out.name, whole.name])


def test_progress_tells_exits_so_far_and_counts_what_an_earlier_run_did(
    stored: Pool, some: ArrayDataset, tmp_path: Path
) -> None:
    runner = Runner(with_models(cascades(stored)["mean_logits"], stored))
    stages = stored_decisions(runner.cascade, stored).stage
    out, broken = tmp_path / "out.csv", {0, 5, 200}
    good = np.array([row for row in range(ROWS) if row not in broken])
    seen: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        list(run_into(runner, Torn(some, broken, 299), out, 8, seen.append))
    assert (seen[0].done, seen[0].exits.tolist()) == (0, [0, 0, 0])
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    again: list[Progress] = []
    stretches = run_into(runner, Torn(some, broken), out, 8, again.append)
    results = [result for part in stretches for result in part]
    assert len(results) == ROWS
    first, last = again[0], again[-1]
    assert first.done in (128, 256)
    assert (first.exits.sum(), first.total) == (0, ROWS)
    assert (last.done, last.total) == (ROWS, ROWS)
    new = good[good >= first.done]
    assert last.exits.tolist() == np.bincount(stages[new], minlength=3).tolist()


def test_a_run_goes_on_only_with_the_same(stored: Pool, some: ArrayDataset, tmp_path: Path) -> None:
    runner = Runner(with_models(cascades(stored)["mean_logits"], stored))
    other = Runner(with_models(Cascade.of(["nano"]), stored))
    out = tmp_path / "results.csv"
    with pytest.raises(KeyboardInterrupt):
        list(run_into(runner, Torn(some, set(), 200), out, 8))
    for change, what in (((other, 8), "cascade"), ((runner, 16), "batch size")):
        with pytest.raises(ChangedError, match=f"was begun with another {what}: .*delete that"):
            list(run_into(change[0], some, out, change[1]))
    stages = (replace(runner.cascade.stages[0], threshold=0.5), *runner.cascade.stages[1:])
    moved = Runner(replace(runner.cascade, stages=stages))
    line = (
        r"another cascade: nano -> .* at 0\.98.* by max_prob and mean_logits; now nano .* at 0\.5,"
    )
    with pytest.raises(ChangedError, match=line):
        list(run_into(moved, some, out, 8))
    noted = Runner(replace(runner.cascade, origin=Origin(notes={"note": "other"})))
    with pytest.raises(
        ChangedError, match=r"another cascade of the same stages, nano -> .* origin"
    ):
        list(run_into(noted, some, out, 8))
    fewer = PartDataset(some, np.arange(100))
    with pytest.raises(ChangedError, match=r"other samples: 300 samples, .*; now 100 samples, "):
        list(run_into(runner, fewer, out, 8))
    (tmp_path / "results.csv.part" / "run.json").write_text("[]")
    with pytest.raises(ChangedError, match="altered; delete"):
        list(run_into(runner, some, out, 8))


def test_results_that_are_there_stay_but_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    check_free(out)
    _write_results(out, RESULTS)
    with pytest.raises(DataError, match=r"results\.csv: is there already; .*--overwrite"):
        check_free(out)
    (tmp_path / "results.csv.part").mkdir()
    with pytest.raises(DataError, match="is there already"):
        check_free(out)
    (tmp_path / "results.csv.part" / "run.json").touch()
    check_free(out)


def test_results_of_unknown_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results can be written as .csv, .jsonl, .parquet"):
        _write_results(tmp_path / "results.xlsx", RESULTS)


def test_timing_decides_as_ever_and_times_every_image(stored: Pool, some: ArrayDataset) -> None:
    runners = [
        Runner(with_models(cascade, stored))
        for cascade in (cascades(stored)["mean_logits"], Cascade.of(["micro"]))
    ]
    images = some.read(np.arange(50))
    few = stored.rows(slice(50), "few")
    for batch_size in (64, 1):
        for runner, each in zip(runners, _timed(runners, images, batch_size), strict=True):
            assert agreement(runner, few, each.decisions).complete
            assert each.ms.shape == (50,)
            assert each.mean_ms == pytest.approx(each.ms.mean())
            assert (each.ms > 0).all()


def test_a_folder_is_no_file_of_results(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(DataError, match=r"out\.csv is a folder; name a file"):
        check_ending(tmp_path / "out.csv")


def test_a_cascade_that_was_set_by_hand_learns_its_models_of_the_pool_file() -> None:
    by_hand = Cascade.of(["nano", "large"], [0.9])
    with pytest.raises(CascadeError, match=r"does not say how to load nano, large.*described"):
        Runner(by_hand)
    known = pool_file().described(by_hand)
    assert known.classes == pool_file().classes
    assert Runner(known).specs.keys() == {"nano", "large"}
    with pytest.raises(MisalignedError, match=r"its classes .* are not those of the cascade"):
        pool_file().described(replace(by_hand, classes=("cat", "dog")))
