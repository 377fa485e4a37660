"""Bundles on the Hugging Face Hub: their card, and running them from its cache, without network."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

import committee as cm
from committee.cli import main
from committee.data.base import part
from committee.embedded import open_images, pool_file
from committee.errors import CascadeError, ExportError, MissingExtraError
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.predict import predict
from committee.rule.origin import Origin, Promised, RecordedTarget
from export_world import CASCADES, embedded

COMMIT = "a" * 40


def put_on_hub(bundle: Path, cache: Path, name: str = "me/cascade") -> Path:
    """Lay out a folder as the Hub's client caches it: links into a folder of blobs."""
    root = cache / f"models--{name.replace('/', '--')}"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / folder).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for path in bundle.rglob("*"):
        if path.is_file():
            blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copyfile(path, blob)
            link = root / "snapshots" / COMMIT / path.relative_to(bundle)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return root / "snapshots" / COMMIT


@pytest.fixture(scope="module")
def cascade() -> cm.Cascade:
    """A cascade as search writes it."""
    own = embedded(CASCADES["mean_logits"])
    target = RecordedTarget(match="large", models=("large",), within=0.005)
    promised = Promised(5000, 0.93, 5e6, 4e7, (0.8, 0.1, 0.1), "top-1")
    return replace(own, origin=Origin("val", unit="macs", target=target, promised=promised))


@pytest.fixture(scope="module")
def bundle(cascade: cm.Cascade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(cascade, tmp_path_factory.mktemp("bundle") / "out")


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def on_hub(cache: Path, *words: str) -> subprocess.CompletedProcess:
    """Run the command line where the Hub is reached through its cache alone."""
    return subprocess.run(
        [sys.executable, "-m", "committee", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache through which alone the Hub is reached, by this process too."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_the_card_tells_what_the_file_knows_and_no_path(bundle, cascade, tmp_path):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert front_matter(card)["pipeline_tag"] == "image-classification"
    assert "license" not in front_matter(card)
    for words in (
        "stands in for large: the cheapest found that is at most 0.5 points less accurate",
        "| large | 30.8 M macs | given",
        "93.00 % on 5,000 samples of val, 95 % interval 92.26 % to 93.67 %. These chose",
        "nothing is promised of new data",
        "Name the licence",
    ):
        assert words in card
    assert "one image" not in card
    assert str(pool_file().models[0].text) not in card
    again = write_bundle(cascade, tmp_path / "again")
    assert (again / "README.md").read_bytes() == (bundle / "README.md").read_bytes()


def test_who_edits_the_card_does_not_break_the_bundle(bundle, cascade, tmp_path):
    edited = shutil.copytree(bundle, tmp_path / "edited")
    (edited / "README.md").write_text("---\nlicense: mit\n---\n")
    assert cm.load(edited).names == cascade.names
    (edited / "README.md").unlink()
    assert cm.load(edited).names == cascade.names


def test_an_evaluation_stands_in_the_card_and_the_split_that_chose_is_refused(tmp_path, capsys):
    models, store = pool_file().only(["nano", "large"]), tmp_path / "store"
    for split, rows in (("val", "0:200"), ("test", "200:400")):
        predict(models, part(open_images("all", split, models.classes), rows), store)
    chosen = cm.search(cm.Pool.load(store / "val")).matching("large")
    path = chosen.cascade.save(tmp_path / "c.json")
    assert main(["export", str(path), "--out", str(tmp_path / "b"), "--test", str(store)]) == 0
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    test = cm.evaluate(chosen.cascade, cm.Pool.load(store / "test"))
    (result,) = front_matter(card)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(test.accuracy)
    assert "On the 200 samples of test, which did not choose it" in card
    assert "| large |" in card.partition("## Evaluation")[2]
    capsys.readouterr()
    words = ["export", str(path), "--out", str(tmp_path / "d"), "--test", str(store / "val")]
    assert main(words) == 2
    assert "chose the cascade and would flatter it" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "c.onnx"), *words[4:]]) == 2
    assert "--test goes with a bundle" in capsys.readouterr().err


