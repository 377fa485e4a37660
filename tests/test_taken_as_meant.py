"""Predictions made elsewhere are taken as they were meant, or refused in a line that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from committee.errors import CommitteeError
from committee.outside import import_predictions

N = 40
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(N, 3))
LABELS = RNG.integers(0, 3, N)


def taken(
    path: Path, columns: dict[str, np.ndarray], classes: tuple[str, ...] = (), kind: str = "logits"
) -> tuple[np.ndarray, list[str]]:
    """Outputs and notes of the import of one csv file."""
    rows = zip(*(each.tolist() for each in columns.values()), strict=True)
    lines = [",".join(columns), *(",".join(map(repr, row)) for row in rows)]
    (path / "a.csv").write_text("\n".join(lines))
    notes: list[str] = []
    pool = import_predictions(
        {"a": path / "a.csv"},
        path / "store",
        kind=kind,
        split="val",
        classes=classes,
        note=notes.append,
    )
    return np.asarray(pool.model("a").values), notes


@pytest.mark.parametrize(
    ("names", "other", "values"),
    [
        (["c0", "c1", "c2"], "margin", LOGITS[:, 0]),
        (["logit_0", "logit_1", "logit_2"], "entropy", LOGITS[:, 0]),
        (["logit_cat", "logit_dog", "logit_emu"], "prob_cat", LOGITS[:, 0]),
        (["cat", "dog", "emu"], "fold", np.ones(N, np.int64)),
        (["cat", "dog", "emu"], "year", 1990 + np.arange(N) % 7),
    ],
)
def test_columns_that_are_no_outputs_are_refused_by_name(
    tmp_path: Path, names: list[str], other: str, values: np.ndarray
) -> None:
    outputs = dict(zip(names, LOGITS.T, strict=True))
    with pytest.raises(CommitteeError, match=f"'{other}'.*ignore={other}"):
        taken(tmp_path, {**outputs, other: values, "label": LABELS})
    found, _ = taken(tmp_path, {**outputs, other: values}, (*names, other))
    assert found.shape == (N, 4)


def test_columns_that_nothing_is_held_against_are_told(tmp_path: Path) -> None:
    names = ("cat", "dog", "emu")
    outputs = dict(zip(names, LOGITS.T, strict=True))
    assert "3 classes: 'cat', 'dog', 'emu'" in "".join(taken(tmp_path, outputs)[1])
    assert taken(tmp_path, outputs, names)[1] == []
    (tmp_path / "hard").mkdir()
    hard = np.eye(3)[LABELS % 2]
    assert taken(tmp_path / "hard", dict(zip("abc", hard.T, strict=True)), kind="probabilities")
