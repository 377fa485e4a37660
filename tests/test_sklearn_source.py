"""Estimators of scikit-learn: kept with skops, classes in the pool's order, never a pickle."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.data.open import open_data
from committee.errors import (
    DataError,
    ExportError,
    ModelError,
    PoolFileError,
    UntrustedCodeError,
)
from committee.export.bundle import write_bundle
from committee.export.graph_classes import graph_classes
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.run.runner import Runner
from committee.spec.record import Record
from committee.testing import check_source

pytest.importorskip("sklearn")
if find_spec("skops") is None:
    pytest.skip("skops is not installed", allow_module_level=True)
TREE = "sklearn.tree._tree.Tree"
CLASSES = np.array(["ant", "bee", "cow"])
POOL = """
task = "classification"
classes = ["cow", "ant", "bee"]
[[model]]
name = "small"
source = "sklearn:small.skops"
costs.ms = 1
[[model]]
name = "large"
source = "sklearn:large.skops"
costs.ms = 5
"""


def dump(estimator: Any, path: str | Path) -> None:
    """Keep an estimator; skops takes seconds to import, so only whoever runs these tests does."""
    from skops.io import dump

    dump(estimator, path)


def points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, count)
    return rng.normal(size=(count, 4)) + 1.5 * np.eye(3, 4)[label], label


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    folder = tmp_path_factory.mktemp("estimators")
    x, label = points(300, 0)
    small = DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, CLASSES[label])
    dump(small, folder / "small.skops")
    dump(LogisticRegression().fit(x, CLASSES[label]), folder / "large.skops")
    for seed, split in ((1, "val"), (2, "test")):
        own, label = points(300, seed)
        np.savez(folder / f"{split}.npz", x=own, label=CLASSES[label])
    (folder / "pool.toml").write_text(POOL)
    return folder


@pytest.fixture
def folder(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(fitted)
    return fitted


def test_from_predict_to_verify(folder, tmp_path):
    store, chosen = str(tmp_path / "store"), str(tmp_path / "c.json")
    for split in ("val", "test"):
        words = ["predict", "pool.toml", "--data", f"{split}.npz", "--split", split]
        assert main([*words, "--out", store, "--allow-code", TREE]) == 0
    pool = cm.Pool.load(f"{store}/test")
    assert pool.outputs["large"].kind == "probabilities"
    right = (pool.outputs["large"].predicted() == pool.samples.labels).mean()
    assert right > 0.6  # columns in the order of the estimator's classes would be worse than chance
    assert main(["search", store, "--max-cost", "4", "--out", chosen]) == 0
    words = ["verify", chosen, "--data", "test.npz", "--predictions", f"{store}/test"]
    assert main([*words, "--max-flips", "0", "--allow-code", TREE]) == 0
    run = Runner(chosen, allow_code=[TREE])
    with np.load("test.npz") as arrays:
        assert run(arrays["x"][0]).class_name in CLASSES


def test_the_source_keeps_its_contract(folder):
    for spec in read_pool_file("pool.toml").models:
        check_source(spec, [TREE], records=list(points(3, 5)[0]))


def test_classes_that_are_not_the_pools(folder, tmp_path):
    text = POOL.replace("sklearn:", f"sklearn:{folder}/")
    (tmp_path / "other.toml").write_text(text.replace('"bee"', '"bat"'))
    with pytest.raises(PoolFileError, match="'bee'") as caught:
        read_pool_file(tmp_path / "other.toml")
    assert "\n" not in str(caught.value)
    (tmp_path / "none.toml").write_text(text.replace('classes = ["cow", "ant", "bee"]\n', ""))
    assert read_pool_file(tmp_path / "none.toml").classes == tuple(CLASSES)


def test_what_an_estimator_does_not_give(folder, tmp_path):
    text = POOL.replace("sklearn:", f"sklearn:{folder}/")
    (tmp_path / "pool.toml").write_text(text.replace("costs.ms = 1", 'kind = "logits"'))
    small, large = read_pool_file(tmp_path / "pool.toml").models
    with pytest.raises(ModelError, match=r"Classifier gives no logits.*Write kind = .prob"):
        load_model(small, [TREE])
    assert load_model(large)[0](np.zeros((1, 4))).shape == (1, 3)


def test_a_pickle_is_read_only_if_it_is_named(folder, tmp_path):
    import joblib
    from skops.io import load as load_skops

    joblib.dump(load_skops("small.skops", trusted=[TREE]), tmp_path / "small.joblib")
    (tmp_path / "pool.toml").write_text(
        POOL.replace("small.skops", "small.joblib").replace("large.skops", f"{folder}/large.skops")
    )
    spec = read_pool_file(tmp_path / "pool.toml").models[0]
    with pytest.raises(UntrustedCodeError, match=r"is no \.skops file"):
        load_model(spec)
    load_model(spec, allow_code=[str(tmp_path / "small.joblib")])


@pytest.fixture
def neighbours(folder, tmp_path, monkeypatch):
    """A folder with an estimator that can be read only where its types are allowed."""
    from sklearn.neighbors import KNeighborsClassifier

    x, label = points(300, 0)
    dump(KNeighborsClassifier().fit(x, CLASSES[label]), tmp_path / "small.skops")
    for name in ("large.skops", "val.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "pool.toml").write_text(POOL)
    monkeypatch.chdir(tmp_path)
    with np.load("val.npz") as arrays:
        return arrays["x"]


def test_an_export_names_what_makes_a_graph_of_an_estimator(folder, tmp_path):
    cascade = read_pool_file("pool.toml").described(cm.Cascade.of(["small", "large"], [0.9]))
    with pytest.raises(ExportError, match=r"with skl2onnx.*the order of the cascade's classes"):
        write_bundle(cascade, tmp_path / "bundle")


def linear(path, order=None, named=CLASSES, in_argmax=False):
    """Write a graph as converters of estimators do; it may bring its outputs into another order."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.float32(np.eye(3, 4))
    constants = [numpy_helper.from_array(np.array(order or [0], np.int64), "order")]
    if in_argmax:  # of estimators that are no operators of their own
        constants += [numpy_helper.from_array(weights.T.copy(), "weights")]
        constants += [numpy_helper.from_array(np.array(named, object), "classes")]
        nodes = [
            helper.make_node("MatMul", ["x", "weights"], ["raw"]),
            helper.make_node("Softmax", ["raw"], ["shares"], axis=1),
            helper.make_node("ArgMax", ["shares"], ["best"], axis=1),
            helper.make_node(
                "ArrayFeatureExtractor", ["classes", "best"], ["label"], domain="ai.onnx.ml"
            ),
        ]
    else:
        own = {"coefficients": weights.ravel().tolist(), "classlabels_strings": named.tolist()}
        own |= {"intercepts": [0.0] * 3, "post_transform": "SOFTMAX", "multi_class": 1}
        nodes = [
            helper.make_node(
                "LinearClassifier", ["x"], ["label", "raw"], domain="ai.onnx.ml", **own
            ),
            helper.make_node("Normalizer", ["raw"], ["shares"], domain="ai.onnx.ml", norm="L1"),
        ]
    last = helper.make_node("Gather", ["shares", "order"], ["probabilities"], axis=1)
    nodes.append(last if order else helper.make_node("Identity", ["shares"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "estimator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("in_argmax", [False, True])
def test_a_graph_with_its_classes_in_another_order_is_refused(folder, tmp_path, in_argmax):
    pytest.importorskip("onnx")
    cascade = read_pool_file("pool.toml").described(cm.Cascade.of(["small", "large"], [0.9]))
    right = linear(tmp_path / "right.onnx", [2, 0, 1], in_argmax=in_argmax)
    wrong = linear(tmp_path / "wrong.onnx", in_argmax=in_argmax)
    told = (
        r"model 'large': .*wrong\.onnx gives the classes in the order 'ant', 'bee', 'cow', and the "
        r"cascade in the order 'cow', 'ant', 'bee'\. .*takes the columns '2', '0', '1'"
    )
    with pytest.raises(ExportError, match=told):
        write_bundle(cascade, tmp_path / "bundle", onnx={"small": right, "large": wrong})
    assert graph_classes(right) == ()
    # Other names say nothing, and so do numbers.
    numbers = linear(tmp_path / "numbers.onnx", named=np.array(["0", "1", "2"]))
    write_bundle(cascade, tmp_path / "bundle", onnx={"small": right, "large": numbers})
    row = np.float32([0, 0, 9, 0])
    assert Runner(tmp_path / "bundle")(row).class_name == "cow"


def test_an_array_with_other_columns_names_its_file(folder, tmp_path):
    pool = read_pool_file("pool.toml")
    specs = [replace(each, preprocessing=Record.of(["a", "b"], "float32")) for each in pool.models]
    np.save(tmp_path / "new.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"new\.npy: an array \(1, 3\) has not the 2 columns"):
        open_data(tmp_path / "new.npy", "val", pool.classes, models=specs)


SKLEARN = ["--allow-code", "sklearn"]
PREDICT = ["predict", "pool.toml", "--split", "val", "--data", "val.npz", *SKLEARN]


def test_classes_that_show_only_at_loading_are_reordered(neighbours):
    assert main(PREDICT) == 0
    pool = cm.Pool.load("predictions/val")
    outputs = pool.outputs["small"].predicted()
    assert (outputs == pool.samples.labels).mean() > 0.6
    # A cascade of the pool file, not of the store, is run alike.
    cascade = cm.Cascade.of(["small", "large"], [0.0])
    run = Runner(read_pool_file("pool.toml").described(cascade), allow_code=["sklearn"])
    names = np.array(["cow", "ant", "bee"])
    assert [run(row).class_name for row in neighbours[:50]] == names[outputs[:50]].tolist()


def test_other_classes_that_show_only_at_loading_are_refused(neighbours, capsys):
    Path("pool.toml").write_text(POOL.replace('"bee"', '"bat"'))
    text = Path("pool.toml").read_text().split("[[model]]")
    Path("pool.toml").write_text("[[model]]".join(text[:2]))
    assert main([*PREDICT, "--unlabelled"]) == 2
    assert "labels 'bee' are no classes" in capsys.readouterr().err
    Path("pool.toml").write_text(f"{'[[model]]'.join(text[:2])}id2label = false\n")
    assert main([*PREDICT, "--unlabelled"]) == 0
    spec = cm.Pool.load("predictions/val").models["small"].spec
    assert spec.columns == (0, 1, 2)


def test_without_other_names_the_first_estimator_names_the_classes(neighbours, capsys):
    from sklearn.neighbors import KNeighborsClassifier

    x, label = points(300, 0)
    odd = KNeighborsClassifier(n_neighbors=9).fit(x, CLASSES[label])
    odd.classes_ = odd.classes_[::-1].copy()
    dump(odd, "large.skops")
    Path("pool.toml").write_text(POOL.replace('classes = ["cow", "ant", "bee"]\n', ""))
    assert main([*PREDICT, "--unlabelled"]) == 0
    assert "small names the classes: 'ant', 'bee', 'cow'" in " ".join(
        capsys.readouterr().out.split()
    )
    pool = cm.Pool.load("predictions/val")
    assert pool.models["large"].spec.columns == (2, 1, 0)


class Odd:
    """No estimator that skops knows."""

    classes_ = CLASSES

    def predict_proba(self, x):
        return np.full((len(x), 3), 1 / 3)


def test_unknown_types_are_named(folder, tmp_path):
    dump(Odd(), tmp_path / "odd.skops")
    text = POOL.replace("large.skops", f"{folder}/large.skops")
    (tmp_path / "pool.toml").write_text(text.replace("small.skops", "odd.skops"))
    spec = read_pool_file(tmp_path / "pool.toml").models[0]
    name = f"{Odd.__module__}.Odd"
    with pytest.raises(UntrustedCodeError, match=re.escape(f"--allow-code {name}")):
        load_model(spec)
    load_model(spec, allow_code=[name])
    load_model(spec, allow_code=[str(tmp_path / "odd.skops")])
    with pytest.raises(UntrustedCodeError, match="or all of it: --allow-code"):
        load_model(spec, allow_code=[str(tmp_path / "other.skops")])


def test_boosted_trees_need_trust_in_scikit_learn_and_no_more(folder, tmp_path):
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, label = points(60, 4)
    dump(
        HistGradientBoostingClassifier(max_iter=1).fit(x, CLASSES[label]), tmp_path / "trees.skops"
    )
    text = POOL.replace("large.skops", f"{folder}/large.skops")
    (tmp_path / "pool.toml").write_text(text.replace("small.skops", "trees.skops"))
    spec = read_pool_file(tmp_path / "pool.toml").models[0]
    with pytest.raises(UntrustedCodeError, match="TreePredictor"):
        load_model(spec)
    load_model(spec, allow_code=["sklearn"])


def test_an_estimator_fitted_on_a_frame_knows_its_columns(folder, tmp_path):
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, label = points(100, 4)
    frame = pandas.DataFrame({"size": x[:, 0], "colour": np.where(x[:, 1] > 0, "red", "blue")})
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["size"]),
        (OneHotEncoder(categories=[["blue", "red"]]), ["colour"]),
    )
    dump(
        make_pipeline(columns, LogisticRegression()).fit(frame, CLASSES[label]),
        tmp_path / "mixed.skops",
    )
    text = POOL.replace("large.skops", f"{folder}/large.skops")
    (tmp_path / "pool.toml").write_text(text.replace("small.skops", "mixed.skops"))
    spec = read_pool_file(tmp_path / "pool.toml").models[0]
    assert spec.record.columns == ("size", "colour")
    model, _ = load_model(spec)
    rows = [{"size": 1.0, "colour": "red"}, {"size": -1.0, "colour": "blue"}]
    assert model(rows).shape == (2, 3)


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.skops").write_bytes(b"no")
    (tmp_path / "pool.toml").write_text(
        'task = "classification"\n[[model]]\nname = "x"\nsource = "sklearn:x.skops"\n'
    )
    with pytest.raises(ModelError, match="is no skops file"):
        load_model(read_pool_file(tmp_path / "pool.toml").models[0])


@pytest.mark.parametrize("dtype", ["", 'dtype = "float64"'])
def test_columns_of_a_frame_are_taken_by_name(tmp_path, dtype):
    pandas = pytest.importorskip("pandas")
    from sklearn.linear_model import LogisticRegression

    x, label = points(100, 4)
    frame = pandas.DataFrame(x[:, :2], columns=["a", "b"])
    dump(LogisticRegression().fit(frame, label), tmp_path / "m.skops")
    head = 'task = "classification"\nclasses = ["x", "y", "z"]\n[[model]]\nname = "m"\n'

    def loaded(more):
        (tmp_path / "pool.toml").write_text(f'{head}source = "sklearn:m.skops"\n{more}\n{dtype}')
        return load_model(read_pool_file(tmp_path / "pool.toml").models[0])[0]

    rows = [{"a": 1.0, "b": -2.0}]
    own, other = (
        model(rows if not dtype else np.array([[row[c] for c in columns] for row in rows]))
        for columns, model in (("ab", loaded("")), ("ba", loaded('input = ["b", "a"]')))
    )
    assert np.array_equal(own, other)
    with pytest.raises(ModelError, match="fitted on 'a', 'b', and its input has no 'b'"):
        loaded('input = ["a"]')


def test_classes_that_count_in_another_order(tmp_path):
    from sklearn.linear_model import LogisticRegression

    dump(LogisticRegression().fit(*points(100, 4)), tmp_path / "m.skops")
    model = '[[model]]\nname = "m"\nsource = "sklearn:m.skops"\n'
    for classes, columns in ((["2", "0", "1"], (2, 0, 1)), (["c", "a", "b"], ())):
        text = f'task = "classification"\nclasses = {classes}\n{model}'
        (tmp_path / "pool.toml").write_text(text.replace("'", '"'))
        assert read_pool_file(tmp_path / "pool.toml").models[0].columns == columns


@pytest.mark.parametrize("framed", [True, False])
def test_text_is_no_number_among_categories(framed, tmp_path, monkeypatch, capsys):
    """An encoder that ignores unknown categories would give the same answer to every row."""
    pandas = pytest.importorskip("pandas")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    floor, label = rng.integers(0, 4, 200), rng.integers(0, 2, 200)
    x = pandas.DataFrame({"floor": floor}) if framed else floor[:, None]
    encoder = OneHotEncoder(handle_unknown="ignore")
    estimator = make_pipeline(encoder, LogisticRegression()).fit(x, label == (floor > 1))
    dump(estimator, "one.skops")
    rows = [f"{i},{each},{each > 1!s}" for i, each in enumerate(floor.tolist())]
    (tmp_path / "val.csv").write_text("id,floor,label\n" + "\n".join(rows))
    pool = 'task = "classification"\nclasses = ["False", "True"]\n[[model]]\nname = "one"\n'
    pool += 'source = "sklearn:one.skops"\ninput = ["floor"]\ncosts.ms = 1\n'
    (tmp_path / "pool.toml").write_text(pool)
    words = ["predict", "pool.toml", "--data", "val.csv", "--split", "val"]
    assert main(words) == 2
    assert "numbers as categories of 'floor', which come as text" in capsys.readouterr().err
    (tmp_path / "pool.toml").write_text(pool + 'dtype = { floor = "int64" }\n')
    assert main(words) == 0
    found = cm.Pool.load("predictions/val").outputs["one"].values
    np.testing.assert_allclose(found, estimator.predict_proba(x), rtol=1e-6)
