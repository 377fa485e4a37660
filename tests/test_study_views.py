"""Study and report of clips whose views are divided in blocks: a model is all of its views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from committee import Cascade, Pool, evaluate, search
from committee.errors import Unsupported
from committee.pool.layout import Layout
from committee.report.rows import SINGLE, Report
from committee.report.tables import provenance
from committee.report.text import named
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.task import VIDEO_CLASSIFICATION
from committee.spec.views import Views
from committee.study.analyses import run_study
from committee.study.context import study_of
from committee.study.inputs import read_training
from committee.study.views import ANALYSIS
from pool_changes import with_specs

BLOCKS = 4


def pool_of_blocks(seed, split, samples=400):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, samples)
    truth = np.eye(5)[labels]
    outputs, costs, specs = {}, {}, {}
    for name, gain, cost in (("small", 0.9, 1e6), ("large", 1.5, 9e6)):
        shared = 0.5 * rng.normal(size=truth.shape)
        for block in range(BLOCKS):
            own = f"{name}.{block + 1}of{BLOCKS}"
            outputs[own] = gain * truth + shared + rng.normal(size=truth.shape)
            costs[own] = cost
            views = Views(1, temporal=6, spatial=2, blocks=BLOCKS, block=block)
            recipe = Preprocessing((4, 4), views=views)
            specs[own] = ModelSpec(own, f"onnx:/{name}.onnx", recipe, whole=name)
    pool = Pool.from_arrays(
        labels,
        outputs,
        kind="logits",
        costs=costs,
        split=split,
        ids=[f"{split}{i}" for i in range(samples)],
        families={name: f"views of {name.partition('.')[0]}" for name in outputs},
    )
    known = pool.specs
    specs = {
        n: replace(each, costs=known[n].costs, family=known[n].family) for n, each in specs.items()
    }
    return replace(with_specs(pool, specs), layout=Layout.of(specs), task=VIDEO_CLASSIFICATION)


@pytest.fixture(scope="module")
def pools():
    return pool_of_blocks(0, "val"), pool_of_blocks(1, "test")


def test_a_single_model_is_all_of_its_blocks(pools):
    val, _ = pools
    names = tuple(f"large.{i + 1}of{BLOCKS}" for i in range(BLOCKS))
    assert val.singles() == {"small": val.layout.view_groups["small"], "large": names}
    assert val.singles("last") == {name: (name,) for name in val.names}
    front = search(val)
    goal = evaluate(Cascade.ensemble(names), val)
    assert front.matching("large").evaluation.accuracy >= goal.accuracy
    assert front.matching("large.1of4").evaluation.accuracy >= (
        evaluate(Cascade.of([names[0]]), val).accuracy
    )
    # A block that is missing leaves no whole.
    assert val.only([*names[:3], *val.layout.view_groups["small"]]).layout.view_groups == {
        "small": val.layout.view_groups["small"]
    }


def test_rows_of_a_report_are_of_whole_models(pools):
    val, test = pools
    front = search(val, grid=20)
    rows = Report(front, test).rows
    singles = [row for row in rows if row.role == SINGLE]
    assert [row.name for row in singles] == ["small", "large"]
    assert [named(row.cascade) for row in singles] == [
        f"{name} (all 4 blocks of views)" for name in ("small", "large")
    ]
    assert singles[1].reported.average_cost == 36e6
    assert rows[0].reference == "large"
    equal = next(row for row in rows if row.role == "matches large")
    assert equal.val.accuracy >= singles[1].val.accuracy
    assert equal.speedup == 36e6 / equal.reported.average_cost
    assert "400 clips" in provenance(rows)
    two = val.described(Cascade.ensemble(val.layout.view_groups["small"][:2]))
    assert named(two) == "small (2 of 4 blocks of views)"
    assert Report(front, test).members


def test_fixed_views_and_exits_between_them(pools):
    study = study_of(*pools, grid=20, max_models=4)
    finding = ANALYSIS.analyse(study)
    rows = [
        dict(zip((c.name for c in finding.tables[0].columns), row, strict=True))
        for row in finding.tables[0].rows
    ]
    for name in ("small", "large"):
        own = [row for row in rows if row["model"] == name]
        told = [row["views"] for row in own[:4]]
        assert told == ["3 of 12", "6 of 12", "9 of 12", "all 12"]
        for count, row in enumerate(own[:4], 1):
            fixed = evaluate(
                Cascade.ensemble(study.val.layout.view_groups[name][:count]), study.test
            )
            assert row["accuracy"].value == fixed.accuracy
            assert row["average cost"] == fixed.average_cost
            assert row["speedup over all views"] == pytest.approx(4 / count)
        whole = evaluate(Cascade.ensemble(study.val.layout.view_groups[name]), study.val)
        (found,) = [views for views in finding.data if views.model == name]
        assert found.exits.val.accuracy >= whole.accuracy
        assert {n.partition(".")[0] for n in found.exits.cascade.names} == {name}
        assert own[4]["average cost"] == found.exits.test.average_cost
    assert any("exits between views" in sentence for sentence in finding.sentences)


def test_every_analysis_takes_blocks_or_says_why_not(pools, tmp_path):
    times = tmp_path / "times.csv"
    times.write_text("name,minutes\nsmall,2\nlarge,7\n")
    training = read_training(times, pools[0])
    # One set of weights is trained once, however many blocks of its views run.
    assert training.of(pools[0].names) == 9
    study = study_of(*pools, grid=10, max_models=3, training=training)
    assert study.architectures == {"small": ("small",), "large": ("large",)}
    assert study.text.startswith(
        "2 models, 2 architectures; their views in 8 blocks, each of which"
    )
    left_out = {}
    for finding in run_study(study):
        assert bool(finding.tables) != bool(finding.left_out)
        left_out |= {finding.name: finding.left_out} if finding.left_out else {}
    assert "no architecture was trained 3 times" in left_out["trainings"]
    assert "two trainings of one" in left_out["diversity"]
    assert "blocks of views" in left_out["scaled_family"]
    assert "clips exit as a whole" in left_out["tiles"]
    assert not {"views", "best_cascades", "calibration", "training_cost"} & left_out.keys()
    (ensemble,) = study.ensembles
    assert study.by_weights(ensemble.cascade) == [
        study.val.layout.view_groups["large"],
        study.val.layout.view_groups["small"],
    ]


def test_pools_without_blocks_have_no_views_to_leave_between(pools):
    plain = [replace(pool, layout=Layout()) for pool in pools]
    with pytest.raises(Unsupported, match="view_blocks"):
        ANALYSIS.analyse(study_of(*plain, grid=10, max_models=2))
