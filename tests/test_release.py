"""What a release is made of: versions, workflows, forms, and the check of what is in a wheel."""

from __future__ import annotations

import io
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTENTS = runpy.run_path(str(ROOT / "release" / "contents.py"))
VERSION = runpy.run_path(str(ROOT / "release" / "version.py"))
WORKFLOWS = ROOT / ".github" / "workflows"
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def workflow(name: str) -> dict[str, dict[str, object]]:
    return yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))["jobs"]


def test_every_place_names_one_version() -> None:
    found = VERSION["versions"]()
    assert len(set(found.values())) == 1, found
    # pyproject.toml reads the same file, and holds no version of its own.
    assert PROJECT["project"]["dynamic"] == ["version"]
    metadata = PROJECT["tool"]["scikit-build"]["metadata"]["version"]
    assert metadata["input"] in found


def test_a_tag_of_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = VERSION["versions"]()["CITATION.cff"]
    for tag, code in ((f"v{version}", 0), ("v0.0.7", 1)):
        monkeypatch.setattr(sys, "argv", ["version.py", tag])
        assert VERSION["main"]() == code
    assert "tag v0.0.7: 0.0.7" in capsys.readouterr().out


SCHEMAS = {
    "github-workflows": sorted(WORKFLOWS.glob("*.yml")),
    "github-issue-forms": sorted(set(FORMS.glob("*.yml")) - {FORMS / "config.yml"}),
    "github-issue-config": [FORMS / "config.yml"],
    "dependabot": [ROOT / ".github" / "dependabot.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_for_the_platform_keep_its_schema(schema: str) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema has the schemas")
    assert SCHEMAS[schema]
    words = ["-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *SCHEMAS[schema]]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_of_python_are_those_tested_and_built() -> None:
    named = [
        each.rpartition(" ")[2]
        for each in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", each)
    ]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"
    assert workflow("ci.yml")["tests"]["strategy"]["matrix"]["python"] == named
    built = PROJECT["tool"]["cibuildwheel"]["build"]
    assert built == [f"cp{version.replace('.', '')}-*" for version in named]


def test_make_knows_every_target_that_the_workflows_call() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS.glob("*.yml")]
    called = {name for text in texts for name in re.findall(r"run: make ([\w-]+)", text)}
    assert {"lint", "test", "test-lowest", "test-wheel", "docs"} <= called <= targets


def test_only_the_job_that_publishes_may_sign_and_it_has_no_password() -> None:
    jobs = workflow("release.yml")
    able = [name for name, job in jobs.items() if "write" in str(job.get("permissions"))]
    assert able == ["publish"]
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text(encoding="utf-8")


PART = "committee/__init__.py"


def write_wheel(path: Path, names: set[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            source = ROOT / "src" / name
            archive.writestr(name, source.read_bytes() if source.is_file() else b"")
    return path


def test_what_a_wheel_lacks_or_has_beside_the_package_is_named(tmp_path: Path) -> None:
    files = CONTENTS["package_files"]()
    assert {"committee/py.typed", "committee_command/__init__.py"} <= files
    native, information = "committee/_native.abi3.so", "committee-1.dist-info/RECORD"
    good = write_wheel(tmp_path / "a-cp312-abi3-any.whl", files | {native, information})
    assert CONTENTS["wrong_in_wheel"](good, files) == []
    plain = write_wheel(tmp_path / "a-py3-none-any.whl", files)
    assert CONTENTS["wrong_in_wheel"](plain, files) == []
    changed = files - {"committee/py.typed"} | {"tests/test_pool.py", "committee/kernels.o"}
    bad = write_wheel(tmp_path / "b-cp312-abi3-any.whl", changed)
    assert CONTENTS["wrong_in_wheel"](bad, files) == [
        "lacks committee/py.typed", "has committee/kernels.o", "has tests/test_pool.py",
        "has 0 compiled parts instead of 1: []",
    ]  # fmt: skip
    with zipfile.ZipFile(
        write_wheel(tmp_path / "c-py3-none-any.whl", files - {PART}), "a"
    ) as wheel:
        wheel.writestr(PART, "changed = True")
    changed_one = CONTENTS["wrong_in_wheel"](tmp_path / "c-py3-none-any.whl", files)
    assert changed_one == [f"has another {PART}"]


def test_what_an_sdist_lacks_or_has_beside_the_sources_is_named(tmp_path: Path) -> None:
    path = tmp_path / "committee-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("pyproject.toml", "tests/test_pool.py"):
            archive.addfile(tarfile.TarInfo(f"committee-1/{name}"), io.BytesIO())
    wrong = CONTENTS["wrong_in"](path)
    assert "lacks src/native/kernels.cpp" in wrong
    assert "lacks CMakeLists.txt" in wrong
    assert "lacks pyproject.toml" not in wrong
    assert wrong[-1] == "has tests/test_pool.py"


def test_a_wheel_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_wheel(tmp_path / "a-py3-none-any.whl", CONTENTS["package_files"]())
    monkeypatch.setitem(CONTENTS["MOST"], ".whl", 10_000)
    monkeypatch.setattr(sys, "argv", ["contents.py", str(path)])
    assert CONTENTS["main"]() == 1
    assert re.search(r"has [\d,]+ bytes, more than 10,000", capsys.readouterr().out)
