"""Video classification through the same pool, store, search, evaluation and runners as images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_world import CLASSES, CODE, POOL, numbered, recipe, write_world
from committee import Cascade, Pool, Runner, evaluate, search
from committee.cli import main
from committee.data.clips import read_clip
from committee.data.open import open_data
from committee.errors import CascadeError, ExportError, ModelError, NotFiniteError, PoolFileError
from committee.export.model_files import onnx_specs
from committee.export.torch_module import as_module
from committee.models.base import outputs_of
from committee.models.inputs import ArrayClip, inputs_of
from committee.models.load import load_models
from committee.models.pool_file import read_pool_file
from committee.pool.evaluate import stored_decisions
from committee.predict import predict
from committee.run.offline import run_offline
from committee.run.verify import OfflineWay, OnlineWay, _stored_way, verify
from committee.spec.model import ModelSpec, task_of
from committee.spec.preprocessing import Preprocessing
from committee.spec.task import IMAGE_CLASSIFICATION, VIDEO_CLASSIFICATION
from committee.spec.views import Views
from committee.testing import check_source

pytest.importorskip("av", reason="clips are decoded by PyAV")

BLOCKS = ("blind.1of2", "blind.2of2")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool file with its code, clips, and predictions of all of them in ``store/val``."""
    folder = tmp_path_factory.mktemp("clips")
    pool = read_pool_file(write_world(folder))
    dataset = open_data(folder / "data", "val", pool.classes, models=pool.models)
    predict(pool, dataset, folder / "store", allow_code=code(folder))
    return folder


def code(folder: Path) -> list[str]:
    return [str(folder / "clip_models.py")]


def test_a_pool_of_clips_says_what_it_is(world: Path) -> None:
    pool = read_pool_file(world / "pool.toml")
    assert pool.task is VIDEO_CLASSIFICATION is task_of(pool.models)
    assert task_of([]) is IMAGE_CLASSIFICATION
    assert [spec.name for spec in pool.models] == [*BLOCKS, "sighted"]
    assert [spec.family for spec in pool.models] == ["views of blind"] * 2 + [""]
    assert pool.only(["blind"]).models == pool.models[:2]
    # Given costs are those of all views; a block has its share.
    assert [spec.costs[0].value for spec in pool.models] == [2, 2, 40]
    assert pool.models[0].costs[0].conditions == "one clip of 4 x 8 x 8, 2 views"
    stored = ModelSpec.from_json("a", json.loads(json.dumps(pool.models[1].to_json())), "here")
    assert stored.preprocessing == pool.models[1].preprocessing


def test_outputs_are_means_over_the_views_that_were_decoded(world: Path) -> None:
    """Against views cut out by hand, of frames decoded by hand."""
    import av

    pool = Pool.load(world / "store" / "val")
    namespace: dict[str, Any] = {}
    exec(CODE, namespace)
    model = namespace["sighted"]()
    for row, name in enumerate(pool.samples.ids[:6]):
        with av.open(str(world / "data" / name)) as file:
            frames = [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]
        from PIL import Image

        small = [
            np.asarray(Image.fromarray(f).resize((12, 8), Image.Resampling.BICUBIC)) for f in frames
        ]
        views = [
            np.stack([small[begin + 2 * k][:, 2:10] for k in range(4)]) for begin in (0, 2, 3, 5)
        ]
        inputs = (np.stack(views)[:, None] / 255 - 0.5) / 0.5
        expected = model(inputs.astype(np.float32)).mean(0)
        np.testing.assert_allclose(pool.outputs["sighted"].values[row], expected, atol=1e-5)


def test_blocks_in_a_cascade_are_the_model_on_more_views(world: Path, tmp_path: Path) -> None:
    (tmp_path / "clip_models.py").write_text(CODE)
    whole = POOL.replace("view_blocks = 2", "")
    (tmp_path / "pool.toml").write_text(whole)
    pool = read_pool_file(tmp_path / "pool.toml")
    dataset = open_data(world / "data", "val", pool.classes, models=pool.models)
    alone = Pool.load(predict(pool, dataset, tmp_path / "store", allow_code=code(tmp_path)))
    blocks = Pool.load(world / "store" / "val")
    together = sum(blocks.outputs[name].values.astype(np.float64) for name in BLOCKS) / 2
    np.testing.assert_allclose(together, alone.outputs["blind"].values, atol=1e-6)
    never_early = Cascade.of(BLOCKS, thresholds=[np.inf])
    ours, theirs = evaluate(never_early, blocks), evaluate(Cascade.of(["blind"]), alone)
    assert (ours.accuracy, ours.average_cost) == (theirs.accuracy, theirs.average_cost)


