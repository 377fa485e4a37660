"""Time a cascade that is one ONNX file: do images that exit early take less, as they should?

    python benchmarks/export.py [--images 600] [--threads 1]

The cascade is `nano -> large` of the embedded pool, whose multiply-adds are as 1 to 100. In turns,
image by image: both forms of the file in a plain onnxruntime session, committee's runner, and
the two models alone. Then the whole in batches: the file, and the runner.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from committee import Cascade, Runner
from committee.embedded import embedded_images, pool_file
from committee.export.graph import write_graph

NAMES = ("nano", "large")
BATCH = 64


def known(cascade: Cascade) -> Cascade:
    specs = {spec.name: spec for spec in pool_file().models}
    return replace(cascade, models={name: specs[name] for name in cascade.names})


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options)


def in_turns(functions: dict, arguments) -> dict[str, np.ndarray]:
    """Milliseconds of each call, (calls,), by name."""
    times = {name: [] for name in functions}
    for argument in arguments:
        for name, function in functions.items():
            began = time.perf_counter()
            function(argument)
            times[name].append((time.perf_counter() - began) * 1e3)
    return {name: np.array(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    images = embedded_images("test").read(np.arange(options.images))
    cascade = known(Cascade.of(NAMES, [0.9]))
    runner = Runner(cascade, threads=options.threads)
    alone = {name: Runner(known(Cascade.of([name])), threads=options.threads) for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        files = {
            form: session(write_graph(cascade, Path(folder) / f"{form}.onnx", form=form),
                          options.threads)
            for form in ("one", "any")
        }  # fmt: skip
    stages = runner.decide(images).stage
    print(f"{cascade}: {len(images)} images, {np.bincount(stages).tolist()} exit at each stage")

    def run(form: str, some: np.ndarray) -> None:
        files[form].run(None, {"image": some[..., None]})

    ways = {
        "file, form one": lambda image: run("one", image[None]),
        "file, form any": lambda image: run("any", image[None]),
        "runner": runner,
        "nano alone": alone["nano"],
        "large alone": alone["large"],
    }
    in_turns(ways, images[:20])  # warm
    for name, ms in in_turns(ways, images).items():
        parts = [f"{np.median(ms[stages == k]):.3f}" for k in (0, 1)]
        print(f"  {name:15} mean {ms.mean():.3f} ms; median of those that exit first {parts[0]}, "
              f"of the others {parts[1]}")  # fmt: skip
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    ways = {
        "file, form any": lambda some: run("any", some),
        "runner": lambda some: runner.decide(some, BATCH),
        "large alone": lambda some: alone["large"].decide(some, BATCH),
    }
    in_turns(ways, batches[:2])
    for name, ms in in_turns(ways, batches).items():
        print(f"  batches of {BATCH}, {name:15} {ms.sum() / len(images):.3f} ms an image")


if __name__ == "__main__":
    main()