def test_commands_and_python_take_a_bundle_on_the_hub(bundle, cache, tmp_path, capsys):
    put_on_hub(bundle, cache)
    data = ("--data", "embedded:test", "--rows", "0:40")
    assert main(["run", str(bundle), *data, "--out", str(tmp_path / "here.csv")]) == 0
    done = on_hub(cache, "run", "hf://me/cascade", *data, "--out", str(tmp_path / "hub.csv"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hub.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    capsys.readouterr()
    assert main(["verify", f"hf://me/cascade@{COMMIT}", *data, "--against", str(bundle)]) == 0
    assert "all decisions are the same" in capsys.readouterr().out
    assert main(["export", "hf://me/cascade", "--out", str(tmp_path / "again")]) == 0
    sums = [(each / "SHA256SUMS").read_bytes() for each in (bundle, tmp_path / "again")]
    assert sums[0] == sums[1]


def test_code_of_a_bundle_on_the_hub_does_not_run(bundle, cache, tmp_path):
    evil, ran = shutil.copytree(bundle, tmp_path / "evil"), tmp_path / "ran"
    sums = (evil / "SHA256SUMS").read_text()
    for path in evil.rglob("*.py"):
        old = hashlib.sha256(path.read_bytes()).hexdigest()
        path.write_text(f"open({str(ran)!r}, 'w').close()\n")
        sums = sums.replace(old, hashlib.sha256(path.read_bytes()).hexdigest())
    (evil / "SHA256SUMS").write_text(sums)
    put_on_hub(evil, cache)
    words = ("--data", "embedded:test", "--rows", "0:4", "--out", str(tmp_path / "out.csv"))
    done = on_hub(cache, "run", "hf://me/cascade", *words)
    assert done.returncode == 0, done.stderr
    assert not ran.exists()


def test_a_link_out_of_the_cache_of_a_bundle_is_refused(bundle, tmp_path):
    snapshot = put_on_hub(bundle, tmp_path / "cache")
    link, outside = snapshot / "models" / "nano" / "model.onnx", tmp_path / "model.onnx"
    shutil.copyfile(link, outside)
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(ExportError, match=r"nano/model\.onnx leaves the folder"):
        cm.load(snapshot)


@pytest.mark.parametrize(
    "address", ["hf://", "hf://me", "hf://me/a/b", "hf://me/a@", "hf:/me/a@b@c"]
)
def test_another_form_of_an_address_is_named(address):
    with pytest.raises(CascadeError, match=r"write hf://OWNER/NAME"):
        cm.load(address)


class ConnectError(Exception):
    """As the client has it, which is no OSError."""


def without_network(**_: str) -> None:
    logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5].")
    raise LocalEntryNotFoundError("a long text") from ConnectError("no name")


def test_what_is_not_there_gets_one_line(bundle, cache, monkeypatch, caplog, capsys):
    put_on_hub(bundle, cache)
    for address in ("hf://me/other", "hf://me/cascade@v2"):
        assert main(["run", address, "--data", "embedded:test", "--out", "o.csv"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{address}: cannot be fetched" in line
    monkeypatch.setattr("huggingface_hub.hf_hub_download", without_network)
    logged = caplog.records
    with pytest.raises(ExportError, match=r"the Hub cannot be reached, .* \(ConnectError: no name"):
        cm.load("hf://me/other")
    assert not logged
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtraError, match=r'hf://me/cascade needs .* pip install "huggingface'
    ):
        cm.load("hf://me/cascade")
    with pytest.raises(MissingExtraError):
        cm.Runner(Path("hf://me/cascade"))


def test_load_opens_files_bundles_and_graphs(cascade, bundle, tmp_path):
    file = cascade.save(tmp_path / "c.json")
    for path in (file, bundle, bundle / "cascade.json"):
        assert cm.load(path).stages == cascade.stages
    assert cm.load(write_graph(cascade, tmp_path / "c.onnx")).stages == cascade.stages
