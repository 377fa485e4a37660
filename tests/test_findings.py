"""The page of findings is what its script prints, and the script takes any state of the data."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from committee.pool.intervals import Estimate

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "compound_scaling"
WRITTEN = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
# Two analyses that take as long as all the others, and are asked of less data alone.
LONG = ("trainings", "worst_case")


@pytest.fixture(scope="module")
def findings():
    """The script, which imports ``pool`` from beside it."""
    sys.path.insert(0, str(EXAMPLE))
    before = sys.modules.pop("pool", None)
    try:
        spec = importlib.util.spec_from_file_location("findings", EXAMPLE / "findings.py")
        module = importlib.util.module_from_spec(spec)
        # Frozen data looks up its module while it is made.
        sys.modules["findings"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in ("pool", "findings"):
            sys.modules.pop(name, None)
        if before is not None:
            sys.modules["pool"] = before


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder like the committed one: eight sizes, three trainings and part of a fourth."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    models = [(phi, seed) for seed in range(4) for phi in range(8) if seed < 3 or phi == 7]
    facts = [
        {
            "name": f"phi{phi}-seed{seed}", "family": f"phi{phi}", "phi": phi, "seed": seed,
            "macs": 1000 * 2**phi, "training_core_seconds": 10.0 * 2**phi,
        }
        for phi, seed in models
    ]  # fmt: skip
    (folder / "pool.json").write_text(json.dumps({"classes": list("abcd"), "models": facts}))
    for split in ("val", "test"):
        (folder / split).mkdir()
        labels = random.integers(0, 4, 400)
        np.savez(folder / f"{split}-labels.npz", label=labels)
        truth, hard = np.eye(4)[labels], random.normal(0, 1, (400, 4))
        for phi, seed in models:
            own = random.normal(0, 1, truth.shape)
            outputs = ((1.4 + 0.3 * phi) * truth + 0.8 * hard + 0.7 * own).astype(np.float16)
            np.savez(folder / split / f"phi{phi}-seed{seed}.npz", outputs=outputs)
    return folder


@pytest.fixture(scope="module")
def page(findings, data):
    return findings.page(data)


def test_only_trainings_of_all_sizes_are_taken_and_that_is_said(findings, data, page):
    assert findings.complete_seeds(data) == (0, 1, 2)
    assert "3 trainings each, 24 models" in page
    assert "Of the four trainings planned 3 are complete" in page
    assert "--seed 0 1 2" in page


@pytest.mark.parametrize("written", [False, True])
def test_every_question_has_a_verdict_and_they_are_counted(findings, page, written):
    page = WRITTEN if written else page
    rows = re.findall(r"^\| \[(.+?)\]\(#(.+?)\) \| (.+?) \|$", page, re.M)
    assert [title for title, _, _ in rows] == [q.title for q in findings.QUESTIONS]
    headings = re.findall(r"^## (.+)$", page, re.M)
    for title, anchor, _ in rows:
        assert title in headings
        assert anchor == findings.anchor(title)
    counts = [
        sum(v == each for _, _, v in rows)
        for each in (findings.HOLDS, findings.WEAKER, findings.FAILS)
    ]
    told = "{} hold, {} hold weaker, {} do not hold.".format(*counts)
    assert f"Of {len(rows)} findings {sum(counts)} can be asked of this pool: {told}" in page
    # A pool of logits cannot say what two resolutions bring, and says everything else.
    assert [title for title, _, v in rows if v == findings.OPEN] == [
        "Self-cascades of one model at two resolutions pay"
    ]


def test_the_paper_s_figures_are_those_of_its_table(page):
    cells = re.findall(r"^\| (B\d) \| (\S+) \| (\S+) \| (\S+) \|", page, re.M)
    assert cells[0] == ("B1", "+1.0", "1.3×", "phi1-seed0")
    assert cells[-1] == ("B7", "+0.7", "5.4×", "phi7-seed0")
    assert len(cells) == 7


def test_every_analysis_named_is_one(findings):
    from committee.study.analyses import ANALYSES

    known = {analysis.name for analysis in ANALYSES}
    assert {question.analysis for question in findings.QUESTIONS} <= known


def test_clear_gains_are_clear_of_their_interval(findings):
    gains = [Estimate(v, v - 0.01, v + 0.01, 100) for v in (-0.02, -0.005, 0.005, 0.02)]
    assert (findings.clear(gains), findings.lost(gains)) == (1, 1)


@pytest.mark.parametrize(
    ("holds", "weaker", "told"),
    [
        (True, True, "HOLDS"),
        (True, False, "HOLDS"),
        (False, True, "WEAKER"),
        (False, False, "FAILS"),
    ],
)
def test_what_holds_does_not_hold_weaker(findings, holds, weaker, told):
    assert findings.verdict(holds, weaker) == getattr(findings, told)


def test_the_page_is_what_the_script_prints(findings):
    asked = [each for each in findings.QUESTIONS if each.analysis not in LONG]
    left_out = [each.title for each in findings.QUESTIONS if each.analysis in LONG]
    assert len(left_out) == len(LONG)

    def parts(text):
        """The head without the count of verdicts, and the sections, both without what is long."""
        head, *sections = text.split("\n## ")
        lines = [line for line in head.splitlines() if not line.startswith("Of ")]
        told = [line for line in lines if not any(f"| [{title}]" in line for title in left_out)]
        return told, [each for each in sections if each.split("\n")[0] not in left_out]

    assert parts(WRITTEN) == parts(findings.page(questions=asked))
