"""Text classifiers of transformers: the tokenizer of their folder, truncation stated."""

from __future__ import annotations

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.errors import ModelError, PoolFileError
from committee.models.base import outputs_of
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.models.records import RecordBatch
from record_world import WORDS, reviews, write_csv

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
POOL = """
task = "classification"
classes = ["yes", "no"]
input = "text"
[[model]]
name = "small"
source = "transformers:tiny"
costs.ms = 1
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A BERT of 16 numbers a token that sees 12 tokens, and its tokenizer."""
    folder = tmp_path_factory.mktemp("text")
    tiny = folder / "tiny"
    tiny.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (tiny / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tiny / "vocab.txt")).save_pretrained(tiny)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        id2label={0: "no", 1: "yes"},
        label2id={"no": 0, "yes": 1},
    )
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(config).save_pretrained(tiny)
    (folder / "pool.toml").write_text(POOL)
    return folder


@pytest.fixture
def folder(built, monkeypatch):
    monkeypatch.chdir(built)
    return built


def test_texts_are_predicted_in_the_order_of_the_classes(folder, tmp_path, capsys):
    data = write_csv(tmp_path / "val.csv", reviews(40, 1))
    words = ["predict", "pool.toml", "--data", str(data), "--split", "val"]
    assert main([*words, "--out", str(tmp_path / "store")]) == 0
    assert "sees the first 12 tokens of a text; longer ones are cut" in capsys.readouterr().out
    stored = cm.Pool.load(tmp_path / "store" / "val").outputs["small"].values
    tokenizer = transformers.AutoTokenizer.from_pretrained("tiny")
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained("tiny").eval()
    texts = [row["text"] for row in reviews(40, 1)]
    with torch.inference_mode():
        tokens = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=12)
        expected = classifier(**tokens).logits.numpy()
    assert np.allclose(stored, expected[:, ::-1], atol=1e-5)


def test_a_long_text_is_cut(folder):
    model, _ = load_model(read_pool_file("pool.toml").models[0])
    long = " ".join(["good"] * 50)
    assert np.allclose(model([long]), model([" ".join(["good"] * 10)]), atol=1e-6)
    together, alone = model([long, "bad"]), model(["bad"])
    assert np.allclose(together[1:], alone, atol=1e-5)
    with pytest.raises(ModelError, match="takes texts, not int"):
        model([3])


def test_what_a_text_classifier_cannot_do(folder):
    for wrong, why in (
        (POOL.replace('input = "text"', 'input = ["a", "b"]'), "takes one column"),
        (POOL + 'engine = "onnxruntime"\n', "leave engine out"),
    ):
        (folder / "wrong.toml").write_text(wrong)
        with pytest.raises((PoolFileError, ModelError), match=why):
            load_model(read_pool_file("wrong.toml").models[0])


MODULE = """
import torch

class Sums(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, a, b):
        z = self.scale * (a + b.sum(dim=-1))
        return {"logits": torch.stack([-z, z], 1)}

def module():
    return Sums()
"""


def test_a_module_of_named_arrays(tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "pool.toml").write_text(
        """
task = "classification"
dtype = "float32"
[[model]]
name = "sums"
source = "python:module.py:module"
input = { a = "one", b = ["two", "three"] }
"""
    )
    spec = read_pool_file(tmp_path / "pool.toml").models[0]
    model, known = load_model(spec, [str(tmp_path / "module.py")])
    assert model.parameters == 1
    batch = RecordBatch.of([{"one": 1, "two": 2, "three": "3"}] * 2, spec.record)
    assert outputs_of(model, known, batch).values.tolist() == [[-12.0, 12.0]] * 2
