"""Commands of the report: each finds its committee again, whatever the search was asked."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.report.command import saving_of
from committee.report.rows import Report

NAMES = ("a-1", "a-2", "b", "c+d")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings of one architecture, costs in two units, in a folder with a gap in its name."""
    folder = tmp_path_factory.mktemp("the store")
    rng = np.random.default_rng(4)
    for split in ("val", "test"):
        labels = rng.integers(0, 4, 400)
        np.save(folder / "labels.npy", labels)
        words = ["--kind", "logits", "--split", split, "--labels", f"{folder}/labels.npy"]
        for number, name in enumerate(NAMES):
            logits = rng.normal(size=(400, 4)) + (1 + 0.5 * number) * np.eye(4)[labels]
            np.save(folder / f"{name}.npy", logits)
            words += [f"{name}={folder}/{name}.npy"]
        for unit, factor in (("joules", 2.3), ("watts", 1.7)):
            costs = [part for n in range(4) for part in ("--cost", f"{NAMES[n]}={factor**n!r}")]
            families = ["--family", "a-1=a", "--family", "a-2=a"]
            out = ["--unit", unit, "--out", f"{folder}/s", "--json"]
            assert main(["import", *words, *costs, *families, *out]) == 0
    return folder / "s"


SEARCHES: dict[str, Callable[[cm.Pool], cm.Front]] = {
    "unit": lambda pool: cm.search(pool, unit="watts"),
    "rule": lambda pool: cm.search(
        pool, 2, confidence="prob_gap", combine="mean_probabilities", grid=15, unit="joules"
    ),
    "families": lambda pool: cm.search(pool, families=False, unit="joules"),
    "bounds": lambda pool: cm.search(
        pool, worst_case=14.0, average_case={"watts": 4.0}, unit="joules"
    ),
    "top-2": lambda pool: cm.search(pool, 2, metric=cm.top_k(2), unit="joules"),
    "agreement": lambda pool: cm.search(pool.labelled_by(["b", "a-2"]), 2, unit="joules"),
}


@pytest.mark.parametrize("asked", SEARCHES)
def test_a_command_finds_its_committee_again(
    asked: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Judged by nothing here: "test" chooses, so that a split that is not the usual one is named.
    front = SEARCHES[asked](cm.Pool.load(store / "test"))
    saving = saving_of(front, str(store), "test")
    members = Report(front).members
    for row in [members[0], members[len(members) // 2], *Report(front).ensembles[:1]]:
        words = shlex.split(saving.line(row))
        assert main([*words[1:], "--json"]) == 0
        assert cm.Cascade.load("cascade.json").stages == row.cascade.stages


@pytest.mark.parametrize(
    "front",
    [
        lambda pool: cm.search(pool, 2, metric=cm.weighted(np.ones(400)), unit="joules"),
        lambda pool: cm.greedy(pool, 2, unit="joules"),
    ],
)
def test_what_no_command_can_say_is_python(
    front: Callable[[cm.Pool], cm.Front], store: Path
) -> None:
    found = front(cm.Pool.load(store / "val"))
    line = saving_of(found, str(store)).line(Report(found).members[-1])
    assert line.startswith("front.at_most(cost=")
    assert line.endswith('.cascade.save("cascade.json")')


def test_the_figure_is_written_beside_the_page(store: Path, tmp_path: Path) -> None:
    words = ["report", str(store), "--unit", "joules", "--max-models", "1"]
    out = ["--out", str(tmp_path / "r.html"), "--figure"]
    assert main([*words, *out, str(tmp_path / "front.svg")]) == 0
    assert (tmp_path / "front.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert main([*words, *out, str(tmp_path / "front.gif")]) == 2


def test_a_cascade_stands_beside_the_front_of_its_own_rule(store: Path, tmp_path: Path) -> None:
    chosen, page = tmp_path / "c.json", tmp_path / "r.html"
    rule = ["--combine", "last", "--confidence", "prob_gap"]
    target = ["--unit", "joules", "--min-accuracy", "0.7"]
    assert main(["search", str(store), *target, *rule, "--out", str(chosen)]) == 0
    words = ["report", str(store), "--unit", "joules", "--out", str(page)]
    assert main([*words, "--cascade", str(chosen)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "--confidence prob_gap --combine last" in text
    assert main([*words, *rule]) == 0
    assert main([*words, *rule, "--cascade", str(chosen)]) == 2


def test_the_page_tells_what_each_of_several_rules_chooses(store: Path, tmp_path: Path) -> None:
    words = ["report", str(store), "--unit", "joules", "--max-models", "2", "--combine", "auto"]
    assert main([*words, "--out", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What each rule chooses" in text
    assert "Of 4 rules" in text
