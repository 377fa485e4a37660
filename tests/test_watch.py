"""``committee watch``: the same monitors on results of ``committee run``."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import committee.run.results as results_module
from committee import Cascade, search
from committee.certificates.monitors import Monitors
from committee.certificates.state_file import StateFile
from committee.cli import main
from committee.errors import CascadeError
from committee.pool.evaluate import stored_decisions
from committee.run.results import Result, encoded_results, read_exits, read_results
from test_monitors import pool_of

SAMPLES = 4000


def write(path: Path, results: list[Result]) -> None:
    path.write_bytes(encoded_results(path, results))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cascade, and results of good, changed and broken samples."""
    folder = tmp_path_factory.mktemp("watch")
    cascade = search(pool_of(3000, 0)).matching("large", within=0.01).cascade
    cascade.save(folder / "c.json")
    new = pool_of(SAMPLES, 1)
    made = stored_decisions(cascade, new)
    good = [
        Result(str(k), 0, "0", score, stage, 1.0, None)
        for k, (score, stage) in enumerate(
            zip(made.score.tolist(), made.stage.tolist(), strict=True)
        )
    ]
    later = np.flatnonzero(made.stage == 1).tolist()
    write(folder / "sorted.csv", sorted(good, key=lambda each: each.stage))
    (folder / "none.csv").write_text("stage,confidence\n")
    for ending in ("csv", "jsonl", "parquet"):
        write(folder / f"good.{ending}", good)
    write(folder / "changed.csv", [*good[:1000], *(good[k] for k in later), *good])
    broken = [Result.broken(str(k), "no image", None) for k in range(500)]
    write(folder / "broken.jsonl", [*good[:640], *broken])
    write(folder / "few.csv", good[:10])
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["watch", *map(str, words), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if code != 2 else {}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [64, 4096])
def test_no_alarm_where_nothing_changed(world, capsys, monkeypatch, ending, rows):
    monkeypatch.setattr(results_module, "_ROWS", rows)
    code, found = answer(capsys, world / "c.json", world / f"good.{ending}")
    assert (code, found["alarm"], found["samples"]) == (0, False, SAMPLES)
    own = Monitors.of(Cascade.load(world / "c.json"))
    pieces = list(read_exits(world / f"good.{ending}"))
    stage, score = (np.concatenate(each) for each in zip(*pieces, strict=True))
    assert len(pieces) == -(-SAMPLES // rows)
    readings = own.readings(own.advance(own.start(), own.cells(stage, score)))
    assert [each["evidence"] for each in found["monitors"]] == [r.evidence for r in readings]
    assert found["certified_samples"] == 3000


def test_alarms_are_named_and_the_exit_code_says_so(world, capsys):
    code, found = answer(capsys, world / "c.json", world / "changed.csv")
    raised = {each["name"]: each["alarm_at"] for each in found["monitors"]}
    assert code == 1
    assert 1000 < raised["exits of stage 0"] < 1600
    assert raised["failures"] is None
    assert main(["watch", str(world / "c.json"), str(world / "broken.jsonl")]) == 1
    text = capsys.readouterr().out
    assert "Alarm: failures. As long as nothing changes, the chance that" in text
    assert "is at most 1 %." in " ".join(text.split())
    assert "range" in text
    assert "The last" in text


def test_options_are_used(world, capsys):
    changed = world / "c.json", world / "changed.csv"
    assert answer(capsys, *changed, "--tau", "0.9")[1]["monitors"][0]["alarm_at"] is None
    at = answer(capsys, *changed)[1]["monitors"][0]["alarm_at"]
    assert answer(capsys, *changed, "--alpha", "1e-9")[1]["monitors"][0]["alarm_at"] > at
    broken = world / "c.json", world / "broken.jsonl"
    assert answer(capsys, *broken, "--most-failed", "0.99")[1]["monitors"][-1]["alarm_at"] is None
    assert main(["watch", *map(str, changed), "--alpha", "2"]) == 2


def test_days_follow_each_other(world, capsys, tmp_path):
    state, days = tmp_path / "state.json", [world / "good.csv", world / "changed.csv"]
    _, whole = answer(capsys, world / "c.json", *days)
    codes = [answer(capsys, world / "c.json", day, "--state", state) for day in days]
    assert [code for code, _ in codes] == [0, 1]
    assert codes[-1][1] == whole
    # The alarm stays.
    code, found = answer(capsys, world / "c.json", world / "good.jsonl", "--state", state)
    assert (code, found["samples"]) == (1, whole["samples"] + SAMPLES)
    # A file counts once.
    text = state.read_text()
    for words in ([world / "good.csv", "--state", state], [world / "few.csv"] * 2):
        assert main(["watch", str(world / "c.json"), *map(str, words)]) == 2
        assert "its samples were counted before" in capsys.readouterr().err
    assert state.read_text() == text
    words = [world / "c.json", world / "good.csv", "--state", state, "--tau", "0.3"]
    assert main(["watch", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"committee: {state}: ")
    assert "another alpha, tau" in error


def test_a_state_that_another_process_writes_is_not_lost(world, tmp_path):
    own = Monitors.of(Cascade.load(world / "c.json"))
    one, two = StateFile(tmp_path / "s.json"), StateFile(tmp_path / "s.json")
    assert one.read(own) is two.read(own) is None
    one.write(own.start(1))
    with pytest.raises(CascadeError, match=r"s\.json: another process"):
        two.write(own.start(2))
    assert two.read(own) == own.start(1)
    two.write(own.start(2))
    with pytest.raises(CascadeError, match="another process"):
        one.write(own.start(1))
    # Whoever removes the file wants it anew.
    (tmp_path / "s.json").unlink()
    one.write(own.start(3))
    assert one.read(own) == own.start(3)


def test_the_order_of_a_folder_is_no_alarm_if_rows_are_shuffled(world, capsys):
    rows = world / "c.json", world / "sorted.csv"
    assert answer(capsys, *rows)[0] == 1
    code, found = answer(capsys, *rows, "--shuffle")
    assert (code, found["samples"]) == (0, SAMPLES)
    assert answer(capsys, *rows, world / "none.csv", "--shuffle") == (code, found)
    changed = world / "c.json", world / "changed.csv"
    assert answer(capsys, *changed, "--shuffle")[0] == 1


def test_a_share_outside_its_range_is_explained(world, capsys, tmp_path):
    rows = read_results(world / "good.csv")
    write(tmp_path / "few.csv", [*rows[:63], Result.broken("x", "no image", None)])
    assert main(["watch", str(world / "c.json"), str(tmp_path / "few.csv")]) == 0
    assert "may be chance" in capsys.readouterr().out
    assert main(["watch", str(world / "c.json"), str(world / "good.csv")]) == 0
    assert "may be chance" not in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [4, 4096])
def test_results_of_another_cascade_are_refused(world, capsys, tmp_path, ending, rows, monkeypatch):
    monkeypatch.setattr(results_module, "_ROWS", rows)
    own, other = Cascade.load(world / "c.json").rule_fingerprint, "0123456789abcdef"
    few = read_results(world / "few.csv")
    for name, rules, code in (
        ("own", [own] * 10, 0),
        ("unknown", [""] * 10, 0),
        ("older", [""] * 9 + [own], 0),
        ("other", [other] * 10, 2),
        ("mixed", [own] * 9 + [other], 2),
    ):
        path = tmp_path / f"{name}.{ending}"
        write(path, [replace(each, cascade=rule) for each, rule in zip(few, rules, strict=True)])
        assert main(["watch", str(world / "c.json"), str(path)]) == code
        told = f"another cascade made some or all of these results: its rule is {other}"
        assert (told in capsys.readouterr().err) == (code == 2)


def test_a_folder_of_parts_is_read_as_one_file(world, capsys, tmp_path):
    changed = read_results(world / "changed.csv")
    ends = [0, 1000, 1001, 2500, len(changed)]
    for start, end in pairwise(ends):
        write(tmp_path / f"part-{start:05}-{end:05}.parquet", changed[start:end])
    (tmp_path / "settings.json").write_text("{}")
    assert read_results(tmp_path) == changed
    whole = answer(capsys, world / "c.json", world / "changed.csv")
    assert answer(capsys, world / "c.json", tmp_path) == whole
    whole = answer(capsys, world / "c.json", world / "changed.csv", "--shuffle")
    assert answer(capsys, world / "c.json", tmp_path, "--shuffle") == whole
    part = tmp_path / "part-01000-01001.parquet"
    assert main(["watch", str(world / "c.json"), str(part), str(tmp_path)]) == 2
    assert f"{part}: its samples were counted before" in capsys.readouterr().err
    part.unlink()
    assert main(["watch", str(world / "c.json"), str(tmp_path)]) == 2
    assert "lacks samples 1,000 to 1,000, before part-01001-02500" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["watch", str(world / "c.json"), str(tmp_path / "none")]) == 2
    assert "is a folder without *.parquet" in capsys.readouterr().err


