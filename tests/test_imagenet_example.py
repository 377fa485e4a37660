"""The ImageNet example: its page shows the commands that run, and true figures."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

import committee as cm
from committee.cli import main

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "imagenet"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPT = (FOLDER / "run.sh").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    return re.findall(r"^(?: {4})?(committee (?:.*\\\n)*.*)$", text, re.MULTILINE)


def words(command: str, out: Path) -> list[str]:
    """Return the arguments of a command as a shell would, in the folder of the repository."""
    data = "benchmarks/data/imagenet_decisions"
    text = command.replace("\\\n", " ").replace("$DATA", data).replace("$OUT", str(out))
    found: list[str] = []
    for word in shlex.split(text)[1:]:
        found += sorted(map(str, Path().glob(word))) if "*" in word else [word]
    return found


def test_the_page_shows_the_commands_of_the_script() -> None:
    plain = [re.sub(r"\s+", " ", command) for command in commands(SCRIPT)]
    shown = [re.sub(r"\s+", " ", command) for command in commands(PAGE)]
    assert shown[: len(plain)] == plain
    assert [each.split()[1] for each in plain] == [
        *("import", "import", "search", "certify", "evaluate", "report", "study")
    ]


def test_the_table_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("imagenet")
    try:
        assert benchmark.table(benchmark.read(benchmark.OUT, benchmark.Row)) in PAGE
    finally:
        del sys.modules["imagenet"]


def test_the_figures_are_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for command in commands(SCRIPT)[:5]:
        assert main(words(command, tmp_path)) == 0
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    page = re.sub(r"\s+", " ", PAGE)
    for figure in (
        "22,581,825 cascades",
        "+0.03 points (−0.16 to +0.22)",
        "1.86× cheaper",
        "replaces efficientnet_b3a: 1.86× cheaper; with 95 % certainty at most 0.14 points "
        "less accurate (promised: 0.5 points less at most) on data like these 25,000 samples",
        "only the cascade is correct on 303, only efficientnet_b3a on 295",
    ):
        assert figure in out
        assert figure in page
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    test = cm.Pool.load(tmp_path / "predictions" / "test")
    cascade = cm.Cascade.load(tmp_path / "cascade.json")
    single = cm.Cascade.of(["efficientnet_b3a"])
    ours, theirs = (cm.evaluate(each, test, "gpu_ms") for each in (cascade, single))
    assert f"{ours.average_cost:.3f} instead of {theirs.average_cost:.3f} ms" in front
    assert f"{100 * ours.accuracy:.2f} %" in front
    assert f"{100 * theirs.accuracy:.2f} %" in front
    assert -0.0014 < cm.Certificate.of(cascade).lower_bound < -0.0013
    assert 1.45 < ours.worst_case_cost / theirs.worst_case_cost < 1.55
