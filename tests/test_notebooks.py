"""The notebooks of docs run, and what they show was made by a run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return which kinds of output each cell shows."""
    cells = [cell.get("outputs", []) for cell in notebook.cells]
    return [sorted({kind for each in cell for kind in each.get("data", ())}) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the kernel's libraries
def test_a_notebook_runs_and_shows_what_it_showed(path: Path) -> None:
    executed = runpy.run_path(str(DOCS / "notebooks.py"))["executed"](path)
    stored = nbformat.read(path, as_version=4)
    assert kinds(executed) == kinds(stored), "run: make notebooks"
    assert any("text/html" in each for each in kinds(stored))
    assert any("image/png" in each for each in kinds(stored))
    assert "/tmp" not in path.read_text(encoding="utf-8")


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2
