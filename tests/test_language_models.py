"""The example of two language models runs as its README says."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "language_models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the scripts of the example."""
    folder = tmp_path_factory.mktemp("language_models")
    for script in EXAMPLE.glob("*.py"):
        shutil.copy(script, folder)
    return folder


def lines():
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    return [line for line in re.findall(r"^    (.+)", text, re.M) if not line.startswith("pip")]


def test_the_readme_runs_line_by_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    said = {}
    for line in lines():
        words = line.split()
        monkeypatch.setattr(sys, "argv", words[1:])
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert main(words[1:]) == 0, line
        said[line] = capsys.readouterr().out
    assert "Certificate: replaces deep: 2.6" in said[lines()[4]]
    promised = re.search(r"([\d.]+)% of", said[lines()[-1]])
    assert promised
    # The loop on all questions decides as the stored ones did.
    pools = [cm.Pool.load(f"answers/{split}") for split in ("val", "test")]
    cascade = cm.Cascade.load("cascade.json")
    first = np.mean([cm.evaluate(cascade, pool).exit_ratios[0] for pool in pools])
    assert float(promised[1]) == pytest.approx(100 * first, abs=0.06)
    average = np.mean([cm.evaluate(cascade, pool).average_cost for pool in pools])
    assert f"{average:.6f} dollars a question" in said[lines()[-1]]


def test_the_log_has_what_people_have(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 4000
    assert {"sample", "model", "value", "confidence", "dollars"} == set(rows[0])
    missing = [row for row in rows if row["value"] is None]
    assert 0 < len(missing) < 40
    assert all(row["dollars"] > 0 for row in rows)
