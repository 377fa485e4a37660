"""The examples of the documents on samples and on the store run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Pool
from committee.cli import main
from small_world import CLASSES, code_of, images, write_pool

DOCS = Path(__file__).parent.parent / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"^    (committee .*)$", re.MULTILINE)
EACH = 20


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.fixture
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool file and the folders that the examples name."""
    monkeypatch.chdir(tmp_path)
    write_pool(Path())
    for i, image in enumerate(images(EACH * len(CLASSES))):
        folder = Path("images") / CLASSES[i % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    for name in ("more", "torn"):
        shutil.copytree("images", name)
    Path("torn/cat/00.png").write_bytes(b"")


def run(command: str) -> None:
    # The pool's models are Python code here, which the documents' need not be.
    words = command.split()[1:]
    code = ["--allow-code", code_of(Path("pool.toml"))[0]] if "pool.toml" in words else []
    assert main([*words, *code]) == 0


@pytest.mark.usefixtures("_folders")
def test_the_commands_on_samples_do_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS.findall(text("data.md")):
        run(command)
    val, test = (Pool.load(f"predictions/{split}").samples for split in ("val", "test"))
    assert sorted(val.ids + test.ids) == sorted(
        path.relative_to("images").as_posix() for path in Path("images").rglob("*.png")
    )
    three = [len(Pool.load(f"three/{split}")) for split in ("val", "cal", "test")]
    assert three == [24, 6, 30]
    assert Pool.load("later/raw").samples.labels is not None
    torn = Pool.load("torn-predictions/val").samples
    assert (len(torn), [each.id for each in torn.broken]) == (59, ["cat/00.png"])
    assert "1 broken sample left out of val" in capsys.readouterr().out


def test_the_example_of_a_source_keeps_the_contract() -> None:
    (example,) = PYTHON.findall(text("data.md"))
    exec(compile(example, "data.md", "exec"), {})  # the example is ours


@pytest.mark.usefixtures("_folders")
@pytest.mark.filterwarnings("ignore:unclosed file")  # three lines are worth it
def test_three_lines_of_numpy_read_a_store() -> None:
    Path("pool.toml").write_text(Path("pool.toml").read_text().replace('"one"', '"small"'))
    run("committee predict pool.toml --data images --split val")
    (example,) = PYTHON.findall(text("store.md"))
    assert len([line for line in example.splitlines() if line]) == 3
    found: dict[str, Any] = {}
    exec(compile(example, "store.md", "exec"), found)  # the example is ours
    pool = Pool.load("predictions/val")
    np.testing.assert_array_equal(found["outputs"], pool.model("small").values)
    np.testing.assert_array_equal(found["labels"], pool.samples.labels)
