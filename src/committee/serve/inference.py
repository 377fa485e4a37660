"""What requests of every kind go through: samples are read, decided on, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from committee.errors import RequestError
from committee.serve.answers import OUTPUTS, answer_tensors, check_outputs
from committee.serve.calls import Served
from committee.serve.deadline import Deadline
from committee.serve.oip import InferRequest, read_request
from committee.serve.samples import ReadSamples
from committee.serve.served import ServedCascade
from committee.serve.tensors import Column, Tensor

T = TypeVar("T")
# Bodies above this size are read into samples in a thread.
LARGE = 2**16


def check_model(served: ServedCascade, name: str, version: str | None) -> None:
    """Refuse another name or version than those that are served.

    Raises:
        RequestError: 404.
    """
    if name != served.name:
        raise RequestError(f"no model {name[:60]!r}; {served.name!r} is served", 404)
    if version not in (None, "", served.version):
        raise RequestError(
            f"no version {str(version)[:60]!r} of {name!r}; {served.version} is served", 404
        )


def metadata_of(served: ServedCascade) -> dict[str, Any]:
    """Return which inputs and outputs a cascade has, in the words of the protocol."""
    rows = {"probabilities": [-1, len(served.cascade.classes) or -1]}
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "committee",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": list(shape)}
            for name, datatype, shape in served.reader.inputs
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": rows.get(name, [-1])}
            for name, datatype in OUTPUTS.items()
            if name != "cost" or served.runner.unit
        ],
    }


async def infer(
    served: ServedCascade,
    body: bytes,
    json_size: str | None,
    about: dict[str, Any],
    deadline: Deadline,
) -> tuple[InferRequest, list[Tensor | Column]]:
    """Return what the body of a request asks for, and the outputs that answer it.

    Args:
        served: What decides.
        body: JSON, and after it the bytes of tensors.
        json_size: How many bytes are JSON; None for all.
        about: What is known of the request; the number of its samples is added.
        deadline: When it is to be answered.

    Raises:
        RequestError: If it cannot be answered; 422 if its only sample failed.
    """
    asked = await in_thread(len(body), read_request, body, json_size)
    check_outputs(asked.outputs, served.runner)
    size = LARGE if served.reader.decodes(asked.inputs) else len(body)
    read = await in_thread(size, served.reader.tensors, asked.inputs)
    values = "probabilities" in asked.outputs
    made = await decided(served, read, about, asked.max_stage, values, deadline)
    if len(made) == 1 and made[0].reason:
        raise RequestError(made[0].reason, 422)
    return asked, answer_tensors(served.runner, asked, made)


async def decided(
    served: ServedCascade,
    read: ReadSamples,
    about: dict[str, Any],
    max_stage: int | None,
    values: bool,
    deadline: Deadline,
) -> list[Served]:
    """Return what is decided on samples, those that cannot be used too, in their order.

    Args:
        served: What decides.
        read: The samples.
        about: What is known of the request; the number of its samples is added.
        max_stage: The last stage that may run; None for all.
        values: Return the combinations at the exits too.
        deadline: When it is to be answered.
    """
    about["samples"] = read.count
    if max_stage is not None and served.runner.graph is not None:
        raise RequestError(
            "max_stage: a cascade that is one ONNX file exits where the file says; serve the "
            "cascade file, or a bundle"
        )
    count = len(served.cascade.stages)
    if max_stage is not None and max_stage >= count:
        raise RequestError(
            f"max_stage: {max_stage:,} is none of the {count} stages, which count from 0"
        )
    made: list[Served] = []
    if read.rows:
        deadline.check()
        made = await served.decide(read.samples, max_stage=max_stage, values=values)
        made = [
            each if not each.reason else _doubted(served, read.samples[row], each)
            for row, each in enumerate(made)
        ]
    if not read.failed:
        return made
    found = dict(zip(read.rows, made, strict=True))
    return [found.get(row) or Served(None, None, read.failed[row]) for row in range(read.count)]


def _doubted(served: ServedCascade, sample: Any, failed: Served) -> Served:
    """Return a sample that failed, whose reason also says what may be wrong with the sample."""
    doubt = served.reader.doubt(sample)
    return Served(None, None, f"{failed.reason}. {doubt}") if doubt else failed


async def in_thread(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function makes of a body; in a thread if it is large."""
    if size < LARGE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