def test_few_samples(world, capsys):
    words = ["watch", str(world / "c.json"), str(world / "few.csv")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "The last 10 samples will be looked at when there are 32" in out
    assert "No sample was looked at yet. As long as" in out
    assert "No alarm" not in out
    assert " 0.00 %" not in out
    assert main([*words, "--json"]) == 0
    assert {each["share"] for each in json.loads(capsys.readouterr().out)["monitors"]} == {None}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "id,stage\n1,0\n", "holds no results"),
        ("a.csv", "", "holds no results"),
        ("a.csv", "stage,confidence\n0,\n", "no confidence"),
        ("a.csv", "stage,confidence\n0,x\n", "holds no results"),
        ("a.csv", "stage,confidence\n9,0.5\n", "exited at 9"),
        ("a.csv", "stage,confidence\n0.5,0.5\n", "0.5 is no stage"),
        ("a.csv", "stage,confidence\n-1,0.5\n", "-1 is no stage"),
        ("a.csv", "stage,confidence\n-inf,0.5\n", "-inf is no stage"),
        ("a.jsonl", '{"stage": [0], "confidence": [1]}\n', "is no number"),
        ("a.jsonl", "{}\n", "holds no results"),
        ("a.jsonl", "[]\n", "holds no results"),
        ("a.jsonl", "x\n", "holds no results"),
        ("a.jsonl", f'{{"stage": {"9" * 400}, "confidence": 1}}\n', "holds no results"),
        ("a.parquet", "x", "holds no results"),
        ("a.txt", "x", "results are .csv"),
    ],
)
def test_what_holds_no_results_is_refused(world, capsys, tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    assert main(["watch", str(world / "c.json"), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_damaged_part_is_named(world, capsys, tmp_path):
    """A part has checksums; where a file has none, damage shows if it cannot be read."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table, sink = parquet.read_table(world / "good.parquet"), io.BytesIO()
    parquet.write_table(
        table.select(["stage", "confidence"]), sink, write_page_checksum=True, compression="none"
    )
    data = bytearray(sink.getvalue())
    data[len(data) // 2] ^= 1
    (path := tmp_path / "a.parquet").write_bytes(data)
    assert main(["watch", str(world / "c.json"), str(path)]) == 2
    assert f"{path}: holds no results" in capsys.readouterr().err
