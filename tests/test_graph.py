"""One ONNX file that is the whole cascade: the runner's decisions, and stages that are skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Runner
from committee.arrays import Array
from committee.embedded import FOLDER
from committee.errors import CommitteeError, ExportError, ModelError, NotFiniteError
from committee.export.graph import write_graph
from committee.export.nodes import Nodes
from committee.export.stages import _shrunk
from committee.spec.preprocessing import Preprocessing
from export_world import (
    CASCADES,
    coloured,
    embedded,
    flips,
    needs_node,
    node_modules,
    some_images,
)

onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
import onnxruntime  # noqa: E402  # after the line that skips
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

# test_export_rules.py has rules of every kind in both forms.
FORMS = [
    *(("any", kind) for kind in CASCADES),
    *(("one", kind) for kind in ("mean_logits", "last", "platt", "several in a stage")),
    *(("one", kind) for kind in ("never in the middle", "always in the middle")),
]


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_test_images_are_decided_as_by_the_runner(tmp_path: Path, kind: str, form: Any) -> None:
    # Many images of the commonest rule, some of the others.
    images = some_images(400 if kind == "mean_logits" else 100)
    cascade = embedded(CASCADES[kind])
    path = write_graph(cascade, tmp_path / "cascade.onnx", form=form)
    onnx.checker.check_model(str(path), full_check=True)
    runner, graph = Runner(cascade, threads=1), Runner(path, threads=1)
    for batch_size, some in ((64, images), (7, images[:50])) if form == "any" else ((1, images),):
        expected = runner.decide(some, batch_size)
        found = graph.decide(some, batch_size)
        # One flip would be rounding at a threshold; there is none here.
        assert flips(found, expected) == 0
        np.testing.assert_allclose(found.score, expected.score, rtol=1e-4, atol=1e-6)


def test_float32_decides_alike_where_no_score_is_near_a_threshold(tmp_path: Path) -> None:
    images = some_images(100)
    for number, cascade in enumerate(map(embedded, CASCADES.values())):
        path = write_graph(cascade, tmp_path / f"{number}.onnx", precision="float32")
        outputs = onnxruntime.InferenceSession(path).get_outputs()
        assert {each.type for each in outputs} == {"tensor(float)", "tensor(int64)"}
        found = Runner(path, threads=1).decide(images)
        expected = Runner(cascade, threads=1).decide(images)
        assert flips(found, expected) == 0
        np.testing.assert_allclose(found.score, expected.score, rtol=1e-4, atol=1e-5)


def test_a_plain_session_answers_with_all_four_outputs(tmp_path: Path) -> None:
    images = some_images(200)
    for kind, name in (("mean_logits", "logits"), ("mean_probabilities", "probabilities")):
        cascade = embedded(CASCADES[kind])
        session = onnxruntime.InferenceSession(write_graph(cascade, tmp_path / f"{kind}.onnx"))
        outputs = [each.name for each in session.get_outputs()]
        assert outputs == [name, "class", "confidence", "stage"]
        values, predicted, score, stage = session.run(None, {"image": images[..., None]})
        assert values.shape == (200, 10)
        np.testing.assert_array_equal(values.argmax(1), predicted)
        if name == "probabilities":
            np.testing.assert_allclose(values.sum(1), 1)
            np.testing.assert_allclose(values.max(1), score)
        assert set(stage) == {0, 1, 2}


def profiled(path: Path, images: Array, tmp_path: Path) -> list[tuple[str, str]]:
    """Names and operators of the nodes that a session ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(path, options)
    session.run(None, {"image": images})
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [each for each in events if each["cat"] == "Node" and "op_name" in each["args"]]
    return [(each["name"], each["args"]["op_name"]) for each in kernels]


@pytest.mark.parametrize("form", ["one", "any"])
def test_later_stages_do_not_run_for_who_has_left(tmp_path: Path, form: Any) -> None:
    cascade = embedded(CASCADES["mean_logits"])
    path = write_graph(cascade, tmp_path / "cascade.onnx", form=form)
    images = some_images(500)
    stages = Runner(cascade).decide(images).stage
    for stage in range(3):
        one = images[np.flatnonzero(stages == stage)[:1]][..., None]
        ran = profiled(path, one, tmp_path)
        for later, name in enumerate(("nano", "tiny", "large")):
            found = any(node.startswith(f"{name}/") for node, _ in ran)
            assert found == (later <= stage), (stage, name)


