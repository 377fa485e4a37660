"""What numbers show is held against what was declared: by laws, on whatever numbers come."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import small_world
from committee import Pool, evaluate, search
from committee.calibration.fitting import fit
from committee.calibration.reliability import expected_calibration_error
from committee.cli import main
from committee.data.arrays import ArrayDataset
from committee.errors import CommitteeError, MisalignedError, NotFiniteError, ShapeError
from committee.models.pool_file import read_pool_file
from committee.pool.plausibility import check_alike, check_classes, check_declared, notes_on
from committee.predict import _check_labels, predict
from committee.rule.outputs import Outputs, checked_outputs, refuse_one_output, usable_rows
from committee.selection import approximations
from committee.spec.preprocessing import Preprocessing
from committee.store.foreign import _normalised
from committee.store.import_predictions import import_predictions

quick = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(3, 60), st.integers(2, 9))


def probabilities(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(size[1]), size[0])


@quick
@given(seed=SEEDS, size=SIZES, dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_probabilities_are_no_logits_and_their_logarithms_are(seed, size, dtype):
    rows = probabilities(seed, size).astype(dtype)
    with pytest.raises(ShapeError, match=r"these are probabilities\. Declare so: HOW"):
        check_declared("here", Outputs("logits", rows), "HOW")
    check_declared("here", Outputs("probabilities", rows), "HOW")
    with np.errstate(divide="ignore"):
        check_declared("here", Outputs("logits", np.log(rows)), "HOW")
    rows[0, 0] += dtype(0.5)  # one row that is none is enough
    check_declared("here", Outputs("logits", rows), "HOW")


@quick
@given(seed=SEEDS, size=SIZES, scale=st.sampled_from([0.9, 1.07, 100.0, 255.0]))
def test_a_scale_is_told_and_taken_away(seed, size, scale):
    rows = probabilities(seed, size)
    with pytest.raises(ShapeError, match=r"Rows sum to .* --normalise"):
        checked_outputs("here", "probabilities", rows * scale)
    np.testing.assert_allclose(_normalised("here", rows * scale), rows, rtol=1e-12)


@quick
@given(seed=SEEDS, size=SIZES)
def test_logits_are_not_normalised(seed, size):
    logits = np.random.default_rng(seed).normal(size=size)
    logits[0, 0] = -1
    with pytest.raises(ShapeError, match="Are these logits"):
        _normalised("here", logits)
    with pytest.raises(ShapeError, match="Are these logits"):
        checked_outputs("here", "probabilities", logits)


@quick
@given(seed=SEEDS, size=SIZES, named=st.integers(1, 12))
def test_classes_are_as_many_as_outputs(seed, size, named):
    outputs = Outputs("logits", np.zeros(size))
    decided = np.random.default_rng(seed).integers(0, size[1], size[0])
    decisions = Outputs("decisions", decided, np.zeros(size[0]))
    for each, fits in ((outputs, named == size[1]), (decisions, decided.max() < named)):
        if fits:
            check_classes("here", each, named)
        else:
            with pytest.raises(MisalignedError, match="are named"):
                check_classes("here", each, named)
    check_classes("here", outputs, 0)


def test_a_class_too_many_is_told_with_its_usual_cause() -> None:
    with pytest.raises(MisalignedError, match=r"1,000 classes are named, .* 1,001.* background"):
        check_classes("here", Outputs("logits", np.zeros((2, 1001))), 1000)
    with pytest.raises(MisalignedError, match="'a' has 1,000, 'b' has 1,001"):
        check_alike("here", {"a": 1000, "b": 1001})
    with pytest.raises(MisalignedError, match="labels go up to 3, but outputs have only 3 classes"):
        _check_labels("here", Outputs("logits", np.zeros((2, 3))), np.array([0, 3]))


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_output_is_refused_with_what_two_would_be(kind: str) -> None:
    column = np.full((5, 1), 1.0)
    with pytest.raises(ShapeError, match=r"np\.stack\(\["):
        refuse_one_output("here", Outputs(kind, column))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"not \(5,\).*np\.stack\(\["):
        checked_outputs("here", kind, column[:, 0])


ROWS = 300
LABELS = np.arange(ROWS) % 10
GOOD = np.eye(10)[LABELS] + np.random.default_rng(0).normal(size=(ROWS, 10)) / 5


def decided(values: np.ndarray) -> Outputs:
    return Outputs("decisions", values.argmax(axis=1), values.max(axis=1))


@pytest.mark.parametrize("of", [lambda v: Outputs("logits", v), decided])
@pytest.mark.parametrize(
    ("values", "note"),
    [
        (GOOD, None),
        (GOOD[:, ::-1], r"chance \(10.00%\). Are the classes in the order of the outputs"),
        (GOOD + 9 * np.eye(10)[3], "class 3 is predicted for all 300 samples"),
        (np.tile(GOOD[0], (ROWS, 1)), "outputs are the same for all 300 samples"),
    ],
)
def test_what_is_seldom_right_is_noted(of, values, note) -> None:
    notes = notes_on("m", of(values), LABELS, 10)
    assert len(notes) == (note is not None)
    if note:
        with pytest.raises(AssertionError, match=note):
            raise AssertionError(notes[0])


@quick
@given(seed=SEEDS, classes=st.integers(3, 12), moved=st.integers(2, 12))
def test_another_order_of_the_classes_is_noted(seed, classes, moved):
    rng = np.random.default_rng(seed)
    labels = np.arange(400) % classes
    rows = 4 * np.eye(classes)[labels] + rng.normal(size=(400, classes))
    names = [f"n{i}" for i in range(classes)]
    assert not notes_on("m", Outputs("logits", rows), labels, 0, names)
    some = rng.permutation(classes)[: min(moved, classes)]
    order = np.arange(classes)
    order[some] = np.roll(some, 1)
    lost = float((rows[:, order].argmax(axis=1) != labels).mean())
    notes = notes_on("m", Outputs("logits", rows[:, order]), labels, 0, names)
    best = float((rows.argmax(axis=1) == labels).mean())
    assert bool(notes) == (best > 1 - lost + 0.2)
    for note in notes:
        assert f"accuracy would be {best:.2%}" in note
        told = set(re.findall(r"n(\d+) as n(\d+)", note))
        assert told <= {(str(i), str(each)) for i, each in enumerate(order)}
        assert len(told) == min(5, len(some))


@quick
@given(seed=SEEDS, size=st.tuples(st.integers(20, 300), st.integers(2, 9)), skill=st.floats(0, 3))
def test_no_other_order_is_noted_by_chance(seed, size, skill):
    rng = np.random.default_rng(seed)
    labels = rng.choice(size[1], size[0], p=rng.dirichlet(np.ones(size[1])))
    rows = skill * np.eye(size[1])[labels] + rng.normal(size=size)
    assert not any("another order" in n for n in notes_on("m", Outputs("logits", rows), labels))


def test_few_samples_and_counts_are_not_noted() -> None:
    assert not notes_on("m", Outputs("logits", GOOD[:5, ::-1]), LABELS[:5])
    assert not notes_on("m", Outputs("logits", GOOD), None)


def masked(seed: int, rows: int = 40, classes: int = 6) -> np.ndarray:
    """Logits with some classes masked in each row, never all; class 0 in no model."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, classes)) * 3
    values[:, 1:][random.random((rows, classes - 1)) < 0.4] = -np.inf
    return values


