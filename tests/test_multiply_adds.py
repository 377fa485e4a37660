"""Multiply-adds: the page of the paper's models, and graphs against the modules they come from."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee.embedded import FOLDER, pool_file
from committee.errors import ModelError
from committee.models.load import load_model
from committee.profile.macs import _graph_parameters, graph_macs, torch_macs

torch = pytest.importorskip("torch", reason="multiply-adds of modules are counted by torch")
onnx = pytest.importorskip("onnx", reason="multiply-adds of graphs are counted with onnx")

ROOT = Path(__file__).parent.parent


def test_the_page_says_what_is_counted_and_agrees_with_the_paper() -> None:
    # The page is counted by this version; old ones build no ViT on torch's meta device.
    pytest.importorskip("timm", "1.0.31", reason="the models of the page are timm's")
    script = runpy.run_path(str(ROOT / "benchmarks" / "multiply_adds.py"))
    page = (ROOT / "docs" / "multiply_adds.md").read_text(encoding="utf-8")
    assert page.startswith(script["HEAD"])
    assert page.endswith(script["NOTES"])
    counted_anew = ("EfficientNet-B1", "ResNet-101", "MobileNetV2 1.0@160", "ViT-B/16 384")
    for row in script["ROWS"]:
        assert f"| {row.name} | `timm:{row.text}@{row.size}` | " in page
        if row.name in counted_anew:
            assert f"{script['line'](row)}\n" in page
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "| `timm:" in line]
    assert len(rows) == 21
    for name, _, _, counted, paper, note in [row for row in rows if len(row) == 6]:
        ours = note.split()[0] if name.startswith("ResNet") else counted
        if name != "EfficientNet-B7" and paper.strip():
            digits = len(paper.partition(".")[2])
            assert f"{float(ours):.{digits}f}" == paper


def test_graphs_are_counted_as_their_modules_were() -> None:
    for spec in pool_file().models:
        path = FOLDER / f"{spec.name}.onnx"
        assert graph_macs(path, (1, 1, 28, 28)) == spec.costs[0].value
        assert load_model(spec)[0].parameters == _graph_parameters(path) > 1000


class Everything(torch.nn.Module):
    """Each kind of product that a graph may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8)
        self.up = torch.nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.heads = torch.nn.Linear(6, 18)
        self.out = torch.nn.Linear(6, 5)

    def forward(self, batch: Any) -> Any:
        grid = self.up(self.depthwise(self.stem(batch)))
        q, k, v = self.heads(grid.flatten(2).mT).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2).mean(1))


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.filterwarnings("ignore")  # of the exporter's own making
def test_every_product_of_a_graph_is_counted(tmp_path: Path, opset: int) -> None:
    pytest.importorskip("onnxscript", reason="torch exports with onnxscript")
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"this onnx has no operators of version {opset}")
    torch.manual_seed(0)
    module, path = Everything().eval(), tmp_path / "m.onnx"
    rows = torch.export.Dim("rows", min=1)
    torch.onnx.export(
        *(module, (torch.zeros(2, 3, 17, 21),), str(path)), dynamic_shapes=({0: rows},),
        dynamo=True, external_data=False, verbose=False, opset_version=opset,
    )  # fmt: skip
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"Conv", "ConvTranspose", "MatMul", "Gemm"} <= kinds
    assert ("Attention" in kinds) == (opset == 23)
    assert graph_macs(path, (1, 3, 17, 21)) == torch_macs(module, (1, 3, 17, 21))
    # The batch is a factor of everything.
    assert graph_macs(path, (3, 3, 17, 21)) == 3 * graph_macs(path, (1, 3, 17, 21))


class Padding(torch.nn.Module):
    """Shortcuts that are cut and padded: the older exporter of torch computes how."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.up = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.out = torch.nn.Linear(8, 5)

    def forward(self, batch: Any) -> Any:
        grid = self.stem(batch)
        short = torch.nn.functional.pad(grid[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        mixed = self.up(self.down(grid) + short)
        pooled = torch.nn.functional.avg_pool2d(mixed, int(mixed.size()[3]))
        return self.out(pooled.view(pooled.size(0), -1))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.filterwarnings("ignore")  # of the exporter's own making
def test_shapes_that_are_computed_are_seen_by_one_run(tmp_path: Path, dynamic: bool) -> None:
    torch.manual_seed(0)
    module, path = Padding().eval(), tmp_path / "m.onnx"
    torch.onnx.export(
        *(module, (torch.zeros(1, 3, 8, 8),), str(path)), dynamo=False, opset_version=17,
        do_constant_folding=False, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "N"}, "y": {0: "N"}} if dynamic else None,
    )  # fmt: skip
    assert {"ConstantOfShape", "Pad"} <= {node.op_type for node in onnx.load(path).graph.node}
    assert graph_macs(path, (1, 3, 8, 8)) == torch_macs(module, (1, 3, 8, 8))


def test_what_cannot_be_counted_is_told(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Einsum", ["x", "x"], ["y"], equation="nchw,nchw->nc")
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["N", 3, 4, 4])],
        [value("y", onnx.TensorProto.FLOAT, ["N", 3])],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "einsum.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(ModelError, match=r"operator Einsum cannot be counted; give costs\.macs"):
        graph_macs(path, (1, 3, 4, 4))


def test_counting_leaves_the_module_as_it_was() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    # 4 filters of 3 x 3 x 3 at 6 x 6 places.
    assert torch_macs(module, (1, 3, 8, 8)) == 4 * 27 * 36
    for name, value in module.state_dict().items():
        assert np.array_equal(value, before[name])


def test_a_module_in_training_is_counted_and_stays_in_training():
    frozen = torch.nn.BatchNorm2d(4).eval()
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.BatchNorm2d(4), frozen)
    # One pixel is left, by which batch norm cannot learn.
    assert torch_macs(module, (1, 3, 5, 5)) == 3 * 5 * 5 * 4
    assert [part.training for part in module] == [True, True, False]
    assert module.training
