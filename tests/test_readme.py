"""The README's Python runs, and its commands exist with the options that it shows."""

import re
from pathlib import Path

import numpy as np
import pytest

from committee.cli import COMMANDS as KNOWN
from committee.cli import command as load
from committee.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"(?<!-->\n)```python\n(.*?)```", README, re.DOTALL)
# A backslash at the end of a line: the command goes on in the next.
COMMAND = r"^    (committee (?:.*\\\n)*.*)"
COMMANDS = re.findall(COMMAND, README, re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippet_runs(snippet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 15_000)
    zs, zl = (gain * np.eye(10)[labels] + random.normal(size=(15_000, 10)) for gain in (3.0, 4.5))
    given = {"labels": labels, "zs": zs, "zl": zl}  # what the first snippet takes for granted
    exec(compile(snippet, "README.md", "exec"), given)  # the snippet is ours
    out = capsys.readouterr().out
    assert "n = 1000" in out or "with 95 % certainty" in out


def test_there_is_a_snippet_and_there_are_commands():
    assert SNIPPETS
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command_and_its_options_exist(command):
    words = command.replace("\\\n", " ").split()
    assert words[1] in KNOWN
    options = {name for parameter in load(words[1]).params for name in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= options


def test_the_block_of_imports_chooses_on_one_split_and_judges_on_another(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for split in ("val", "test"):
        (tmp_path / split).mkdir()
        labels = random.integers(0, 10, 500)
        np.save(f"{split}/labels.npy", labels)
        for name, gain in (("small", 2.0), ("large", 3.5)):
            outputs = gain * np.eye(10)[labels] + random.normal(size=(500, 10))
            np.save(f"{split}/{name}.npy", outputs)
    block = README.partition("## Outputs you already have")[2].partition("takes npy")[0]
    commands = re.findall(COMMAND, block, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert main(command.replace("\\\n", " ").split()[1:]) == 0
    assert "On test, 500 samples" in capsys.readouterr().out


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_link_leads_somewhere(link):
    assert (ROOT / link).exists()
