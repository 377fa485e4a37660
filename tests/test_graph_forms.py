"""Graphs in the forms that people have: each answers alike in predict, run and every export."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import committee as cm
from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.errors import CommitteeError, ExportError, ModelError
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.models.base import outputs_of
from committee.models.graph import ports_of
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.pool.samples import Samples
from committee.predict import predict
from committee.rule.cascade import Cascade
from export_world import program_of

onnx = pytest.importorskip("onnx", reason="the graphs of these tests are built with onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

CLASSES = ("red", "green", "blue")
TYPES = {"float32": 1, "float16": 10, "float64": 11, "uint8": 2, "int64": 7}
COUNT = 11


def graph(
    path: Path,
    *,
    sides: tuple[Any, ...] = ("N", 3, 6, 8),
    dtype: str = "float32",
    last: bool = False,
    extra: tuple[str, ...] = (),
    tail: tuple[int, ...] = (),
) -> None:
    """A classifier of 6 x 8 pixels: the mean of each colour, mixed, in a form."""
    floats = TYPES["float32"] if dtype == "uint8" else TYPES[dtype]
    kind = np.dtype("float32" if dtype == "uint8" else dtype)
    weights = np.array([[8, 1, 0], [0, 8, 1], [1, 0, 8]], kind)
    nodes, at = [], "x"
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    if dtype == "uint8":
        constants.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"))
        nodes += [
            helper.make_node("Cast", [at], ["floats"], to=1),
            helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        ]
        at = "scaled"
    if last:
        nodes.append(helper.make_node("Transpose", [at], ["first"], perm=[0, 3, 1, 2]))
        at = "first"
    nodes += [
        helper.make_node("ReduceMean", [at, "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["scores"]),
    ]
    out = "scores"
    if tail:
        constants.append(numpy_helper.from_array(np.array([-1, 3, *tail]), "tail"))
        nodes.append(helper.make_node("Reshape", [out, "tail"], ["long"]))
        out = "long"
    outputs = [helper.make_tensor_value_info(out, floats, [sides[0], 3, *tail])]
    for name in extra:
        if name == "label":
            nodes.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
            outputs.insert(0, helper.make_tensor_value_info("label", 7, [sides[0]]))
        else:
            outputs.insert(0, helper.make_tensor_value_info("means", floats, [sides[0], 3]))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TYPES[dtype], list(sides))],
        outputs,
        constants,
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=9), path)


# What is built, and what the pool file says beside.
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, ""),
    "batch 1": ({"sides": (1, 3, 6, 8)}, ""),
    "batch 4": ({"sides": (4, 3, 6, 8)}, ""),
    "channels last": ({"sides": ("N", 6, 8, 3), "last": True}, ""),
    "channels last, as told": ({"sides": ("N", "a", "b", "c"), "last": True}, 'layout = "NHWC"'),
    "channels last, batch 4": ({"sides": (4, 6, 8, 3), "last": True}, ""),
    "half": ({"dtype": "float16"}, ""),
    "double": ({"dtype": "float64"}, ""),
    "bytes": ({"dtype": "uint8"}, ""),
    "bytes, channels last": ({"dtype": "uint8", "sides": (1, 6, 8, 3), "last": True}, ""),
    "label first": ({"extra": ("label",)}, ""),
    "embedding first": ({"extra": ("means",)}, 'output = "scores"'),
    "long": ({"tail": (1, 1)}, ""),
}


def pool_of(folder: Path, built: dict[str, Any], more: str, recipe: str | None = None) -> Path:
    graph(folder / "a.onnx", **built)
    graph(folder / "plain.onnx")
    recipe = recipe or "{mean = [0, 0, 0], std = [1, 1, 1]}"
    lines = [f"classes = {json.dumps(CLASSES)}", f"preprocessing = {recipe}"]
    for name in ("a", "plain"):
        lines += ["[[model]]", f'name = "{name}"', f'source = "onnx:{name}.onnx"']
        lines += ["resolution = [6, 8]", more if name == "a" else ""]
    path = folder / "pool.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def images() -> Array:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 6, 8, 3), np.uint8)


def stored(pool: Path, store: Path) -> dict[str, Array]:
    samples = Samples.of(np.zeros(COUNT, int), classes=CLASSES, split="val")
    folder = predict(read_pool_file(pool), ArrayDataset(images(), samples), store)
    kept = cm.Pool.load(folder).outputs
    return {name: np.asarray(kept[name].values) for name in ("a", "plain")}


def cascade_of(pool: Path) -> Cascade:
    return read_pool_file(pool).described(Cascade.of(["a", "plain"], [0.9]))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_predicted_and_run_as_the_plain_one(tmp_path: Path, form: str) -> None:
    built, more = FORMS[form]
    pool = pool_of(tmp_path, built, more)
    values = stored(pool, tmp_path / "store")
    apart = 2e-2 if form == "half" else 1e-5
    np.testing.assert_allclose(values["a"], values["plain"], rtol=0, atol=apart)
    assert values["a"].dtype == np.float32
    runner = cm.Runner(cascade_of(pool))
    decisions = runner.decide(images(), batch_size=3)
    assert decisions.predicted.tolist() == values["plain"].argmax(axis=1).tolist()
    online = [runner(each) for each in images()]
    assert [each.class_index for each in online] == decisions.predicted.tolist()
    assert [each.stage for each in online] == decisions.stage.tolist()
    model, known = load_model(read_pool_file(pool).models[0])
    assert model.macs == 9, known  # three colours by three classes, whatever the batch


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_exported_or_refused_but_never_written_wrong(tmp_path: Path, form: str) -> None:
    built, more = FORMS[form]
    pool = pool_of(tmp_path, built, more)
    cascade = cascade_of(pool)
    expected = cm.Runner(cascade).decide(images())
    batch = built.get("sides", ("N",))[0]
    for write, name in (
        (lambda path: write_graph(cascade, path), "any.onnx"),
        (lambda path: write_graph(cascade, path, form="one"), "one.onnx"),
        (lambda path: write_bundle(cascade, path), "bundle"),
    ):
        out = tmp_path / name
        refused = batch == 4 or (batch == 1 and name == "any.onnx")
        if refused:
            with pytest.raises(ExportError, match=r"'a' takes \d image\(s\) at a time"):
                write(out)
            assert not out.exists()
            continue
        write(out)
        again = cm.Runner(out).decide(images())
        assert again.predicted.tolist() == expected.predicted.tolist()
        assert again.stage.tolist() == expected.stage.tolist()
        np.testing.assert_allclose(
            again.score, expected.score, rtol=2e-3 if form == "half" else 1e-6
        )
    if batch != 4:
        program = program_of(tmp_path / "bundle")
        decide = program.Cascade(tmp_path / "bundle")
        told = [decide(Image.fromarray(each)) for each in images()]
        assert [each["class_index"] for each in told] == expected.predicted.tolist()


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "two that fit": (
        {"extra": ("means",)},
        "",
        r"2 outputs: 'means' float32 \(N, 3\), 'scores' float32 \(N, 3\).*output = \"scores\"",
    ),
    "no such output": ({}, 'output = "score"', "no output 'score'. Did you mean 'scores'"),
    "another size": ({"sides": ("N", 3, 6, 9)}, "", r"takes 'x' float32 \(N, 3, 6, 9\), not"),
    "another layout": (
        {},
        'layout = "NHWC"',
        r"takes 'x' float32 \(N, 3, 6, 8\), not \(N, 6, 8, 3",
    ),
    "grey": ({"sides": ("N", 1, 6, 8)}, "preprocessing.channels = 3", r"\(N, 1, 6, 8\), not"),
    "whole numbers": ({"dtype": "int64"}, "", r"takes 'x' int64 .*float32, float16, float64, or u"),
    "bytes that are normalised": (
        {"dtype": "uint8"},
        "preprocessing.mean = [0.5, 0.5, 0.5]",
        r"takes 'x' uint8 .*normalises itself, but mean is \[0\.5",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_fed_is_refused_when_it_is_opened(tmp_path: Path, form: str) -> None:
    built, more, line = REFUSED[form]
    pool = pool_of(tmp_path, built, more)
    # A graph that could not run at all is refused by the engine, before.
    if form == "whole numbers":
        _identity(tmp_path / "a.onnx", TYPES["int64"])
    if form == "grey":
        _ones(tmp_path / "a.onnx", built["sides"])
    with pytest.raises(CommitteeError, match=line) as told:
        load_model(read_pool_file(pool).models[0])
    assert "\n" not in str(told.value)
    assert "'a'" in str(told.value)


def _identity(path: Path, kind: int) -> None:
    sides = ["N", 3, 6, 8]
    made = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, sides)],
        [helper.make_tensor_value_info("y", kind, sides)],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=9), path)


@pytest.mark.parametrize(
    ("sides", "size", "channels"),
    [
        ((1, 3, 6, 8), (6, 8), 3),
        (("N", 6, 8, 3), (6, 8), 3),
        (("N", 1, 6, 8), (6, 8), 1),
        (("N", 3, "H", "W"), None, 3),
    ],
)
def test_what_a_graph_fixes_may_be_left_out(
    tmp_path: Path, sides: tuple[Any, ...], size: tuple[int, int] | None, channels: int
) -> None:
    _ones(tmp_path / "a.onnx", sides)
    path = tmp_path / "pool.toml"
    path.write_text('[[model]]\nname = "a"\nsource = "onnx:a.onnx"\n')
    if size is None:
        with pytest.raises(CommitteeError, match="resolution is missing"):
            read_pool_file(path)
        return
    recipe = read_pool_file(path).models[0].preprocessing
    assert (recipe.size, recipe.channels, len(recipe.mean)) == (size, channels, channels)


def _ones(path: Path, sides: tuple[Any, ...]) -> None:
    made = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, list(sides))],
        [helper.make_tensor_value_info("y", 1, [sides[0], "C"])],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]), path)


def test_declarations_are_read_as_onnx_reads_them(tmp_path: Path) -> None:
    graph(tmp_path / "a.onnx", sides=(2, 3, "H", "W"), extra=("label", "means"))
    inputs, outputs = ports_of(tmp_path / "a.onnx")
    assert [str(port) for port in inputs] == ["'x' float32 (2, 3, H, W)"]
    assert [port.name for port in outputs] == ["means", "label", "scores"]
    assert [port.dtype for port in outputs] == ["float32", "int64", "float32"]
    whole = (tmp_path / "a.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        # Cut off, and with bytes changed: read or refused, and nothing else.
        data = bytearray(whole[: rng.integers(1, len(whole))])
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "b.onnx").write_bytes(data)
        with suppress(ValueError):
            ports_of(tmp_path / "b.onnx")


def test_an_export_that_would_not_load_or_agree_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import committee.export.graph as module

    cascade = cascade_of(pool_of(tmp_path, {}, ""))
    whole = module._model

    def broken(plan: Any) -> Any:
        made = whole(plan)
        made.graph.node[0].op_type = "Nonsense"
        return made

    def other(plan: Any) -> Any:
        made = whole(plan)
        for tensor in made.graph.initializer:
            if tensor.name.endswith("weights"):
                twice = 2 * numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(twice, tensor.name))
        return made

    changes: dict[Callable[[Any], Any], str] = {broken: "does not load", other: "decides otherwise"}
    for change, line in changes.items():
        monkeypatch.setattr(module, "_model", change)
        with pytest.raises(ExportError, match=line):
            write_graph(cascade, tmp_path / "c.onnx")
        assert not list(tmp_path.glob("c.onnx*"))


CODE = """
import collections
import numpy as np

