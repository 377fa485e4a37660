"""Search on Ray: the front of one process, whoever is killed meanwhile; errors in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from committee.cli import main
from committee.errors import ClusterError
from committee.scale.cluster import Cluster, connect, one_line
from committee.scale.search import over_shards
from committee.store.import_predictions import write_pool
from shard_world import decisions, write_shards

pytest.importorskip("ray", reason="ray is not installed")
# Ray reads options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")


ON_RAY = ["--on", "ray"]


@pytest.fixture(scope="module")
def cluster(ray_address: str) -> Iterator[Cluster]:
    """The cluster, joined once; commands use what their process has joined."""
    with connect(ray_address) as joined:
        yield joined


def told(text: str) -> dict[str, Any]:
    """What a search printed as JSON, without its times."""
    data = json.loads(text)
    return {**data, "settings": {**data["settings"], "seconds": None}}


def test_commands_say_on_ray_what_they_say_here(tmp_path, monkeypatch, committee, cluster):
    # Workers run in another folder than the command.
    monkeypatch.chdir(tmp_path)
    folder = write_shards(Path("shards"), decisions(2000), [300, 1100])
    one, c = Path("one"), tmp_path / "c.json"
    write_pool(one, decisions(2000))
    write_pool(one, decisions(1000, seed=1, split="test"))
    words = ["--match", "c", "--within", "0.02", "--json"]
    for store in (folder, one):
        here = committee("search", store, *words, "--out", c)
        there = committee("search", store, *words, *ON_RAY)
        assert told(here) == told(there)
    calls = (
        ["evaluate", c, one, "--json"],
        ["certify", c, one, "--split", "test", "--match", "c", "--within", "0.1", "--json",
         "--out", tmp_path / "new.json"],
    )  # fmt: skip
    for call in calls:
        here = json.loads(committee(*call))
        there = json.loads(committee(*call, *ON_RAY))
        assert {**here, "warnings": 0} == {**there, "warnings": 0}


def test_a_shard_whose_worker_was_killed_is_counted_once(tmp_path, cluster):
    places, mark = [str(tmp_path / str(number)) for number in range(9)], tmp_path / "mark"

    def count(place: str) -> int:  # inside, so that it travels by value
        if place.endswith("2") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return int(place[-1])

    for place in places:
        Path(place).mkdir()
    assert list(over_shards(cluster)(count, places)) == list(range(9))
    assert mark.exists()


def test_what_a_worker_cannot_open_is_said_in_one_line(tmp_path, capsys, cluster):
    with (
        pytest.raises(
            ClusterError, match=r"nowhere: not there on .* this path, as on a shared disk"
        ),
        one_line(),
    ):
        list(over_shards(cluster)(len, [str(tmp_path / "nowhere")]))
    folder = write_shards(tmp_path / "shards", decisions(600), [300])
    shutil.copy(folder / "0000" / "val" / "a.npy", folder / "0001" / "val" / "a.npy")
    assert main(["search", str(folder), *ON_RAY]) == 2
    error = capsys.readouterr().err
    assert "0001/val/a.npy: altered" in error
    assert error.count("\n") == 1


def test_an_address_needs_an_engine(tmp_path, capsys):
    write_shards(tmp_path, decisions(60), [30])
    assert main(["search", str(tmp_path), "--address", "auto"]) == 2
    assert "--address goes with --on ray" in capsys.readouterr().err
