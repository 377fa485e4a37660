"""The pages in docs: pool files can be read, Python runs, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from committee import embedded
from committee.cli import COMMANDS as KNOWN
from committee.cli import command as load
from committee.models.pool_file import read_pool_file

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def found(pattern: str) -> list[str]:
    return [match for text in TEXTS.values() for match in re.findall(pattern, text, re.M | re.S)]


POOLS = [text for text in found(r"^```toml\n(.*?)```") if "[[model]]" in text]
# Others need files or each other: test_data_docs.py, test_calibrate.py and test_export_docs.py; or
# the predictions of the demo: test_demo.py.
SNIPPETS = [
    snippet
    for name, text in TEXTS.items()
    if name not in ("data.md", "store.md", "calibration.md", "export.md", "index.md")
    for snippet in re.findall(r"^```python\n(.*?)```", text, re.M | re.S)
]
COMMANDS = found(r"^    (committee [^\n]*)")
LINKS = [
    (name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\(([^)#:]+)\)", text)
]


def test_there_is_something_to_test() -> None:
    assert len(POOLS) >= 4
    assert len(COMMANDS) >= 4
    assert SNIPPETS
    assert LINKS


@pytest.mark.parametrize("text", POOLS)
def test_a_pool_file_can_be_read(text: str, tmp_path: Path) -> None:
    for library in ("torch", "timm", "torchvision"):
        if f'"{library}:' in text:
            pytest.importorskip(library, reason=f"the extra {library} is not installed")
    (tmp_path / "pool.toml").write_text(text, encoding="utf-8")
    pool = read_pool_file(tmp_path / "pool.toml")
    lines = tomllib.loads(text)["model"]
    assert len(pool.models) == sum(
        len(line.get("resolutions", [None])) * line.get("view_blocks", 1) for line in lines
    )


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_runs(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.ROWS, "test", "5000:5300")  # enough for every step of a page
    exec(compile(snippet, "docs", "exec"), {})  # the snippet is ours


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_and_its_options_exist(command: str) -> None:
    words = command.split()
    assert words[1] in KNOWN
    options = {name for parameter in load(words[1]).params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    assert (DOCS / page).parent.joinpath(link).exists()


def test_the_page_of_commands_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = runpy.run_path(str(DOCS / "cli.py"))["page"]()
    assert TEXTS["cli.md"] == text, "run: make docs"
    assert max(map(len, text.splitlines())) <= 80
