"""Free the height and width of an ONNX graph whose operators do not depend on them.

    python any_size.py GRAPH.onnx OUT.onnx

Exporters fix the size of the example that they were given. A convolutional network that ends in a
mean over all places runs at any size; one that flattens its last map does not, and fails when run.
"""

import argparse
from pathlib import Path

import onnx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    model = onnx.load(arguments.graph)
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # shapes at the old size
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, arguments.out)


if __name__ == "__main__":
    main()
