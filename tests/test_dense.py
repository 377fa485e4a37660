"""Segmentation: tiles, counts, the front and the run, held to slow definitions of their own."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from committee import Cascade, Pool, evaluate
from committee.calibration.fitting import fit_calibrations
from committee.cli import main
from committee.data.segmentation import open_segmentation
from committee.errors import (
    CascadeError,
    ChangedError,
    DamagedError,
    DataError,
    MisalignedError,
    ModelError,
    NotFiniteError,
    PoolFileError,
    ShapeError,
    StoreError,
    UnknownNameError,
)
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.pool.metrics import Exits
from committee.rule.outputs import Outputs
from committee.rule.scores import _confidence_of, _tile_max_prob
from committee.segment import metric as metric_module
from committee.segment.bilinear import bilinear
from committee.segment.metric import MEAN_IOU, bootstrap_interval, mean_iou
from committee.segment.outputs import pixel_logits
from committee.segment.pool import Table
from committee.segment.predict import _count_tiles, predict_tiles
from committee.segment.run import Segmenter, segment_into
from committee.segment.settings import read_settings
from committee.segment.store import _keys_of, _load_tiles, chunk_name, encoded_tiles
from committee.segment.tiling import Grid
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import search
from committee.selection.fixed_models import (
    as_cascade,
    as_ensemble,
    threshold_front,
    threshold_sweep,
)
from committee.selection.front import undominated
from committee.selection.greedy import greedy
from committee.selection.statistics import _percentile_thresholds
from committee.spec.task import SEMANTIC_SEGMENTATION
from dense_world import CLASSES, IGNORED, SIZE, predicted, write_world

torch = pytest.importorskip("torch", reason="an oracle of interpolation and of probabilities")


def jaccard_index(classes, ignore):
    """The oracle of mIoU; importing it takes seconds."""
    metrics = pytest.importorskip("torchmetrics", reason="the oracle of mIoU")
    return metrics.JaccardIndex(
        task="multiclass", num_classes=classes, ignore_index=ignore, average="macro"
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    return write_world(root, ("small", "medium", "large"), ("full", 12, 10))


@pytest.fixture(scope="module")
def store(world):
    return predicted(world, world.parent / "store")


# --- tiles ---------------------------------------------------------------------------------------


@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 12), st.integers(0, 9), st.data())
def test_tiles_cover_every_pixel_once_and_windows_hold_their_tiles(
    height, width, tile, margin, data
):
    tile = min(tile, height, width)
    grid = Grid((height, width), tile, margin)
    image = np.arange(height * width).reshape(height, width)
    tiles = grid.cut(image)
    owned = np.concatenate([own[mask] for own, mask in zip(tiles, grid.owned, strict=True)])
    assert sorted(owned.tolist()) == list(range(height * width))
    assert np.array_equal(grid.pasted(tiles), image)
    some = np.array(data.draw(st.lists(st.integers(0, len(grid) - 1), min_size=1, max_size=5)))
    windows = grid.windows(image, some)
    assert windows.shape[1:] == grid.window
    assert np.array_equal(grid.inner(windows, some), tiles[some])
    # Away from the edges a window has its context on every side.
    rows, columns = np.divmod(tiles[some][:, 0, 0], width)
    for window, row, column in zip(windows, rows, columns, strict=True):
        top, left = divmod(int(window[0, 0]), width)
        if row >= margin and row + tile + margin <= height:
            assert row - top == margin
        if column >= margin and column + tile + margin <= width:
            assert column - left == margin


def test_the_paper_s_grids():
    assert len(Grid((1024, 2048), 512)) == 8
    assert len(Grid((1024, 2048), 128)) == 128
    assert Grid((1024, 2048), 128, 64).overhead == 4.0
    assert Grid((1024, 2048)).overhead == 1.0


@pytest.mark.parametrize("tile", [25, 100, -1])
def test_tiles_that_do_not_fit_are_refused(tile):
    with pytest.raises(ShapeError, match="do not fit an image of 24 x 36"):
        Grid(SIZE, tile)


# --- score, counts, mIoU -------------------------------------------------------------------------


def slow_score(logits, above):
    """g_dense by its definition, pixel by pixel."""
    _, height, width = logits.shape
    kept = []
    for y, x in itertools.product(range(height), range(width)):
        best = torch.softmax(torch.tensor(logits[:, y, x], dtype=torch.float64), 0).max().item()
        if best > above:
            kept.append(best)
    return sum(kept) / len(kept) if kept else 0.0


@pytest.mark.parametrize("above", [0.0, 0.5, 0.7])
def test_score_of_tiles_is_the_mean_over_pixels_that_count(above):
    logits = np.random.default_rng(1).normal(0, 2, (5, 4, 3, 6)).astype(np.float32)
    expected = [slow_score(each, above) for each in logits]
    assert _tile_max_prob(logits, above=above) == pytest.approx(expected, abs=1e-14)
    # Row by row: what stands beside a tile does not change its score.
    assert _tile_max_prob(logits[2:3], above=above)[0] == _tile_max_prob(logits, above=above)[2]


def test_a_tile_without_a_pixel_that_counts_goes_on():
    assert _tile_max_prob(np.zeros((1, 4, 2, 2)), above=0.5).tolist() == [0.0]


def test_names_of_tile_confidences():
    values = np.array([[[[0.9, 0.4]], [[0.1, 0.6]]]])
    assert _confidence_of("tile_max_prob>0.7")(values, "probabilities").tolist() == [0.9]
    assert _confidence_of("tile_max_prob")(values, "probabilities").tolist() == [0.75]
    assert _confidence_of("tile_max_prob>x") is None
    assert _confidence_of("max_prob>0.5") is None
    with pytest.raises(ShapeError, match="tiles, classes, height, width"):
        _tile_max_prob(np.zeros((2, 3)))


def counts_of(truth, guess, classes, ignore):
    known = truth != ignore
    hit = known & (truth == guess)
    parts = [
        np.bincount(values[where], minlength=classes + 1)[:classes]
        for values, where in ((truth, hit), (guess, known), (truth, known))
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("absent", [(), (2,), (0, 3)])
@pytest.mark.parametrize("ignore", [9, 4])
def test_miou_equals_torchmetrics(absent, ignore):
    # Absent classes occur neither in labels nor in predictions; with ignore = 4 a class is ignored
    # that models may predict.
    rng = np.random.default_rng(len(absent))
    classes = 5
    present = [c for c in range(classes) if c not in absent]
    truth, guess = rng.choice(present, (2, 3, 20, 20))
    truth[rng.random(truth.shape) < 0.2] = ignore
    metric = jaccard_index(classes, ignore)
    expected = metric(torch.tensor(guess), torch.tensor(truth)).item()
    one_hot = 5.0 * np.eye(classes)[guess].transpose(0, 3, 1, 2)
    table = _count_tiles({"a": one_hot}, truth, [("a",)], "tile_max_prob", ignore)
    summed = table.counts_of(("a",), np.arange(3)).sum(axis=0)
    assert float(mean_iou(summed)) == pytest.approx(expected, abs=1e-6)
    if ignore == 9:
        assert np.array_equal(summed, counts_of(truth, guess, classes, ignore))


def test_miou_of_nothing_is_nan_and_refused_by_name(store):
    assert np.isnan(mean_iou(np.zeros(6, int)))
    pool = _load_tiles(store / "val", "full")
    table = pool.table
    for counts in (table.both, table.predicted, table.labelled):
        counts[...] = 0
    with pytest.raises(Exception, match="'val': mIoU needs labels, and no pixel has one"):
        evaluate(Cascade.of(["small"]), pool, metric=MEAN_IOU)


def test_miou_refuses_what_are_no_counts():
    exits = Exits(("a",), Outputs("logits", np.zeros((1, 2))), None, np.arange(1), 1)
    with pytest.raises(ShapeError, match="needs counts of pixels, not logits"):
        MEAN_IOU.of(exits)


def test_interval_draws_images_and_covers_what_it_should():
    # Of classes with known IoU, images drawn at random: 95 % of intervals hold the truth.
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        share = rng.beta(8, 3, (60, 1))
        both = rng.binomial(400, share)
        wrong = 400 - both
        # Two classes of 400 pixels each; what one misses, the other claims.
        counts = np.concatenate(
            [both, both, both + wrong, both + wrong, both + wrong, both + wrong], 1
        )
        low, high = bootstrap_interval(counts)
        p = 8 / 11
        inside += low <= p / (2 - p) <= high
    assert 180 <= inside <= 198


def test_bilinear_is_torch_s():
    values = np.random.default_rng(2).normal(size=(2, 3, 7, 9)).astype(np.float32)
    for size in ((28, 36), (20, 31), (7, 9), (5, 4)):
        expected = torch.nn.functional.interpolate(
            torch.tensor(values), size=size, mode="bilinear", align_corners=False
        ).numpy()
        assert bilinear(values, size) == pytest.approx(expected, abs=2e-6)


# --- search and run against definitions ----------------------------------------------------------


class Slow:
    """The cascade by its definition: all logits, one tile at a time."""

    def __init__(self, pool_file, split):
        pool = read_pool_file(pool_file)
        self.settings = read_settings(pool)
        code = [str(pool_file.parent / "models.py")]
        self.models = {spec.name: load_model(spec, code) for spec in pool.models}
        root = pool_file.parent / split
        files = sorted((root / "images").iterdir())
        self.images = np.stack([np.asarray(Image.open(f)) for f in files])
        self.truth = np.stack([np.asarray(Image.open(root / "labels" / f.name)) for f in files])

    def logits(self, name, image):
        model, spec = self.models[name]
        batch = prepared(image[None], spec.preprocessing)
        return pixel_logits(model, spec, batch)[0].astype(np.float64)

    def window(self, name, image, top, left, grid):
        """Logits of a tile that is cut out by hand."""
        model, spec = self.models[name]
        batch = prepared(image[None], spec.preprocessing)
        high, wide = grid.window
        y = min(max(top - grid.context, 0), SIZE[0] - high)
        x = min(max(left - grid.context, 0), SIZE[1] - wide)
        seen = pixel_logits(model, spec, batch[:, :, y : y + high, x : x + wide])[0]
        inside = seen[:, top - y : top - y + grid.tile, left - x : left - x + grid.tile]
        return inside.astype(np.float64)

    def decide(self, stages, thresholds, grid, combine="mean_logits"):
        """Classes of all pixels, and the stage of exit of each tile."""
        maps, exits = [], []
        for image in self.images:
            whole = {n: self.logits(n, image) for n in stages[0]}
            if not grid.tile:
                whole |= {n: self.logits(n, image) for stage in stages for n in stage}
            out = np.full(SIZE, -1)
            step = grid.tile or 10**6
            for y, x in itertools.product(range(0, SIZE[0], step), range(0, SIZE[1], step)):
                top = min(y, SIZE[0] - grid.side[0])
                left = min(x, SIZE[1] - grid.side[1])
                box = np.s_[top : top + grid.side[0], left : left + grid.side[1]]
                ran = []
                for k, stage in enumerate(stages):
                    for name in stage:
                        if name in whole:
                            ran.append(whole[name][:, box[0], box[1]])
                        else:
                            ran.append(self.window(name, image, top, left, grid))
                    mean = ran[-1] if combine == "last" else np.mean(ran, axis=0)
                    last = k == len(stages) - 1
                    if last or slow_score(mean, self.settings.counted_above) >= thresholds[k]:
                        break
                own = out[box]
                own[own < 0] = mean.argmax(axis=0)[own < 0]
                exits.append(k)
            maps.append(out)
        return np.stack(maps), np.array(exits)

    def miou(self, maps):
        metric = jaccard_index(len(CLASSES), IGNORED)
        truth = self.truth.astype(np.int64)
        return metric(torch.tensor(maps.astype(np.int64)), torch.tensor(truth)).item()


@pytest.mark.parametrize("grid", ["full", "12+4", "10+4"])
def test_front_equals_the_brute_force_of_all_logits(world, store, grid):
    """All cascades of two models over a grid of 4 thresholds, run on all logits."""
    slow = Slow(world, "val")
    divided = next(g for g in slow.settings.grids if g.name == grid)
    pool = _load_tiles(store / "val", grid).only(
        [n for n in _load_tiles(store / "val", grid).names if "medium" not in n]
    )
    front = search(pool, 2, grid=4, metric=MEAN_IOU)
    costs, figures = [], []
    price = {"small": 1e6, "large": 9e6}
    for size in (1, 2):
        for order in itertools.permutations(price, size):
            if size == 1:
                maps, _ = slow.decide([order], [], divided)
                costs.append(price[order[0]])
                figures.append(slow.miou(maps))
                continue
            first, second = order
            second_name = second if grid == "full" else f"{second}@{grid}"
            scores = [
                slow_score(tile, 0.6)
                for image in slow.images
                for tile in divided.cut(slow.logits(first, image)).astype(np.float64)
            ]
            assert second_name in pool.names
            for threshold in [*_percentile_thresholds(np.array(scores), 4), np.inf]:
                maps, exits = slow.decide([(first,), (second,)], [threshold], divided)
                costs.append(price[first] + price[second] * divided.overhead * (exits > 0).mean())
                figures.append(slow.miou(maps))
    maps, _ = slow.decide([("small", "large")], [], divided)
    costs.append(sum(price.values()))
    figures.append(slow.miou(maps))
    # torchmetrics is single precision: equal figures must be equal before the best are taken.
    kept = undominated(np.array(costs).round(3), np.array(figures).round(5))
    found = [(c.evaluation.average_cost, c.evaluation.accuracy) for c in front]
    assert len(found) == len(kept) > 2
    for (cost, figure), k in zip(found, kept, strict=True):
        assert cost == pytest.approx(costs[k])
        assert figure == pytest.approx(figures[k], abs=1e-5)


@pytest.mark.parametrize("combine", ["mean_logits", "last"])
@pytest.mark.parametrize("grid", ["full", "12+4", "10+4"])
def test_evaluation_is_the_run_is_the_definition(world, store, grid, combine):
    slow = Slow(world, "test")
    divided = next(g for g in slow.settings.grids if g.name == grid)
    later = "" if grid == "full" else f"@{grid}"
    pool = _load_tiles(store / "test", grid)
    names = [("small",), (f"medium{later}",), (f"large{later}",)]
    kept = pool.table

    def middle(name):
        return float(np.median(kept.scores_of((name,), np.arange(len(pool)))))

    second = middle(names[1][0]) if combine == "last" else 0.82
    cascade = Cascade.of(
        names, [middle("small") + 1e-4, second], slow.settings.confidence, combine=combine
    )
    cascade = pool.described(cascade)
    evaluation = evaluate(cascade, pool, metric=MEAN_IOU)
    stages = [("small",), ("medium",), ("large",)]
    maps, exits = slow.decide(stages, cascade.thresholds, divided, combine)
    assert evaluation.accuracy == pytest.approx(slow.miou(maps), abs=1e-5)
    assert evaluation.exit_ratios == pytest.approx(np.bincount(exits, minlength=3) / len(exits))
    assert min(evaluation.exit_ratios) > 0
    low, high = evaluation.interval
    assert low < evaluation.accuracy < high
    assert evaluation.samples == 6
    runner = Segmenter(cascade, allow_code=[str(world.parent / "models.py")])
    decided = runner.decide(slow.images)
    assert np.array_equal(np.stack([each.classes for each in decided]), maps)
    assert np.array_equal(np.concatenate([each.stages for each in decided]), exits)
    costs = [each.cost for each in decided]
    assert np.mean(costs) == pytest.approx(evaluation.average_cost)
    # Images together or one by one: the same.
    alone = runner.decide(slow.images[2:3])[0]
    assert np.array_equal(alone.classes, maps[2])


def test_committees_begin_with_the_whole_image(store):
    front = search(Pool.load(store / "val"), grid=10, test=Pool.load(store / "test"))
    assert front.settings.sequences > 20
    for committee in front:
        first, *later = committee.cascade.models_of_stages
        assert any("@" not in name for name in first)
        assert all("@" in name for stage in later for name in stage) or not any(
            "@" in name for name in committee.cascade.names
        )
        weights = [name.partition("@")[0] for name in committee.cascade.names]
        assert len(set(weights)) == len(weights)
        assert committee.test.samples == 6


def test_a_pool_of_images_finds_the_division_of_each_committee(store):
    pool = Pool.load(store / "val")
    assert [len(each) for each in pool.divisions] == [6, 36, 72]
    assert pool.task is SEMANTIC_SEGMENTATION
    assert sorted(pool.singles()) == ["large", "medium", "small"]
    for grid in ("full", "12+4", "10+4"):
        later = "" if grid == "full" else f"@{grid}"
        cascade = Cascade.of(["small", f"large{later}"], [0.8])
        own = _load_tiles(store / "val", grid)
        assert evaluate(cascade, pool) == evaluate(cascade, own, metric=MEAN_IOU)
        assert evaluate_all([cascade, cascade], pool) == 2 * [evaluate(cascade, own)]
    assert (pool.metric, pool.keeps_outputs) == (MEAN_IOU, False)
    some = Pool.load(store / "val", ["small", "large"])
    assert sorted(some.divided[1].names) == ["large", "large@10+4", "small", "small@10+4"]


def test_search_over_all_tiles_is_the_best_of_each_size(store):
    pool, judge = Pool.load(store / "val"), Pool.load(store / "test")
    front = search(pool, grid=10, test=judge)
    apart = [search(_load_tiles(store / "val", grid), grid=10) for grid in ("full", "12+4", "10+4")]
    found = [(c.evaluation.average_cost, c.evaluation.accuracy) for f in apart for c in f]
    best = undominated(*(np.array(each) for each in zip(*found, strict=True)))
    ours = [(c.evaluation.average_cost, c.evaluation.accuracy) for c in front]
    assert ours == [found[i] for i in best]
    assert front.settings.cascades == sum(each.settings.cascades for each in apart)
    for each in front:
        assert each.test == evaluate(each.cascade, judge)


def test_the_newest_model_may_replace_what_was_said_before(store):
    pool, judge = Pool.load(store / "val"), Pool.load(store / "test")
    front = search(pool, grid=20, combine="last", test=judge)
    assert {each.cascade.combine for each in front} == {"last"}
    assert any("@" in str(each.cascade) for each in front)
    for each in front:
        assert each.evaluation.accuracy == evaluate(each.cascade, pool).accuracy
        assert each.test == evaluate(each.cascade, judge)
    # Two orders of the same models are two committees: one hears the other's newest.
    swept = [
        threshold_sweep(order, pool, grid=5, combine="last")[-1].evaluation.accuracy
        for order in (["small", "large@12+4"], ["large", "small@12+4"])
    ]
    assert swept[0] != swept[1]


def test_an_ensemble_becomes_the_cheapest_cascade_over_tiles_of_any_size(store):
    pool = Pool.load(store / "val")
    together = as_ensemble(["small", "large"], pool)
    found = as_cascade(["small", "large"], pool, 0.05, grid=20)
    assert found.evaluation.accuracy >= together.evaluation.accuracy - 0.05
    assert found.evaluation.average_cost < together.evaluation.average_cost
    for grid in ("12+4", "10+4"):
        for order in (["small", f"large@{grid}"], ["large", f"small@{grid}"]):
            for each in threshold_front(order, pool, grid=20):
                if each.evaluation.accuracy >= together.evaluation.accuracy - 0.05:
                    assert found.evaluation.average_cost <= each.evaluation.average_cost
    swept = threshold_sweep(["small", "large@12+4"], pool, grid=10)
    assert swept[0].cascade.names == ("small",)
    assert swept[-1].cascade.models_of_stages == (("small", "large@12+4"),)


def test_targets_of_a_front_of_segmentation(store):
    front = search(Pool.load(store / "val"))
    choice = front.matching("large")
    alone = evaluate(Cascade.of(["large"]), _load_tiles(store / "val"), metric=MEAN_IOU)
    assert choice.evaluation.accuracy >= alone.accuracy - 1e-9
    assert choice.evaluation.average_cost <= alone.average_cost
    assert front.at_least(alone.accuracy).evaluation == choice.evaluation
    assert choice.cascade.confidence == "tile_max_prob>0.6"
    assert choice.evaluation.measure == "mIoU"


def test_bounds_hold_for_tiles_too(store):
    bound = 8e6
    front = search(Pool.load(store / "val"), worst_case=bound)
    assert all(each.evaluation.worst_case_cost <= bound for each in front)


# --- the store -----------------------------------------------------------------------------------


def test_predict_goes_on_where_it_was_and_mends_what_is_damaged(world, tmp_path):
    pool = read_pool_file(world)
    code = [str(world.parent / "models.py")]
    data = open_segmentation(world.parent / "val", "val", pool.classes, IGNORED)

    class Stopped(Exception):
        pass

    def stop(done, _):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        predict_tiles(pool, data, tmp_path / "s", allow_code=code, progress=stop)
    with pytest.raises(DamagedError, match="Run the same committee predict"):
        _load_tiles(tmp_path / "s" / "val")
    seen, notes = [], []
    folder = predict_tiles(
        pool, data, tmp_path / "s", allow_code=code, progress=lambda *a: seen.append(a)
    )
    assert seen[0] == (3, 6)
    assert seen[-1] == (6, 6)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    whole = predicted(world, tmp_path / "whole") / "val"
    assert before == {path.name: path.read_bytes() for path in whole.iterdir()}
    victim = folder / f"{chunk_name('val2.png')}.npz"
    victim.write_bytes(victim.read_bytes()[:-200] + bytes(200))
    with pytest.raises(DamagedError, match=r"tiles of 'val2\.png' are missing or damaged"):
        _load_tiles(folder)
    predict_tiles(pool, data, tmp_path / "s", allow_code=code, note=notes.append)
    assert notes == ["val2.png: its damaged counts are computed again"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_store_of_other_settings_is_refused(world, store, tmp_path):
    text = world.read_text().replace("counted_above = 0.6", "counted_above = 0.5")
    other = world.parent / "other.toml"
    other.write_text(text)
    with pytest.raises(ChangedError, match="made with other confidence"):
        predicted(other, store)


def test_what_chooses_must_not_judge(world, store):
    pool = read_pool_file(world)
    data = open_segmentation(world.parent / "val", "again", pool.classes, IGNORED)
    with pytest.raises(StoreError, match="'val' and 'again' would share 6 images"):
        predict_tiles(pool, data, store, allow_code=[str(world.parent / "models.py")])


@pytest.mark.parametrize(
    ("ask", "error", "told"),
    [
        (lambda s: _load_tiles(s / "val", "64+0"), UnknownNameError, "no tiles of size '64\\+0'"),
        (lambda s: _load_tiles(s / "cal"), StoreError, "There are: test, val"),
        (lambda s: Pool.load(s / "val", calibrated=True), StoreError, "nothing to calibrate"),
        (lambda s: Pool.load(s / "val", ["huge"]), UnknownNameError, "no model 'huge'"),
        (lambda s: Pool.load(s / "val").rows([0], "a"), MisalignedError, "divided in parts"),
        (lambda s: Pool.load(s / "val").labelled_by("large"), CascadeError, "no class to agree"),
        (lambda s: fit_calibrations(Pool.load(s / "val")), CascadeError, "no outputs to calib"),
        (lambda s: greedy(Pool.load(s / "val")), CascadeError, "greedy: .* Use committee.search"),
        (lambda s: search(Pool.load(s / "val"), 4), CascadeError, "must be 1 to 3"),
        (
            lambda s: evaluate(
                Cascade.of(["small", "large"], [0.8]), _load_tiles(s / "val", "12+4")
            ),
            CascadeError,
            "small -> large: a committee begins with models that see whole images",
        ),
        (lambda s: _load_tiles(s.parent), StoreError, "no store of tiles"),
        (
            lambda s: search(_load_tiles(s / "val"), 2, combine="mean_probabilities"),
            CascadeError,
            "combined by mean_logits",
        ),
    ],
)
def test_what_a_store_cannot_answer(store, ask, error, told):
    with pytest.raises(error, match=told):
        ask(store)


# --- what users get wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("ignore = 9", ""), "holds class 9, classes are 0 to 2"),
        (("[24, 36]", "[24, 30]"), "is 24 x 36 pixels, the pool file says 24 x 30"),
    ],
)
def test_data_that_does_not_fit_is_named(tmp_path, change, told):
    path = write_world(tmp_path, count=1)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(DataError, match=told):
        predicted(path, tmp_path / "s")


def test_labels_that_do_not_fit_are_named(tmp_path):
    path = write_world(tmp_path, count=2)
    label = tmp_path / "val" / "labels" / "val1.png"
    good = label.read_bytes()
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(label)
    with pytest.raises(DataError, match=r"val1.png: is 24 x 30 pixels, its image 24 x 36"):
        predicted(path, tmp_path / "s")
    Image.fromarray(np.zeros((24, 36, 3), np.uint8)).save(label)
    with pytest.raises(DataError, match="mode RGB"):
        predicted(path, tmp_path / "s")
    label.write_bytes(good[:40])
    with pytest.raises(DataError, match=r"val1.png: no label image"):
        predicted(path, tmp_path / "s")
    label.unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no labels: 'val1.png'"):
        predicted(path, tmp_path / "s")


def test_labels_with_a_palette_are_indices(tmp_path):
    write_world(tmp_path, count=1)
    label = tmp_path / "val" / "labels" / "val0.png"
    values = np.asarray(Image.open(label))
    image = Image.fromarray(values)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(label)
    data = open_segmentation(tmp_path / "val", "val", CLASSES, IGNORED)
    assert np.array_equal(data.label(0, SIZE), values)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (("[tiles]", "[cels]"), PoolFileError, "cels"),
        (("context = 4", "contxt = 4"), UnknownNameError, "Did you mean 'context'"),
        (("context = 4", "context = -4"), PoolFileError, "context must be a whole number"),
        (('"full", 12', '"half"'), PoolFileError, "'full' or 'SIDE\\+CONTEXT', not 'half'"),
        (('"full", 12', "25"), ShapeError, "do not fit an image of 24 x 36"),
        (('"full", 12', ""), PoolFileError, "sizes must be a list"),
        (
            ("counted_above = 0.6", "counted_above = 1.0"),
            PoolFileError,
            "must be a number < 1.0, not 1.0",
        ),
        (("semantic-segmentation", "image-classification"), PoolFileError, r"\[tiles\] is for"),
        (('name = "large"\n', 'name = "large"\nkind = "probabilities"\n'), PoolFileError, "logits"),
    ],
)
def test_pool_files_that_are_wrong(tmp_path, change, error, told):
    path = write_world(tmp_path, count=1)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises((error, PoolFileError), match=told):
        predicted(path, tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("broken", NotFiniteError, "model 'broken': NaN or infinite logits"),
        ("of_two", ModelError, "has 2 classes, not 3"),
        ("flat", ModelError, r"segmentation needs logits \(1, classes, height, width\)"),
    ],
)
def test_models_that_are_wrong(tmp_path, name, error, told):
    path = write_world(tmp_path, ("small", name), count=1)
    with pytest.raises(error, match=told):
        predicted(path, tmp_path / "s")


# --- the run -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cascade(store):
    pool = _load_tiles(store / "val", "12+4")
    found = Cascade.of(["small", "large@12+4"], [0.85], confidence="tile_max_prob>0.6")
    return replace(pool.described(found), classes=CLASSES)


def test_search_warns_by_images_though_there_are_many_tiles(store, capsys):
    assert main(["search", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["warnings"]
    assert any(re.match(r"6 images are (too few to tell|few to choose on)", one) for one in told)


def pngs(out):
    folder = out.with_name(f"{out.stem}_classes")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_images_are_whole_though_a_run_was_stopped(world, cascade, tmp_path, monkeypatch):
    runner = Segmenter(cascade, allow_code=[str(world.parent / "models.py")])
    monkeypatch.setattr(Segmenter, "group_size", 2)
    data = open_segmentation(world.parent / "test", labels=False)
    list(segment_into(runner, data, tmp_path / "whole.csv"))
    for altered in (False, True):
        out = tmp_path / f"{altered}.csv"
        begun = segment_into(runner, data, out)
        next(begun)
        begun.close()
        (part,) = (tmp_path / f"{out.name}.part").glob("0*")
        if altered:  # a letter of an image
            part.write_bytes(part.read_bytes().replace(b"A", b"B", 1))
        (tmp_path / f"{out.stem}_classes").mkdir()
        notes = []
        list(segment_into(runner, data, out, note=notes.append))
        assert pngs(out) == pngs(tmp_path / "whole.csv")
        assert ["damaged" in note for note in notes] == [True] * altered


def test_images_of_others_are_never_replaced(world, cascade, tmp_path):
    runner = Segmenter(cascade, allow_code=[str(world.parent / "models.py")])
    data = open_segmentation(world.parent / "test", labels=False)
    out, folder = tmp_path / "q.csv", tmp_path / "q_classes"
    list(segment_into(runner, data, out, overwrite=False))
    before = pngs(out)
    out.rename(tmp_path / "moved.csv")
    for other, overwrite in ((out, False), (tmp_path / "q.jsonl", True)):
        with pytest.raises(DataError, match="which this run may not replace"):
            list(segment_into(runner, data, other, overwrite=overwrite))
    (tmp_path / "moved.csv").rename(out)
    fewer = open_segmentation(world.parent / "test", labels=False, rows="0:2")
    list(segment_into(runner, fewer, out, overwrite=True))
    assert pngs(out) == {name: before[name] for name in sorted(before)[:2]}
    (folder / "mine.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds 'mine\.png'"):
        list(segment_into(runner, fewer, out, overwrite=True))
    assert not (tmp_path / "q.csv.part").exists()


def test_run_writes_classes_tiles_and_a_row_a_image(world, cascade, tmp_path):
    runner = Segmenter(cascade, allow_code=[str(world.parent / "models.py")])
    data = open_segmentation(world.parent / "test", labels=False)
    out = tmp_path / "out.csv"
    rows = list(segment_into(runner, data, out, show_tiles=True))
    images = np.stack([data.image(row, SIZE) for row in range(6)])
    decided = runner.decide(images)
    assert len(rows) == 6
    for row, each in zip(rows, decided, strict=True):
        shown = np.asarray(Image.open(tmp_path / "out_classes" / row["id"]))
        assert np.array_equal(shown, each.classes)
        assert row["exit_1"] == pytest.approx((each.stages > 0).mean())
        assert row["cost"] == each.cost
        with Image.open(tmp_path / "out_tiles" / row["id"]) as marked:
            assert marked.size == (36, 24)
    assert out.read_text().splitlines()[0] == "id,exit_0,exit_1,least_confidence,cost"
    assert not (tmp_path / "out.csv.part").exists()


def test_tiles_that_went_on_are_in_colour_the_others_grey(world, cascade, tmp_path):
    from io import BytesIO

    from committee.segment.run import _stages_image

    grid = Grid(SIZE, 12)
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    data = _stages_image(image, grid, np.array([0, 1, 0, 0, 0, 0]))
    shown = np.asarray(Image.open(BytesIO(data)))
    assert np.array_equal(shown[1:11, 13:23], image[1:11, 13:23])
    assert (shown[:, :12].std(axis=2) == 0).all()
    assert (shown[0, 12:24] == (255, 196, 0)).all()


def test_a_run_goes_on_where_it_was(world, cascade, tmp_path):
    runner = Segmenter(cascade, allow_code=[str(world.parent / "models.py")])
    data = open_segmentation(world.parent / "test", labels=False)
    whole = list(segment_into(runner, data, tmp_path / "whole.jsonl"))
    out = tmp_path / "out.jsonl"
    begun = segment_into(runner, data, out)
    first = [next(begun), next(begun)]
    begun.close()
    journal = tmp_path / "out.jsonl.part" / "journal"
    journal.write_text(journal.read_text() + "1 2 3")
    assert list(segment_into(runner, data, out)) == whole
    assert first == whole[:2]
    again = pickle.loads(pickle.dumps(runner))
    assert list(segment_into(again, data, tmp_path / "again.jsonl")) == whole
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    begun = segment_into(runner, data, out)
    next(begun)
    begun.close()
    with pytest.raises(ChangedError, match=r"begun with other settings: .* tiles False; now "):
        list(segment_into(runner, data, out, show_tiles=True))
    # A byte of what was decided differs: it is computed again, and said.
    [chunk] = (tmp_path / "out.jsonl.part").glob("0*.jsonl")
    chunk.write_bytes(chunk.read_bytes().replace(b"0.", b"1.", 1))
    notes: list[str] = []
    assert list(segment_into(runner, data, out, note=notes.append)) == whole
    assert len(notes) == 1
    assert notes[0].startswith(f"damaged in {tmp_path / 'out.jsonl.part'} and computed again: '0")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_cannot_be_run(world, cascade, tmp_path):
    code = [str(world.parent / "models.py")]
    runner = Segmenter(cascade, allow_code=code)
    with pytest.raises(DataError, match="images are 10 x 36 pixels, the cascade takes 24 x 36"):
        runner.decide(np.zeros((1, 10, 36, 3), np.uint8))
    data = open_segmentation(world.parent / "test", labels=False)
    with pytest.raises(DataError, match=r"written as .csv, .jsonl"):
        list(segment_into(runner, data, tmp_path / "out.parquet"))
    plain = {n: replace(spec, task="image-classification") for n, spec in cascade.models.items()}
    with pytest.raises(CascadeError, match="are not for segmentation"):
        Segmenter(replace(cascade, models=plain), allow_code=code)


# --- the command line ----------------------------------------------------------------------------


def told(capsys, *words):
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_commands_from_images_to_images(tmp_path, capsys):
    path = write_world(tmp_path)
    code = ("--allow-code", tmp_path / "models.py")
    store = tmp_path / "store"
    for split in ("val", "test"):
        data = tmp_path / split
        said = told(
            capsys, "predict", path, "--data", data, "--split", split, "--out", store, *code
        )
        assert "2 models x 6 images x tiles of full, 12+4" in said
    file = tmp_path / "cascade.json"
    said = told(capsys, "search", store, "--match", "large", "--out", file, "--front")
    words = " ".join(said.split())
    assert "mIoU in %, macs per image" in words
    assert "on val (6 images)" in words
    assert f"Written: {file}" in words
    found = json.loads(told(capsys, "search", store, "--tiles", "12+4", "--json"))
    assert all(
        "@12+4" in str(c["cascade"]["stages"][1:]) or len(c["cascade"]["stages"]) == 1
        for c in found["committees"]
    )
    judged = json.loads(told(capsys, "evaluate", file, store, "--json"))
    assert judged["measure"] == "mIoU"
    assert judged["samples"] == 6
    assert judged["chosen_on_these_samples"] is False
    assert "These images chose" in told(capsys, "evaluate", file, store, "--split", "val")
    out = tmp_path / "out.csv"
    data = tmp_path / "test"
    words = ("run", file, "--data", data, "--out", out, "--show-tiles", *code)
    ran = json.loads(told(capsys, *words, "--json"))
    assert ran["exit_ratios"] == pytest.approx(judged["exit_ratios"])
    assert ran["average_cost"] == pytest.approx(judged["average_cost"])
    assert len(list((tmp_path / "out_classes").iterdir())) == 6
    assert len(list((tmp_path / "out_tiles").iterdir())) == 6
    # The images that were written have the mIoU that was promised.
    maps = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "out_classes").iterdir())]
    assert Slow(path, "test").miou(np.stack(maps)) == pytest.approx(judged["accuracy"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("search", "STORE", "--metric", "top-5"), "--metric: not for semantic segmentation"),
        (("search", "STORE", "--tiles", "7+7"), "no tiles of size '7+7'"),
        (("search", "STORE", "--min-accuracy", "0.99"), "no committee reaches accuracy 99.00 %"),
        (("evaluate", "CASCADE", "STORE", "--agree-with", "large"), "--agree-with: not for"),
        (("evaluate", "CASCADE", "STORE", "--per-stage"), "gaps per stage: a sample scores any"),
        (("study", "STORE", "--out", "x", "--confidence", "prob_gap"), "--confidence: not for"),
        (("profile", "POOL"), "segmentation models cannot be profiled yet"),
        (("run", "CASCADE", "--data", "DATA", "--out", "x.parquet"), "as .csv, .jsonl"),
        (("run", "CASCADE", "--data", "/nowhere", "--out", "x.csv"), "no image in /nowhere"),
    ],
)
def test_wrong_arguments_get_one_line(world, store, cascade, tmp_path, capsys, words, line):
    file = cascade.save(tmp_path / "cascade.json")
    places = {"STORE": store, "CASCADE": file, "DATA": world.parent / "test", "POOL": world}
    code = ("--allow-code", world.parent / "models.py") if words[0] == "run" else ()
    assert main([str(places.get(word, word)) for word in (*words, *code)]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_tiles_are_of_segmentation_only(tmp_path, capsys):
    assert main(["search", str(tmp_path), "--tiles", "64+8"]) == 2
    assert "no store of tiles" in capsys.readouterr().err


# --- what is kept ---------------------------------------------------------------------------------


def kept(keys, images, grid, classes, rng):
    """Scores and counts of as many tiles as images of that size have, drawn at random."""
    tiles, pixels = images * len(grid), grid.side[0] * grid.side[1]
    shape = (len(keys), tiles, classes)
    labelled = rng.multinomial(pixels, np.full(classes, 1 / classes), tiles).astype(np.uint32)
    predicted = np.broadcast_to(rng.permutation(labelled, axis=1), shape).astype(np.uint32)
    both = np.minimum(predicted, labelled) // 2
    scores = rng.random((len(keys), tiles))
    return Table(
        {key: row for row, key in enumerate(keys)},
        scores,
        both,
        predicted,
        labelled,
        "mean_logits",
        "tile_max_prob>0.5",
    )


def test_500_images_of_cityscapes_stay_under_2_gb():
    """Three models, four sizes of tiles, random counts, which hardly compress."""
    rng = np.random.default_rng(0)
    names = ("small", "medium", "large")
    grids = [Grid((1024, 2048), tile, 32 if tile else 0) for tile in (0, 512, 128, 64)]
    tables = {}
    for grid in grids:
        whole_of = {f"{n}@{grid.name}": n for n in names} if grid.tile else {}
        keys = _keys_of(names, whole_of, 3)
        assert len(keys) == (22 if grid.tile else 7)
        tables[grid.name] = kept(keys, 1, grid, 19, rng)
    on_disk = 500 * len(encoded_tiles(tables))
    in_memory = 500 * sum(
        each.nbytes
        for table in tables.values()
        for each in (table.scores, table.both, table.predicted, table.labelled)
    )
    logits = 500 * 3 * 19 * 1024 * 2048 * 4
    assert on_disk < in_memory < 2e9
    assert logits > 200e9


def test_sizes_may_name_their_own_context(tmp_path):
    path = write_world(tmp_path, sizes=("full", 12, "12+0", "8+2"), count=1)
    grids = read_settings(read_pool_file(path)).grids
    assert [grid.name for grid in grids] == ["full", "12+4", "12+0", "8+2"]
    path.write_text(path.read_text().replace("context = 4\n", ""))
    assert read_settings(read_pool_file(path)).grids[1].name == "12+32"


def test_the_bootstrap_takes_little_memory_and_the_same_draws(monkeypatch):
    images, draws = 20_000, 200
    monkeypatch.setattr(metric_module, "_DRAWS", draws)
    counts = np.random.default_rng(0).integers(0, 100, (images, 3))
    counts[:, 1:] += 100
    wanted = mean_iou(
        np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), draws) @ counts
    )
    for kept in (0, 1 << 28):
        metric_module._cached.cache_clear()
        monkeypatch.setattr(metric_module, "_CACHE_BYTES", kept)
        monkeypatch.setattr(metric_module, "_BLOCK", 1 << 20)
        tracemalloc.start()
        found = metric_module.bootstrap([counts])[0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found, wanted)
        # All draws in double precision would take 32 MB.
        assert peak < 12e6
    metric_module._cached.cache_clear()
