"""Calibrations of tensors and of graphs are those of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from committee.arrays import Array
from committee.calibration.fitting import BY_CLASS
from committee.rule.calibration import METHODS, Calibration
from committee.rule.outputs import Kind, Outputs

CALIBRATIONS = {
    "temperature": Calibration.of_temperature(1.7),
    "cold": Calibration.of_temperature(0.3),
    "one piece": Calibration("platt", (1.4,)),
    "two pieces": Calibration("platt", (0.5, 2.0), (-1.0,)),
    "five pieces": Calibration("platt", (0.3, 1.1, 0.7, 2.0, 0.9), (-9.0, -4.0, -1.0, -0.1)),
    "an offset": Calibration("platt", (0.5, 2.0), (-1.0,), 3.0),
}
random = np.random.default_rng(0)
LOGITS = (random.normal(size=(300, 7)) * 5).astype(np.float32)
PROBABILITIES = random.dirichlet(np.full(7, 0.05), 300).astype(np.float32)
PROBABILITIES[PROBABILITIES < 1e-9] = 0
RAW: dict[Kind, Array] = {"logits": LOGITS, "probabilities": PROBABILITIES}


def by_graph(calibration: Calibration, values: Array, kind: Kind) -> Array:
    onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
    import onnxruntime

    from committee.export.nodes import Nodes
    from committee.export.onnx_namespace import Onnx, Tensor

    nodes = Nodes("")
    xp: Any = Onnx()
    tensor: Any = Tensor(nodes, "raw", np.float64, values.shape[1])
    made = calibration.apply(Outputs(kind, tensor), xp).values.name  # type: ignore[attr-defined]
    double = onnx.TensorProto.DOUBLE
    graph = nodes.graph(
        "calibration",
        [onnx.helper.make_tensor_value_info("raw", double, ["n", values.shape[1]])],
        [onnx.helper.make_tensor_value_info(made, double, ["n", values.shape[1]])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer: Array = session.run(None, {"raw": values.astype(np.float64)})[0]
    return answer


def by_module(calibration: Calibration, values: Array, kind: Kind) -> Array:
    torch = pytest.importorskip("torch", reason="the module is for torch")
    from committee import Cascade
    from committee.export.torch_module import CascadeModule

    cascade = Cascade.of(["model"], (), "max_prob", "last", {"model": calibration})
    module = CascadeModule(cascade, {"model": torch.nn.Identity()}, {"model": kind}, {"model": 0})
    answer: Array = module(torch.from_numpy(values)).outputs.numpy()
    return answer


def test_every_method_has_its_case() -> None:
    # Those by class are in test_class_calibration.py.
    assert {each.method for each in CALIBRATIONS.values()} == set(METHODS) - set(BY_CLASS)


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("way", [by_graph, by_module])
def test_outputs_are_calibrated_as_by_the_library(way: Any, name: str, kind: Kind) -> None:
    calibration, raw = CALIBRATIONS[name], RAW[kind]
    expected = calibration.apply(Outputs(kind, raw)).values
    assert np.abs(expected - raw).max() > 0.05
    found = way(calibration, raw, kind)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
