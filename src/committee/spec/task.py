"""Task: what differs between the things that pools of models do.

Models give outputs, outputs are combined and scored, and a unit whose score reaches the threshold
exits: all of this is the same for every task. What is not the same is a field of :class:`Task`.
Code uses these fields and does not ask which task it is; :mod:`committee.segment` does what only
segmentation needs, and commands find it in :mod:`committee.cli.tasks`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a pool of models does.

    Args:
        name: What pool files call it.
        sample: One item of a data set, in a word; also the kind of its files, see
            :mod:`committee.data.open`.
        unit: What exits as one, in a word: the sample itself, or a part of it.
        batch_size: Samples that go through a model together, unless the user says how many.
        stretch: Batches that a runner decides together. Few images reach a later stage, too few to
            fill a batch; the views of a clip fill one by themselves, and many clips would fill the
            memory.
        records: True if a sample is a record: a text, a row of a table, an array, bytes.
        views: True if a model sees views of a sample and its output is the mean over them.
        dense: True if a model tells a class for each pixel, of images that are not resized.
        tables: Tables of the pool file that only this task reads.
    """

    name: str
    sample: str
    unit: str
    batch_size: int = 32
    stretch: int = 16
    records: bool = False
    views: bool = False
    dense: bool = False
    tables: tuple[str, ...] = ()

    @property
    def samples(self) -> str:
        """Several samples, in a word."""
        return f"{self.sample}s"

    @property
    def units(self) -> str:
        """Several of what exits as one, in a word."""
        return f"{self.unit}s"


# A sample is a record, or, for predictions made elsewhere, nobody says what. Models of records are
# often small, so that batches are large.
CLASSIFICATION = Task(
    "classification", sample="sample", unit="sample", batch_size=256, stretch=4, records=True
)

IMAGE_CLASSIFICATION = Task("image-classification", sample="image", unit="image")

# If a model's views are divided into blocks, each block is a model of the pool and a clip exits
# between them: it is still the whole clip, decided on fewer views.
VIDEO_CLASSIFICATION = Task(
    "video-classification", sample="clip", unit="clip", batch_size=4, stretch=1, views=True
)

SEMANTIC_SEGMENTATION = Task(
    "semantic-segmentation",
    sample="image",
    unit="tile",
    dense=True,
    tables=("tiles",),
)

TASKS = {
    task.name: task
    for task in (IMAGE_CLASSIFICATION, VIDEO_CLASSIFICATION, SEMANTIC_SEGMENTATION, CLASSIFICATION)
}


def tasks_with(feature: str) -> str:
    """Return the names of the tasks that have a feature, for a remedy: ``"a" or "b"``.

    >>> tasks_with("views")
    '"video-classification"'
    """
    return " or ".join(f'"{name}"' for name, task in TASKS.items() if getattr(task, feature))