@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS,
    confidence=st.sampled_from(["max_prob", "logit_gap", "prob_gap", "neg_entropy"]),
    combine=st.sampled_from(["mean_logits", "mean_probabilities", "last"]),
)
def test_masked_classes_are_searched_as_they_are_evaluated(seed, confidence, combine):
    labels = np.random.default_rng(seed).integers(0, 6, 40)
    outputs = {"a": masked(seed), "b": masked(seed + 1)}
    pool = Pool.from_arrays(labels, outputs, kind="logits", costs={"a": 1, "b": 3})
    front = search(pool, 2, grid=5, confidence=confidence, combine=combine)
    for each in front:
        assert evaluate(each.cascade, pool) == each.evaluation


def test_the_compiled_part_takes_masked_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(40) % 6
    pool = Pool.from_arrays(
        labels, {"a": masked(1), "b": masked(2)}, kind="logits", costs={"a": 1, "b": 3}
    )
    fast = [(c.cascade, c.evaluation) for c in search(pool, 2)]
    if approximations.compiled_part() is not None:
        plain = approximations._plain(np.array([[0.0, -np.inf]]))
        assert np.isfinite(plain).all()
    monkeypatch.setattr(approximations, "_native", None)
    assert [(c.cascade, c.evaluation) for c in search(pool, 2)] == fast


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_mask_is_refused(wrong: float) -> None:
    values = masked(0)
    values[7] = wrong
    assert np.flatnonzero(~usable_rows(values)).tolist() == [7]
    with pytest.raises(NotFiniteError, match="first at sample 7 "):
        checked_outputs("here", "logits", values)


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1e3])
def test_a_calibration_does_not_depend_on_the_scale_of_logits(scale: float) -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, 400)
    usual = Outputs("logits", 2 * np.eye(5)[labels] + random.normal(size=(400, 5)))
    other = Outputs("logits", usual.values * scale)
    before, after = fit(usual, labels), fit(other, labels)
    np.testing.assert_allclose(after.slopes[0] * scale, before.slopes[0], rtol=1e-3)
    learned = fit(other, labels, "platt").apply(other)
    assert expected_calibration_error(learned, labels) < 0.06


