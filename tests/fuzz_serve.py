"""Hostile requests to a server, called in the process: an answer or one line, and no other harm.

``python tests/fuzz_serve.py --inputs 100000 --seed 0`` prints a seed every thousand inputs; any of
them begins there again. The suite takes ten thousand (``test_fuzz_serve.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import io
import json
import random
import resource
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app_world import Answer, asked, images_runner, records_runner
from fuzz import STRANGE, _places, flipped, spliced, truncated
from small_world import images

TOGETHER = 20
# What a request may be answered; of a right one 200 alone.
STATUSES = {200, 400, 404, 405, 413, 415, 422}
# Kilobytes by which memory may grow, however many requests there are.
MOST_GROWTH = 400_000
INFER = "/v2/models/cascade/infer"
FORM = "multipart/form-data; boundary=cut"
SIZE = "Inference-Header-Content-Length"
SHAPES = (
    [2**62] * 4, [2**31, 2**31], [0], [-1, 4, 4], [2, 4, 4, 3], [1] * 9, [10**30], [1, 2**40, 1],
    [65536], [4, 4], [32, 1], [2, 4], [],
)  # fmt: skip
DATATYPES = ("BOOL", "UINT8", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "", "uint8")
TYPES = (
    "image/png", "image/jpeg", "application/json", "application/octet-stream", "text/plain", "",
    FORM, "multipart/form-data; boundary=" + "x" * 300, "multipart/form-data; boundary=\xff",
    "multipart/form-data", "application/x-www-form-urlencoded", "text/html; charset=\x00", ";;;",
)  # fmt: skip
SIZES = ("0", "-1", "1", "99999999", "1e3", "", "NaN", "1" * 40, "\xb2", " 7 ")
QUERIES = ("top_k=0", "top_k=99999999999999999999", "top_k=a", "max_stage=-1", "top_k=1&top_k=2",
           "max_stage=0", "%00=%ff", "top_k=%31", "&&&=")  # fmt: skip
PATHS = ("/v2/models/../infer", "/v2/models/cascade/versions/x/infer", "/v2/models//infer",
         "/classify/", "/v2/models/\x00/infer", "/" + "a" * 5000)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    method: str = "POST"


def picture(form: str, side: int = 4) -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(made, form)
    return made.getvalue()


def form(*files: bytes) -> bytes:
    head = b'--cut\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
    return b"".join(b"%b%b\r\n" % (head, each) for each in files) + b"--cut--\r\n"


def tensors(*inputs: tuple[str, str, list[int], Any], **more: Any) -> Sent:
    """A request of tensors, whose data are bytes or lists."""
    made, tail = [], b""
    for name, datatype, shape, data in inputs:
        own: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if isinstance(data, bytes):
            own["parameters"], tail = {"binary_data_size": len(data)}, tail + data
        else:
            own["data"] = data
        made.append(own)
    head = json.dumps({"inputs": made, **more}).encode()
    return Sent(INFER, head + tail, {SIZE: str(len(head))} if tail else {})


def lengths(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def of_images() -> list[Sent]:
    """Right requests for images."""
    pixels = images(2)
    png, jpeg = picture("PNG"), picture("JPEG")
    text = base64.b64encode(png).decode()
    wanted = [{"name": "class"}, {"name": "label", "parameters": {"binary_data": True}}]
    return [
        tensors(("images", "UINT8", [2, 4, 4], pixels.tobytes()), outputs=wanted, id="7"),
        tensors(("images", "UINT8", [2, 4, 4], pixels.ravel().tolist())),
        tensors(("images", "UINT8", [2, 4, 4], pixels.tolist()), parameters={"explain": True}),
        tensors(("images", "BYTES", [2], lengths(png, jpeg)), parameters={"max_stage": 0}),
        tensors(("images", "BYTES", [1], [text])),
        Sent("/classify", png, {"content-type": "image/png"}),
        Sent("/classify", jpeg, {"content-type": "image/jpeg"}, "top_k=2"),
        Sent("/classify", form(png, jpeg, png), {"content-type": FORM}),
        Sent("/classify", json.dumps({"inputs": text}).encode(), {"content-type": TYPES[2]}),
    ]


def of_records() -> list[Sent]:
    """Right requests for records."""
    record, json_type = {"text": "good film"}, {"content-type": "application/json"}
    return [
        tensors(("text", "BYTES", [2], ["good film", "awful"]), parameters={"max_stage": 1}),
        tensors(("text", "BYTES", [2, 1], lengths(b"good", "größer".encode()))),
        Sent("/classify", json.dumps(record).encode(), json_type),
        Sent("/classify", json.dumps([record, record]).encode(), json_type, "top_k=1"),
        Sent("/classify", b'{"inputs": "good"}', json_type),
    ]


def head_of(sent: Sent) -> tuple[bytes, bytes]:
    """The JSON of a request, and what follows it."""
    size = int(sent.headers.get(SIZE, len(sent.body)))
    return sent.body[:size], sent.body[size:]


def with_head(sent: Sent, head: bytes, tail: bytes) -> Sent:
    sizes = {SIZE: str(len(head))} if SIZE in sent.headers else {}
    return replace(sent, body=head + tail, headers={**sent.headers, **sizes})


def damaged(sent: Sent, chance: random.Random) -> Sent:
    """Other bytes, anywhere."""
    way = chance.choice((flipped, truncated, spliced))
    return replace(sent, body=way(sent.body, chance))


def damaged_head(sent: Sent, chance: random.Random) -> Sent:
    """Other bytes in the JSON, whose size is right."""
    head, tail = head_of(sent)
    return with_head(sent, chance.choice((flipped, truncated, spliced))(head, chance), tail)


def crafted(sent: Sent, chance: random.Random) -> Sent:
    """A value of the JSON that is strange, missing, or a shape or type of another tensor."""
    head, tail = head_of(sent)
    try:
        made = json.loads(head)
    except ValueError:  # an image
        return damaged(sent, chance)
    root = {"": made}
    holder, key = chance.choice(list(_places(root)))
    special = {"shape": SHAPES, "datatype": DATATYPES}.get(str(key), STRANGE)
    value = chance.choice((*special, *STRANGE)) if chance.random() < 0.98 else "x" * 70_000
    if chance.random() < 0.15 and key != "":
        del holder[key]
    else:
        holder[key] = copy.deepcopy(value)
    text = json.dumps(root[""])
    if chance.random() < 0.1:
        text = text.replace("{", '{"inputs": [], "name": "x", ', 1)  # keys that stand twice
    return with_head(sent, text.encode("utf-8", "surrogatepass"), tail)


def deep(sent: Sent, chance: random.Random) -> Sent:
    """Lists or objects within each other, in place of a part of the body."""
    some = chance.choice(
        (b"[" * 50_000, b'{"a":' * 20_000, b"[" * 400 + b"]" * 400, b"[[],[]," * 9999)
    )
    head, tail = head_of(sent)
    at = chance.choice((0, head.find(b"[") + 1, head.find(b'"data": ') + 8, len(head) // 2))
    return with_head(sent, head[:at] + some + head[at:], tail)


def lying(sent: Sent, chance: random.Random) -> Sent:
    """A header, a query or an address that is wrong."""
    headers = dict(sent.headers)
    name, values = chance.choice(
        (
            (SIZE, SIZES),
            ("content-type", TYPES),
            ("content-length", ("0", "-5", "9" * 30, "10000000000")),
            ("content-encoding", ("gzip", "identity", "\xff")),
            ("X-Request-Timeout-Ms", ("0", "-1", "99999999999", "a", "60000")),
            ("transfer-encoding", ("chunked",)),
        )
    )
    headers[name] = chance.choice(values)
    kind = chance.random()
    if kind < 0.2:
        return replace(sent, path=chance.choice(PATHS))
    if kind < 0.4:
        return replace(sent, query=chance.choice(QUERIES))
    if kind < 0.45:
        return replace(sent, method=chance.choice(("GET", "PUT", "HEAD", "TRACE", "\xff")))
    return replace(sent, headers=headers)


def chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(width: int, height: int, data: bytes, *more: bytes, kind: int = 0) -> bytes:
    """A PNG file that says of itself whatever it likes."""
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bombs() -> list[bytes]:
    """Images that are small to send and large, slow or odd to read."""
    zeros = zlib.compress(b"\0" * 2**24, 9)
    jpeg = picture("JPEG")
    exif = b"Exif\0\0MM\0*" + bytes(random.Random(1).randbytes(200))
    size = jpeg.find(b"\xff\xc0") + 5
    return [
        png_of(60_000, 60_000, zeros),
        png_of(2**31 - 1, 2**31 - 1, zeros),
        png_of(5000, 3000, zeros),
        png_of(0, 0, zeros),
        png_of(4, 4, zeros),
        png_of(2**30, 1, zeros, kind=6),
        png_of(4, 4, zlib.compress(b"\0" * 20), chunk(b"zTXt", b"k\0\0" + zeros)),
        png_of(4, 4, zlib.compress(b"\0" * 20), chunk(b"iCCP", b"k\0\0" + zeros)),
        png_of(4, 4, zlib.compress(b"\0" * 20), *[chunk(b"tEXt", b"k\0v")] * 2000),
        png_of(4, 4, zlib.compress(b"\0" * 20), chunk(b"eXIf", exif[6:])),
        jpeg[:size] + b"\xff\xff\xff\xff" + jpeg[size + 4 :],
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:],
        jpeg[:20] * 500,
        b"GIF89a" + b"\xff" * 100,
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run",
        b"file:///etc/passwd",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"",
    ]


BOMBS, PNG = bombs(), picture("PNG")


def bomb(sent: Sent, chance: random.Random) -> Sent:
    """An image that does harm, alone or among right ones."""
    data = chance.choice(BOMBS)
    if data and chance.random() < 0.3:
        data = flipped(data, chance)
    way = chance.randrange(4)
    if way == 0:
        return Sent("/classify", data, {"content-type": "image/png"})
    if way == 1:
        return Sent("/classify", form(PNG, data, PNG), {"content-type": FORM})
    if way == 2:
        return tensors(("images", "BYTES", [2], lengths(PNG, data)))
    return tensors(("images", "BYTES", [1], [base64.b64encode(data).decode()]))


def large(sent: Sent, chance: random.Random) -> Sent:
    """Many small things."""
    n = chance.choice((1025, 5000, 70_000))
    json_type = {"content-type": "application/json"}
    ways: tuple[Callable[[], Sent], ...] = (
        lambda: tensors(("images", "BYTES", [n], b"\0" * 4 * n)),
        lambda: tensors(("text", "BYTES", [n], [""] * n)),
        lambda: tensors(("images", "UINT8", [n, 1, 1], b"\0" * n)),
        lambda: tensors(("images", "FP64", [n], [0] * n)),
        lambda: tensors(*[("x", "BOOL", [1], [True])] * (n // 10)),
        lambda: tensors(("images", "BYTES", [n, 1], [[]] * n)),
        lambda: Sent("/classify", form(*[b"x"] * (n // 10)), {"content-type": FORM}),
        lambda: Sent("/classify", b"[" + b'{"text":""},' * n + b"1]", json_type),
        lambda: Sent(INFER, b'{"inputs":[],"parameters":{%b"z":1}}' % (b'"a":1,' * n)),
    )
    return chance.choice(ways)()


WAYS: tuple[Callable[[Sent, random.Random], Sent], ...] = (
    *(damaged, damaged_head, crafted, crafted, crafted, lying, lying),
    *(bomb, bomb),
)
# Rarer, because they take longer.
SLOW = (deep, large)


def hostile(seed: int, right: list[Sent]) -> Sent:
    """The hostile request of a seed."""
    chance = random.Random(seed)
    way = chance.choice(SLOW if seed % 50 == 0 else WAYS)
    return way(chance.choice(right), chance)


def check(seed: int, sent: Sent, answer: Answer) -> None:
    """Hold the law on one answer."""
    told = f"seed {seed}: {sent.method} {sent.path[:60]}?{sent.query} {sent.headers} "
    told += f"{sent.body[:200]!r}: {answer.status} {answer.body[:300]!r}"
    assert answer.status in STATUSES, told
    assert len(answer.body) < 2**20, told
    if answer.status == 200:
        return
    if sent.method != "HEAD":
        error = json.loads(answer.body)["error"]
        assert error, told
        assert error.isprintable(), told
        assert len(error) < 1000, told
        assert "/tmp/" not in error, told
        assert "root:" not in error, told


def of(answer: Answer) -> Any:
    """The JSON of an answer."""
    return json.loads(
        answer.body[: int(answer.headers.get(SIZE.lower().encode(), len(answer.body)))]
    )


def alike(one: Any, two: Any) -> bool:
    """True if two values are equal but for the last digits, which depend on the batch."""
    if isinstance(one, float) and isinstance(two, float):
        return abs(one - two) < 1e-4
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(alike, one, two))
    return bool(one == two)


async def attack(ask: Any, right: list[Sent], inputs: int, seed: int, say: Any) -> None:
    """Ask so many hostile requests, and a right one beside each few, which must not notice."""

    async def send(sent: Sent) -> Answer:
        answer: Answer = await ask(sent.path, sent.body, sent.headers, sent.method, sent.query)
        return answer

    wanted = [await send(each) for each in right]
    assert [each.status for each in wanted] == [200] * len(right)
    for first in range(seed, seed + inputs, TOGETHER):
        if first % 1000 < TOGETHER:
            say(f"seed {first}")
        numbers = range(first, min(first + TOGETHER, seed + inputs))
        some = [hostile(number, right) for number in numbers]
        good = first // TOGETHER % len(right)
        answers = await asyncio.gather(*map(send, [*some, right[good]]))
        for number, sent, answer in zip(numbers, some, answers, strict=False):
            check(number, sent, answer)
        assert answers[-1].status == 200, f"seed {first}: {answers[-1].body!r}"
        assert alike(*(of(each) for each in (answers[-1], wanted[good]))), f"seed {first}"
    left = json.loads((await ask("/exits", method="GET")).body)
    assert left["pending"] == 0, left


def fuzz(folder: Path, inputs: int, seed: int, say: Callable[[str], object]) -> None:
    """Hold the law on so many requests, two thirds for images and one for records."""
    shares = {images_runner: (of_images(), 2 / 3), records_runner: (of_records(), 1 / 3)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for runner, (right, share) in shares.items():
        work = partial(attack, right=right, inputs=round(inputs * share), seed=seed, say=say)
        asked(partial(runner, folder), work, max_body=2**22, max_pixels=2**20, max_delay=(0.0,))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_GROWTH, f"memory grew by {grown:,} KB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        fuzz(Path(made), given.inputs, given.seed, lambda text: print(text, flush=True))
    sys.exit(0)
