"""run on Ray: the rows are those of one machine, at any size of blocks, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import committee.files as files_module
import record_world
import small_world
from committee.cli import command, main
from committee.data.remote import Place
from committee.errors import (
    ChangedError,
    ClusterError,
    DataError,
    ModelError,
)
from committee.models.load import specs_of
from committee.models.pool_file import read_pool_file
from committee.paths import anywhere
from committee.rule.cascade import Cascade
from committee.rule.scores import CONFIDENCES, register_confidence
from committee.run.offline import run_into
from committee.run.results import Result, read_results
from committee.run.runner import Runner, cumulative_costs
from committee.scale.blocks import FAILED, WAITING, Block, Layout
from committee.scale.cluster import OLDEST, Cluster
from committee.scale.parts import SETTINGS, Parts
from committee.scale.plan import groups_of, part_size, pools_of, reach_of
from committee.scale.run import job_of, results_table, run_into_parts, settings_of
from committee.scale.stage import Job, Source, StageStep
from committee.version import __version__
from ray_world import KILLS
from small_world import ANSWER, CODE, code_of, files_of, images, write_pool

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("ray", reason="ray is not installed")
# Ray reads options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")

# Three models, of which two see an image at 4 pixels and one at 6.
POOL = small_world.POOL + (
    """
[[model]]
name = "three"
source = "python:models.py:three"
resolution = 6
costs.macs = 100
"""
)
THREE = CODE + (
    """
def three():
    matrix = np.random.default_rng(3).normal(size=(36, {classes})).astype(np.float32)
    return lambda batch: batch.reshape(len(batch), -1) @ matrix
"""
)
# A model that fails on dark images.
FAILS = f"""if (batch.mean(axis=(1, 2, 3)) < -0.9).any():
            raise ValueError("too dark")
        {ANSWER}"""
COUNT = 300


def write_images(folder: Path, count: int = COUNT) -> Path:
    """A folder of images, of which two cannot be read and two are dark."""
    for number, pixels in enumerate(images(count)):
        path = folder / small_world.CLASSES[number % 3] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if number not in (40, 41) else pixels * 0).save(path)
    for number in (7, 230):
        next(folder.rglob(f"{number:03}.png")).write_bytes(b"no image")
    return folder


def cascade_of(
    pool_path: Path, out: Path, stages: Sequence[Sequence[str]], thresholds: Sequence[float]
) -> Path:
    """A cascade file of some models of a pool."""
    pool = read_pool_file(pool_path)
    cascade = Cascade.of(stages, thresholds=thresholds)
    models = {spec.name: spec for spec in pool.models if spec.name in cascade.names}
    replace(cascade, models=models, classes=pool.classes).save(out)
    return out


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    """A cascade of three stages, a folder of images, and the code that may run."""
    pool = write_pool(tmp_path, THREE.replace(ANSWER, FAILS, 1), POOL)
    stages = [["one"], ["two"], ["three"]]
    cascade = cascade_of(pool, tmp_path / "cascade.json", stages, [0.8, 0.9])
    return cascade, write_images(tmp_path / "images"), code_of(pool)


def job(cascade: Path, data: Path | str, code: Sequence[str], batch_size: int) -> Job:
    from committee.run.open import open_cascade

    loaded = open_cascade(cascade)
    return job_of(loaded, Source(str(data), loaded.cascade.classes), batch_size, code)


def through(made: Job, count: int, groups: Sequence[int]) -> list[Block]:
    """Take samples through all stages as Ray does, in batches of each stage's size."""
    rows = np.arange(count)
    tables = [
        Block.begun(rows[at : at + groups[0]]).table(made.layout(0))
        for at in range(0, count, groups[0])
    ]
    for stage, group in enumerate(groups):
        step = StageStep(made, stage)
        whole = pa.concat_tables(tables)
        before, after = made.layout(stage), made.layout(stage + 1)
        parts = [Block.of(whole.slice(at, group), before) for at in range(0, count, group)]
        tables = [step(part).table(after) for part in parts]
    return [Block.of(table, Layout()) for table in tables]


def results_of(made: Job, blocks: Sequence[Block]) -> list[Result]:
    dataset = made.source.open(list(made.specs.values()))
    _, costs = cumulative_costs(made.cascade, made.specs)
    tables = [results_table(each, dataset.samples, made.cascade, costs) for each in blocks]
    return [Result(**row) for table in tables for row in table.to_pylist()]


