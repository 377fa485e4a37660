"""Cascades: what cannot be built, and files that say the same when read again."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Cascade, Stage, errors
from committee.errors import CascadeError
from committee.files import write_text
from committee.rule.cascade import ALWAYS, NEVER
from committee.rule.format import SCHEMA
from committee.rule.origin import Origin, RecordedTarget
from committee.spec.cost import Cost
from committee.spec.model import ImportedModel
from strategies import COMBINES, CONFIDENCES

names = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=5, unique=True)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


finite = st.floats(0, 1e300)


@st.composite
def imported(draw: st.DrawFn, name: str) -> ImportedModel:
    return ImportedModel(name, "logits", draw(st.text()), (Cost(draw(finite), "macs"),))


@st.composite
def cascades(draw: st.DrawFn) -> Cascade:
    models = draw(names)
    cuts = [0, *(i for i in range(1, len(models)) if draw(st.booleans())), len(models)]
    steps = [tuple(models[i:j]) for i, j in itertools.pairwise(cuts)]
    bounds = [*(draw(st.floats(allow_nan=False)) for _ in steps[1:]), ALWAYS]
    return Cascade(
        stages=tuple(Stage(step, bound) for step, bound in zip(steps, bounds, strict=True)),
        confidence=draw(st.sampled_from(CONFIDENCES)),
        combine=draw(st.sampled_from(COMBINES["logits"])),
        classes=tuple(draw(st.lists(st.text(max_size=3), max_size=3))),
        models={name: draw(imported(name)) for name in models},
        origin=Origin(
            split=draw(st.text(max_size=3)),
            target=RecordedTarget(models=tuple(draw(names)), max_cost=draw(finite)),
            notes=draw(st.dictionaries(st.text(), json_values, max_size=2)),
        ),
    )


@settings(max_examples=50)
@given(cascades())
def test_json_brings_back_the_same(cascade):
    text = json.dumps(cascade.to_json(), allow_nan=False)
    again = Cascade.from_json(json.loads(text))
    assert again == cascade
    # Loading and origin are left out of equality, not out of the file.
    assert (again.models, again.origin) == (cascade.models, cascade.origin)


def test_file_brings_back_the_same(tmp_path):
    cascade = Cascade.of([["kleiner", "größer"], "large"], [0.1 + 0.2], "prob_gap", "last")
    path = cascade.save(tmp_path / "new folder" / "cascade.json")
    assert Cascade.load(path) == cascade
    assert Cascade.load(str(path)).thresholds == (0.30000000000000004,)


def test_file_has_words_for_infinite_thresholds():
    thresholds = [
        stage["threshold"]
        for stage in Cascade.of(["a", "b", "c"], [NEVER, 0.5]).to_json()["stages"]
    ]
    assert thresholds == ["never", 0.5, "always"]


def test_file_holds_only_models_that_run():
    models = {name: ImportedModel(name) for name in "ab"}
    assert Cascade((Stage(("a",)),), models=models).to_json()["models"].keys() == {"a"}


def test_kinds_and_text():
    assert Cascade.of(["a"]).kind == "model"
    assert Cascade.ensemble(["a", "b"]).kind == "ensemble"
    assert Cascade.of(["a", "b"], [0.5]).kind == "cascade"
    assert str(Cascade.of([["a", "b"], "c"], [0.5])) == "a+b -> c"


def test_simplified_joins_and_cuts():
    cascade = Cascade.of(["a", "b", "c", "d"], [NEVER, 0.5, ALWAYS])
    assert cascade.simplified() == Cascade.of([["a", "b"], "c"], [0.5])
    assert Cascade.of(["a", "b"], [NEVER], combine="last").simplified() == Cascade.of(
        ["b"], combine="last"
    )


@pytest.mark.parametrize(
    ("stages", "law"),
    [
        ((), "every stage has a model"),
        ((Stage(()),), "every stage has a model"),
        ((Stage(("a",), 0.5), Stage(("a",))), "a stands twice"),
        ((Stage(("a", "a")),), "a stands twice"),
        ((Stage(("a",), math.nan), Stage(("b",))), "a threshold is NaN"),
        ((Stage(("a",), 0.5),), "last stage always exits"),
        ((Stage(("a",), NEVER),), "last stage always exits"),
    ],
)
def test_what_cannot_be_is_not_built(stages, law):
    with pytest.raises(errors.CascadeError, match=law) as caught:
        Cascade(stages)
    assert "\n" not in str(caught.value)


def test_unknown_combination_is_refused():
    with pytest.raises(errors.CascadeError, match=r"no combination 'sum'\. There are: mean_logits"):
        Cascade.of(["a"], combine="sum")


@pytest.mark.parametrize(
    ("models", "thresholds", "law"),
    [
        (["a", "b"], [], "2 stages need 1 thresholds, not 0"),
        (["a"], [0.5], "1 stages need 0 thresholds, not 1"),
        ([], [], "every cascade has a stage"),
        ([[]], [], "every stage has a model"),
    ],
)
def test_thresholds_are_one_fewer_than_stages(models, thresholds, law):
    with pytest.raises(errors.CascadeError, match=law):
        Cascade.of(models, thresholds)


def described(**changes) -> dict:
    """The JSON of a sound cascade, with some fields altered."""
    return {**Cascade.of(["a", "b"], [0.5]).to_json(), **changes}


def stages(threshold=0.5, models=("a",)) -> list:
    first = {"models": list(models) if isinstance(models, tuple) else models}
    return [first | {"threshold": threshold}, {"models": ["b"], "threshold": "always"}]


WRONG_FIELDS = [
    {"stages": None},
    {"stages": {}},
    {"stages": []},
    {"stages": ["a"]},
    {"stages": [{"models": ["a"]}]},
    {"stages": [{"threshold": "always"}]},
    {"stages": stages(threshold="sometimes")},
    {"stages": stages(threshold=True)},
    {"stages": stages(threshold=None)},
    {"stages": stages(threshold=math.nan)},
    {"stages": stages(threshold=10**400)},
    {"stages": stages(models="a")},
    {"stages": stages(models=(1,))},
    {"stages": stages(models=("b",))},
    {"stages": stages()[:1]},
    {"confidence": 3},
    {"combine": None},
    {"combine": "sum"},
    {"classes": "xy"},
    {"classes": [1, 2]},
    {"models": ["a"]},
    {"models": {"a": "onnx:a.onnx"}},
    {"origin": "val"},
]


@pytest.mark.parametrize("changes", WRONG_FIELDS, ids=str)
def test_wrong_fields_get_one_line_with_the_file(changes):
    with pytest.raises(errors.CascadeError, match=r"^c\.json: .") as caught:
        Cascade.from_json(described(**changes), "c.json")
    assert "\n" not in str(caught.value)


def test_unaltered_description_is_read():
    # The twin of the test above: what it alters is sound as long as it is not altered.
    assert Cascade.from_json(described(stages=stages())) == Cascade.of(["a", "b"], [0.5])


def test_optional_fields_may_be_left_out():
    data = described()
    for name in ("classes", "models", "origin"):
        del data[name]
    assert Cascade.from_json(data) == Cascade.of(["a", "b"], [0.5])


@pytest.mark.parametrize("data", [None, [], "text", {}, {"schema": "1"}, {"schema": True}])
def test_what_has_no_schema_is_no_cascade(data):
    with pytest.raises(errors.CascadeError, match="no cascade file; it has no schema number"):
        Cascade.from_json(data)


def test_newer_schema_asks_for_an_upgrade():
    # A newer schema may lack every field that this version knows.
    with pytest.raises(CascadeError, match=r"newer than 2, .* version of committee that wrote it"):
        Cascade.from_json({"schema": SCHEMA + 1})


def test_older_schema_asks_for_another_search():
    with pytest.raises(CascadeError, match=r"schema 1 is older than 2, .* with committee search"):
        Cascade.from_json({"schema": 1})


def test_every_truncation_is_told(tmp_path):
    text = Cascade.of(["a", "b"], [0.5]).save(tmp_path / "c.json").read_text().rstrip()
    path = tmp_path / "cut.json"
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        with pytest.raises(errors.CascadeError, match=r"cut\.json: no valid JSON") as caught:
            Cascade.load(path)
        assert "\n" not in str(caught.value)


def test_a_pool_file_is_no_cascade(tmp_path):
    path = tmp_path / "pool.toml"
    path.write_text('[[model]]\nname = "small"\n')
    with pytest.raises(errors.CascadeError, match="this is a pool file, not a cascade; committee"):
        Cascade.load(path)


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(errors.CascadeError, match="no valid JSON"):
        Cascade.load(path)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(errors.CascadeError, match=r"none\.json: cannot be read \(No such file"):
        Cascade.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"treshold": 0.5}, r"cascade: no field 'treshold'.*\. Fix or remove it"),
        ({"stages": [{"models": ["a"], "thresold": 1, "threshold": "always"}]},
         r"stages 1: no field 'thresold'\. Did you mean 'threshold'\?"),
    ],
)  # fmt: skip
def test_keys_that_mean_nothing_are_refused_by_name(tmp_path, change, told):
    data = Cascade.of(["a", "b"], [0.5]).to_json() | change
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(CascadeError, match=rf"c\.json: {told}"):
        Cascade.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("confidence", "threshold", "largest"),
    [("max_prob", 1.7, "1"), ("prob_gap", 1.1, "1"), ("neg_entropy", 0.2, "0")],
)
def test_thresholds_that_no_score_reaches_are_refused(tmp_path, confidence, threshold, largest):
    path = Cascade.of(["a", "b"], [threshold], confidence).save(tmp_path / "c.json")
    law = (
        rf"threshold {threshold} is above every score, for {confidence} is at most {largest}\. Fix"
    )
    with pytest.raises(CascadeError, match=rf"c\.json: stage 0: {law} it, or write \"never\""):
        Cascade.load(path)


@pytest.mark.parametrize(
    "cascade",
    [
        Cascade.of(["a", "b"], [NEVER]),
        Cascade.of(["a", "b"], [17.0], "logit_gap"),
        # Stored probabilities may sum to a little more than 1.
        Cascade.of(["a", "b"], [1.015], combine="mean_probabilities"),
        # Decisions bring scores of their own.
        Cascade.of(["a", "b"], [75.0], combine="last"),
    ],
    ids=str,
)
def test_thresholds_that_a_score_may_reach_are_read(tmp_path, cascade):
    assert Cascade.load(cascade.save(tmp_path / "c.json")) == cascade


def test_unregistered_confidence_is_told(tmp_path):
    path = Cascade.of(["a"], confidence="my_own").save(tmp_path / "c.json")
    with pytest.raises(errors.CascadeError, match=r"'my_own'.*register_confidence"):
        Cascade.load(path)


def test_failing_to_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = Cascade.of(["old"]).save(tmp_path / "c.json")

    def broken(self, target):
        raise OSError("disk is gone")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk is gone"):
        Cascade.of(["new"]).save(path)
    assert Cascade.load(path).names == ("old",)
    assert [each.name for each in tmp_path.iterdir()] == ["c.json"]


def test_no_reader_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "c.txt"
    write_text(path, "old")
    seen = []
    replace = Path.replace

    def watched(self, target):
        # All of the new text is on disk before the name moves to it.
        seen.append((self.read_text(), path.read_text()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_text(path, "new")
    assert seen == [("new", "old")]
    assert path.read_text() == "new"


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Cascade((Stage(("a",)),), origin=Origin(notes={"accuracy": math.nan})).save(
            tmp_path / "c.json"
        )
    assert list(tmp_path.iterdir()) == []


def test_stage_of_one_text_is_refused():
    with pytest.raises(CascadeError, match=r"\('small',\)"):
        Stage("small")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Cascade.of("small"), "list of models"),
        (lambda: Cascade.ensemble("small"), "list of models"),
        (lambda: Cascade.of(["a", "b"], 0.8), "list of thresholds"),  # type: ignore[arg-type]
    ],
)
def test_a_text_is_no_list_of_models(build, text):
    with pytest.raises(errors.CascadeError, match=text):
        build()
