"""Damaged and crafted files through the commands: one line and code 2, or an answer, and no more.

``python tests/fuzz.py --inputs 100000 --seed 0`` prints a seed every hundred inputs; any of them
begins there again. The suite takes a few hundred (``test_fuzz.py``).
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

from committee import Cascade, Pool
from committee.cli import main
from committee.reading import is_sealed, sealed_json
from committee.store.calibrations import calibrate
from committee.store.import_predictions import import_predictions

BATCH = 100
STRANGE = (
    None, True, -1, 0, 1, 10**30, 1e308, -0.5, "", "x", "\ud800", "\x00", "[/red]", [], {}, [[]],
    float("nan"), float("inf"), {"a": 1}, [1, "a"], "../x", "=1+1", "\x1b]0;x\x07",
)  # fmt: skip
POOL = """task = "image-classification"
classes = ["red", "green", "blue"]
[preprocessing]
crop = 0.9
mean = [0.5, 0.5, 0.5]
[[model]]
name = "a"
source = "onnx:none.onnx"
resolution = 32
costs.macs = 5
"""


@dataclass(frozen=True)
class Target:
    """A file, the command that reads it, and whether a checksum vouches for its bytes."""

    path: Path
    command: tuple[str, ...]
    vouched: bool = False


def world(folder: Path) -> list[Target]:
    """Return files of every form, in a folder that is made."""
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 3, 40)
    for split in ("val", "test"):
        for name, scale in (("a", 1.0), ("b", 3.0)):
            values = chance.normal(size=(40, 3)) + scale * np.eye(3)[labels]
            np.savez(
                folder / f"{name}.npz",
                outputs=values,
                label=labels,
                id=[f"{split} {i}" for i in range(40)],
            )
        files = {name: folder / f"{name}.npz" for name in "ab"}
        import_predictions(
            files, folder / "store", kind="logits", split=split, costs={"a": 1e6, "b": 3e6}
        )
    store, cascade = str(folder / "store"), folder / "c.json"
    Cascade.of(["a", "b"], [0.5]).save(cascade)
    (folder / "pool.toml").write_text(POOL)
    np.save(folder / "x.npy", chance.normal(size=(40, 3)))
    rows = "\n".join(f"{i},{row % 3},0.{row}1,-0.2{row},0.{row}" for i, row in enumerate(range(40)))
    (folder / "t.csv").write_text(f"id,label,red,green,blue\n{rows}\n")
    evaluate = ("evaluate", str(cascade), store, "--split", "val", "--json")
    into = ("--out", str(folder / "other"), "--kind", "logits", "--split", "val")
    stored = [folder / "store" / name for name in ("store.json", "val/samples.json")]
    stored += [folder / "store/val" / name for name in ("a.json", "a.npy")]
    return [
        Target(cascade, evaluate),
        *(Target(path, evaluate, vouched=True) for path in stored),
        Target(folder / "pool.toml", ("profile", str(folder / "pool.toml"))),
        Target(folder / "x.npy", ("import", f"x={folder / 'x.npy'}", *into)),
        Target(folder / "t.csv", ("import", f"t={folder / 't.csv'}", *into)),
        Target(folder / "a.npz", ("import", f"a={folder / 'a.npz'}", *into)),
        *answers_of_services(folder, chance),
    ]


def answers_of_services(folder: Path, chance: np.random.Generator) -> list[Target]:
    """Return files of outcomes and decisions with costs by sample, calibrations and tables."""
    rows = [
        {
            "sample": f"q{i}",
            "model": name,
            "value": int(chance.integers(2)),
            "confidence": round(float(chance.random()), 2),
            "usd": 0.1 + (i + k) % 7,
        }
        for i in range(40)
        for k, name in enumerate("ab")
    ]
    log, table = folder / "log.jsonl", folder / "log.csv"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [",".join(map(str, row.values())) for row in rows]
    table.write_text("\n".join([",".join(rows[0]).replace("value", "class"), *lines]))
    bench = folder / "bench.csv"
    bench.write_text(
        "model,infer_img_size,infer_gmacs,infer_samples_per_sec\na,224,1,9\nb,224,2,4\n"
    )
    graded, services = folder / "graded", folder / "services"
    import_predictions({"log": log}, graded, kind="outcomes", split="val")
    ids = [f"q{i}" for i in range(40)]
    np.savez(folder / "labels.npz", id=ids, label=chance.integers(0, 2, 40))
    import_predictions(
        {"log": table}, services, kind="decisions", split="val", labels=folder / "labels.npz"
    )
    calibrate(services, "val", "experts")
    chosen, decided = folder / "graded.json", folder / "decided.json"
    Cascade.of(["a", "b"], [0.5], combine="last").save(chosen)
    pool = Pool.load(services, calibrated=True)
    cascade = Cascade.of(["a", "b"], [0.6], "agreement", "vote", pool.calibrations)
    cascade.save(decided)
    of_graded = ("evaluate", str(chosen), str(graded), "--split", "val", "--json")
    of_services = ("evaluate", str(decided), str(services), "--split", "val", "--json")
    into = ("--out", str(folder / "other"), "--kind", "outcomes", "--split", "val")
    bench_of = ("--costs", f"timm-bench:{bench}", "--missing", "pass")
    return [
        *(Target(graded / "val" / name, of_graded, vouched=True)
          for name in ("costs/a.json", "b.npy", "b.json")),
        Target(services / "val/costs/b.json", of_services, vouched=True),
        Target(services / "store.json", ("search", str(services), "--calibrated", "--json")),
        Target(decided, of_services),
        Target(log, ("import", str(log), *into, "--missing", "pass")),
        Target(bench, ("import", str(log), *into, *bench_of)),
    ]  # fmt: skip


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Return bytes of which one bit, near the head more often, is another."""
    at = chance.randrange(min(len(data), chance.choice((130, len(data)))))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Return the first bytes."""
    return data[: chance.randrange(len(data))]


def spliced(data: bytes, chance: random.Random) -> bytes:
    """Return bytes in which some stand twice, or are strange."""
    at = chance.randrange(len(data))
    some = chance.choice((b"\x00", b"\xff", b"[" * 5000, b"\n", b'"', data[at : at + 20], b"nan"))
    return data[:at] + some + data[at:]


def crafted(data: bytes, chance: random.Random) -> bytes:
    """Return a JSON file, sealed again if it was, in which one value is strange or gone."""
    told = json.loads(data)
    sealed = is_sealed(data)
    told.pop("checksum", None)
    made = copy.deepcopy(told)
    holder, key = chance.choice(list(_places(made)))
    value = chance.choice(STRANGE)
    if chance.random() < 0.15:
        del holder[key]
    else:
        holder[key] = value
    try:
        return sealed_json(made, 1) if sealed and made else json.dumps(made).encode()
    except ValueError:  # NaN has no JSON that could be sealed
        return json.dumps(made).encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(pairs):
        yield data, key
        if isinstance(value, dict | list) and value:
            yield from _places(value)


def header(data: bytes, chance: random.Random) -> bytes:
    """Return an npy file of another type, order or shape."""
    kinds = ("<c8", "<U3", "<M8[s]", "|O", ">f4", "<i8", "|b1", "<f2")
    array = np.zeros(chance.choice(((40, 3), (40,), (40, 0), (0, 3), (), (3, 40))), "<f4")
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": chance.choice(kinds),
            "fortran_order": chance.random() < 0.5,
            "shape": array.shape,
        },
    )
    return file.getvalue() + data[128:]


def ways(path: Path) -> list[Callable[[bytes, random.Random], bytes]]:
    """Return how a file may be damaged."""
    usual = [flipped, truncated, spliced]
    extra = {".json": [crafted] * 3, ".npy": [header]}
    return usual + extra.get(path.suffix, [])


def answer(command: tuple[str, ...]) -> tuple[int, str, str]:
    """Return code, output and errors of a command."""
    if "--out" in command:  # what an earlier input left is another store
        shutil.rmtree(command[command.index("--out") + 1], ignore_errors=True)
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(command)
    return code, out.getvalue(), err.getvalue()


def check(target: Target, right: str, seed: int, folder: Path) -> None:
    """Damage a file by a seed, run its command, and hold the law."""
    chance = random.Random(seed)
    before = target.path.read_bytes()
    way = chance.choice(ways(target.path))
    damaged = way(before, chance)
    try:
        target.path.write_bytes(damaged)
        code, out, err = answer(target.command)
    except BaseException as error:
        raise AssertionError(
            f"seed {seed}: {target.path.name}, {way.__name__}: {error!r}"
        ) from error
    finally:
        target.path.write_bytes(before)
    told = f"seed {seed}: {target.path.name}, {way.__name__}: code {code}: {err[:500]!r}"
    assert code in (0, 2), told
    assert "internal error" not in err, told
    assert "\x1b" not in err + out, told
    if code:
        assert err.count("\n") == 1, told
        assert err.startswith("committee: "), told
    elif target.vouched and damaged != before and way is not crafted:
        assert out == right, told
    left = list(folder.rglob("*.tmp"))
    assert not left, f"{told}; left {left}"


def fuzz(folder: Path, inputs: int, seed: int, say: Callable[[str], object]) -> None:
    """Hold the law on so many inputs, from a seed on."""
    targets = world(folder)
    answers = [answer(target.command) for target in targets]
    # A command that refuses the whole file too would prove nothing; that of the pool lacks a model.
    assert [code for code, _, _ in answers].count(0) == len(targets) - 1, answers
    right = [out for _, out, _ in answers]
    for number in range(seed, seed + inputs):
        if number % BATCH == 0:
            say(f"seed {number}")
        which = number % len(targets)
        check(targets[which], right[which], number, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        fuzz(Path(made), given.inputs, given.seed, lambda text: print(text, flush=True))
    sys.exit(0)
