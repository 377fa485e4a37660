"""Files that move: paths in a cascade, a store and a pool file hold where the files lie now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from committee import Cascade
from committee.cli import main
from committee.errors import MisalignedError
from committee.models.pool_file import read_pool_file
from committee.paths import expanded, portable, resolved, unplaced
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from small_world import write_pool

PLACES = {
    "work/models/a.onnx": "./models/a.onnx",
    "work/a b.onnx": "./a b.onnx",
    "models/a.onnx": "../models/a.onnx",
    "../elsewhere/a.onnx": None,
}


@pytest.mark.parametrize(("place", "told"), PLACES.items())
def test_paths_below_or_beside_the_folder_are_relative(
    tmp_path: Path, place: str, told: str | None
) -> None:
    file, model = tmp_path / "work" / "cascade.json", (tmp_path / place).resolve()
    models = {"a": {"source": f"onnx:{model}", "weights": str(model)}}
    written = portable(models, file)
    assert written["a"]["weights"] == (told or str(model))
    assert written["a"]["source"] == f"onnx:{told or model}"
    assert resolved(written, file) == models
    moved = resolved(written, tmp_path / "new" / "work" / "cascade.json")["a"]["weights"]
    assert moved == (str(tmp_path / "new" / place) if told else str(model))
    assert unplaced(models)["a"]["weights"] == model.name


@pytest.mark.parametrize(
    "source", ["timm:resnet18", "transformers:google/vit", "python:pkg.models:net", ""]
)
def test_names_are_no_paths(tmp_path: Path, source: str) -> None:
    models = {"a": {"source": source, "weights": "random"}}
    assert resolved(portable(models, tmp_path / "c.json"), tmp_path / "c.json") == models


def test_separators_of_windows_and_the_home_are_read(tmp_path: Path) -> None:
    models = {"a": {"source": r"onnx:.\models\a.onnx"}, "b": {"source": "onnx:~/b.onnx"}}
    found = resolved(models, tmp_path / "c.json")
    assert found["a"]["source"] == f"onnx:{tmp_path.resolve()}/models/a.onnx"
    assert found["b"]["source"] == f"onnx:{Path.home()}/b.onnx"


def test_a_cascade_opened_by_a_link_finds_its_models(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    spec = ModelSpec("a", f"onnx:{tmp_path.resolve()}/work/a.onnx", Preprocessing((4, 4)))
    saved = replace(Cascade.of(["a"]), models={"a": spec}).save(tmp_path / "work" / "c.json")
    assert json.loads(saved.read_text())["models"]["a"]["source"] == "onnx:./a.onnx"
    (tmp_path / "link.json").symlink_to(saved)
    (tmp_path / "folder").symlink_to(tmp_path / "work")
    for path in (tmp_path / "link.json", tmp_path / "folder" / "c.json"):
        assert Cascade.load(path).models["a"] == spec


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store and a cascade, its folder named with a space."""
    folder = tmp_path / "my project"
    (folder / "models").mkdir(parents=True)
    write_pool(folder)
    (folder / "models.py").rename(folder / "models" / "models.py")
    text = (folder / "pool.toml").read_text().replace("python:models.py", "python:models/models.py")
    (folder / "pool.toml").write_text(text)
    monkeypatch.chdir(folder)
    from committee.predict import predict
    from small_world import dataset

    for split, seed in (("val", 0), ("test", 1)):
        pool = read_pool_file("pool.toml")
        predict(pool, dataset(60, split, seed), "predictions", allow_code=["models/models.py"])
    assert main(["search", "predictions", "--match", "two", "--out", "cascade.json"]) == 0
    return folder


def moved(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new = project.parent / "elsewhere" / "deeper"
    new.parent.mkdir()
    project.rename(new)
    monkeypatch.chdir(new)
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4), np.uint8)
    np.savez("data.npz", images=pixels)
    return new


RUN = "run cascade.json --data data.npz --out results.csv --allow-code models/models.py"


def test_a_project_that_moves_as_one_goes_on(project, monkeypatch, capsys) -> None:
    new = moved(project, monkeypatch)
    assert str(project) not in (new / "cascade.json").read_text()
    assert str(project) not in (new / "predictions" / "store.json").read_text()
    assert main(RUN.split()) == 0, capsys.readouterr()
    assert main(["search", "predictions", "--match", "two", "--out", "again.json"]) == 0
    assert (new / "again.json").read_text() == (new / "cascade.json").read_text()


def test_models_that_move_alone_are_named_by_the_pool_file(project, monkeypatch, capsys) -> None:
    new = moved(project, monkeypatch)
    (new / "models").rename(new / "code")
    command = RUN.replace("models/models.py", "code/models.py")
    capsys.readouterr()
    assert main(command.split()) == 2
    told = capsys.readouterr().err
    assert "--pool POOL.toml" in told or "--allow-code" in told
    text = (new / "pool.toml").read_text().replace("models/models.py", "code/models.py")
    (new / "pool.toml").write_text(text)
    assert main([*command.split(), "--pool", "pool.toml"]) == 0, capsys.readouterr()


def test_a_missing_graph_is_told_with_the_remedies(tmp_path: Path, capsys) -> None:
    listed = read_pool_file(write_pool(tmp_path)).models[0]
    spec = replace(listed, name="a", source=f"onnx:{tmp_path}/a.onnx")
    replace(Cascade.of(["a"], combine="mean_logits"), models={"a": spec}).save(tmp_path / "c.json")
    (tmp_path / "d").mkdir()
    words = f"run {tmp_path}/c.json --data {tmp_path}/d --out {tmp_path}/r.csv"
    assert main(words.split()) == 2
    told = capsys.readouterr().err
    assert "no file" in told
    assert "--pool POOL.toml" in told
    assert "committee export" in told


def test_a_pool_file_with_another_preprocessing_is_refused(project) -> None:
    pool = read_pool_file("pool.toml")
    text = Path("pool.toml").read_text().replace("mean = [0.5]", "mean = [0.25]")
    Path("pool.toml").write_text(text)
    cascade = Cascade.load("cascade.json")
    assert pool.described(cascade).models.keys() == cascade.models.keys()
    for name, model in pool.described(cascade).models.items():
        assert model.fingerprint == cascade.models[name].fingerprint
    with pytest.raises(MisalignedError, match=r"preprocessing is \{'mean'.*0\.25.*0\.5") as told:
        read_pool_file("pool.toml").described(cascade)
    assert "interpolation" not in str(told.value)


def test_the_home_of_a_user_who_is_not_known_is_a_name(tmp_path: Path) -> None:
    assert expanded("~nobody-of-that-name/m.onnx", tmp_path) == (
        tmp_path.resolve() / "~nobody-of-that-name/m.onnx"
    )