def test_search_takes_blocks_in_their_order(world: Path) -> None:
    front = search(Pool.load(world / "store" / "val"), max_models=3)
    for each in front:
        used = [name for name in each.cascade.names if name in BLOCKS]
        assert used == list(BLOCKS)[: len(used)]
    best = max(each.evaluation.accuracy for each in front)
    assert best > evaluate(Cascade.of([BLOCKS[0]]), front.pool).accuracy


@pytest.mark.parametrize("combine", ["mean_logits", "last"])
def test_every_driver_decides_alike(world: Path, combine: str) -> None:
    pool = Pool.load(world / "store" / "val")
    names = (*BLOCKS, "sighted")
    scores = np.sort(stored_decisions(Cascade.of([BLOCKS[0]]), pool).score)
    cascade = Cascade.of(names, thresholds=[float(scores[16]), float(scores[20])], combine=combine)
    cascade = replace(cascade, models={name: pool.specs[name] for name in names}, classes=CLASSES)
    runner = Runner(cascade, allow_code=code(world))
    assert runner.task is VIDEO_CLASSIFICATION
    dataset = open_data(world / "data", "run", CLASSES, models=list(runner.specs.values()))
    promised = stored_decisions(cascade, pool)
    assert 0 < promised.stage.mean() < 2
    for batch_size in (None, 5):
        parts = list(run_offline(runner, dataset, batch_size))
        for field in ("predicted", "stage"):
            made = np.concatenate([getattr(part, field) for _, part in parts])
            np.testing.assert_array_equal(made, getattr(promised, field))
    ways = {
        "stored": _stored_way(cascade, pool, dataset),
        "offline": OfflineWay(runner, 4),
        "online": OnlineWay(runner),
    }
    assert [len(each.flips) for each in verify(cascade, ways, dataset, 4)] == [0, 0]


def test_blocks_are_one_model_in_memory_and_run_only_on_their_views(world: Path) -> None:
    pool = read_pool_file(world / "pool.toml")
    (first, _), (second, _), (other, _) = load_models(pool.models, code(world))
    assert first is second
    assert first is not other
    clip = ArrayClip(numbered(12)[..., 0])
    spec = pool.models[0]
    assert outputs_of(first, spec, inputs_of([clip, clip], spec.preprocessing)).values.shape == (
        2,
        2,
    )
    assert first._function.__globals__["seen"][-1] == ("blind", 4)  # type: ignore[attr-defined]


def test_a_clip_online(world: Path) -> None:
    pool = Pool.load(world / "store" / "val")
    cascade = replace(Cascade.of(["sighted"]), models=pool.specs, classes=CLASSES)
    runner = Runner(cascade, allow_code=code(world))
    light = np.linspace(10, 200, 12).astype(np.uint8)
    frames = np.broadcast_to(light[:, None, None], (12, 16, 24))
    rising, falling = runner(frames), runner(ArrayClip(frames[::-1]))
    assert (rising.class_name, falling.class_name) == ("rise", "fall")
    name = pool.samples.ids[3]
    (spec,) = runner.specs.values()
    decision = runner(read_clip(world / "data" / name, [spec.preprocessing]))
    assert decision.class_index == stored_decisions(Cascade.of(["sighted"]), pool).predicted[3]
    assert decision.cost == 40


def test_nan_of_one_view_is_told_of_its_clip(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    return lambda v: np.where(v.mean((1, 2, 3, 4))[:, None] > 0.9, np.nan, [[0., 1]])\n"
    )
    spec = ModelSpec("m", f"python:{tmp_path / 'm.py'}:make", recipe())
    ((model, known),) = load_models([spec], [str(tmp_path / "m.py")])
    dark, light = (ArrayClip(np.full((9, 8, 8), level, np.uint8)) for level in (10, 250))
    with pytest.raises(NotFiniteError, match=r"model 'm': NaN or infinite outputs.*sample 7"):
        outputs_of(model, known, inputs_of([dark, dark, light], spec.preprocessing), first=5)


def test_cascades_of_clips_are_not_exported(world: Path) -> None:
    pool = Pool.load(world / "store" / "val")
    cascade = replace(Cascade.of(["sighted"]), models=pool.specs, classes=CLASSES)
    with pytest.raises(ExportError, match="model 'sighted': takes clips"):
        as_module(cascade)
    with pytest.raises(ExportError, match="model 'sighted': takes clips"):
        onnx_specs(cascade)


