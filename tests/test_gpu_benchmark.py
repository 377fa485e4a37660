"""The benchmark for GPUs runs, here on the processor with networks of a few thousand weights."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def test_it_measures_a_cascade_with_the_exit_ratios_that_are_asked_for(tmp_path):
    torch = pytest.importorskip("torch", reason="it times torch modules")
    pytest.importorskip("timm", reason="its networks are timm's")
    main = runpy.run_path(str(SCRIPT))["main"]
    out = tmp_path / "results" / "gpu.json"
    # Networks so small are slower on several threads, which wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        main(["--device", "cpu", "--shapes", "tiny", "--samples", "32", "--batch", "16",
              "--rounds", "1", "--out", str(out)])  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    told = json.loads(out.read_text())
    assert told["conditions"]["device"] == "processor"
    tiny = told["tiny"]
    assert tiny["same_as_by_hand"] == 32
    assert tiny["throughput"]["exit_ratios"] == [0.5, 0.25, 0.25]
    assert set(tiny["throughput"]["ms_per_sample"]) == {
        "cascade", "by hand", "largest", *tiny["stages"],
    }  # fmt: skip
    assert set(tiny["latency"]["by_exit_ms"]) == {"stage 0", "stage 1", "stage 2"}


def test_the_shapes_are_the_papers_and_exist():
    timm = pytest.importorskip("timm", reason="its networks are timm's")
    shapes = runpy.run_path(str(SCRIPT))["SHAPES"]
    # Table 16, in percent.
    assert [round(100 * each, 1) for each in shapes["efficientnet"].ratios] == [
        67.3,
        21.6,
        5.6,
        5.5,
    ]
    for shape in shapes.values():
        assert sum(shape.ratios) == pytest.approx(1)
        assert len(shape.ratios) == len(shape.stages)
        for name, size in (*shape.stages, shape.largest):
            own = timm.get_pretrained_cfg(name).input_size[-1]
            assert timm.is_model(name)
            assert own == size or name.startswith("test_")
