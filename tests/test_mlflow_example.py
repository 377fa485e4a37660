"""The example of MLflow: a cascade as one ONNX file is logged, loaded, and decides the same."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.embedded import embedded_images
from committee.export.graph import write_graph
from export_world import CASCADES, embedded

EXAMPLE = Path(__file__).parent.parent / "examples" / "mlflow_onnx.py"


@pytest.mark.filterwarnings("default")
def test_a_cascade_is_logged_and_loaded(tmp_path):
    mlflow = pytest.importorskip(
        "mlflow", reason="mlflow, which brings some fifty packages, is installed by hand"
    )
    path = write_graph(embedded(CASCADES["mean_logits"]), tmp_path / "cascade.onnx")
    example = runpy.run_path(str(EXAMPLE))
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    address = example["log"](path)
    images = embedded_images("test").read(range(40))
    made = mlflow.pyfunc.load_model(address).predict({"image": images[..., None]})
    expected = cm.Runner(path).decide(images)
    np.testing.assert_array_equal(made["class"], expected.predicted)
    np.testing.assert_array_equal(made["stage"], expected.stage)
    (kept,) = Path(mlflow.artifacts.download_artifacts(address)).glob("*.onnx")
    assert cm.load(kept).stages == cm.load(path).stages
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.params["models"] == str(cm.load(path))