# --- The command line -----------------------------------------------------------------------------


def test_from_files_to_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: predict, search, evaluate, run, profile; a broken clip is told everywhere."""
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path, clips=32)
    (tmp_path / "data" / "rise" / "99.mp4").write_text("no clip")

    def told(words: str) -> Any:
        assert main(f"{words} --json".split()) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    allowed = "--allow-code clip_models.py"
    said = f"predict pool.toml --data data --split val --fraction 0.5 {allowed}"
    assert main(said.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "rise/99.mp4 (Invalid data found when processing input)" in error
    val = told(f"{said} --skip-broken")
    test = told(f"predict pool.toml --data data --split test --skip-broken {allowed}")
    assert val["models"] == [*BLOCKS, "sighted"]
    assert val["samples"] + test["samples"] == 32
    assert len(val["broken"]) + len(test["broken"]) == 1
    told("search predictions/val --max-cost 30 --max-models 3 --out c.json")
    capsys.readouterr()
    judged = told("evaluate c.json predictions --split test")
    assert judged["samples"] == test["samples"]
    ran = told(f"run c.json --data data --out r.csv {allowed}")
    assert ran["samples"] == 32
    assert [each["id"] for each in ran["broken"]] == ["rise/99.mp4"]
    assert ran["average_cost"] <= 30 * 1.5
    profiled = told(f"profile pool.toml --calls 5 --seconds 0.2 {allowed}")
    assert profiled["sighted"]["throughput"]["batch_size"] == VIDEO_CLASSIFICATION.batch_size
    assert "clip of" not in profiled["sighted"]["latency_ms"]["conditions"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("view_blocks = 2", "view_blocks = 3"), "do not divide into 3 blocks of one size"),
        (("view_blocks = 2", "view_blocks = [1, 3]"), "view_blocks must be a whole number"),
        (("view_blocks = 2", 'view_blocks = 2\nfamily = "f"'), "leave family out"),
        (("frames = 4", ""), "views: frames is missing"),
        (("frames = 4", "frame = 4"), "no field 'frame'"),
        (('task = "video-classification"', ""), "has views, which are of clips"),
        (("view_blocks = 2", 'kind = "decisions"'), "decisions have no mean over views"),
        (("view_blocks = 2", "views = 3"), "views must be an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_pool_files_are_told_in_a_line(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    (tmp_path / "pool.toml").write_text(POOL.replace(*change))
    with pytest.raises(PoolFileError, match=told.replace("[", r"\[")) as caught:
        read_pool_file(tmp_path / "pool.toml")
    assert "\n" not in str(caught.value)


def test_images_and_clips_do_not_mix(tmp_path: Path) -> None:
    clips = ModelSpec("a", "python:m:f", recipe())
    images = ModelSpec("b", "python:m:f", Preprocessing((8, 8)))
    with pytest.raises(CascadeError, match="a takes clips, b takes images"):
        open_data(tmp_path, models=[clips, images])


# --- Sources --------------------------------------------------------------------------------------


def one_model(folder: Path, lines: str) -> ModelSpec:
    (folder / "pool.toml").write_text(
        f'task = "video-classification"\n[[model]]\nname = "m"\n{lines}\n'
    )
    return read_pool_file(folder / "pool.toml").models[0]


def _torchvision_here() -> None:
    pytest.importorskip("torchvision", reason="torchvision brings these models")


@pytest.mark.parametrize(
    ("name", "size", "views"),
    [
        ("r3d_18", (112, 112), {"frames": 16, "rate": 15.0, "temporal": 5, "resized": (128, 171)}),
        ("s3d", (224, 224), {"frames": 128, "rate": 15.0, "temporal": 1, "resized": (256, 256)}),
        ("mvit_v2_s", (224, 224), {"frames": 16, "rate": 7.5, "temporal": 5, "resized": ()}),
        ("swin3d_t", (224, 224), {"frames": 32, "rate": 15.0, "temporal": 12, "resized": ()}),
    ],
)
def test_torchvision_states_how_its_video_models_were_tested(
    tmp_path: Path, name: str, size: tuple[int, int], views: dict[str, Any]
) -> None:
    _torchvision_here()
    spec = one_model(tmp_path, f'source = "torchvision:{name}"\nweights = "random"')
    found = spec.preprocessing
    assert found.size == size
    assert found.views == Views(**views, spatial=1, antialias=False)
    assert found.crop == (1.0 if views["resized"] else 224 / 256)


def test_torchvision_prepares_as_its_own_transform_does(tmp_path: Path) -> None:
    _torchvision_here()
    import torch
    from torchvision.models.video import R3D_18_Weights

    spec = one_model(
        tmp_path,
        'source = "torchvision:r3d_18"\nweights = "random"\nviews = {temporal = 1, rate = 0}',
    )
    frames = np.random.default_rng(0).integers(0, 256, (16, 144, 192, 3), np.uint8)
    (ours,) = inputs_of([ArrayClip(frames)], spec.preprocessing).parts()  # type: ignore[union-attr]
    transform = R3D_18_Weights.KINETICS400_V1.transforms()
    theirs = transform(torch.from_numpy(frames).permute(0, 3, 1, 2)).numpy()
    # A level of 255, divided by the deviation.
    assert np.abs(ours[0] - theirs).max() <= 1.01 / 255 / 0.21


@pytest.mark.parametrize("source", ["torchvision:mc3_18", "pytorchvideo:x3d_xs"])
def test_video_sources_keep_the_contract(tmp_path: Path, source: str) -> None:
    _torchvision_here()
    if source.startswith("pytorchvideo"):
        pytest.importorskip("pytorchvideo.models.x3d", reason="PyTorchVideo brings X3D")
    lines = f'source = "{source}"\nweights = "random"\nresolution = 64'
    small = "views = {frames = 4, temporal = 2, spatial = 1, resized = []}"
    spec = one_model(tmp_path, f"{lines}\n{small}")
    check_source(spec)
    ((_, known),) = load_models([spec])
    (one, _), (two, _) = load_models([spec, replace(spec, name="n")])
    assert one is two
    assert known.costs[0].conditions == "one clip of 4 x 64 x 64, 2 views"


def test_x3d_weighs_what_the_paper_says() -> None:
    """Table 6 of Wang et al.: 6.2 and 24.8 G multiply-adds x 30."""
    _torchvision_here()
    pytest.importorskip("pytorchvideo.models.x3d", reason="PyTorchVideo brings X3D")
    import torch

    from committee.models.sources.pytorchvideo import PytorchvideoSource
    from committee.profile.macs import torch_macs

    for name, paper in (("x3d_m", 6.2), ("x3d_l", 24.8)):
        asked = Preprocessing.from_json(PytorchvideoSource().published(name, None))
        spec = ModelSpec("m", f"pytorchvideo:{name}", asked, weights="random")
        with torch.device("meta"):
            counted = torch_macs(PytorchvideoSource().module(spec), (1, *asked.shape))
        assert round(counted / 1e9, 1) == paper
        assert asked.inputs == 30


def test_weights_that_nobody_publishes_are_told(tmp_path: Path) -> None:
    _torchvision_here()
    spec = one_model(tmp_path, 'source = "pytorchvideo:x3d_xl"')
    with pytest.raises(ModelError, match="publishes no weights of x3d_xl"):
        load_models([spec])


def test_onnx_graphs_of_clips(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch writes the graph")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the graph")
    pytest.importorskip("onnxscript", reason="onnxscript writes the graph")
    from committee.export.pool import export_pool

    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3, padding=1), torch.nn.ReLU(),\n"
        "        torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))\n"
    )
    (tmp_path / "pool.toml").write_text(
        POOL.partition("[[model]]")[0]
        + '[[model]]\nname = "net"\nsource = "python:net.py:make"\nview_blocks = 2\n'
    )
    allowed = [str(tmp_path / "net.py")]
    pool = read_pool_file(tmp_path / "pool.toml")
    graphs = read_pool_file(export_pool(pool, tmp_path / "graphs", allowed))
    assert graphs.task is VIDEO_CLASSIFICATION
    assert [spec.preprocessing for spec in graphs.models] == [s.preprocessing for s in pool.models]
    clip = ArrayClip(numbered(12))
    for (module, spec), (graph, _) in zip(
        load_models(pool.models, allowed), load_models(graphs.models), strict=True
    ):
        ours, theirs = (
            outputs_of(model, spec, inputs_of([clip], spec.preprocessing)).values
            for model in (module, graph)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        # 27 weights of one channel for three, at 4 x 8 x 8 places, and six of the last layer.
        assert graph.macs == module.macs == 27 * 3 * 4 * 8 * 8 + 6
    other = replace(graphs.models[0], preprocessing=Preprocessing((8, 8), 1, mean=(0,), std=(1,)))
    with pytest.raises(ModelError, match=r"the graph takes .* not \(N, 1, 8, 8\)"):
        load_models([other])
