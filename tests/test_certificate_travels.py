"""A certificate goes wherever its cascade goes, as long as the decisions stay the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import committee as cm
from committee.certificates.certificate import checked_on
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.rule.calibration import Calibration
from committee.rule.cascade import NEVER
from committee.rule.certificate import CertificateRecord
from committee.rule.combinations import COMBINES
from committee.run.open import open_cascade
from export_world import CASCADES, embedded, program_of, some_images


def certified(cascade: cm.Cascade, **changes: object) -> cm.Cascade:
    """A cascade with a certificate of its decisions, as if it had been tested."""
    record = CertificateRecord(
        promise="within", margin=0.005, level=0.95, measure="top-1",
        checksum="", samples=3750, choosing=1250, estimate=-0.001,
        lower_bound=-0.005, split="val", samples_fingerprint="0123456789abcdef",
        date="2026-11-29", version="0.1.0", procedure="nested paths 3", tested=21, considered=1800,
        reference="large", reference_rule=cm.Cascade.of(["large"], combine="last").rule_json(),
        wins=9, losses=13, average_cost=1e6, reference_cost=2.9e6, unit="macs",
    )  # fmt: skip
    return cascade.certified(replace(record, **changes))


@pytest.mark.parametrize("name", ["mean_logits", "temperatures", "last", "never in the middle"])
@pytest.mark.parametrize("form", ["file", "bundle", "one ONNX file"])
def test_a_certificate_comes_back_from_every_form(form: str, name: str, tmp_path: Path) -> None:
    cascade = certified(embedded(CASCADES[name]))
    path = {
        "file": lambda: cascade.save(tmp_path / "cascade.json"),
        "bundle": lambda: write_bundle(cascade, tmp_path / "bundle"),
        "one ONNX file": lambda: write_graph(cascade, tmp_path / "cascade.onnx"),
    }[form]()
    opened = open_cascade(path).cascade
    assert opened.certificate == cascade.certificate
    assert opened.is_certified
    again = cm.Cascade.load(opened.save(tmp_path / "again.json"))
    assert again.certificate == cascade.certificate
    assert again.is_certified
    assert cm.Certificate.of(again).text == cm.Certificate.of(cascade).text


def test_the_program_of_a_bundle_runs_a_certified_cascade(tmp_path: Path) -> None:
    folder = write_bundle(certified(embedded(CASCADES["last"])), tmp_path / "bundle")
    assert "stage" in program_of(folder).Cascade(folder)(Image.fromarray(some_images(1)[0]))


def test_a_cascade_that_is_exported_without_a_certificate_has_none(tmp_path: Path) -> None:
    folder = write_bundle(embedded(CASCADES["last"]), tmp_path / "bundle")
    assert open_cascade(folder).cascade.certificate is None


@pytest.mark.parametrize("combine", COMBINES)
def test_the_simplest_form_of_a_cascade_keeps_its_certificate(combine: str) -> None:
    cascade = certified(cm.Cascade.of(["a", "b", "c"], [NEVER, 0.5], combine=combine))
    assert cascade.simplified() != cascade
    assert cascade.joined().is_certified
    assert cascade.simplified().is_certified
    assert certified(cascade.simplified()).is_certified


def test_a_threshold_that_is_a_whole_number_keeps_the_certificate(tmp_path: Path) -> None:
    stages = (cm.Stage(("a",), 3), cm.Stage(("b",)))
    cascade = certified(cm.Cascade(stages, "logit_gap", "mean_logits"))
    assert cm.Cascade.load(cascade.save(tmp_path / "cascade.json")).is_certified


CALIBRATION = Calibration.of_temperature(1.5)
CHANGES = [
    {"confidence": "prob_gap"},
    {"combine": "last"},
    {"calibrations": {"a": CALIBRATION}},
    {"stages": (cm.Stage(("a",), 0.8), cm.Stage(("c",)))},
    {"stages": (cm.Stage(("a",), np.nextafter(0.8, 1)), cm.Stage(("b",)))},
    {"stages": (cm.Stage(("a", "b")),)},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda each: next(iter(each)))
def test_another_decision_voids_a_certificate(changes: dict[str, object]) -> None:
    cascade = certified(cm.Cascade.of(["a", "b"], [0.8], combine="mean_logits"))
    assert not replace(cascade, **changes).is_certified


def test_what_decides_nothing_keeps_a_certificate() -> None:
    cascade = certified(embedded(cm.Cascade.of(["nano", "large"], [0.8], combine="mean_logits")))
    assert replace(cascade, models={}, classes=(), origin=cm.Cascade.of(["a"]).origin).is_certified


EDITS = {
    "level": 0.99, "margin": 0.001, "lower_bound": 0.0, "samples": 50_000, "losses": 0,
    "date": "2027-01-01", "reference": "huge", "max_cost": 1.0, "promise": "at least",
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_certificate_is_void(name: str, tmp_path: Path) -> None:
    path = certified(embedded(CASCADES["last"])).save(tmp_path / "cascade.json")
    assert cm.Cascade.load(path).is_certified
    data = json.loads(path.read_text())
    data["certificate"][name] = EDITS[name]
    path.write_text(json.dumps(data))
    with pytest.raises(cm.CommitteeError, match="void, for the cascade or its certificate"):
        cm.Certificate.of(cm.Cascade.load(path))


def test_a_certificate_of_another_cascade_is_void() -> None:
    one, two = (cm.Cascade.of(["a", "b"], [t], combine="last") for t in (0.8, 0.7))
    assert not replace(two, certificate=certified(one).certificate).is_certified


def test_whole_numbers_in_a_certificate_keep_it(tmp_path: Path) -> None:
    cascade = certified(embedded(CASCADES["last"]), margin=0, estimate=0, max_cost=3)
    assert cm.Cascade.load(cascade.save(tmp_path / "cascade.json")).is_certified


IMPOSSIBLE = [
    {"margin": -0.1}, {"margin": 1.5}, {"lower_bound": 1e300}, {"estimate": -2}, {"wins": -1},
    {"losses": 4000}, {"unlabelled": -1}, {"average_cost": -1.0}, {"samples": 0}, {"level": 1},
    {"reference_rule": {}},
]  # fmt: skip


@pytest.mark.parametrize("changes", IMPOSSIBLE, ids=str)
def test_a_file_with_an_impossible_certificate_is_refused(
    changes: dict[str, object], tmp_path: Path
) -> None:
    path = certified(embedded(CASCADES["last"])).save(tmp_path / "cascade.json")
    data = json.loads(path.read_text())
    data["certificate"] |= changes
    path.write_text(json.dumps(data))
    with pytest.raises(cm.CommitteeError, match=next(iter(changes))) as error:
        cm.Cascade.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", [{"stages": 3}, {"schema": 9}, {"combine": "nope"}])
def test_a_reference_that_is_no_rule_gets_one_line(rule: dict[str, object]) -> None:
    cascade = cm.Cascade.of(["a", "b"], [0.8], combine="mean_logits")
    rule = cm.Cascade.of(["b"], combine="mean_logits").rule_json() | rule
    rng = np.random.default_rng(0)
    outputs = {name: rng.normal(size=(50, 3)) for name in "ab"}
    pool = cm.Pool.from_arrays(rng.integers(0, 3, 50), outputs, kind="logits")
    found = checked_on(certified(cascade, reference_rule=rule), pool)
    assert found is not None
    assert found.problem


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"average_cost": 5.8e6}, "replaces large: 2.00× dearer; "),
        ({"average_cost": 1.45e6}, "replaces large: 2.00× cheaper; "),
        ({"average_cost": 0}, "replaces large: with 95 % certainty "),
        ({"lower_bound": -0.01}, "at most 1 point less accurate on"),
        ({"measure": "top-5"}, "at most 0.5 points less accurate by top-5 on"),
    ],
    ids=str,
)
def test_the_sentence_says_it_as_it_is(changes: dict[str, object], text: str) -> None:
    cascade = certified(cm.Cascade.of(["a", "b"], [0.8], combine="last"), **changes)
    assert text in cm.Certificate.of(cascade).text
