"""Costs from tables: a user's own, and the form of timm's published result files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.errors import CostError, DataError
from committee.spec.model import ImportedModel, ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.store.published_costs import matched_costs, read_costs

# In the form of timm's results/, with invented figures.
BENCHMARK = """\
model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts
tiny_a,160,20000.0,51.2,1024,0.37,0.04,0.48
tiny_a,224,8000.0,128.0,1024,0.37,0.08,0.96
wide_b,224,500.0,512.0,256,44.5,7.8,16.2
odd_c,300,250.0,1024.0,256,60.1,,
"""
FILE = "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / FILE).write_text(BENCHMARK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def timm(name: str, source: str, side: int) -> ModelSpec:
    return ModelSpec(name, f"timm:{source}", Preprocessing((side, side)))


def test_a_result_file_gives_milliseconds_under_conditions_and_multiply_adds() -> None:
    rows = read_costs(f"timm-bench:{FILE}")
    small = rows[1]
    assert small.text == "tiny_a@224"
    (time,), (macs,) = small.costs, small.counted
    assert (time.value, time.unit, time.source) == (0.125, "ms_per_sample", "measured")
    assert time.conditions == "timm benchmark-infer-amp-nhwc-pt240-cu124-rtx4090"
    assert time.detail == "224 x 224, batch 1024"
    assert (macs.value, macs.unit, macs.source) == (8e7, "macs", "counted")
    assert rows[3].counted == ()  # some files lack counts of some models


def test_models_are_found_by_name_by_source_and_without_tag_at_their_size() -> None:
    rows = read_costs(f"timm-bench:{FILE}", unit="gpu_ms")
    models = [timm("mine", "tiny_a.some_in1k", 160), timm("wide_b", "other", 224)]
    costs, notes = matched_costs(rows, models, {})
    values = {name: {cost.unit: cost.value for cost in own} for name, own in costs.items()}
    assert values["mine"] == {"gpu_ms": 0.05, "macs": 4e7}
    assert values["wide_b"] == {"gpu_ms": 2, "macs": 7.8e9}
    assert notes == []


def test_what_does_not_fit_is_listed_with_what_is_near() -> None:
    rows = read_costs(f"timm-bench:{FILE}")
    models = [
        timm("wide_b", "wide_b", 256),
        ImportedModel("tiny_a"),
        ImportedModel("tinya"),
        ImportedModel("odd_c"),
    ]
    costs, notes = matched_costs(rows, models, {})
    assert costs.keys() == {"odd_c"}
    assert notes == [
        "no size of their images is known: odd_c at 300 pixels",
        "wide_b: runs at 256 x 256 pixels, the table has wide_b@224",
        "tiny_a: the table has tiny_a@160, tiny_a@224. Name one: --as tiny_a=tiny_a@SIZE",
        "tinya: no row 'tinya'; nearest: tiny_a@160, tiny_a@224. Name it: --as tinya=NAME",
    ]
    named = {"tinya": "tiny_a@224", "tiny_a": "tiny_a@160", "wide_b": "wide_b@224"}
    costs, notes = matched_costs(rows, models, named)
    assert costs["tinya"][0].value == 0.125
    assert notes[-1] == "wide_b: --as says 224 pixels, the model runs at 256 x 256"
    with pytest.raises(CostError, match="none of the models has a cost in the table"):
        matched_costs(rows, [ImportedModel("zzz")], {})


def test_counted_multiply_adds_of_the_store_stay() -> None:
    exact = timm("tiny_a", "tiny_a", 224).with_cost(cm.Cost(80_123_456, "macs", "counted"))
    costs, _ = matched_costs(read_costs(f"timm-bench:{FILE}"), [exact], {})
    assert [cost.unit for cost in costs["tiny_a"]] == ["ms_per_sample"]


def test_a_table_of_ones_own_has_a_column_a_unit(folder: Path) -> None:
    (folder / "own.csv").write_text(
        'model,image_size,macs,"gpu_ms (RTX 4090, compiled)"\na,224,5e6,0.1\nb,288,,0.4\n'
    )
    first, second = read_costs("own.csv")
    assert [(c.value, c.unit, c.conditions) for c in first.costs] == [
        (5e6, "macs", ""),
        (0.1, "gpu_ms", "RTX 4090, compiled"),
    ]
    assert [cost.unit for cost in second.costs] == ["gpu_ms"]
    assert (first.size, second.size) == (224, 288)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,macs\na,1\n", "no column 'model'"),
        ("model,macs\na,-1\n", "line 2: 'macs' is '-1'; it must be a number from 0"),
        ("model,macs,family\na,1,x\n", "'family' is 'x'; it must be a number from 0"),
        ("model,macs\na,inf\n", "'macs' is 'inf'"),
        ("model,macs\na,1,2\n", "line 2 does not have the 2 columns"),
        ("model,ms (GPU),ms (CPU)\na,1,2\n", r"'ms \(GPU\)', 'ms \(CPU\)' are both in 'ms'"),
        ("model,ms (mean over samples)\na,1\n", "stands for costs of each sample"),
        ("model,macs\na,1e300\n", "'macs' is '1e300'"),
        ("model,image_size,ms\na,224.5,1\n", "line 2: 'image_size' is 224.5, no whole number"),
    ],
)
def test_a_wrong_table_is_refused(text: str, message: str, folder: Path) -> None:
    (folder / "own.csv").write_text(text)
    with pytest.raises((CostError, DataError), match=message):
        read_costs("own.csv")


def test_a_file_that_is_no_result_file_or_not_said_to_be_one_is_refused(folder: Path) -> None:
    (folder / "own.csv").write_text("model,macs\na,1\n")
    with pytest.raises(CostError, match="no column 'infer_samples_per_sec'"):
        read_costs("timm-bench:own.csv")
    with pytest.raises(
        CostError, match=f"is a result file of timm's benchmark; name it timm-bench:{FILE}"
    ):
        read_costs(FILE)
    (folder / FILE).write_text(BENCHMARK.replace("500.0", "0"))
    with pytest.raises(CostError, match="wide_b@224: infer_samples_per_sec is 0"):
        read_costs(f"timm-bench:{FILE}")


@pytest.mark.parametrize(("old", "new"), [("500.0", "1e-300"), ("500.0", "1e300")])
def test_numbers_of_a_result_file_that_are_none_are_refused(
    old: str, new: str, folder: Path
) -> None:
    (folder / FILE).write_text(BENCHMARK.replace(old, new))
    with pytest.raises(CostError, match="infer_samples_per_sec"):
        read_costs(f"timm-bench:{FILE}")
    with pytest.raises(CostError, match="milliseconds cannot be in macs"):
        read_costs(f"timm-bench:{FILE}", "macs")


def test_a_model_that_stands_twice_is_to_be_removed_once(folder: Path) -> None:
    (folder / "own.csv").write_text("model,ms\na,1\na,2\nb,3\n")
    costs, notes = matched_costs(read_costs("own.csv"), map(ImportedModel, "ab"), {})
    assert list(costs) == ["b"]
    assert notes == ["a: the table has a 2 times; remove all rows but one"]


def imported(folder: Path, *more: str) -> int:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    np.save(folder / "labels.npy", labels)
    for name, gain in (("tiny_a", 1.0), ("wide_b", 3.0)):
        np.save(folder / f"{name}.npy", gain * np.eye(3)[labels] + random.normal(size=(60, 3)))
    words = "import tiny_a.npy wide_b.npy --kind logits --split val --labels labels.npy --out store"
    return main([*words.split(), *more])


def test_import_takes_several_units_together(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.csv").write_text("model,macs,gpu_ms\ntiny_a,5e6,0.1\nwide_b,9e6,0.4\n")
    assert imported(folder, "--costs", "own.csv") == 0
    pool = cm.Pool.load("store/val")
    assert pool.costs.units == ["gpu_ms", "macs"]
    assert pool.costs.values("gpu_ms") == {"tiny_a": 0.1, "wide_b": 0.4}
    assert "Next: the same on other samples with --split test" in capsys.readouterr().out


def test_a_wrong_table_stops_an_import_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.csv").write_text("model,macs\nother,5e6\n")
    assert imported(folder, "--costs", "own.csv") == 2
    assert "none of the models has a cost" in capsys.readouterr().err
    assert not (folder / "store").exists()


def test_the_command_adds_costs_that_search_uses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(folder) == 0
    words = f"costs store timm-bench:{FILE} --unit gpu_ms"
    assert main(words.split()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Name one: --as tiny_a=tiny_a@SIZE" in out
    assert "as before" not in out
    assert "Costs are in store: committee search store --unit gpu_ms" in out
    assert main([*words.split(), "--as", "tiny_a=tiny_a@160", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["unit"] for each in told["costs"]["tiny_a"]] == ["gpu_ms", "macs"]
    assert main(["search", "store", "--unit", "gpu_ms", "--match", "wide_b"]) == 0
    (folder / "own.csv").write_text("model,gpu_ms\nwide_b,3\n")
    assert main(["costs", "store", "own.csv"]) == 0
    assert "gpu_ms of 'tiny_a' is as before" in capsys.readouterr().out
    assert main([*words.split(), "--as", "tiny=tiny_a"]) == 2
    assert main([*words.split(), "--as", "tiny_a=x", "--as", "tiny_a=y"]) == 2
    assert "--as: two are for one model" in capsys.readouterr().err
    assert main([*words.split(), "--as", "tiny_a"]) == 2
    assert "write MODEL=NAME or MODEL=NAME@SIZE" in capsys.readouterr().err
