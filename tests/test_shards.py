"""Folders of stores: searched, evaluated and certified as one split; what does not fit is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Pool, evaluate, search
from committee.certificates.certificate import chosen_by
from committee.cli import main
from committee.errors import ChangedError, CommitteeError, MisalignedError
from committee.pool.comparison import sum_of
from committee.pool.pool_model import PoolModel
from committee.pool.samples import Samples
from committee.rule.outputs import Outputs
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.store.import_predictions import write_pool
from committee.store.shards import in_ranges, is_sharded, open_shards
from shard_world import COSTS, decisions, write_shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), decisions(3000), [700, 1500, 2900])


def committees(front: Any) -> list[tuple[Any, ...]]:
    return [(each.cascade.stages, each.evaluation) for each in front]


def test_a_folder_of_stores_has_the_front_of_its_samples(folder):
    pool = decisions(3000)
    shards = open_shards(folder, "val")
    assert len(shards.places) == 4
    front, own = search(pool), search(shards)
    assert committees(front) == committees(own)
    chosen = own.matching("c", within=0.01)
    assert chosen.cascade.expected == front.matching("c", within=0.01).cascade.expected
    assert evaluate(chosen.cascade, shards) == evaluate(chosen.cascade, pool)
    assert repr(shards) == repr(pool)


def test_ranges_of_one_store_have_its_front(tmp_path):
    write_pool(tmp_path, decisions(1000))
    pool = Pool.load(tmp_path / "val")
    shards = in_ranges(pool, tmp_path / "val", map, rows=300)
    assert len(shards.places) == 4
    assert committees(search(shards)) == committees(search(pool))


def test_commands_search_evaluate_and_certify_a_folder(folder, tmp_path, committee):
    one, new, out = tmp_path / "one", tmp_path / "new", tmp_path / "c.json"
    write_pool(one, decisions(3000))
    write_shards(new, decisions(3000, seed=1, split="new"), [1000])
    words = ("--match", "c", "--within", "0.02", "--json")
    found, told = (json.loads(committee("search", each, *words)) for each in (folder, one))
    assert found["chosen"]["evaluation"] == told["chosen"]["evaluation"]
    assert found["chosen"]["versus"] == told["chosen"]["versus"]
    assert found["warnings"] == told["warnings"]
    committee("search", folder, "--match", "c", "--within", "0.02", "--out", out)
    assert "chose the cascade" in committee("evaluate", out, folder, "--split", "val")
    words = ("--split", "new", "--match", "c", "--within", "0.1")
    write_pool(one, decisions(3000, seed=1, split="new"))
    told = [
        json.loads(
            committee("certify", out, each, *words, "--json", "--out", tmp_path / "certified.json")
        )
        for each in (new, one)
    ]
    # What identifies the samples of a folder is a sum, in a store also their order.
    for each in told:
        del each["certificate"]["samples_fingerprint"], each["certificate"]["checksum"]
    assert told[0]["certificate"] == told[1]["certificate"]
    assert "Certificate" in committee("certify", out, new, *words)
    newer = write_shards(tmp_path / "newer", decisions(3000, seed=2, split="test"), [10])
    assert "kept" in committee("evaluate", out, newer)


def test_options_that_need_all_samples_are_refused(folder, capsys):
    for words in (
        ["--calibrated"], ["--agree-with", "c"], ["--method", "guided"], ["--test", "val"],
    ):  # fmt: skip
        assert main(["search", str(folder), *words]) == 2
        told = capsys.readouterr().err
        assert f"{words[0]} goes with one store, without --on ray" in told
        assert told.count("\n") == 1


def changed(**options: Any) -> Callable[[Path], None]:
    """What puts a store with other facts in place of the last shard."""

    def change(root: Path) -> None:
        shutil.rmtree(root / "0003")
        write_pool(root / "0003", decisions(100, seed=3, **options))

    return change


def damage(root: Path) -> None:
    path = root / "0002" / "val" / "b.npy"
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)


def without_b(root: Path) -> None:
    shutil.rmtree(root / "0003")
    write_pool(root / "0003", decisions(100, seed=3).only(["a", "c"]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (damage, "b.npy: altered in chunk 0"),
        (without_b, "must have the same models: 'a', 'c' here, 'a', 'b', 'c' in"),
        (changed(costs={**COSTS, "a": 2.0}), "the same costs: 'a 2 macs'"),
        (changed(unit="dollars"), "the same costs: 'a 1 dollars'"),
        (changed(classes=list("vwxyz")), "the same classes: 'v', 'w'"),
        (changed(costs={**COSTS, "a": np.arange(100.0)}), "costs of 'a' differ by sample"),
        (changed(split="other"), "0003: no split 'val'"),
        (changed(families={"a": "net"}), "the same families: 'a net'"),
        (lambda root: (root / "0003" / "store.json").unlink(), "0003: has 'val' and no store.json"),
        (lambda root: shutil.copytree(root / "0001", root / "0005"), "holds the same as"),
    ],
)
def test_a_shard_that_does_not_fit_is_named_in_one_line(folder, tmp_path, change, told):
    copy = shutil.copytree(folder, tmp_path / "copy")
    change(copy)
    with pytest.raises(CommitteeError, match=told) as error:
        open_shards(copy, "val")
    assert "\n" not in str(error.value)
    assert "000" in str(error.value)


def test_one_store_among_other_things_is_named(tmp_path, capsys):
    write_pool(tmp_path / "out" / "predictions", decisions(300))
    (tmp_path / "out" / "_SUCCESS").touch()
    assert is_sharded(tmp_path / "out")
    (tmp_path / "out" / "report.html").touch()
    one = tmp_path / "out" / "predictions"
    told = f"is no store, but holds one among other things. Name that one: {one}"
    assert main(["search", f"{tmp_path}/out", "--match", "c", "--test", "test"]) == 2
    assert capsys.readouterr().err == f"committee: {tmp_path}/out: {told}\n"


def loadable(seed: int, **facts: Any) -> Pool:
    """Outputs of a model that can be loaded, of which ``facts`` are known."""
    known = {"fingerprint": "0" * 16, "preprocessing": Preprocessing((28, 28)), **facts}
    spec = ModelSpec("net", "onnx:/net.onnx", **known)
    outputs = np.random.default_rng(seed).normal(size=(20, 3)).astype(np.float32)
    samples = Samples.of(np.arange(20) % 3, [f"s{seed}-{row}" for row in range(20)])
    return Pool(samples, {"net": PoolModel(spec, Outputs("logits", outputs))})


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"fingerprint": "1" * 16}, "weights"),
        ({"preprocessing": Preprocessing((14, 14))}, "preprocessing"),
    ],
)
def test_shards_of_other_weights_or_preprocessing_are_refused(tmp_path, facts, told):
    write_pool(tmp_path / "0", loadable(0))
    write_pool(tmp_path / "1", loadable(1, **facts))
    with pytest.raises(MisalignedError, match=f"the same {told}"):
        open_shards(tmp_path, "val")


@pytest.mark.parametrize("name", ["{}", "s{}"])
def test_samples_that_chose_cannot_certify_however_they_are_divided(tmp_path, name):
    pool = decisions(700, ids=[name.format(row) for row in range(700)])
    first = open_shards(write_shards(tmp_path / "first", pool, [100, 300]), "val")
    chosen = search(first).matching("c", 0.05).cascade
    alone = search(pool).matching("c", 0.05).cascade
    second = open_shards(write_shards(tmp_path / "second", pool, [50]), "val")
    for own in (first, second, pool, pool.rows(slice(None, None, -1), "val")):
        for each in (chosen, alone):
            assert chosen_by(each, own) == "these samples chose the cascade"
    assert not chosen_by(chosen, decisions(700, seed=4))
    other = write_shards(tmp_path / "other", decisions(700, seed=4), [100])
    assert not chosen_by(alone, open_shards(other, "val"))


def test_a_store_that_was_replaced_is_read_anew_and_not_in_the_middle(tmp_path):
    write_shards(tmp_path / "root", decisions(300), [100])
    before = open_shards(tmp_path / "root", "val")
    assert sum(before.each(len)) == 300
    shutil.rmtree(tmp_path / "root" / "0001")
    write_pool(tmp_path / "root" / "0001", decisions(50, seed=5))
    with pytest.raises(ChangedError, match="0001/val: changed while"):
        list(before.each(len))
    after = open_shards(tmp_path / "root", "val")
    assert (len(after), sum(after.each(len))) == (150, 150)


def test_ids_that_count_up_are_no_copies_of_one_another():
    # The checksums alone of these have the same sums, and the same sums of squares.
    shards = ([f"{shard}-{row:03o}" for row in range(512)] for shard in range(8))
    assert len({tuple(sum_of(decisions(512, ids=ids)).tolist()) for ids in shards}) == 8
