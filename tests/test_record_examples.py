"""The examples of records: they run, and their commands are those of the page."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from committee.cli import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "records"
PAGE = (EXAMPLE / "README.md").read_text()
COMMANDS = {
    name: [shlex.split(line) for line in re.findall(r"^    committee (.*)$", part, re.M)]
    for name, part in re.findall(r"^    python (\w+)\.py (.*?)\n\n[A-Z]", PAGE, re.M | re.S)
}


@pytest.mark.parametrize(("name", "commands"), COMMANDS.items())
def test_an_example_runs(name, commands, tmp_path, monkeypatch, capsys):
    for package in ("sklearn", "skops", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    program = runpy.run_path(str(EXAMPLE / f"{name}.py"))
    if name == "tabular":
        program["ESTIMATORS"]["forest"].set_params(n_estimators=20)
        program["ESTIMATORS"]["boosted"].set_params(max_iter=3)
    program["write"](tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 3
    assert len(commands) >= 5
    for words in commands:
        quick = ["--calls", "5", "--seconds", "1"] if words[0] == "profile" else []
        assert main([*words, *quick]) == 0, capsys.readouterr().err
    assert Path("cascade.json").is_file()
    assert "all decisions are the same" in capsys.readouterr().out
