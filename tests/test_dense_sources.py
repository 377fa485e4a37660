"""Segmentation models of torchvision and transformers, by name, with random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from committee.errors import PoolFileError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.segment.outputs import pixel_logits

torch = pytest.importorskip("torch", reason="these models are torch's")


def pool(folder, source, more=""):
    path = folder / "pool.toml"
    path.write_text(
        f'task = "semantic-segmentation"\n[[model]]\nname = "m"\nsource = "{source}"\n'
        f'weights = "random"\n{more}'
    )
    return read_pool_file(path)


def test_torchvision_s_deeplab_by_name(tmp_path):
    pytest.importorskip("torchvision", reason="the model is torchvision's")
    spec = pool(tmp_path, "torchvision:deeplabv3_mobilenet_v3_large@64x96").models[0]
    assert spec.preprocessing.mean == (0.485, 0.456, 0.406)
    model, known = load_model(spec)
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    logits = pixel_logits(model, known, batch)
    assert logits.shape == (2, 21, 64, 96)
    with torch.inference_mode():
        expected = model.module.model(torch.tensor(batch))["out"].numpy()
    assert logits == pytest.approx(expected, abs=1e-4)
    # Windows of another size go through the same model.
    assert pixel_logits(model, known, batch[:, :, :40, :48]).shape == (2, 21, 40, 48)


def test_torchvision_s_own_weights_fit_by_their_names(tmp_path):
    torchvision = pytest.importorskip("torchvision", reason="the model is torchvision's")
    make = torchvision.models.segmentation.lraspp_mobilenet_v3_large
    deeplab = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large
    for made, name in ((make, "lraspp"), (deeplab, "deeplabv3")):
        extra = {"aux_loss": True} if name == "deeplabv3" else {}
        theirs = made(weights=None, weights_backbone=None, **extra).eval()
        torch.save(theirs.state_dict(), tmp_path / "w.pt")
        (tmp_path / "pool.toml").write_text(
            'task = "semantic-segmentation"\n[[model]]\nname = "m"\nweights = "w.pt"\n'
            f'source = "torchvision:{name}_mobilenet_v3_large@64x96"\n'
        )
        model, spec = load_model(read_pool_file(tmp_path / "pool.toml").models[0])
        batch = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
        with torch.inference_mode():
            expected = theirs(torch.tensor(batch))["out"].numpy()
        assert pixel_logits(model, spec, batch) == pytest.approx(expected, abs=1e-4)


def test_torchvision_s_segmentation_needs_a_size(tmp_path):
    pytest.importorskip("torchvision", reason="the model is torchvision's")
    with pytest.raises(PoolFileError, match="resolution is missing"):
        pool(tmp_path, "torchvision:deeplabv3_resnet50")


def test_deeplab_is_counted_at_the_paper_s_size():
    pytest.importorskip("torchvision", reason="the model is torchvision's")
    from torchvision.models import segmentation

    from committee.profile.macs import torch_macs

    for make, billions in (
        (segmentation.deeplabv3_resnet50, 1308.6),
        (segmentation.deeplabv3_resnet101, 1929.2),
    ):
        with torch.device("meta"):
            module = make(weights=None, weights_backbone=None, num_classes=19)
        assert torch_macs(module, (1, 3, 1024, 2048)) / 1e9 == pytest.approx(billions, abs=0.05)


def test_segformer_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the model is transformers'")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    )
    folder = tmp_path / "segformer"
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.25, 0.25, 0.25],
                "image_processor_type": "SegformerImageProcessor",
                "resample": 2,
                "size": {"height": 64, "width": 96},
            }
        )
    )
    spec = pool(tmp_path, "transformers:segformer").models[0]
    assert spec.preprocessing.size == (64, 96)
    model, known = load_model(spec)
    assert known.costs[0].value > 0
    batch = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    # At a quarter of the resolution, brought up.
    assert model(batch).shape == (1, 5, 16, 24)
    assert pixel_logits(model, known, batch).shape == (1, 5, 64, 96)
