"""The pools that benchmarks/run.py runs: models on onnxruntime, images, and predictions."""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import committee as cm
from committee.data.arrays import ArrayDataset
from committee.data.base import Dataset
from committee.data.open import open_data
from committee.embedded import embedded_images, pool_file
from committee.errors import CommitteeError
from committee.export.pool import export_pool
from committee.models.load import load_model
from committee.models.pool_file import PoolFile, read_pool_file
from committee.pool.samples import Samples
from committee.predict import predict
from committee.run import loading
from committee.selection.front import Front
from committee.spec.model import ModelSpec

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class World:
    """One pool on one data set.

    Args:
        what: In words.
        models: Each with its preprocessing, by name, loaded to be called as they are.
        val: Predictions that choose.
        test: Predictions that evaluate.
        front: What search found on val.
        chosen: The cascade whose running is timed.
        largest: The model that is beaten.
        images: In memory, what offline and online run on; of test.
        files: The same from files, if they are photographs.
        batch: Samples a forward pass.
        online: How many are run one by one.
    """

    what: str
    models: dict
    val: cm.Pool
    test: cm.Pool
    front: Front
    chosen: cm.Cascade
    largest: str
    images: object
    files: Dataset | None
    batch: int
    online: int

    @property
    def macs(self) -> dict[str, float]:
        return self.val.costs.values("macs")

    def known(self, cascade: cm.Cascade) -> cm.Cascade:
        """The cascade with how its models are loaded."""
        models = {name: self.val.specs[name] for name in cascade.names}
        return replace(cascade, models=models, classes=self.val.samples.classes)

    def alone(self, name: str) -> cm.Cascade:
        """One model as a cascade."""
        return self.known(cm.Cascade.of([name]))


def _predicted(pool: PoolFile, splits: dict[str, Dataset], store: Path, batch: int) -> list:
    return [cm.Pool.load(predict(pool, each, store, batch_size=batch)) for each in splits.values()]


def _shared(
    spec: ModelSpec,
    allow_code: Collection[str] = (),
    threads: int = 0,
    classes: Sequence[str] = (),
) -> tuple:
    """A model, loaded once for all who ask.

    What is compared must call the same sessions: who calls one that was just called finds its
    weights in the caches of the processor, and who calls a copy does not.
    """
    key = spec.source, threads  # these models have the classes in order
    if key not in _SESSIONS:
        _SESSIONS[key] = load_model(spec, allow_code, threads, classes)
    return _SESSIONS[key]


_SESSIONS: dict = {}
loading.load_model = _shared


def _loaded(pool: PoolFile, threads: int) -> dict:
    return {
        spec.name: (_shared(spec, threads=threads)[0], spec.preprocessing) for spec in pool.models
    }


def _folder(work: Path | None, name: str) -> Path:
    return (work or Path(tempfile.mkdtemp())) / name


def fashion(data: Path | None, work: Path | None, threads: int, quick: bool):
    """The six networks and the images that the package carries."""
    pool, test = pool_file(), embedded_images("test")
    splits = {"val": embedded_images("val"), "test": test}
    val, evaluated = _predicted(pool, splits, _folder(work, "fashion"), 64)
    front = cm.search(val, max_models=3)
    count = 500 if quick else 5000
    return (
        World(
            what="six small networks on Fashion-MNIST, 28 x 28 bytes in memory",
            models=_loaded(pool, threads),
            val=val,
            test=evaluated,
            front=front,
            chosen=front.matching("large").cascade,
            largest="large",
            images=test.read(np.arange(count)),
            files=None,
            batch=64,
            online=200 if quick else 3000,
        ),
        "",
    )


def _graphs(name: str, folder: Path) -> PoolFile:
    """A pool of examples/ as ONNX graphs, exported once."""
    if not (folder / "pool.toml").is_file():
        pool = read_pool_file(ROOT / "examples" / name / "pool.toml")
        code = str(ROOT / "examples" / name / "models.py")
        export_pool(pool, folder, [code])
    return read_pool_file(folder / "pool.toml")


def cifar(data: Path | None, work: Path | None, threads: int, quick: bool):
    """ResNet-20, 32, 44 and 56 and the test images of CIFAR-10."""
    from PIL import Image

    data = (data or DATA) / "cifar10"
    if not data.is_dir():
        return None, f"no folder {data.name} in the data"
    os.environ["CIFAR10_DATA"] = str(data)
    pool = _graphs("cifar10_resnet", _folder(work, "cifar-graphs"))
    images = np.asarray(Image.open(data / "test_batch.png").convert("RGB"))
    images = images.reshape(-1, 32, 32, 3)
    labels = np.array(json.loads((data / "test_labels.json").read_text()), np.int64)
    half = len(images) // 2
    splits = {}
    for split, rows in (("val", slice(0, half)), ("test", slice(half, None))):
        ids = [str(i) for i in range(*rows.indices(len(images)))]
        samples = Samples.of(labels[rows], ids, pool.classes, split, half)
        splits[split] = ArrayDataset(images[rows], samples)
    val, evaluated = _predicted(pool, splits, _folder(work, "cifar"), 64)
    front = cm.search(val, max_models=4)
    return (
        World(
            what="ResNet-20, 32, 44 and 56 on CIFAR-10, 32 x 32 x 3 bytes in memory",
            models=_loaded(pool, threads),
            val=val,
            test=evaluated,
            front=front,
            chosen=front.matching("resnet56").cascade,
            largest="resnet56",
            images=images[half:][: 128 if quick else 1024],
            files=None,
            batch=64,
            online=50 if quick else 600,
        ),
        "",
    )


def lite(data: Path | None, work: Path | None, threads: int, quick: bool):
    """EfficientNet-Lite 0, 1 and 2 on photographs that they were trained on."""
    folder = (data or DATA) / "imagenet_sample"
    if not folder.is_dir():
        return None, f"no folder {folder.name} in the data"
    try:
        pool = _graphs("efficientnet_lite", _folder(work, "lite-graphs"))
    except CommitteeError as error:
        return None, str(error)
    # Few images as they are, for here running is timed and accuracy is inflated anyway.
    splits = {
        split: open_data(folder, split, pool.classes, rows)
        for split, rows in (("val", "0::2"), ("test", "1::2"))
    }
    val, evaluated = _predicted(pool, splits, _folder(work, "lite"), 16)
    front = cm.search(val, max_models=3)
    count = 24 if quick else 128
    return (
        World(
            what="EfficientNet-Lite 0, 1 and 2 on photographs of about 500 x 375 pixels; they were "
            "trained on these, so that accuracy and exits are inflated",
            models=_loaded(pool, threads),
            val=val,
            test=evaluated,
            front=front,
            # The cheapest that matches lite2 is lite0 alone, which is no cascade to be timed.
            chosen=front.at_most(600e6).cascade,
            largest="lite2",
            images=splits["test"].read(np.arange(count)),
            files=open_data(folder, "run", pool.classes, f"1:{2 * count}:2"),
            batch=16,
            online=24 if quick else 128,
        ),
        "",
    )


WORLDS: dict[str, Callable] = {"fashion": fashion, "cifar": cifar, "lite": lite}
