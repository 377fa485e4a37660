"""Profile: models measured in turns, costs with their conditions, and what search may compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.errors import ChangedError, CostError, ModelError, StoreError, UnknownNameError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from committee.profile.measure import FEWEST, _timed, _Timing, profile
from committee.spec.cost import Cost, CostTable
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.store.folder import record_costs
from small_world import code_of, dataset, read_pool, write_npz, write_pool

RECIPE = Preprocessing((4, 4))


class Recording:
    """A model that notes in which order it and others are called, and with how many samples."""

    fingerprint, engine = "0123456789abcdef", "none"
    macs = parameters = None

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        self.name, self.calls = name, calls

    def __call__(self, batch: Any) -> Any:
        self.calls.append((self.name, len(batch)))
        return batch.mean(axis=(2, 3))


def pair(calls: list[tuple[str, int]]) -> list[Any]:
    return [(Recording(name, calls), ModelSpec(name, "x:y", RECIPE)) for name in "ab"]


def test_models_are_warm_and_take_turns() -> None:
    calls: list[tuple[str, int]] = []
    shown: list[tuple[int, int]] = []
    timings = _timed(pair(calls), 6, calls=7, progress=lambda *at: shown.append(at))
    warm = [(name, rows) for name in "ab" for rows in (1, 2, 4, 6, 6)]
    turns = [(name, 6) for turn in range(7) for name in ("aabb" if turn % 2 == 0 else "bbaa")]
    assert calls == warm + turns
    assert [(len(each.ms), each.batch_size) for each in timings] == [(7, 6), (7, 6)]
    assert shown == [(done, 7) for done in range(1, 8)]


def test_time_that_is_up_ends_the_turns_but_not_before_the_fewest() -> None:
    assert [len(each.ms) for each in _timed(pair([]), calls=50, seconds=0)] == [FEWEST, FEWEST]


def test_percentiles_and_throughput() -> None:
    timing = _Timing(4, np.arange(101.0))
    told = timing.to_json()
    assert (told["p50"], told["p90"], told["p99"], told["calls"]) == (50, 90, 99, 101)
    assert told["ms_per_sample"] == 12.5


def test_a_batch_that_memory_would_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr("committee.profile.measure._peak_bytes", lambda: next(taken))
    monkeypatch.setattr("committee.profile.measure._available_bytes", lambda: 1.5e9)
    with pytest.raises(ModelError, match=r"batches of 2 would take about 2.0 GB.*--batch-size"):
        _timed(pair([]), 8)


def test_a_profile_has_counted_given_and_measured_costs(tmp_path: Path) -> None:
    pool, code = read_pool(tmp_path)
    profiles = profile(pool, batch_size=8, threads=1, calls=5, allow_code=code)
    for each, macs in zip(profiles, (1, 10), strict=True):
        costs = {cost.unit: cost for cost in each.spec.costs}
        assert (costs["macs"].value, costs["macs"].source) == (macs, "given")
        latency, throughput = costs["latency_ms"], costs["ms_per_sample"]
        assert latency.value == each.single.percentile(50) > 0
        assert throughput.value == each.batched.ms_per_sample > 0
        assert {latency.source, throughput.source} == {"measured"}
        assert latency.conditions.endswith(", 1 thread, batch 1")
        assert throughput.conditions.endswith(", 1 thread, batch 8")
        assert "median of 5 calls, 4 x 4, Python 3." in latency.detail
        assert Cost(**latency.to_json()) == latency


def measured(value: float, conditions: str) -> Cost:
    return Cost(value, "latency_ms", "measured", conditions)


def test_costs_of_different_conditions_are_not_compared() -> None:
    fine = CostTable.of({"a": [measured(1, "x, batch 1")], "b": [measured(2, "x, batch 1")]})
    assert fine.values("latency_ms") == {"a": 1, "b": 2}
    mixed = CostTable.of({"a": [measured(1, "x, batch 1")], "b": [measured(2, "y, batch 1")]})
    with pytest.raises(CostError, match=r"different conditions \(a: x, batch 1; b: y, batch 1\)"):
        mixed.unit("latency_ms")
    # What the user says himself needs no conditions.
    given = CostTable.of({"a": [measured(1, "x, batch 1")], "b": [Cost(2, "latency_ms")]})
    assert given.unit() == "latency_ms"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pool, its store of two splits, and images."""
    monkeypatch.chdir(tmp_path)
    pool = write_pool(tmp_path)
    for split, seed in (("val", 0), ("test", 1)):
        predict(read_pool_file(pool), dataset(50, split, seed), "store", allow_code=code_of(pool))
    write_npz(tmp_path / "val.npz", 50)
    return tmp_path


PROFILE = "profile pool.toml --allow-code models.py --calls 5 --batch-size 4"


def test_measured_costs_reach_search(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PROFILE.split(), "--store", "store", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"one", "two"}
    pool = cm.Pool.load("store/val")
    values = {name: told[name]["latency_ms"]["p50"] for name in told}
    assert cm.search(pool, unit="latency_ms").pool.costs.values("latency_ms") == values
    assert cm.search(pool)[0].evaluation.unit == "macs"
    # Measured again with another batch, one model alone is not comparable with the other.
    again = f"{PROFILE} --store store --only one --batch-size 8 --json"
    assert main(again.split()) == 0
    with pytest.raises(CostError, match=r"batch 8.*batch 4|batch 4.*batch 8"):
        cm.search(cm.Pool.load("store/val"), unit="ms_per_sample")


def test_costs_go_only_to_the_models_that_they_are_of(world: Path) -> None:
    pool, code = read_pool(world)
    one, two = (load_model(spec, code)[1] for spec in pool.models)
    with pytest.raises(StoreError, match="nowhere"):
        record_costs("nowhere", [one])
    assert not Path("nowhere").exists()
    with pytest.raises(UnknownNameError, match=r"no model 'three'\. There are: one, two"):
        record_costs("store", [ModelSpec("three", one.source, RECIPE)])
    other = ModelSpec("one", two.source, one.preprocessing, fingerprint="f" * 16)
    with pytest.raises(ChangedError, match="'one' has changed: fingerprint"):
        record_costs("store", [other])


def test_the_table_says_what_was_measured_and_how_images_are_fed(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(PROFILE.split()) == 0
    text = capsys.readouterr().out
    assert "Measured in turns, warm, on prepared inputs" in text
    assert "5 and 5 calls per model" in " ".join(text.split())
    assert "one: size [4, 4], channels 1, crop 1.0, interpolation bicubic, mean [0.5]" in text