@pytest.mark.parametrize("form", ["one", "any"])
def test_leaving_early_takes_less_time(tmp_path: Path, form: Any) -> None:
    # `large` has 100 times the multiply-adds of `nano`.
    cascade = embedded(Cascade.of(["nano", "large"], [0.9]))
    session = onnxruntime.InferenceSession(write_graph(cascade, tmp_path / "c.onnx", form=form))
    images = some_images(500)
    stages = Runner(cascade).decide(images).stage
    seconds: dict[int, list[float]] = {0: [], 1: []}
    images = {stage: images[np.flatnonzero(stages == stage)[:1]][..., None] for stage in (0, 1)}
    for _ in range(50):
        for stage, image in images.items():
            started = time.perf_counter()
            session.run(None, {"image": image})
            seconds[stage].append(time.perf_counter() - started)
    # The quickest of each: a machine that does something else besides only makes calls longer.
    assert min(seconds[0]) < min(seconds[1]) / 3


def test_only_the_undecided_go_on(tmp_path: Path) -> None:
    """A second model that tells how many rows it saw, as the sum of its logits."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x", "all"], ["mean"], keepdims=0),
            helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
            helper.make_node("Cast", ["rows"], ["count"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["mean", "one"], ["m"]),
            helper.make_node("Mul", ["m", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "count"], ["told"]),
            helper.make_node("Concat", ["rows", "ten"], ["shape"], axis=0),
            helper.make_node("Expand", ["told", "shape"], ["logits"]),
        ],
        "counts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(np.array([0, 1, 2, 3]), "all"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([10]), "ten"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "counts.onnx")
    cascade = embedded(Cascade.of(["nano", "small"], [0.9], combine="last"))
    path = write_graph(cascade, tmp_path / "c.onnx", onnx={"small": tmp_path / "counts.onnx"})
    session = onnxruntime.InferenceSession(path)
    values, _, _, stage = session.run(None, {"image": some_images(100)[..., None]})
    assert 0 < stage.sum() < 100
    assert set(values[stage == 1].ravel()) == {stage.sum()}


def resizable(tmp_path: Path, name: str = "tiny") -> Path:
    """A network of the pool that takes images of any size."""
    model = onnx.load(FOLDER / f"{name}.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / f"{name}-any.onnx")
    return tmp_path / f"{name}-any.onnx"


def at_sizes(tmp_path: Path, sizes: dict[str, int], interpolation: str = "bicubic") -> Cascade:
    """A self-cascade: one network at several sizes."""
    path = resizable(tmp_path)
    cascade = embedded(Cascade.of(["tiny"]))
    tiny = cascade.models["tiny"]
    recipe = replace(tiny.preprocessing, interpolation=interpolation)
    models = {
        name: replace(
            tiny,
            name=name,
            source=f"onnx:{path}",
            preprocessing=replace(recipe, size=(side, side)),
        )
        for name, side in sizes.items()
    }
    return replace(
        Cascade.of(list(sizes), [0.85] * (len(sizes) - 1)), models=models, classes=cascade.classes
    )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("form", ["one", "any"])
def test_self_cascades_resize_inside(tmp_path: Path, interpolation: str, form: Any) -> None:
    cascade = at_sizes(tmp_path, {"at20": 20, "at24": 24, "at28": 28}, interpolation)
    path = write_graph(cascade, tmp_path / "c.onnx", form=form)
    images = some_images(400)
    session = onnxruntime.InferenceSession(path)
    assert [each.name for each in session.get_inputs()] == ["image"]
    found = Runner(path, threads=1).decide(images)
    expected = Runner(cascade, threads=1).decide(images)
    assert min(np.bincount(expected.stage, minlength=3)) > 20
    # Pillow computes in whole numbers, the graph in float32: a byte differs by one here and there.
    assert flips(found, expected) <= (0 if interpolation == "nearest" else 4)


@pytest.mark.parametrize("form", ["one", "any"])
def test_an_input_for_each_size_decides_as_the_runner(tmp_path: Path, form: Any) -> None:
    cascade = at_sizes(tmp_path, {"at20": 20, "at28": 28})
    path = write_graph(cascade, tmp_path / "c.onnx", form=form, resize_inside=False)
    inputs = [each.name for each in onnxruntime.InferenceSession(path).get_inputs()]
    assert inputs == ["image_20x20", "image_28x28"]
    images = some_images(400)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) == 0


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_channels_come_in_the_order_of_the_input(tmp_path: Path, order: str) -> None:
    cascade, images = coloured(order, tmp_path)
    path = write_graph(cascade, tmp_path / "c.onnx")
    found, expected = Runner(path).decide(images), Runner(cascade).decide(images)
    assert flips(found, expected) == 0
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_a_graph_does_not_resize_with_lanczos(tmp_path: Path) -> None:
    cascade = at_sizes(tmp_path, {"at20": 20, "at28": 28}, "lanczos")
    with pytest.raises(ExportError, match="ONNX has no lanczos"):
        write_graph(cascade, tmp_path / "c.onnx")
    path = write_graph(cascade, tmp_path / "c.onnx", resize_inside=False)
    images = some_images(300)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) == 0


def test_large_weights_go_to_a_file_beside(tmp_path: Path) -> None:
    cascade = embedded(CASCADES["mean_logits"])
    path = write_graph(cascade, tmp_path / "c.onnx", largest_file=100_000)
    assert path.stat().st_size < 200_000 < (tmp_path / "c.onnx.data").stat().st_size
    images = some_images(300)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) == 0
    assert {each.name for each in tmp_path.iterdir()} == {"c.onnx", "c.onnx.data"}


@pytest.mark.parametrize("largest_file", [0, 10**9])
def test_a_self_cascade_has_its_weights_once(tmp_path: Path, largest_file: int) -> None:
    cascade = at_sizes(tmp_path, {"at20": 20, "at24": 24, "at28": 28})
    path = write_graph(cascade, tmp_path / "c.onnx", largest_file=largest_file)
    onnx.checker.check_model(str(path), full_check=True)
    beside = tmp_path / "c.onnx.data"
    assert beside.exists() == (largest_file == 0)
    size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    weights = onnx.load(FOLDER / "tiny.onnx").graph.initializer
    alone = sum(len(tensor.raw_data) for tensor in weights)
    assert alone > 200_000
    # Nodes and metadata beside one set of weights; a second set would not fit.
    assert alone < size < alone + 100_000
    images = some_images(300)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) <= 3


@pytest.mark.parametrize("form", ["one", "any"])
def test_a_self_cascade_skips_its_larger_sizes(tmp_path: Path, form: Any) -> None:
    cascade = at_sizes(tmp_path, {"at20": 20, "at24": 24, "at28": 28})
    path = write_graph(cascade, tmp_path / "c.onnx", form=form)
    images = some_images(500)
    stages = Runner(path).decide(images).stage
    counts = []
    for stage in range(3):
        one = images[np.flatnonzero(stages == stage)[:1]][..., None]
        counts.append(sum("Conv" in kind for _, kind in profiled(path, one, tmp_path)))
    assert counts[0] > 0
    assert counts == [counts[0], 2 * counts[0], 3 * counts[0]]


def test_a_network_with_branches_may_be_a_self_cascade(tmp_path: Path) -> None:
    network(tmp_path / "own.onnx")
    cascade = embedded(Cascade.of(["tiny", "nano"], [0.999]))
    softer = replace(cascade.models["nano"].preprocessing, mean=(0.4,))
    source = f"onnx:{tmp_path / 'own.onnx'}"
    models = {
        "tiny": replace(cascade.models["tiny"], source=source),
        "nano": replace(cascade.models["nano"], source=source, preprocessing=softer),
    }
    cascade = replace(cascade, models=models)
    path = write_graph(cascade, tmp_path / "c.onnx", form="one")
    images = some_images(300)
    expected = Runner(cascade).decide(images, 1)
    assert len(set(expected.stage)) == 2
    assert flips(Runner(path).decide(images), expected) == 0


def test_a_file_that_is_cut_off_or_lacks_its_weights_is_refused(tmp_path: Path) -> None:
    cascade = embedded(CASCADES["ensemble"])
    path = write_graph(cascade, tmp_path / "c.onnx", largest_file=0)
    whole = path.read_bytes()
    Runner(path)
    for cut in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="is no ONNX model") as caught:
            Runner(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    (tmp_path / "c.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"c\.onnx") as caught:
        Runner(path)
    assert "\n" not in str(caught.value)


def test_models_of_older_operators_are_lifted(tmp_path: Path) -> None:
    conv = numpy_helper.from_array(np.ones((10, 28 * 28), np.float32) * 0.01, "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["z"], transB=1),
            helper.make_node("ReduceMax", ["z"], ["top"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["z", "top"], ["logits"]),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28]),
         helper.make_tensor_value_info("weights", TensorProto.FLOAT, [10, 784])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [conv],
    )  # fmt: skip
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(old, tmp_path / "old.onnx")
    cascade = embedded(Cascade.of(["nano", "small"], [0.9]))
    models = {**cascade.models}
    models["small"] = replace(models["small"], source=f"onnx:{tmp_path / 'old.onnx'}")
    cascade = replace(cascade, models=models)
    path = write_graph(cascade, tmp_path / "c.onnx")
    images = some_images(300)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) == 0


def network(path: Path) -> None:
    """Write a network with branches of its own."""

    def branch(name: str, factor: float) -> Any:
        return helper.make_graph(
            [helper.make_node("Mul", ["z", f"factor {name}"], [f"out {name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"out {name}", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array(factor, np.float32), f"factor {name}")],
        )

    weights = np.random.default_rng(0).normal(size=(10, 784)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["z"], transB=1),
            helper.make_node("ReduceMean", ["z"], ["mean"], keepdims=0),
            helper.make_node("Greater", ["mean", "zero"], ["positive"]),
            helper.make_node(
                "If", ["positive"], ["logits"],
                then_branch=branch("more", 2), else_branch=branch("less", 0.5),
            ),
        ],
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "weights"),
         numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )  # fmt: skip
    own = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(own, path)


def test_names_inside_branches_of_a_model_are_made_unique_too(tmp_path: Path) -> None:
    network(tmp_path / "own.onnx")
    network(tmp_path / "copy.onnx")
    cascade = embedded(Cascade.of(["tiny", "nano", "small"], [0.999, 0.999]))
    models = {**cascade.models}
    for name, file in (("tiny", "own"), ("nano", "copy")):
        models[name] = replace(models[name], source=f"onnx:{tmp_path / file}.onnx")
    cascade = replace(cascade, models=models)
    path = write_graph(cascade, tmp_path / "c.onnx", form="one")
    images = some_images(300)
    expected = Runner(cascade).decide(images, 1)
    assert flips(Runner(path).decide(images), expected) == 0


def test_nan_is_seen_and_the_message_says_where(tmp_path: Path) -> None:
    broken = onnx.load(FOLDER / "nano.onnx")
    last = broken.graph.node[-1]
    last.output[0] = "before"
    broken.graph.node.append(helper.make_node("Log", ["before"], ["logits"], name="log"))
    onnx.save(broken, tmp_path / "broken.onnx")
    for combine in ("mean_logits", "last"):
        cascade = embedded(Cascade.of(["nano", "tiny"], [0.9], combine=combine))
        out, files = tmp_path / f"{combine}.onnx", {"nano": tmp_path / "broken.onnx"}
        path = write_graph(cascade, out, onnx=files)
        with pytest.raises(NotFiniteError, match=rf"{combine}\.onnx: NaN or infinite outputs"):
            Runner(path).decide(some_images(20))


def test_the_runner_opens_it(tmp_path: Path) -> None:
    cascade = embedded(CASCADES["mean_logits"])
    runner = Runner(write_graph(cascade, tmp_path / "cascade.onnx"), threads=1)
    own = Runner(cascade, threads=1)
    image = some_images(1)[0]
    told, expected = runner(image), own(image)
    assert told.confidence == pytest.approx(expected.confidence)
    for name in ("class_index", "class_name", "stage", "cost"):
        assert getattr(told, name) == getattr(expected, name)
    assert runner.cascade == cascade
    assert len(runner.decide(some_images(0)).stage) == 0
    assert str(FOLDER) not in (tmp_path / "cascade.onnx").read_bytes().decode("latin-1")


def fixed_batch(tmp_path: Path) -> Path:
    model = onnx.load(FOLDER / "nano.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "fixed.onnx")
    return tmp_path / "fixed.onnx"


def test_refusals_are_one_line(tmp_path: Path) -> None:
    chain = embedded(CASCADES["ensemble"])
    mixed = {**chain.models, "nano": replace(chain.models["nano"], kind="probabilities")}
    sizes = at_sizes(tmp_path, {"at20": 20, "at28": 28})
    cropped = {**sizes.models}
    recipe = replace(cropped["at20"].preprocessing, crop=0.5)
    cropped["at20"] = replace(cropped["at20"], preprocessing=recipe)
    (tmp_path / "text.onnx").write_text("this is no model")
    fixed = fixed_batch(tmp_path)
    cases: tuple[tuple[Cascade, dict[str, Any], str], ...] = (
        (chain, {"onnx": {"nano": tmp_path / "text.onnx"}}, "is no ONNX model"),
        (chain, {"onnx": {"nano": fixed}}, "takes 1 image"),
        (chain, {"form": "two"}, "form 'two' is unknown; write 'any'"),
        (replace(chain, classes=("a", "b")), {}, "has 10 classes where 2 are expected"),
        (chain, {"precision": "float16"}, "combines and scores in float64 or float32"),
        (replace(chain, models=mixed), {}, "mean_logits needs logits"),
        (replace(chain, models=mixed, combine="last"), {}, "'last' would give either"),
        (replace(sizes, models=cropped), {}, "--no-resize-inside"),
    )
    for cascade, options, told in cases:
        with pytest.raises(CommitteeError, match=told) as caught:
            write_graph(cascade, tmp_path / "out.onnx", **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out.onnx").exists()
    assert Runner(write_graph(chain, tmp_path / "o.onnx", form="one", onnx={"nano": fixed}))
    with pytest.raises(ExportError, match="not a cascade"):
        Runner(FOLDER / "nano.onnx")
    with pytest.raises(ModelError, match="no such file"):
        Runner(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="is no ONNX model"):
        Runner(tmp_path / "text.onnx")


@pytest.mark.parametrize(
    ("interpolation", "share"), [("bicubic", 0.001), ("bilinear", 0.01), ("nearest", 0)]
)
@pytest.mark.parametrize("size", [(48, 60), (33, 40)])
def test_resized_bytes_are_those_of_pillow(
    interpolation: str, share: float, size: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 80, 3), np.uint8)
    large = Preprocessing((64, 80), interpolation=interpolation)
    small = replace(large, size=size)
    nodes = Nodes("resize/")
    values = nodes.add("Cast", nodes.add("Transpose", "image", perm=[0, 3, 1, 2]), to=1)
    result = _shrunk(nodes, values, large, small)
    graph = nodes.graph(
        "resize",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 64, 80, 3])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"image": images})
    # Proportions differ by a rounded pixel at (33, 40); the whole image is shown all the same.
    expected = np.stack([np.asarray(pillow(image, size, interpolation)) for image in images])
    differ = np.abs(found.transpose(0, 2, 3, 1) - expected)
    assert differ.max() <= 1
    assert (differ > 0).mean() <= share


def pillow(image: Array, size: tuple[int, int], interpolation: str) -> Any:
    method = Image.Resampling[interpolation.upper()]
    return Image.fromarray(image).resize(size[::-1], method)


@needs_node
def test_the_example_in_javascript_decides_as_the_runner_does(tmp_path: Path) -> None:
    path = write_graph(embedded(CASCADES["mean_logits"]), tmp_path / "c.onnx")
    images = some_images(500)
    images.tofile(tmp_path / "images.raw")
    shutil.copy(Path(__file__).parent.parent / "examples" / "cascade.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules())  # type: ignore[arg-type]
    words = ["cascade.mjs", path, "images.raw", "28", "28", "1"]
    done = subprocess.run(
        ["node", *map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    expected = Runner(path).decide(images)
    np.testing.assert_array_equal(rows[:, 0], expected.predicted)
    np.testing.assert_array_equal(rows[:, 2], expected.stage)
    np.testing.assert_allclose(rows[:, 1], expected.score, rtol=1e-5)
    assert len(set(expected.stage)) == 3
