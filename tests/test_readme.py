"""The README's Python runs, its links lead somewhere, and it begins with what matters."""

import re
from pathlib import Path

import numpy as np
import pytest

from committee.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"(?<!-->\n)```python\n(.*?)```", README, re.DOTALL)
# A backslash at the end of a line: the command goes on in the next.
COMMAND = r"^    (committee (?:.*\\\n)*.*)"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippet_runs(snippet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 15_000)
    zs, zl = (gain * np.eye(10)[labels] + random.normal(size=(15_000, 10)) for gain in (3.0, 4.5))
    costs = {"small": 41e6, "large": 126e6}
    given = {"labels": labels, "zs": zs, "zl": zl, "costs": costs}  # what the text says of them
    exec(compile(snippet, "README.md", "exec"), given)  # the snippet is ours
    out = capsys.readouterr().out
    assert "with 95 % certainty" in out


def test_the_first_screen_says_what_it_does_and_how_to_begin():
    opening = README[:700].lower()
    for words in ("model cascading", "cheap model first", "reduces inference cost"):
        assert words in opening
    (snippet,) = SNIPPETS
    assert len(snippet.replace("\n\n", "\n").splitlines()) == 6
    commands = re.findall(r"^    (make \w+)", README, re.MULTILINE)
    assert commands == ["make demo", "make test"]
    assert len(README.splitlines()) <= 70


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
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    commands = re.findall(COMMAND, page.partition("Outputs are logits")[0], re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert main(command.replace("\\\n", " ").split()[1:]) == 0
    assert "On test, 500 samples" in capsys.readouterr().out


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_link_leads_somewhere(link):
    assert (ROOT / link).exists()
