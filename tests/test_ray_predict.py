"""predict on Ray: the store is that of one machine, to the byte, whoever is killed meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from committee.cli import main
from committee.data.open import open_data
from committee.errors import DataError
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from committee.scale.cluster import Cluster, connect
from committee.scale.predict import compute_on
from ray_world import KILLS
from small_world import ANSWER, CODE, code_of, files_of, images, write_npz, write_pool

pytest.importorskip("ray", reason="ray is not installed")
# Ray reads options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")

ROWS = 700
# A model whose process ends once, after some batches.
DIES = """import os, pathlib, signal
        mark = pathlib.Path("MARK")
        if sum(map(sum, batches.values())) > 500 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)"""
# A model that is slow, and notes its batches.
NOTES = """import time
        time.sleep(0.04)
        with open("MARK", "a") as file:
            file.write(f"{len(batch)}\\n")"""
# A model that fails on dark images.
FAILS = """if (batch.mean(axis=(1, 2, 3)) < -0.9).any():
            raise ValueError("too dark")"""


def pool_that(folder: Path, does: str) -> Path:
    """A pool whose models do this before they answer; MARK is a file beside it."""
    code = does.replace("MARK", str(folder / "mark")).replace("{", "{{").replace("}", "}}")
    return write_pool(folder, CODE.replace(ANSWER, f"{code}\n        {ANSWER}"))


def words(pool: Path, data: Path, out: Path, *more: str) -> list[str]:
    code = ["--allow-code", *code_of(pool)]
    named = ["--data", str(data), "--split", "val", "--out", str(out)]
    return ["predict", str(pool), *named, *code, *more]


ON_RAY = ["--on", "ray"]


@pytest.fixture(scope="module")
def joined(ray_address: str) -> Iterator[None]:
    """The cluster, joined once; commands use what their process has joined."""
    with connect(ray_address):
        yield


def test_the_store_is_that_of_one_machine(tmp_path: Path, joined: None) -> None:
    more = ["--rows", "5:650", "--batch-size", "64"]
    pool, data = write_pool(tmp_path), write_npz(tmp_path / "data.npz", ROWS)
    there, here = tmp_path / "there", tmp_path / "here"
    for out, engine in ((there, ON_RAY), (here, [])):
        assert main(words(pool, data, out, "--only", "one", *more)) == 0
        assert main(words(pool, data, out, *more, *engine)) == 0
    assert files_of(there) == files_of(here)


def write_images(folder: Path, count: int) -> Path:
    """A folder of images, of which two cannot be read and two are dark."""
    for number, pixels in enumerate(images(count)):
        path = folder / ("cat", "dog", "eel")[number % 3] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if number not in (40, 41) else pixels * 0).save(path)
    for number in (7, 30):
        next(folder.rglob(f"{number:03}.png")).write_bytes(b"no image")
    return folder


def test_what_fails_does_so_as_on_one_machine(
    tmp_path: Path, joined: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, data = pool_that(tmp_path, FAILS), write_images(tmp_path / "images", 60)
    told = []
    for out, engine in (("there", ON_RAY), ("here", [])):
        assert main(words(pool, data, tmp_path / out, *engine)) == 2
        assert main(words(pool, data, tmp_path / out, "--skip-broken", "--json", *engine)) == 0
        told.append(capsys.readouterr())
    there, here = told
    assert (there.err, there.out.replace("there", "here")) == (here.err, here.out)
    assert "2 of the samples cannot be read" in here.err
    assert "models failed on 2 samples" in here.out
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, joined: None) -> None:
    pool, data = pool_that(tmp_path, DIES), write_npz(tmp_path / "data.npz", ROWS)
    there, here = tmp_path / "there", tmp_path / "here"
    assert main(words(pool, data, there, *ON_RAY)) == 0
    assert (tmp_path / "mark").exists()
    write_pool(tmp_path)
    assert main(words(pool, data, here)) == 0
    assert outputs_of(there) == outputs_of(here)


def outputs_of(store: Path) -> dict[str, bytes]:
    """The arrays; manifests name the code of the models."""
    return {name: data for name, data in files_of(store).items() if name.endswith(".npy")}


@KILLS
def test_a_driver_that_is_killed_goes_on(tmp_path: Path, ray_address: str) -> None:
    pool, data = pool_that(tmp_path, NOTES), write_npz(tmp_path / "data.npz", 2 * ROWS)
    there, here = tmp_path / "there", tmp_path / "here"
    command = words(pool, data, there, "--address", ray_address, *ON_RAY)
    with subprocess.Popen([sys.executable, "-m", "committee", *command]) as driver:
        until, journal = time.monotonic() + 60, there / "val" / "one.npy.part" / "journal"
        # A chunk counts when the journal has its line.
        while time.monotonic() < until and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    assert not (there / "val" / "one.npy").exists()
    time.sleep(1)  # its actors end with it
    (tmp_path / "mark").unlink()
    assert main(command) == 0
    computed = sum(map(int, (tmp_path / "mark").read_text().split()))
    assert 0 < computed < 2 * 2 * ROWS
    assert main(words(pool, data, here)) == 0
    assert files_of(there) == files_of(here)


def test_a_worker_that_finds_other_samples_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(job: Any, *_: object) -> Iterator[Any]:
        job.begun()
        yield from ()

    monkeypatch.setattr("committee.scale.predict._answers", answers)
    file = write_pool(tmp_path)
    pool, code = read_pool_file(file), code_of(file)
    data, other = (write_npz(tmp_path / f"{count}.npz", count) for count in (300, 301))
    opening = partial(open_data, other, classes=pool.classes)
    compute = compute_on(Cluster("", 1, 1, 0), opening, code)
    with pytest.raises(DataError, match="a worker finds other samples"):
        predict(
            pool,
            open_data(data, classes=pool.classes),
            tmp_path / "store",
            allow_code=code,
            compute=compute,
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--on", "spark"], "--on: no engine 'spark'. There are: ray"),
        (["--address", "auto"], "--address goes with --on ray"),
        (["--actors", "2", "--cpus", "2"], "--actors, --cpus go with --on ray"),
    ],
)
def test_bad_input_gets_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, data = write_pool(tmp_path), write_npz(tmp_path / "data.npz", 3)
    assert main(words(pool, data, tmp_path / "store", *options)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
