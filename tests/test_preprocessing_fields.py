"""Every setting of the preprocessing, of views and of tiles: heeded in every task, or refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_world import write_clip
from committee.arrays import Array
from committee.data.open import open_data
from committee.data.segmentation import open_segmentation
from committee.errors import DataError, PoolFileError
from committee.models.inputs import inputs_of
from committee.models.pool_file import PoolFile, read_pool_file
from committee.pool.evaluate import evaluate
from committee.rule.cascade import Cascade
from committee.segment.predict import predict_tiles
from committee.segment.run import Segmenter
from committee.segment.settings import _Tiles, read_settings
from committee.segment.store import _load_tiles
from committee.spec.preprocessing import Preprocessing
from committee.spec.views import Views

NUMBERS = np.random.default_rng(0)
TURNED = Image.Exif()
TURNED[0x0112] = 3

# Of every field a value that is not the usual one, and what must stand beside it.
CHANGES = {
    "size": "size = [20, 20]",
    "channels": "channels = 1\nmean = [0.5]\nstd = [0.25]",
    "crop": "crop = 0.5",
    "interpolation": 'interpolation = "nearest"',
    "mean": "mean = [0.1, 0.2, 0.3]",
    "std": "std = [0.1, 0.2, 0.3]",
    "resize": 'resize = "squash"',
    "order": 'order = "bgr"',
    "exif": "exif = true",
    "views": "views = { frames = 2, temporal = 1, spatial = 1 }",
}
VIEWS = {
    "frames": "frames = 3",
    "stride": "stride = 2",
    "rate": "rate = 4",
    "temporal": "temporal = 3",
    "spatial": "spatial = 3",
    "resized": "resized = [30, 30]",
    "antialias": "antialias = false",
    "layout": 'layout = "TCHW"',
    "blocks": "blocks = 2",
    "block": "blocks = 2\nblock = 1",
}
# Logits of three classes, however many channels there are.
MODEL = """
import numpy as np

def see():
    def run(batch):
        first, last = batch[:, :1], batch[:, -1:]
        return np.concatenate([first, 0.3 - first / 2, -last], 1)
    return run
