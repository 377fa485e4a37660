"""What docs/export.md shows runs, and its commands exist with their options."""

import re
from pathlib import Path

import pytest

from committee.cli import command

TEXT = (Path(__file__).parent.parent / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="exporting needs onnx")
    pytest.importorskip("torch", reason="one of the examples is a torch module")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) == 3
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, "export.md", "exec"), names)  # the snippets are ours
    assert set(names["stage"].tolist()) <= {0, 1}
    assert names["outputs"].shape == (64, 10)


def test_commands_and_options_exist():
    lines = re.findall(r"^    committee (.*)", TEXT, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        name, *words = line.split()
        options = {option for each in command(name).params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= options
    known = {
        option
        for name in ("export", "verify")
        for each in command(name).params
        for option in (*each.opts, *each.secondary_opts)
    }
    assert set(re.findall(r"`(--[a-z-]+)", TEXT)) <= known
