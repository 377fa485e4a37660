"""The store: what goes in comes out to the bit, and what cannot be trusted is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Pool
from committee.errors import ChangedError, DamagedError, StoreError, UnknownNameError
from committee.rule.outputs import Outputs
from committee.spec.preprocessing import Preprocessing
from committee.store.entry import CHUNK_ROWS, SCHEMA, Entry
from committee.store.folder import writing
from committee.store.split import Split
from small_world import CLASSES, files_of, samples

ROWS = 2 * CHUNK_ROWS + 88


def logits(rows: int = ROWS, seed: int = 0) -> Outputs:
    values = np.random.default_rng(seed).normal(size=(rows, len(CLASSES))).astype(np.float32)
    return Outputs("logits", values)


def probabilities() -> Outputs:
    weights = np.random.default_rng(1).random((ROWS, len(CLASSES)))
    return Outputs("probabilities", weights / weights.sum(axis=1, keepdims=True))


def decisions() -> Outputs:
    rng = np.random.default_rng(2)
    return Outputs("decisions", rng.integers(0, len(CLASSES), ROWS), rng.random(ROWS))


def spec(kind: str = "logits", **changed: Any) -> dict[str, Any]:
    return {
        "source": "onnx:/a.onnx",
        "kind": kind,
        "family": "",
        "preprocessing": Preprocessing((4, 4)).to_json(),
        "costs": [],
        "fingerprint": "aa",
        **changed,
    }


def entry(outputs: Outputs, **changed: Any) -> Entry:
    of = samples(len(outputs))
    usual = Entry(
        kind=outputs.kind,
        samples=of.ids_fingerprint,
        classes=of.classes_fingerprint,
        fingerprint="aa",
        batch_size=32,
        dtype="float32" if outputs.kind == "logits" else "float64",
        rows=len(outputs),
    )
    return replace(usual, **changed)


def write(root: Path, outputs: Outputs, name: str = "a", upto: int | None = None) -> Path:
    """Write a model chunk by chunk, going on where the store is; stop after ``upto`` rows."""
    of = samples(len(outputs))
    with writing(root) as store:
        store.add_models({name: spec(outputs.kind)}, CLASSES)
        store.add_samples(Split(of))
        writer = store.writer(of, name, entry(outputs))
        for chunk in writer.missing:
            start = chunk * CHUNK_ROWS
            if upto is None or start < upto:
                writer.write(chunk, outputs.rows(slice(start, start + CHUNK_ROWS)))
    return root / of.split


@pytest.mark.parametrize("outputs", [logits(), probabilities(), decisions()], ids=lambda o: o.kind)
def test_what_goes_in_comes_out_to_the_bit(tmp_path: Path, outputs: Outputs) -> None:
    pool = Pool.load(write(tmp_path, outputs))
    loaded = pool.model("a")
    assert (loaded.kind, loaded.values.dtype) == (outputs.kind, outputs.values.dtype)
    assert loaded.values.tobytes() == outputs.values.tobytes()
    if outputs.confidence is not None:
        assert loaded.confidence is not None
        assert loaded.confidence.tobytes() == outputs.confidence.tobytes()
    assert pool.samples.fingerprint == samples(ROWS).fingerprint
    assert pool.samples.classes == CLASSES


def test_one_line_of_numpy_reads_outputs(tmp_path: Path) -> None:
    np.testing.assert_array_equal(np.load(write(tmp_path, logits()) / "a.npy"), logits().values)


def test_outputs_stay_on_disk_until_used(tmp_path: Path) -> None:
    assert isinstance(Pool.load(write(tmp_path, logits())).model("a").values, np.memmap)


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, ROWS])
def test_chunks_add_up_whatever_the_number_of_rows(tmp_path: Path, rows: int) -> None:
    pool = Pool.load(write(tmp_path, logits(rows)))
    np.testing.assert_array_equal(pool.model("a").values, logits(rows).values)


def test_a_store_depends_only_on_its_content(tmp_path: Path) -> None:
    write(tmp_path / "a", logits())
    write(tmp_path / "b", logits(), upto=CHUNK_ROWS)
    write(tmp_path / "b", logits())
    write(tmp_path / "b", logits())
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_manifest_names_the_fingerprint_of_the_model(tmp_path: Path) -> None:
    manifest = json.loads((write(tmp_path, logits()) / "a.json").read_text())
    assert manifest["entry"]["fingerprint"] == "aa"
    assert "model" not in manifest


# Each damage, and a word of the line that tells it.
def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def spoil_header(path: Path) -> None:
    path.write_bytes(b"garbage" + path.read_bytes()[7:])


def shorten_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"'shape': (600, 3)", b"'shape': (599, 3)"))


def change_a_label(path: Path) -> None:
    data = json.loads(path.read_text())
    data["labels"][7] = (data["labels"][7] + 1) % len(CLASSES)
    path.write_text(json.dumps(data))


def drop_a_checksum(path: Path) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "parts": data["parts"][1:]}))


def drop_kind(path: Path) -> None:
    data = json.loads(path.read_text())
    del data["entry"]["kind"]
    path.write_text(json.dumps(data))


def drop_costs(path: Path) -> None:
    path.write_text(path.read_text().replace('"costs"', '"cost"'))


@pytest.mark.parametrize(
    ("file", "damage", "word"),
    [
        ("val/a.npy", truncate, "truncated"),
        ("val/a.npy", empty, "truncated"),
        ("val/a.npy", flip, "altered"),
        ("val/a.npy", lengthen, "altered"),
        ("val/a.npy", spoil_header, "its header is not the one"),
        ("val/a.npy", shorten_header, "its header is not the one"),
        ("val/a.npy", Path.unlink, "missing"),
        ("val/a.json", truncate, "damaged"),
        ("val/a.json", drop_a_checksum, "altered"),
        ("val/a.json", drop_kind, "altered"),
        ("val/samples.json", truncate, "damaged"),
        ("val/samples.json", change_a_label, "altered"),
        ("store.json", truncate, "damaged"),
        ("store.json", drop_costs, "altered"),
    ],
)
def test_damage_is_named_and_refused(tmp_path: Path, file: str, damage: Any, word: str) -> None:
    folder = write(tmp_path, logits())
    assert Pool.load(folder).names == ["a"]
    damage(tmp_path / file)
    with pytest.raises(DamagedError, match=word) as told:
        Pool.load(folder)
    line = str(told.value)
    assert "\n" not in line
    assert file in line
    assert "again" in line


def test_a_flipped_byte_is_found_by_its_chunk(tmp_path: Path) -> None:
    folder = write(tmp_path, logits())
    flip(folder / "a.npy")
    # 1,000 bytes before the end are 84 rows of 12 bytes: row 516, in the third chunk.
    with pytest.raises(DamagedError, match="altered in chunk 2, samples 512 to 599\\."):
        Pool.load(folder)
    data = bytearray((folder / "a.npy").read_bytes())
    data[200] ^= 1
    (folder / "a.npy").write_bytes(data)
    with pytest.raises(DamagedError, match="in chunk 0, samples 0 to 255 and 1 more chunks"):
        Pool.load(folder)


@pytest.mark.parametrize(
    "damage", [truncate, empty, flip, lengthen, spoil_header, shorten_header, Path.unlink]
)
def test_writing_again_mends_outputs(tmp_path: Path, damage: Any) -> None:
    folder = write(tmp_path, logits())
    before = files_of(tmp_path)
    damage(folder / "a.npy")
    write(tmp_path, logits())
    assert files_of(tmp_path) == before


def test_writing_again_mends_altered_labels(tmp_path: Path) -> None:
    folder = write(tmp_path, logits())
    before = files_of(tmp_path)
    change_a_label(folder / "samples.json")
    write(tmp_path, logits())
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("byte", [140, -1000], ids=["first chunk", "last chunk"])
def test_only_the_damaged_chunk_is_missing(tmp_path: Path, byte: int) -> None:
    folder = write(tmp_path, logits())
    data = bytearray((folder / "a.npy").read_bytes())
    data[byte] ^= 1
    (folder / "a.npy").write_bytes(data)
    with writing(tmp_path) as store:
        writer = store.writer(samples(ROWS), "a", entry(logits()))
    assert writer.missing == list(writer.damaged) == [0 if byte > 0 else 2]


@pytest.mark.parametrize("file", ["store.json", "val/samples.json", "val/a.json"])
def test_a_newer_schema_is_refused(tmp_path: Path, file: str) -> None:
    folder = write(tmp_path, logits())
    data = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**data, "schema": 99}))
    with pytest.raises(
        StoreError, match=rf"schema 99 is newer than {SCHEMA}.*the version of committee that wrote"
    ) as told:
        Pool.load(folder)
    assert file in str(told.value)


@pytest.mark.parametrize("file", ["store.json", "val/samples.json", "val/a.json"])
def test_an_older_schema_is_refused(tmp_path: Path, file: str) -> None:
    folder = write(tmp_path, logits())
    data = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**data, "schema": 2}))
    with pytest.raises(StoreError, match=rf"schema 2 is older than {SCHEMA}.*--out"):
        Pool.load(folder)


def test_an_unfinished_model_says_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path, logits(), name="b")
    folder = write(tmp_path, logits(), upto=CHUNK_ROWS)
    with pytest.raises(StoreError, match=r"'a' is unfinished\. Run the same committee predict"):
        Pool.load(folder)
    assert Pool.load(folder, ["b"]).names == ["b"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, logits(), name="small")
    with pytest.raises(UnknownNameError, match=r"no model 'smal'\. Did you mean 'small'"):
        Pool.load(folder, ["smal"])
    with pytest.raises(UnknownNameError, match=r"no split 'vla'\. Did you mean 'val'"):
        Pool.load(tmp_path / "vla")
    assert Pool.load(tmp_path).samples.split == "val"
    folder.rename(tmp_path / "test")
    with pytest.raises(StoreError, match="this is a store; name one of its splits"):
        Pool.load(tmp_path)
    with pytest.raises(StoreError, match="no store is there"):
        Pool.load(tmp_path / "elsewhere" / "val")


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from committee.store.folder import writing\n"
        "with writing(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(StoreError, match="another process is writing"), writing(tmp_path):
            pass
        other.communicate("")
    with writing(tmp_path):
        pass


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), writing(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "samples"),
        ({"classes": "other"}, "classes"),
        ({"fingerprint": "bb"}, "another fingerprint: aa; now bb"),
        ({"batch_size": 64}, "another batch_size: 32; now 64"),
        ({"dtype": "float64"}, "another dtype: float32; now float64"),
        ({"kind": "probabilities"}, "another kind: logits; now probabilities"),
    ],
)
@pytest.mark.parametrize("upto", [CHUNK_ROWS, ROWS], ids=["unfinished", "finished"])
def test_outputs_of_something_else_are_not_mixed_in(
    tmp_path: Path, changed: dict[str, Any], told: str, upto: int
) -> None:
    write(tmp_path, logits(), upto=upto)
    before = files_of(tmp_path)
    of = samples(ROWS)
    if not changed:
        of = replace(of, ids=tuple(f"other {name}" for name in of.ids))
        changed = {"samples": of.ids_fingerprint}
    with writing(tmp_path) as store, pytest.raises(ChangedError, match=told):
        store.writer(of, "a", entry(logits(), **changed))
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"fingerprint": "bb"}, "'a' has changed: fingerprint was aa, is bb"),
        ({"preprocessing": {"size": [8, 8]}}, "preprocessing was {'size'.* is {'size'"),
        ({"kind": "decisions"}, "kind was logits, is decisions"),
    ],
)
def test_another_model_of_the_same_name_is_refused(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    write(tmp_path, logits())
    with writing(tmp_path) as store, pytest.raises(ChangedError, match=told):
        store.add_models({"a": spec(**changed)}, CLASSES)


def test_other_classes_and_other_samples_are_refused(tmp_path: Path) -> None:
    write(tmp_path, logits())
    with writing(tmp_path) as store:
        with pytest.raises(ChangedError, match=r"3 classes \(cat, dog, eel .* now have 2 \(cat"):
            store.add_models({"a": spec()}, CLASSES[:2])
        other = samples(ROWS, seed=1)
        with pytest.raises(ChangedError, match="that of '0' was 2, is 1"):
            store.add_samples(Split(other))


def test_costs_are_added_by_unit(tmp_path: Path) -> None:
    def cost(value: float, unit: str) -> dict[str, Any]:
        return {"value": value, "unit": unit, "source": "given", "conditions": ""}

    folder = write(tmp_path, logits())
    with writing(tmp_path) as store:
        first = {"a": spec(costs=[cost(1, "macs"), cost(2, "dollars")])}
        assert [store.add_models(first, CLASSES) for _ in range(2)] == [[], []]
        (note,) = store.add_models({"a": spec(costs=[cost(3, "macs")])}, CLASSES)
    assert "a now costs 3 macs, before it was 1; the new cost holds for all splits" in note
    costs = Pool.load(folder).costs
    assert (costs.values("macs"), costs.values("dollars")) == ({"a": 3}, {"a": 2})


@pytest.mark.parametrize("split", ["", "..", "a/b", ".hidden", "ü", "store.json", "v" * 300])
def test_a_split_names_a_folder_in_the_store(tmp_path: Path, split: str) -> None:
    with writing(tmp_path) as store, pytest.raises(StoreError, match="it names a folder"):
        store.add_samples(Split(samples(3, split)))


def test_chunks_must_keep_their_width(tmp_path: Path) -> None:
    with writing(tmp_path) as store:
        store.add_samples(Split(samples(ROWS)))
        writer = store.writer(samples(ROWS), "a", entry(logits()))
        writer.write(0, logits().rows(slice(0, CHUNK_ROWS)))
        with pytest.raises(StoreError, match="answers with 2 outputs a sample, before it were 3"):
            writer.write(1, Outputs("logits", np.zeros((CHUNK_ROWS, 2), np.float32)))
