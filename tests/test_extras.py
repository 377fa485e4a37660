"""Extras: what prints an install line prints one that works, and says all of it at once."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import committee
from committee.cli import main
from committee.errors import _MODULES, MissingExtraError, _requirements, require

ROOT = Path(__file__).parent.parent
EXTRAS = (
    "onnx",
    "report",
    "parquet",
    "torchvision",
    "export",
    "sklearn",
    "serve",
    "grpc",
    "tracing",
    "ray",
    "all",
)


def test_nothing_names_a_distribution_that_is_not_published() -> None:
    """``pip install committee[…]`` would fetch what nobody here owns."""
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    texts += [path for path in Path(committee.__file__).parent.rglob("*") if path.is_file()]
    wrong = re.compile(rb"committee\[|install (--upgrade )?committee\b")
    found = [path for path in texts if path.suffix != ".pyc" and wrong.search(path.read_bytes())]
    assert not found


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package_is_named_with_a_line_that_pip_takes(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = _requirements(extra)
    assert needs
    for each in needs:
        name = Requirement(each).name
        monkeypatch.setitem(sys.modules, _MODULES.get(name, name), None)
    with pytest.raises(MissingExtraError) as told:
        require("Something", extra)
    line = str(told.value).partition("pip install ")[2].partition(";")[0]
    assert sorted(re.findall(r'"([^"]+)"', line)) == needs
    assert "committee" not in line


def test_all_that_the_demo_needs_is_named_before_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnxruntime", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    told = capsys.readouterr().err
    assert "onnxruntime" in told
    assert "matplotlib" in told
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("ending", ["parquet", "safetensors"])
def test_an_import_names_what_reads_its_files(
    ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, _requirements(ending)[0].partition(">")[0], None)
    words = f"import a.{ending} --kind logits --split val"
    assert main(words.split()) == 2
    assert f"import needs {_requirements(ending)[0]}" in capsys.readouterr().err


def test_what_is_no_extra_needs_nothing() -> None:
    require("Something", "python", "", "npy")
