"""The pages of the site: links and anchors lead somewhere, and what is generated is current."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

import committee as cm
from committee.models.pool_file import read_pool_file

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE = runpy.run_path(str(DOCS / "conf.py"))
SCHEMAS = runpy.run_path(str(DOCS / "schemas.py"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def pages() -> list[Path]:
    """The pages that the sidebar lists, and the first."""
    names = ["/docs/index"]
    for listed in SITE["CONTENTS"].values():
        for line in listed:
            name = re.sub(r".*<(.*)>", r"\1", line)
            names.append(name if name.startswith("/") else f"/docs/{name}")
    found = {path for name in names for path in ROOT.glob(f"{name[1:]}.*")}
    return sorted(path for path in found if path.suffix in (".md", ".ipynb", ".rst"))


PAGES = pages()


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", text_of(path), re.M)
    plain = (re.sub(r"[^\w\- ]", "", each.lower()) for each in headings)
    return {each.replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link, anchor in LINK.findall(text_of(page)):
        if re.match(r"\w+:", link):
            continue
        target = (page.parent / link).resolve() if link else page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), f"{link}#{anchor}"
        if target.suffix == ".md":
            assert target in PAGES or target == ROOT / "README.md", f"{link} is no page of the site"


def test_every_document_is_listed() -> None:
    assert {*DOCS.glob("*.md"), *DOCS.glob("*.ipynb"), *DOCS.glob("*.rst")} <= {*PAGES}


def test_the_api_names_everything_public() -> None:
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)", text, re.M))
    assert {*cm.__all__, "CommitteeClassifier"} - {"__version__", "errors"} - named == {
        "CommitteeError",  # with the other errors
        "Infeasible",
    }


def test_what_people_search_for_stands_in_titles_and_first_sentences() -> None:
    # A page's title, and its first paragraph up to the first full stop.
    first = re.compile(r"# (.*)\s+(.*?\.)\s", re.S)
    found = (first.search(text_of(path).lower()) for path in PAGES)
    opening = " | ".join(" ".join(" ".join(each.groups()).split()) for each in found if each)
    for words in (
        "model cascade", "model cascading", "cheap model first", "confidence threshold", "deferral",
        "early exit", "selective prediction", "ensemble of pretrained models",
        "reduce inference cost",
    ):  # fmt: skip
        assert words in opening, words


def test_the_page_of_variables_names_all_that_are_read() -> None:
    text = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r'environ\.get\("(\w+)"\)|"(COMMITTEE_[A-Z]+)"', text))
    read = {name for names in read for name in names if name}
    page = (DOCS / "environment.md").read_text(encoding="utf-8")
    assert {"COMMITTEE_TOKEN", "COMMITTEE_CACHE", "NO_COLOR"} <= read
    assert {name for name in read if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("path", list(SCHEMAS["files"]()), ids=lambda path: path.name)
def test_formats_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == SCHEMAS["files"]()[path], "run: make docs"


def test_files_are_as_the_schemas_say(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="openapi-spec-validator brings it")
    import tomllib

    from committee.embedded import FOLDER

    def check(name: str, data: object) -> None:
        jsonschema.validate(data, SCHEMAS["schema_of"](name))

    pool_path = FOLDER / "pool.toml"
    check("pool", tomllib.loads(pool_path.read_text(encoding="utf-8")))
    cascade = read_pool_file(pool_path).described(cm.Cascade.of(["nano", "large"], [0.9]))
    check("cascade", json.loads(cascade.save(tmp_path / "cascade.json").read_text("utf-8")))
    golden = json.loads((ROOT / "tests/golden/pool.json").read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        check("cascade", golden)


def test_the_page_of_ways_has_what_its_benchmark_says_of_cascades() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    which_one = pytest.importorskip("which_one", reason="it needs scikit-learn and onnxruntime")
    pools = which_one.halves()
    large = {s: which_one.outcome(cm.Cascade.of(["large"]), pool) for s, pool in pools.items()}
    page = (DOCS / "which_one.md").read_text(encoding="utf-8")
    for name in ("one model", "ensemble of up to three", "cascade of up to three"):
        cells = which_one.figures(list(which_one.METHODS[name](pools)), large)
        assert f"| {' | '.join([name, *cells])} |" in page
