"""The README's Python runs, and its commands exist with the options that it shows."""

import re
from pathlib import Path

import pytest
import typer

from committee.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"(?<!-->\n)```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    (committee .*(?:\\\n.*)*)", README, re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippet_runs(snippet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})  # the snippet is ours
    assert "n = 1000" in capsys.readouterr().out


def test_there_is_a_snippet_and_there_are_commands():
    assert SNIPPETS
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command_and_its_options_exist(command):
    words = command.replace("\\\n", " ").split()
    known = typer.main.get_command(app).commands
    assert words[1] in known
    options = {name for parameter in known[words[1]].params for name in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= options


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_link_leads_somewhere(link):
    assert (ROOT / link).exists()