"""
TASKS = ("image-classification", "video-classification", "semantic-segmentation")
# Fields that a task refuses, for they would change nothing.
REFUSED = {
    "image-classification": {"views"},
    "video-classification": {"exif"},
    "semantic-segmentation": {"crop", "interpolation", "resize", "views"},
}


def test_every_setting_is_tried() -> None:
    assert CHANGES.keys() == {field.name for field in fields(Preprocessing)}
    assert VIEWS.keys() == {field.name for field in fields(Views)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fields")
    for folder in ("photos", "clips", "scenes/images", "scenes/labels"):
        (root / folder).mkdir(parents=True)
    photo = NUMBERS.integers(0, 256, (44, 64, 3), np.uint8)
    Image.fromarray(photo).save(root / "photos" / "a.png", exif=TURNED)
    frames = NUMBERS.integers(0, 256, (16, 36, 60, 3), np.uint8)
    write_clip(root / "clips" / "a.mp4", frames, form="yuv444p")
    Image.fromarray(photo).save(root / "scenes" / "images" / "a.png", exif=TURNED)
    mask = NUMBERS.integers(0, 3, (44, 64)).astype(np.uint8)
    Image.fromarray(mask).save(root / "scenes" / "labels" / "a.png")
    (root / "m.py").write_text(MODEL)
    return root


def pool_of(root: Path, task: str, recipe: str = "", views: str = "", tiles: str = "") -> PoolFile:
    """A pool file with some lines more in its tables."""
    size = "44, 64" if task == "semantic-segmentation" else "24, 24"
    lines = [f'task = "{task}"', 'classes = ["a", "b", "c"]', "[preprocessing]", recipe]
    if task == "video-classification":
        known = [] if "views" in recipe else ["frames = 2", "temporal = 2", "spatial = 2"]
        known = [line for line in known if line.split()[0] not in views.split()]
        lines += ["[views]", *known, views] if known or views else []
    if task == "semantic-segmentation":
        lines += ["[tiles]", tiles]
    own = "" if recipe.startswith("size") else f"resolution = [{size}]"
    lines += ["[[model]]", 'name = "m"', 'source = "python:m.py:see"', own, "costs.macs = 1"]
    path = root / "pool.toml"
    path.write_text("\n".join(lines))
    return read_pool_file(path)


def scene(root: Path, pool: PoolFile, store: Path) -> dict[str, Array]:
    """What predict keeps of the one image, and what a run decides."""
    settings, code = read_settings(pool), [str(root / "m.py")]
    found = open_segmentation(
        root / "scenes", "val", pool.classes, settings.ignore, exif=settings.exif
    )
    folder = predict_tiles(pool, found, store, allow_code=code)
    with np.load(next(folder.glob("*.npz"))) as arrays:
        kept = dict(arrays)
    grid = settings.grids[0].name
    own = _load_tiles(folder, grid)
    cascade = Cascade.of(["m"], confidence=settings.confidence)
    cascade = replace(cascade, models={"m": own.specs["m"]})
    segmenter = Segmenter(cascade, allow_code=code)
    shown = open_segmentation(root / "scenes", "run", labels=False, exif=segmenter.exif)
    (decided,) = segmenter.decide(shown.image(0, settings.image)[None])
    predicted = np.bincount(decided.classes[found.label(0, settings.image) != settings.ignore])
    counted = kept[f"{grid} predicted"][0].sum(axis=0)
    if settings.ignore is None:
        # A run sees the very pixels that predict saw.
        assert predicted.tolist() == counted[: len(predicted)].tolist()
    assert evaluate(cascade, own).samples == 1
    return kept


def seen(root: Path, pool: PoolFile, store: Path) -> object:
    """What models see of the one sample."""
    if pool.task.name == "semantic-segmentation":
        return {name: each.tolist() for name, each in scene(root, pool, store).items()}
    where = "clips" if pool.task.name == "video-classification" else "photos"
    spec = pool.models[0]
    samples = open_data(root / where, models=pool.models).read(np.array([0]))
    inputs = inputs_of(samples, spec.preprocessing)
    if isinstance(inputs, np.ndarray):
        return inputs.shape, inputs.tolist()
    views = np.concatenate(list(inputs.parts()))
    return views.shape, views.tolist()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changes_what_models_see_or_is_refused(
    data: Path, tmp_path: Path, task: str, field: str
) -> None:
    if task == "video-classification":
        pytest.importorskip("av", reason="clips are decoded by PyAV")
    if field in REFUSED[task]:
        with pytest.raises(PoolFileError, match=field) as caught:
            pool_of(data, task, CHANGES[field])
        assert "\n" not in str(caught.value)
        return
    usual = seen(data, pool_of(data, task), tmp_path / "usual")
    try:
        changed = pool_of(data, task, CHANGES[field])
        assert seen(data, changed, tmp_path / "changed") != usual
    except DataError:
        # What data contradict: the size of the images is no choice there.
        assert (task, field) == ("semantic-segmentation", "size")


@pytest.mark.parametrize("field", VIEWS)
def test_a_view_s_field_changes_what_models_see(data: Path, tmp_path: Path, field: str) -> None:
    pytest.importorskip("av", reason="clips are decoded by PyAV")
    task = "video-classification"
    usual = seen(data, pool_of(data, task), tmp_path)
    assert seen(data, pool_of(data, task, views=VIEWS[field]), tmp_path) != usual


def test_what_a_fixed_size_of_frames_leaves_unused_is_refused(data: Path) -> None:
    for line in ("crop = 0.5", 'resize = "squash"'):
        with pytest.raises(PoolFileError, match="leave them out"):
            pool_of(data, "video-classification", line, "resized = [30, 30]")


@pytest.mark.parametrize("key", _Tiles.__dataclass_fields__)
def test_a_key_of_tiles_changes_what_is_kept(data: Path, tmp_path: Path, key: str) -> None:
    usual = 'sizes = ["full", 16]'
    changed = {
        "sizes": 'sizes = ["full", 22]',
        "context": f"{usual}\ncontext = 4",
        "counted_above": f"{usual}\ncounted_above = 0.9",
        "ignore": f"{usual}\nignore = 1",
    }[key]
    task = "semantic-segmentation"
    known = seen(data, pool_of(data, task, tiles=usual), tmp_path / "usual")
    assert seen(data, pool_of(data, task, tiles=changed), tmp_path / "changed") != known


@pytest.mark.parametrize(
    ("task", "table", "told"),
    [
        ("image-classification", "[views]\nframes = 1", "has views, which are of clips"),
        ("semantic-segmentation", "[views]\nframes = 1", "has views, which are of clips"),
        ("image-classification", "[tiles]\nignore = 1", r"\[tiles\] is for .semantic"),
        ("video-classification", "[tiles]\nignore = 1", r"\[tiles\] is for .semantic"),
    ],
)
def test_tables_of_other_tasks_are_refused(data: Path, task: str, table: str, told: str) -> None:
    pool_of(data, task)
    path = data / "pool.toml"
    path.write_text(path.read_text().replace("[[model]]", f"{table}\n[[model]]"))
    with pytest.raises(PoolFileError, match=told):
        read_pool_file(path)


def test_size_is_refused_beside_resolution(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text(
        "[preprocessing]\nsize = [8, 8]\nchannels = 1\n[[model]]\nname = 'a'\n"
        "source = 'python:m.py:a'\nresolution = 32\n"
    )
    with pytest.raises(PoolFileError, match="leave size out"):
        read_pool_file(path)