Named = collections.namedtuple("Named", "embedding scores")

class Answer:
    def __init__(self, logits):
        self.logits = logits

def means(batch):
    return batch.mean(axis=(2, 3))

def plain(): return means
def mapping(): return lambda b: {"logits": means(b), "hidden": b}
def attribute(): return lambda b: Answer(means(b))
def rows(): return lambda b: means(b).tolist()
def single(): return lambda b: (means(b),)
def long(): return lambda b: means(b)[:, :, None, None]
def named(): return lambda b: Named(b, means(b))
def pair(): return lambda b: (b, means(b))
def nothing(): return lambda b: None
def texts(): return lambda b: [["a"] * 3 for _ in b]
def objects(): return lambda b: means(b).astype(object)
def ragged(): return lambda b: [[1.0] * (i + 1) for i, _ in enumerate(b)]
def missing(): return lambda b: b.no_such_thing
def one(): return lambda b: means(b)[:, :1]
def several(): return lambda b: {"a": means(b), "b": means(b)}

def spoils():
    def run(batch):
        answer = means(batch)
        batch *= 0
        return answer
    return run
"""


def python_model(folder: Path, factory: str, more: str = "") -> Any:
    (folder / "m.py").write_text(CODE)
    path = folder / f"{factory}.toml"
    path.write_text(
        f'[[model]]\nname = "a"\nsource = "python:m.py:{factory}"\nresolution = 4\n{more}\n'
    )
    return load_model(read_pool_file(path).models[0], [str(folder / "m.py")])


BATCH = np.random.default_rng(1).standard_normal((5, 3, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("factory", "more"),
    [
        ("plain", ""),
        ("mapping", ""),
        ("attribute", ""),
        ("rows", ""),
        ("single", ""),
        ("long", ""),
        ("spoils", ""),
        ("named", 'output = "scores"'),
        ("pair", 'output = "1"'),
        ("several", 'output = "b"'),
    ],
)
def test_an_answer_of_any_form_is_read(tmp_path: Path, factory: str, more: str) -> None:
    batch = BATCH.copy()
    values = outputs_of(*python_model(tmp_path, factory, more), batch).values
    np.testing.assert_allclose(values, BATCH.mean(axis=(2, 3)), rtol=1e-6)
    assert batch.tobytes() == BATCH.tobytes()


@pytest.mark.parametrize(
    ("factory", "more", "line"),
    [
        ("pair", "", r"answers with 2 outputs: '0 float32 \(5, 3, 4, 4\)', '1 float32 \(5, 3\)'"),
        ("several", "", r"2 outputs: .*as in output = \"a\""),
        ("pair", 'output = "2"', "answers with no output '2'"),
        ("plain", 'output = "0"', "answers with one output, not with several"),
        ("nothing", "", "answers with nothing"),
        ("texts", "", "no real numbers"),
        ("objects", "", r"answers with object \(5, 3\), which are no real numbers"),
        ("ragged", "", "rows of different lengths"),
        ("missing", "", "AttributeError: .*no_such_thing"),
        ("one", "", "gives one output a sample, which is no choice between classes"),
    ],
)
def test_an_answer_that_cannot_be_read_is_told_with_the_model(
    tmp_path: Path, factory: str, more: str, line: str
) -> None:
    model, spec = python_model(tmp_path, factory, more)
    with pytest.raises(ModelError, match=rf"^model 'a': .*{line}") as told:
        outputs_of(model, spec, BATCH)
    assert "\n" not in str(told.value)


def test_a_failure_says_that_one_sample_alone_would_do(tmp_path: Path) -> None:
    # A batch of one is written into the middle of the graph; its input does not show it.
    graph(tmp_path / "plain.onnx")
    pool_of(tmp_path, {}, "")
    made = onnx.load(tmp_path / "a.onnx")
    made.graph.initializer.append(numpy_helper.from_array(np.array([1, 3]), "shape"))
    made.graph.node.append(helper.make_node("Reshape", ["scores", "shape"], ["end"]))
    made.graph.output[0].name = "end"
    onnx.save(made, tmp_path / "a.onnx")
    model, spec = load_model(read_pool_file(tmp_path / "pool.toml").models[0])
    batch = prepared(images(), spec.preprocessing)
    assert outputs_of(model, spec, batch[:1]).values.shape == (1, 3)
    with pytest.raises(ModelError, match=r"takes 'x' float32 .*--batch-size 1"):
        outputs_of(model, spec, batch)
