"""A model repository of Triton: its configuration says what the graph takes and gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.arrays import Array
from committee.cli import main
from committee.errors import ExportError, ModelError
from committee.export.triton import write_triton
from committee.models.pool_file import read_pool_file
from export_world import CASCADES, coloured, embedded, some_images
from record_world import write_graphs

onnxruntime = pytest.importorskip("onnxruntime", reason="exporting needs onnxruntime")
messages = pytest.importorskip(
    "tritonclient.grpc.model_config_pb2", reason="needs Triton's protobuf messages: tritonclient"
)
from google.protobuf import text_format  # noqa: E402  # after the line that skips

CASCADE = embedded(CASCADES["mean_logits"])
# Triton's types, by those of onnxruntime.
TYPES = {
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}


def read(model: Path) -> tuple[Any, Any]:
    """The configuration of a model in a repository, and its graph as a session."""
    config = text_format.Parse((model / "config.pbtxt").read_text("utf-8"), messages.ModelConfig())
    return config, onnxruntime.InferenceSession(model / "1" / "model.onnx")


def of_graph(tensor: Any, batches: bool) -> list[int]:
    """The shape that Triton wants a graph to have, by what the configuration says of a tensor."""
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return [-1, *dims] if batches else list(dims)


def in_request(tensor: Any, config: Any, samples: int) -> list[int]:
    """The shape that a tensor has in requests and answers; Triton admits no empty one."""
    assert tensor.dims
    return [samples, *tensor.dims] if config.max_batch_size else list(tensor.dims)


def check(model: Path) -> Any:
    """Return a configuration after comparing it with its graph as Triton's backend does."""
    config, session = read(model)
    batches = config.max_batch_size > 0
    for said, has in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [each.name for each in said] == [each.name for each in has]
        for tensor, own in zip(said, has, strict=True):
            assert messages.DataType.Name(tensor.data_type) == TYPES[own.type]
            shape = [side if isinstance(side, int) else -1 for side in own.shape]
            assert of_graph(tensor, batches) == shape
    assert config.backend == "onnxruntime"
    assert config.HasField("dynamic_batching") == batches
    return config


def answers(model: Path, images: Array, requests: list[slice]) -> list[dict[str, Array]]:
    """What Triton would answer to requests, run together where it may batch them."""
    config, session = read(model)
    (image,) = config.input
    bodies = [images[rows, ..., None] for rows in requests]
    for body in bodies:
        assert list(body.shape) == in_request(image, config, len(body))
    batches = [np.concatenate(bodies)] if config.HasField("dynamic_batching") else bodies
    names = [tensor.name for tensor in config.output]
    made = [session.run(names, {image.name: batch}) for batch in batches]
    whole = [np.concatenate(parts) for parts in zip(*made, strict=True)]
    return [
        {
            tensor.name: values[rows].reshape(in_request(tensor, config, rows.stop - rows.start))
            for tensor, values in zip(config.output, whole, strict=True)
        }
        for rows in requests
    ]


@pytest.mark.parametrize(
    ("form", "sizes"), [("any", (5, 1, 26)), ("one", (1,) * 20)], ids=["any", "one"]
)
def test_requests_are_decided_as_by_the_runner(tmp_path: Path, form: Any, sizes: Any) -> None:
    model = write_triton(CASCADE, tmp_path / "models", "cascade", form=form)
    config = check(model)
    assert config.max_batch_size == (32 if form == "any" else 0)
    ends = np.cumsum(sizes).tolist()
    requests = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    images = some_images(ends[-1])
    expected = Runner(CASCADE, threads=1).decide(images, ends[-1] if form == "any" else 1)
    for rows, answer in zip(requests, answers(model, images, requests), strict=True):
        assert (answer["class"].ravel() == expected.predicted[rows]).all()
        assert (answer["stage"].ravel() == expected.stage[rows]).all()
        np.testing.assert_allclose(answer["confidence"].ravel(), expected.score[rows], rtol=1e-4)


def test_the_classification_extension_finds_a_label_for_each_class(tmp_path: Path) -> None:
    model = write_triton(CASCADE, tmp_path / "models", "cascade")
    scores, *others = check(model).output
    assert (model / scores.label_filename).read_text("utf-8").splitlines() == [*CASCADE.classes]
    assert [*scores.dims] == [len(CASCADE.classes)]
    assert not any(output.label_filename for output in others)


def test_classes_without_names_have_no_labels(tmp_path: Path) -> None:
    cascade, _ = coloured("bgr", tmp_path)
    model = write_triton(cascade, tmp_path / "models", "coloured", precision="float32")
    assert [*check(model).input[0].dims] == [4, 4, 3]
    assert sorted(path.name for path in model.iterdir()) == ["1", "config.pbtxt"]


def test_records_have_an_input_for_each_column(tmp_path: Path) -> None:
    pool = read_pool_file(write_graphs(tmp_path))
    cascade = pool.described(Cascade.of(["short", "long"], [0.9]))
    config = check(write_triton(cascade, tmp_path / "models", "texts"))
    assert config.max_batch_size == 256
    assert len(config.input) == 3


def test_a_repository_holds_several_models(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name in ("first", "second"):
        write_triton(CASCADE, repository, name)
    assert sorted(path.name for path in repository.iterdir()) == ["first", "second"]
    before = (repository / "first" / "config.pbtxt").stat().st_mtime_ns
    with pytest.raises(ExportError, match="first: is there already; remove it, or name another"):
        write_triton(CASCADE, repository, "first")
    assert (repository / "first" / "config.pbtxt").stat().st_mtime_ns == before


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        write_triton(CASCADE, tmp_path / "models", "cascade", onnx={"nano": tmp_path / "none.onnx"})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("committee.export.triton._config", full)
        with pytest.raises(OSError, match="No space left"):
            write_triton(CASCADE, tmp_path / "models", "cascade")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, repository = CASCADE.save(tmp_path / "shirts.json"), tmp_path / "models"
    words = ["export", str(file), "--triton", str(repository)]
    assert main([*words, "--form", "one", "--precision", "float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = repository / "shirts"
    assert found["out"] == str(model)
    assert [Path(each).relative_to(model).as_posix() for each in found["files"]] == [
        "1/model.onnx",
        "config.pbtxt",
        "labels.txt",
    ]
    assert not check(model).max_batch_size
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", str(file), "--triton", str(tmp_path / "others")]) == 0
    told = capsys.readouterr().out
    assert f"--against {tmp_path / 'others' / 'shirts' / '1' / 'model.onnx'}" in told
    assert f"tritonserver --model-repository {tmp_path / 'others'}" in told


@pytest.mark.parametrize("places", [[], ["--out", "c.onnx", "--triton", "models"]])
def test_one_place_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], places: list[str]
) -> None:
    file = CASCADE.save(tmp_path / "cascade.json")
    assert main(["export", str(file), *places]) == 2
    assert "name one place" in capsys.readouterr().err
