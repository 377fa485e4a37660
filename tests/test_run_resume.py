"""Whatever stops a run, and whatever is found of it, the next gives its own results or says why."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from committee import Cascade, Runner
from committee.cli import main
from committee.data.open import open_data
from committee.errors import ChangedError, DataError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.run.offline import run_into
from committee.run.results import Result, _write_results, read_results
from committee.store.chunks import exclusive, is_begun
from committee.text import from_cell
from small_world import CLASSES, code_of, dataset, images, write_npz, write_pool
from test_resume import SLOW, Disk, Tree, plant, tree_of

Caught = pytest.CaptureFixture[str]
ENDINGS = (".csv", ".jsonl", ".parquet")
# Stretches of 16 samples, the last of 8.
ROWS = 40


@dataclass
class World:
    """Two cascades of other stages, and what each gives, by the ending of its file."""

    folder: Path
    long: Runner
    short: Runner

    def whole(self, runner: Runner, ending: str) -> bytes:
        """What an undisturbed run writes."""
        out = self.folder / f"{'long' if runner is self.long else 'short'}{ending}"
        if not out.exists():
            run(runner, out)
        return out.read_bytes()


def run(runner: Runner, out: Path, stop: int = 10**9) -> list[str]:
    """Run into a file, up to a number of stretches; the notes."""
    notes: list[str] = []
    for number, _ in enumerate(run_into(runner, dataset(ROWS), out, 1, note=notes.append), 1):
        if number == stop:
            break
    return notes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    path = write_pool(folder)
    code = code_of(path)
    known = {s.name: load_model(s, code)[1] for s in read_pool_file(path).models}
    chain = replace(Cascade.of(["one", "two"], [0.9]), models=known, classes=CLASSES)
    alone = replace(Cascade.of(["two"]), models=known, classes=CLASSES)
    return World(folder, Runner(chain, allow_code=code), Runner(alone, allow_code=code))


def begun(world: World, out: Path, stretches: int = 2) -> Path:
    """A run of the long cascade that was stopped; its folder."""
    run(world.long, out, stretches)
    assert is_begun(out)
    return out.with_name(f"{out.name}.part")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_crash_at_any_event_is_made_good_and_mixes_nothing(
    world: World, tmp_path: Path, ending: str
) -> None:
    made, found = tmp_path / "made", list[Tree]()
    made.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, lambda synced: found.append(tree_of(made, torn=synced)))
        run(world.long, made / f"out{ending}")
    found.append(tree_of(made))
    assert len(found) > 10
    for number, tree in enumerate(found):
        for runner in (world.long, world.short):
            folder = tmp_path / f"{number} {runner is world.long}"
            out = folder / f"out{ending}"
            plant(tree, folder)
            if runner is world.short and is_begun(out):
                with pytest.raises(ChangedError, match="was begun with another cascade"):
                    run(runner, out)
                continue
            run(runner, out)
            assert out.read_bytes() == world.whole(runner, ending), f"crash {number}"
            assert [path.name for path in folder.iterdir()] == [out.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_left_of_a_folder_is_never_taken_for_another_run(
    world: World, tmp_path: Path, ending: str
) -> None:
    # A folder is removed in whatever order its names lie on the disk.
    draw = random.Random(0)
    for number in range(8):
        out = tmp_path / f"{number}{ending}"
        folder = begun(world, out, 3)
        names = sorted(path for path in folder.iterdir())
        for path in draw.sample(names, draw.randint(1, len(names))):
            path.unlink()
        runner = draw.choice([world.long, world.short])
        if runner is world.short and is_begun(out):
            with pytest.raises(ChangedError):
                run(runner, out)
            continue
        run(runner, out)
        assert out.read_bytes() == world.whole(runner, ending)


def test_no_altered_byte_is_believed(world: World, tmp_path: Path) -> None:
    draw = random.Random(1)
    refused = 0
    for ending in ENDINGS:
        whole = tmp_path / f"whole{ending}"
        folder = begun(world, whole)
        for number in range(15):
            out = tmp_path / f"{number}{ending}"
            shutil.copytree(folder, f"{out}.part")
            path = draw.choice([p for p in Path(f"{out}.part").iterdir() if p.stat().st_size])
            data = bytearray(path.read_bytes())
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            try:
                notes = run(world.long, out)
            except ChangedError:
                assert path.name == "run.json"
                refused += 1
                continue
            assert out.read_bytes() == world.whole(world.long, ending), path.name
            # A line of the journal that is none any more vouches for nothing.
            assert len(notes) == 1 or path.name in ("run.json", "journal")
            assert all(note.startswith("damaged in ") for note in notes)
    assert refused


def test_other_files_in_the_folder_are_not_read_and_stay(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    folder = begun(world, out)
    for name in ("0-0.csv", "000000000032-000000000048.csv", "own.txt"):
        (folder / name).write_text("id\n")
    run(world.long, out)
    assert out.read_bytes() == world.whole(world.long, ".csv")
    assert sorted(path.name for path in folder.iterdir()) == ["0-0.csv", "own.txt"]


def test_only_the_damaged_part_is_computed_again(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    folder = begun(world, out, 3)
    (folder / "000000000016-000000000032.jsonl").unlink()
    module = sys.modules[f"committee source {world.folder / 'models.py'}"]
    module.batches.clear()
    [note] = run(world.long, out)
    assert note == f"damaged in {folder} and computed again: '000000000016-000000000032.jsonl'"
    assert len(module.batches["one"]) == 16
    assert out.read_bytes() == world.whole(world.long, ".jsonl")


def test_images_that_changed_since_are_noticed_and_run_again(
    world: World, tmp_path: Path, capsys: Caught
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    some = images(ROWS)
    for row, image in enumerate(some):
        Image.fromarray(image).save(data / f"{row:02}.png")
    cascade = world.long.cascade.save(tmp_path / "cascade.json")
    words = f"run {cascade} --data {data} --batch-size 1 --allow-code {world.folder / 'models.py'}"
    stopped = run_into(world.long, open_data(data, "run", CLASSES), tmp_path / "out.csv", 1)
    next(stopped)
    next(stopped)
    stopped.close()
    Image.fromarray(255 - some[5]).save(data / "05.png")
    Image.fromarray(255 - some[35]).save(data / "35.png")  # not run yet
    assert main(f"{words} --out {tmp_path / 'out.csv'}".split()) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Note: samples that have changed since they were run: '05.png'. They and what" in told
    assert "ran together with them, 16 samples, are computed again" in told
    assert "16 were done before" in told
    assert main(f"{words} --out {tmp_path / 'new.csv'}".split()) == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_a_file_has_one_writer(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    first = run_into(world.long, dataset(ROWS), out, 1)
    next(first)
    with pytest.raises(DataError, match=r"out\.csv: another process is writing it; wait"):
        run(world.long, out)
    rest = [result for part in first for result in part]
    assert len(rest) == ROWS - 16
    # Who comes too late for the folder finds a finished file, which is not replaced unasked.
    with pytest.raises(DataError, match="is there already"):
        next(run_into(world.short, dataset(ROWS), out, 1, overwrite=False))
    assert out.read_bytes() == world.whole(world.long, ".csv")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_who_waits_for_a_lock_that_goes_gets_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from committee.store import chunks

    out, locked = tmp_path / "out.csv", chunks._lock
    tries: list[int] = []

    def late(descriptor: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            # The owner finishes between the opening of its lock and the locking.
            shutil.rmtree(tmp_path / "out.csv.part")
        locked(descriptor)

    monkeypatch.setattr(chunks, "_lock", late)
    with exclusive(out), pytest.raises(DataError, match="another process"), exclusive(out):
        pass
    assert len(tries) == 3


def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    world: World, tmp_path: Path, capsys: Caught
) -> None:
    cascade = world.long.cascade.save(tmp_path / "cascade.json")
    data = write_npz(tmp_path / "data.npz", 3)
    words = f"run {cascade} --data {data} --allow-code {world.folder / 'models.py'} --out"
    assert main(f"{words} {tmp_path / 'no' / 'such' / 'r.csv'}".split()) == 2
    assert f"folder {tmp_path / 'no' / 'such'} does not exist; create it" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    (tmp_path / "r.csv.part").touch()
    assert main(f"{words} {tmp_path / 'r.csv'}".split()) == 2
    assert "r.csv.part beside it, which holds what is done so far" in capsys.readouterr().err


@pytest.mark.parametrize("room", [0, 60, 700, 1300])
def test_a_full_disk_is_told_and_made_good(world: World, tmp_path: Path, room: int) -> None:
    out = tmp_path / "out.csv"
    whole = world.whole(world.long, ".csv")
    # No file may grow beyond so many bytes: what goes beyond is written in part.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written .*run the same command") as told:
            run(world.long, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    assert not out.exists()
    run(world.long, out)
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


class Process:
    """``committee run`` as a process of its own, slow enough to be stopped."""

    def __init__(self, folder: Path) -> None:
        path = write_pool(folder, SLOW)
        self.code, self.log = code_of(path)[0], folder / "log"
        known = {s.name: load_model(s, [self.code])[1] for s in read_pool_file(path).models}
        chain = replace(Cascade.of(["one", "two"], [0.9]), models=known, classes=CLASSES)
        self.cascade = chain.save(folder / "cascade.json")
        self.data = write_npz(folder / "data.npz", 130)

    def words(self, out: Path) -> list[str]:
        words = ["run", self.cascade, "--data", self.data, "--out", out, "--batch-size", "2"]
        return list(map(str, words))

    def start(self, out: Path) -> subprocess.Popen[str]:
        program = "import sys; from committee.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *self.words(out), "--allow-code", self.code]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    def stop(self, out: Path, how: signal.Signals, after: float) -> tuple[int, str]:
        """Start, stop some time after it has got on by a part, and say how it ended."""
        with self.start(out) as process:
            before = parts(out)
            while process.poll() is None and parts(out) <= before:
                time.sleep(0.005)
            time.sleep(after)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def finish(self, out: Path) -> None:
        """Run to the end, in this process."""
        assert main([*self.words(out), "--allow-code", self.code]) == 0


def parts(out: Path) -> int:
    """How many parts of a run are done; of one that is finished, many."""
    with contextlib.suppress(FileNotFoundError):
        return (out.with_name(f"{out.name}.part") / "journal").read_text().count("\n")
    return 100 * out.exists()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Process:
    return Process(tmp_path_factory.mktemp("process"))


def test_stopped_and_killed_processes_leave_the_bytes_of_an_undisturbed_one(
    process: Process, tmp_path: Path, capsys: Caught
) -> None:
    out, moments = tmp_path / "out.csv", random.Random(2)
    code, errors = process.stop(out, signal.SIGINT, 0.02)
    assert code == 130
    assert errors.count("\n") == 1
    assert "run goes on where it stopped" in errors
    code, _ = process.stop(out, signal.SIGKILL, moments.uniform(0, 0.05))
    assert code == -signal.SIGKILL
    process.finish(out)
    assert " were done before" in capsys.readouterr().out
    process.finish(tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "whole.csv"]


def test_of_two_processes_one_writes_and_the_other_says_so(
    process: Process, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    with process.start(out) as one, process.start(out) as two:
        found = [(each.communicate(timeout=60), each.returncode) for each in (one, two)]
    (told, _), (_, errors) = (each for each, _ in sorted(found, key=lambda each: each[1]))
    assert sorted(code for _, code in found) == [0, 2]
    assert f"Written: {out}" in told
    assert errors.count("\n") == 1
    assert "another process is writing it" in errors or "is there already" in errors
    assert len(read_results(out)) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("content", [b"{}", b"a", None])
def test_a_manifest_that_was_altered_is_called_so(
    world: World, tmp_path: Path, content: bytes | None
) -> None:
    manifest = begun(world, tmp_path / "out.csv") / "run.json"
    if content is None:
        manifest.unlink()
        os.mkfifo(manifest)
    elif content == b"a":
        manifest.write_bytes(manifest.read_bytes().replace(b"a", b"b", 1))
    else:
        manifest.write_bytes(content)
    with pytest.raises(ChangedError, match=r"run\.json: altered"):
        run(world.long, tmp_path / "out.csv")


@pytest.mark.parametrize("ending", ENDINGS)
def test_results_hold_every_character_of_a_name(tmp_path: Path, ending: str) -> None:
    names = ["a\rb.png", "a\r\nb", 'a"\nb,', "\r", "=1\r", "", "plain"]
    rows = [Result(name, 0, name, 0.5, 0, None, None) for name in names]
    path = _write_results(tmp_path / f"out{ending}", rows)
    assert read_results(path) == rows
    if ending == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            assert [from_cell(row["id"]) for row in csv.DictReader(file)] == names


def test_results_that_are_none_are_named(tmp_path: Path) -> None:
    for text in ("id,cost\na\n", "", "id\na\n", "id,class_index\na,x\n"):
        (tmp_path / "out.csv").write_text(text)
        with pytest.raises(DataError, match="holds no valid results"):
            read_results(tmp_path / "out.csv")