def test_a_fit_that_ends_at_an_end_is_refused() -> None:
    labels = np.arange(400) % 4
    useless = np.random.default_rng(0).normal(size=(400, 4)) - np.eye(4)[labels]
    with pytest.raises(CommitteeError, match="in the order of the outputs"):
        fit(Outputs("logits", useless), labels)


def test_a_calibration_that_makes_confidence_worse_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Sure by 0.9 and right by 0.9, but for a few that are wrong without a doubt.
    labels = np.zeros(400, np.int64)
    rows = np.tile([0.9, 0.1], (400, 1))
    rows[:40] = rows[:40, ::-1]
    rows[:4] = [1e-30, 1.0]
    np.savez(tmp_path / "a.npz", outputs=rows, label=labels)
    files = {"a": tmp_path / "a.npz"}
    import_predictions(files, tmp_path / "s", kind="probabilities", split="val", costs={"a": 1})
    assert main(["calibrate", str(tmp_path / "s"), "--split", "val", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert "a: calibration makes its confidence worse on val" in notes[0]
    warnings = search(Pool.load(tmp_path / "s" / "val", calibrated=True)).warnings
    assert notes[0] in warnings


def test_models_of_two_kinds_are_refused_before_they_run(tmp_path: Path) -> None:
    path = small_world.write_pool(tmp_path)
    text = path.read_text().replace('name = "two"', 'name = "two"\nkind = "probabilities"')
    path.write_text(text)
    with pytest.raises(MisalignedError, match="'one' has logits, 'two' has probabilities"):
        predict(read_pool_file(path), small_world.dataset(60), tmp_path / "store")


def test_means_of_bytes_are_refused_and_of_odd_scales_taken() -> None:
    with pytest.raises(CommitteeError, match=r"mean = \[0\.485, 0\.458, 0\.408\]"):
        Preprocessing((4, 4), mean=(123.675, 116.7, 104.0))
    with pytest.raises(CommitteeError, match=r"std = \[0\.229"):
        Preprocessing((4, 4), std=(58.4, 57.1, 57.4))
    Preprocessing((4, 4), mean=(-0.5, 1.0, 0.498), std=(1 / 255, 1.0, 0.502))


# Of models of the small world: what they answer, and what stands in the line that refuses them.
ANSWERS = {
    "softmax": (
        "z = batch.reshape(len(batch), -1) @ matrix; e = np.exp(z - z.max(1, keepdims=True)); "
        "return e / e.sum(1, keepdims=True)",
        r'these are probabilities. Declare so: kind = "probabilities"',
    ),
    "a class more": (
        "return np.hstack([batch.reshape(len(batch), -1) @ matrix, np.zeros((len(batch), 1))])",
        "3 classes are named, but outputs have 4",
    ),
    "one output": ("return batch.reshape(len(batch), -1) @ matrix[:, :1]", "one output"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_predict_refuses_before_the_second_batch(tmp_path: Path, case: str) -> None:
    answer, line = ANSWERS[case]
    counted = "__import__('os').mkdir(__file__ + str(len(batches[name]))); "
    code = small_world.CODE.replace(small_world.ANSWER, counted + answer)
    path = small_world.write_pool(tmp_path, code)
    with pytest.raises(CommitteeError, match=line):
        predict(
            read_pool_file(path),
            small_world.dataset(600),
            tmp_path / "store",
            allow_code=small_world.code_of(path),
        )
    assert [each.name for each in tmp_path.glob("models.py?")] == ["models.py1"]


@pytest.mark.parametrize("case", ["softmax", "a class more"])
def test_what_was_refused_is_declared_into_the_same_store(tmp_path: Path, case: str) -> None:
    code = small_world.CODE.replace(small_world.ANSWER, ANSWERS[case][0])
    path, data = small_world.write_pool(tmp_path, code), small_world.dataset(40)
    trusted = small_world.code_of(path)
    with pytest.raises(CommitteeError):
        predict(read_pool_file(path), data, tmp_path / "store", allow_code=trusted)
    told = path.read_text()
    if case == "softmax":
        path.write_text(told.replace("resolution", 'kind = "probabilities"\nresolution'))
    else:
        path.write_text(told.replace('"eel"', '"eel", "fly"'))
        named = replace(data.samples, classes=(*data.samples.classes, "fly"))
        data = ArrayDataset(small_world.images(40), named)
    predict(read_pool_file(path), data, tmp_path / "store", allow_code=trusted)
    predict(read_pool_file(path), data, tmp_path / "anew", allow_code=trusted)
    assert small_world.files_of(tmp_path / "store") == small_world.files_of(tmp_path / "anew")


def test_predict_notes_constant_outputs(tmp_path: Path) -> None:
    code = small_world.CODE.replace(
        small_world.ANSWER, "return np.zeros((len(batch), 1)) + [0, 2, 0]"
    )
    path = small_world.write_pool(tmp_path, code)
    notes: list[str] = []
    predict(
        read_pool_file(path),
        small_world.dataset(60),
        tmp_path / "store",
        allow_code=small_world.code_of(path),
        note=notes.append,
    )
    assert [each.split(".")[0] for each in notes] == [
        f"{name}: outputs are the same for all 60 samples" for name in ("one", "two")
    ]


def test_pools_from_arrays_are_checked_alike() -> None:
    rows = probabilities(0, (30, 3))
    with pytest.raises(ShapeError, match='kind="probabilities"'):
        Pool.from_arrays(None, {"a": rows}, kind="logits")
    with pytest.raises(MisalignedError, match="sample 2 is decided as class 7"):
        Pool.from_arrays(
            None, {"a": ([0, 1, 7], [0.5] * 3)}, kind="decisions", classes=["x", "y", "z"]
        )
    pool = Pool.from_arrays(
        ["z", "x"] * 15, {"a": rows}, kind="probabilities", classes=["x", "y", "z"]
    )
    assert pool.samples.labels is not None
    assert pool.samples.labels.tolist() == [2, 0] * 15
    with pytest.raises(MisalignedError, match="the classes have no names"):
        Pool.from_arrays(["z", "x"] * 15, {"a": rows}, kind="probabilities")
    with pytest.raises(MisalignedError, match=r"'Z' and 'z' differ"):
        Pool.from_arrays(["Z"] * 30, {"a": rows}, kind="probabilities", classes=["x", "y", "z"])