def local_results(made: Job, out: Path) -> list[Result]:
    runner = Runner(made.cascade, allow_code=made.allow_code)
    dataset = made.source.open(list(made.specs.values()))
    return [each for some in run_into(runner, dataset, out, made.batch_size) for each in some]


def same(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """Compare rows, scores to the last bits, which batches of another size may move."""
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        if its.confidence is not None:
            assert mine.confidence == pytest.approx(its.confidence, rel=1e-6)
        assert replace(mine, confidence=its.confidence) == its
        assert mine.cascade == its.cascade


@pytest.mark.parametrize("groups", [(8, 8, 8), (8, 64, 256), (300, 300, 300), (32, 32, 512)])
def test_stages_decide_as_one_machine_does(
    groups: tuple[int, ...], world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    made = job(*world, batch_size=8)
    theirs = local_results(made, tmp_path / "here.csv")
    ours = results_of(made, through(made, COUNT, groups))
    same(ours, theirs)
    reasons = [each.error for each in ours if each.error]
    assert len(reasons) == 4
    assert sum("too dark" in each for each in reasons) == 2
    assert {each.stage for each in ours} == {None, 0, 1, 2}


@pytest.mark.parametrize(
    ("stages", "thresholds"),
    [
        ([["one", "three"], ["two"]], [0.9]),
        ([["three"], ["one"], ["two"]], [0.7, 0.8]),
    ],
)
def test_what_a_later_stage_takes_too_is_carried(
    stages: list[list[str]], thresholds: list[float], tmp_path: Path
) -> None:
    pool = write_pool(tmp_path, THREE, POOL)
    cascade = cascade_of(pool, tmp_path / "c.json", stages, thresholds)
    made = job(cascade, small_world.write_npz(tmp_path / "d.npz", 200), code_of(pool), 16)
    same(
        results_of(made, through(made, 200, [32] * len(stages))),
        local_results(made, tmp_path / "h.csv"),
    )
    carried = made.layout(len(stages) - 1).recipes
    assert [recipe.shape for recipe in carried] == [(1, 4, 4)]
    # With the samples carried, the last stage opens no data.
    step = StageStep(replace(made, source=Source("nowhere")), len(stages) - 1)
    block = Block.begun(np.arange(3))
    block.inputs = {carried[0]: np.zeros((3, 1, 4, 4), np.float32)}
    block.outputs = {name: _outputs(3) for name in made.layout(len(stages) - 1).kinds}
    assert (step(block).stage == len(stages) - 1).all()


def _outputs(count: int) -> Any:
    from committee.rule.outputs import Outputs

    return Outputs("logits", np.zeros((count, 3), np.float32))


def test_records_are_decided_too(tmp_path: Path) -> None:
    pool = record_world.write_pool(tmp_path)
    cascade = cascade_of(pool, tmp_path / "c.json", [["small"], ["large"]], [0.7])
    data = record_world.write_csv(tmp_path / "d.csv", record_world.reviews(100, 0))
    made = job(cascade, data, code_of(pool), 16)
    same(results_of(made, through(made, 100, (16, 64))), local_results(made, tmp_path / "h.csv"))


def test_decisions_are_decided_too(tmp_path: Path) -> None:
    pool, code = small_world.decisions_pool(tmp_path)
    cascade = replace(
        Cascade.of([["one"], ["two"]], thresholds=[3.0], combine="last", confidence="max_prob"),
        models={spec.name: spec for spec in pool.models},
        classes=pool.classes,
    )
    cascade.save(tmp_path / "c.json")
    made = job(tmp_path / "c.json", small_world.write_npz(tmp_path / "d.npz", 90), code, 8)
    same(results_of(made, through(made, 90, (8, 32))), local_results(made, tmp_path / "h.csv"))


def test_images_behind_an_address_are_those_of_a_folder(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    cascade, folder, code = world
    (folder / "cat" / ".hidden.png").touch()
    (folder / "notes.txt").touch()
    here, there = (job(cascade, data, code, 8) for data in (folder, f"file://{folder}"))
    ours = results_of(there, through(there, COUNT, (32, 32, 64)))
    assert ours == results_of(here, through(here, COUNT, (32, 32, 64)))
    models = list(there.specs.values())
    rows = np.arange(3)
    opened = [each.source.open(models) for each in (here, there)]
    assert opened[0].digests(rows).tolist() == opened[1].digests(rows).tolist()
    some = replace(there.source, rows="0:10", fraction="0.5").open(models)
    assert len(some.samples) == 5


def test_a_model_that_always_fails_ends_the_work(tmp_path: Path) -> None:
    code = CODE.replace(ANSWER, "raise ValueError('down')")
    pool = write_pool(tmp_path, code)
    cascade = cascade_of(pool, tmp_path / "c.json", [["one"], ["two"]], [0.7])
    made = job(cascade, small_world.write_npz(tmp_path / "d.npz", 90), code_of(pool), 8)
    with pytest.raises(ModelError, match=r"'one': failed on"):
        through(made, 90, (32, 32))


def test_a_confidence_that_fails_on_a_sample_fails_it_alone(tmp_path: Path) -> None:
    def torn(values: Any, kind: str) -> Any:
        scores = values.max(axis=1)
        scores[values[:, 0] > 2] = np.nan
        return scores

    pool = write_pool(tmp_path)
    register_confidence("torn", torn)
    try:
        cascade = replace(
            Cascade.of([["one"], ["two"]], thresholds=[1.0], confidence="torn"),
            models={spec.name: spec for spec in read_pool_file(pool).models},
            classes=small_world.CLASSES,
        )
        cascade.save(tmp_path / "c.json")
        data = small_world.write_npz(tmp_path / "d.npz", 90)
        made = job(tmp_path / "c.json", data, code_of(pool), 8)
        ours = results_of(made, through(made, 90, (8, 32)))
        same(ours, local_results(made, tmp_path / "h.csv"))
        assert 0 < sum("'torn': NaN" in each.error for each in ours) < 90
    finally:
        CONFIDENCES.pop("torn")


def test_a_worker_that_finds_other_samples_says_so(tmp_path: Path) -> None:
    pool = write_pool(tmp_path)
    cascade = cascade_of(pool, tmp_path / "c.json", [["one"], ["two"]], [0.7])
    made = job(cascade, small_world.write_npz(tmp_path / "d.npz", 9), code_of(pool), 8)
    made = replace(made, source=replace(made.source, fingerprint="of others"))
    with pytest.raises(ChangedError, match="this worker finds 9 samples there, and not those"):
        through(made, 9, (8, 8))


def test_tables_hold_what_waits_and_a_few_bytes_of_what_has_exited() -> None:
    recipe = small_world.RECIPE
    layout = Layout((recipe,), {"one": "logits", "two": "decisions"})
    block = Block.begun(np.arange(1000))
    block.stage[3:] = 0
    block.stage[5], block.failed[5] = FAILED, "torn"
    rng = np.random.default_rng(0)
    from committee.rule.outputs import Outputs

    block.inputs[recipe] = rng.normal(size=(3, 1, 4, 4)).astype(np.float32)
    block.outputs["one"] = Outputs("logits", rng.normal(size=(3, 5)).astype(np.float16))
    block.outputs["two"] = Outputs("decisions", np.array([1, 0, 4]), rng.normal(size=3))
    table = block.table(layout)
    nothing = Block.begun(np.arange(1000, 1010))
    nothing.stage[:] = 1
    both = pa.concat_tables([nothing.table(layout), table.slice(0, 2), table.slice(2)])
    back = Block.of(both, layout)
    assert np.flatnonzero(back.stage == WAITING).tolist() == [10, 11, 12]
    np.testing.assert_array_equal(back.inputs[recipe], block.inputs[recipe])
    for name, outputs in block.outputs.items():
        np.testing.assert_array_equal(back.outputs[name].values, outputs.values)
        assert back.outputs[name].values.dtype == outputs.values.dtype
    np.testing.assert_array_equal(back.outputs["two"].confidence, block.outputs["two"].confidence)
    assert back.failed == {15: "torn"}
    assert table.slice(500).nbytes < 200 * 500


def decided_block(first: int, end: int) -> Block:
    block = Block.begun(np.arange(first, end))
    block.stage[:] = 0
    return block


def columns_of(block: Block) -> Any:
    return pa.table({"row": block.rows})


@pytest.mark.parametrize("where", ["folder", "memory://ray-parts/new"])
def test_parts_are_written_when_their_last_sample_is_decided(where: str, tmp_path: Path) -> None:
    where = where if "://" in where else str(tmp_path / where)
    parts = Parts.begun(where, 25, 10, {"cascade": "a"}, overwrite=True)
    blocks = [decided_block(*span) for span in ((12, 20), (0, 5), (20, 25), (5, 12))]
    written = [table["row"].to_pylist() for table in run_into_parts(blocks, parts, columns_of)]
    assert written == [[*range(20, 25)], [*range(10)], [*range(10, 20)]]
    done = Parts.begun(where, 25, 10, {"cascade": "a"}).done()
    assert list(done) == [0, 10, 20]
    assert parts.read(done[20])["row"].to_pylist() == [*range(20, 25)]
    with pytest.raises(ChangedError, match=r"cascade was a, is b\. Finish it with the same, name"):
        Parts.begun(where, 25, 10, {"cascade": "b"})
    assert Parts.begun(where, 25, 5, {"cascade": "b"}, overwrite=True).done() == {}


def test_a_store_of_files_that_fails_in_its_own_way_gets_one_line() -> None:
    """As the Hub's client does, whose errors are no OSErrors."""
    import fsspec

    class Failing(fsspec.AbstractFileSystem):  # type: ignore[misc]
        cachable = False

        def info(self, path: str, **_: Any) -> Any:
            raise RuntimeError("no route\nto it")

        ls = info

    fsspec.register_implementation("failing", Failing, clobber=True)
    with pytest.raises(
        DataError, match=r"^failing://out: cannot be read or written \(.*no route\)"
    ):
        Parts.begun("failing://out", 25, 10, {})
    with pytest.raises(DataError, match=r"^data failing://images: cannot be read \(.*no route\)"):
        Place.of("failing://images")


def test_two_jobs_write_one_part_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, sync = Parts.begun(str(tmp_path / "out"), 10, 10, {}), files_module.sync_file
    table = pa.table({"a": range(10)})

    def other_first(file: Any) -> None:
        monkeypatch.setattr(files_module, "sync_file", sync)
        parts.write(0, table)  # all of it, while the first has written and not yet renamed
        sync(file)

    monkeypatch.setattr(files_module, "sync_file", other_first)
    parts.write(0, table)
    (name,) = parts.done().values()
    assert parts.read(name).equals(table)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SETTINGS, name]


def test_a_damaged_part_is_not_believed(tmp_path: Path) -> None:
    parts = Parts.begun(str(tmp_path / "out"), 20, 10, {})
    list(run_into_parts([decided_block(0, 20)], parts, columns_of))
    first, second = sorted((tmp_path / "out").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-9])
    assert parts.read(first.name) is None
    whole, written = parts.read(second.name), second.read_bytes()
    pages = len(written) - int.from_bytes(written[-8:-4], "little") - 8
    for at in range(4, pages, 7):
        second.write_bytes(written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
        found = parts.read(second.name)
        assert found is None or found.equals(whole), at
    second.write_bytes(written)
    assert list(parts.done()) == [10]
    (tmp_path / "out" / SETTINGS).write_text("{")
    with pytest.raises(ChangedError, match="is damaged"):
        Parts.begun(str(tmp_path / "out"), 20, 10, {})
    (tmp_path / "out" / SETTINGS).unlink()
    with pytest.raises(ChangedError, match="has parts, and no"):
        Parts.begun(str(tmp_path / "out"), 20, 10, {})


@pytest.mark.parametrize("form", ["folder", "csv", "npz", "file://", "records"])
def test_a_job_does_not_go_on_with_files_that_have_changed(form: str, tmp_path: Path) -> None:
    if form == "records":
        pool = record_world.write_pool(tmp_path)
        cascade = cascade_of(pool, tmp_path / "c.json", [["small"], ["large"]], [0.7])
        file = record_world.write_csv(tmp_path / "d.csv", record_world.reviews(9, 0))
        data = f"{file}:label=label"
    else:
        pool = write_pool(tmp_path, THREE, POOL)
        cascade = cascade_of(pool, tmp_path / "c.json", [["one"], ["two"]], [0.8])
        folder = tmp_path / "images"
        file = folder / "cat" / "000.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(images(1)[0]).save(file)
        (tmp_path / "d.csv").write_text("path\nimages/cat/000.png\n")
        npz = small_world.write_npz(tmp_path / "d.npz", 9)
        data = str({"csv": tmp_path / "d.csv", "npz": npz}.get(form, folder))
        data, file = (
            (f"file://{data}" if form == "file://" else data),
            npz if form == "npz" else file,
        )
    made, out = job(cascade, data, code_of(pool), 8), str(tmp_path / "out")

    def begin() -> None:
        dataset = made.source.open(list(made.specs.values()))
        Parts.begun(out, 9, 9, settings_of(made, dataset))

    begin()
    begin()
    os.utime(file, ns=(1, file.stat().st_mtime_ns - 1))  # as another file of that size has it
    with pytest.raises(
        ChangedError, match=r"data was [\d,]+ bytes, newest of 20.*, is .*--overwri"
    ):
        begin()


def test_a_full_disk_and_unknown_places_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="neither pyarrow nor fsspec opens it"):
        Parts.begun("nosuch://bucket/out", 1, 1, {})
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be read or written"):
        Parts.begun(str(tmp_path / "file"), 1, 1, {})
    parts = Parts.begun(str(tmp_path / "out"), 4, 4, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("committee.scale.parts.write_bytes", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)\. What"):
        list(run_into_parts([decided_block(0, 4)], parts, columns_of))
    assert parts.done() == {}


def test_batches_grow_by_what_reaches_a_stage_and_fit_one_another(tmp_path: Path) -> None:
    made = job_of_embedded(batch_size=32)
    size = part_size(32)
    groups = groups_of(made, (1.0, 0.2, 0.05), 10**6)
    assert groups[1] >= 4 * 32 / 0.2 / 2
    assert groups[2] >= 4 * 32 / 0.05 / 2
    for small, large in zip(groups, (*groups[1:], size), strict=True):
        assert large % small == 0
    assert groups_of(made, (1.0, 0.2, 0.05), 100) == (512, 512, 512)
    assert groups_of(made, (1.0, 0.0, 0.0), 10**9)[2] == size


def job_of_embedded(batch_size: int) -> Job:
    from committee.embedded import pool_file

    pool = pool_file()
    names = ("micro", "medium", "large")
    cascade = replace(
        Cascade.of([[name] for name in names], thresholds=[0.87, 0.56]),
        models={spec.name: spec for spec in pool.models if spec.name in names},
        classes=pool.classes,
    )
    return Job(cascade, specs_of(cascade), Source("embedded:test", pool.classes), batch_size)


def test_pools_go_by_work_and_leave_room(tmp_path: Path) -> None:
    large = pools_of((1.0, 1.0, 0.02), Cluster("", 4, 64, 8))
    assert [pool.most for pool in large] == [56, 29, 1]
    assert [pool.cpus for pool in large] == [1.0] * 3
    small = pools_of((1.0, 1.0, 0.02), Cluster("", 1, 2, 0))
    assert sum(pool.cpus for pool in small) < 2
    gpus = pools_of((1.0, 1.0), Cluster("", 4, 64, 8), cpus=[4, 2], gpus=[0, 1])
    assert [(p.most, p.cpus, p.gpus, p.threads) for p in gpus] == [(13, 4, 0, 4), (4, 2, 1, 2)]
    assert [p.most for p in pools_of((1, 1), Cluster("", 1, 2, 0), actors=[3, 1])] == [3, 1]
    with pytest.raises(ClusterError, match="each stage takes 2 GPUs, and the cluster has 1"):
        pools_of((1.0, 1.0), Cluster("", 1, 8, 1), gpus=[1, 1])
    with pytest.raises(ClusterError, match=r"takes 16 CPUs, and the cluster has 8.*--cpus"):
        pools_of((1.0, 1.0), Cluster("", 1, 8, 1), cpus=[8, 8])
    # A cluster whose head takes no work, before its first worker comes.
    with pytest.raises(ClusterError, match=r"takes 2 CPUs, and the cluster has 0\..*add nodes"):
        pools_of((1.0, 1.0), Cluster("there", 1, 0.0, 0.0))


def test_the_share_that_reaches_a_stage_is_the_evaluated_one() -> None:
    made = job_of_embedded(32)
    assert reach_of(made.cascade) == (1.0, 0.5, 0.25)


# Ray itself.

# A model whose process ends once, after some batches.
DIES = f"""import os, pathlib, signal
        mark = pathlib.Path("MARK")
        if sum(map(sum, batches.values())) > 100 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        {ANSWER}"""
# A model that is slow, and notes its batches.
SLOW = f"""import time
        time.sleep(0.05)
        with open("MARK", "a") as file:
            file.write(f"{{len(batch)}}\\n")
        {ANSWER}"""


def world_that(folder: Path, does: str, count: int = COUNT) -> tuple[Path, Path, list[str]]:
    """A cascade of two stages, of which the first does something; MARK is a file beside it."""
    code = does.replace("MARK", str(folder / "mark")).replace("{", "{{").replace("}", "}}")
    pool = write_pool(folder, CODE.replace(ANSWER, code, 1))
    cascade = cascade_of(pool, folder / "cascade.json", [["one"], ["two"]], [0.8])
    return cascade, small_world.write_npz(folder / "data.npz", count), code_of(pool)


def words(world: tuple[Path, Path, list[str]], out: Path, *more: str) -> list[str]:
    cascade, data, code = world
    named = ["run", str(cascade), "--data", str(data), "--out", str(out), "--batch-size", "8"]
    return [*named, "--allow-code", *code, *more]


def on_ray(address: str) -> list[str]:
    return ["--on", "ray", "--address", address]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part have 64 samples, so that few samples are many parts."""
    monkeypatch.setattr("committee.scale.plan._PART", 64)


def test_rows_are_those_of_one_machine(
    world: tuple[Path, Path, list[str]],
    tmp_path: Path,
    ray_address: str,
    small_parts: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = []
    for out, engine in (("there", on_ray(ray_address)), ("here.parquet", [])):
        assert main(words(world, tmp_path / out, "--json", *engine)) == 0
        told.append(json.loads(capsys.readouterr().out))
    there, here = told
    same(read_results(tmp_path / "there"), read_results(tmp_path / "here.parquet"))
    assert len(list((tmp_path / "there").glob("*.parquet"))) == 5
    for key in here.keys() - {"seconds", "samples_per_second", "out"}:
        assert there[key] == here[key], key
    # The same again computes nothing, without Ray; a part that is missing is computed again.
    before = files_of(tmp_path / "there")
    assert main(words(world, tmp_path / "there", "--on", "ray", "--address", "127.0.0.1:1")) == 0
    assert "300 were done before" in capsys.readouterr().out
    for gone in ("part-000000000064-000000000128", "part-000000000256-000000000300"):
        (tmp_path / "there" / f"{gone}.parquet").unlink()
    assert main(words(world, tmp_path / "there", "--json", *on_ray(ray_address))) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 300 - 64 - 44
    assert files_of(tmp_path / "there") == before


def test_a_worker_that_is_killed_loses_nothing(
    tmp_path: Path, ray_address: str, small_parts: None
) -> None:
    world, room = world_that(tmp_path, DIES), ["--actors", "1", "--cpus", "0.5,0.25", "--gpus", "0"]
    assert main(words(world, tmp_path / "there", *on_ray(ray_address), *room)) == 0
    assert (tmp_path / "mark").exists()
    assert main(words(world, tmp_path / "here.parquet")) == 0
    same(read_results(tmp_path / "there"), read_results(tmp_path / "here.parquet"))


DRIVER = """
import sys
from committee.scale import plan
plan._PART = 64
from committee.cli import command, main
sys.exit(main(sys.argv[1:]))
"""


def driver(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, *command], stdout=subprocess.DEVNULL)


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and not what():
        time.sleep(0.02)
    assert what()


@KILLS
def test_a_driver_that_is_killed_goes_on(
    tmp_path: Path, ray_address: str, small_parts: None
) -> None:
    world, out = world_that(tmp_path, SLOW, 600), tmp_path / "there"
    command = words(world, out, *on_ray(ray_address))
    with driver(command) as killed:
        wait_for(lambda: len(list(out.glob("*.parquet"))) >= 2)
        killed.send_signal(signal.SIGKILL)
    time.sleep(1)  # its actors end with it
    done = files_of(out)  # the settings among them
    assert 2 < len(done) < 11
    (tmp_path / "mark").unlink(missing_ok=True)
    assert main(command) == 0
    computed = sum(map(int, (tmp_path / "mark").read_text().split()))
    # Both models note their batches.
    assert computed == sum(1 + each.stage for each in read_results(out)[64 * (len(done) - 1) :])
    assert done.items() <= files_of(out).items()
    assert main(words(world, tmp_path / "again", *on_ray(ray_address))) == 0
    assert files_of(out) == files_of(tmp_path / "again")


@KILLS
def test_a_node_that_dies_loses_nothing(tmp_path: Path) -> None:
    from ray_world import nodes

    world, out = world_that(tmp_path, SLOW, 600), tmp_path / "there"
    quick = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}
    # What is left has room for an actor of each stage.
    with nodes(1, cpus=2, **quick) as cluster:
        lost = cluster.add_node(num_cpus=2, object_store_memory=2**27)
        with driver(words(world, out, *on_ray(cluster.address))) as running:
            wait_for(lambda: len(list(out.glob("*.parquet"))) >= 2)
            cluster.remove_node(lost, allow_graceful=False)
            assert running.wait(120) == 0
    assert main(words(world, tmp_path / "here.parquet")) == 0
    same(read_results(out), read_results(tmp_path / "here.parquet"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--on", "spark"], "--on: no engine 'spark'. There are: ray"),
        (["--address", "auto", "--gpus", "1"], "--address, --gpus go with --on ray"),
        (["--on", "ray", "--address", "127.0.0.1:1"], "nothing answers there"),
        (["--on", "ray", "--data", "no/such"], "data no/such: does not exist"),
        (["--on", "ray", "--actors", "1.5"], "--actors '1.5': must be one number for all stages"),
        (["--on", "ray", "--cpus", "1,2,3"], "--cpus '1,2,3': there are 2 stages, not 3; give"),
    ],
)
def test_bad_input_gets_one_line(
    more: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_that(tmp_path, ANSWER, 9)
    assert main([*words(world, tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_what_a_worker_lacks_is_one_line(
    tmp_path: Path,
    ray_address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    end, alive = ray.shutdown, [""]

    def shutdown() -> None:
        alive[:] = sorted(each.name for each in set(threading.enumerate()) - before)
        end()

    monkeypatch.setattr(ray, "shutdown", shutdown)
    before = set(threading.enumerate())
    code = "import only_here" + CODE
    pool = write_pool(tmp_path, code)
    cascade = cascade_of(pool, tmp_path / "c.json", [["one"], ["two"]], [0.8])
    world = cascade, small_world.write_npz(tmp_path / "d.npz", 9), code_of(pool)
    assert main(words(world, tmp_path / "out", *on_ray(ray_address))) == 2
    error = capsys.readouterr().err
    assert "No module named 'only_here'" in error
    assert "on node" in error
    assert error.count("\n") == 1
    # No thread is left that might use Ray while it ends: that would end this process.
    known = {"PythonGCThread", "ray_listen_error_messages", "Prefetcher"}
    assert set(alive) <= known


def test_data_are_named_so_that_workers_in_another_folder_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    assert anywhere("images") == str(tmp_path / "images")
    assert [anywhere(each) for each in ("embedded:test", "s3://b/f")] == [
        "embedded:test",
        "s3://b/f",
    ]


def test_the_job_of_the_example_is_one_that_can_run() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, to read the file")
    folder = Path(__file__).parent.parent / "examples" / "kuberay"
    made = yaml.safe_load((folder / "rayjob.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayJob")
    cluster = made["spec"]["rayClusterSpec"]
    assert tuple(map(int, cluster["rayVersion"].split(".")))[:2] >= OLDEST
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    (head, *workers) = [each["template"]["spec"]["containers"][0] for each in groups]
    images = {each["image"] for each in (head, *workers)}
    assert images == {f"registry.example/committee:{__version__}"}
    words = made["spec"]["entrypoint"].split()
    assert words[:2] == ["committee", "run"]
    known = {name for parameter in command("run").params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    mounted = {each["mountPath"] for each in head["volumeMounts"]}
    assert all(word.startswith(tuple(mounted)) for word in words if word.startswith("/"))
