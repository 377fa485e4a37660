"""Task: what a sample is, what leaves a cascade, and what it scores; tasks differ in nothing else.

Everything between a pool file and a cascade at work is the same for all tasks: models give outputs,
outputs are combined and scored, and a unit whose score reaches the threshold leaves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a pool of models does.

    Args:
        name: What pool files call it.
        sample: One item of a data set, in a word.
        unit: What exits as one, in a word: the sample itself, or a part of it.
        metric: Name of what a unit scores, unless the user asks for something else.
        batch_size: Samples that go through a model together, unless the user says how many.
        stretch: Batches that a runner decides together. Of images a stage passes on too few to
            fill a batch; a clip's views fill one by themselves, and many clips would fill memory.
    """

    name: str
    sample: str
    unit: str
    metric: str = "top-1"
    batch_size: int = 32
    stretch: int = 16

    @property
    def samples(self) -> str:
        """Several samples, in a word."""
        return f"{self.sample}s"

    @property
    def units(self) -> str:
        """Several of what exits as one, in a word."""
        return f"{self.unit}s"


# Of predictions made elsewhere nobody says what a sample is.
CLASSIFICATION = Task("classification", sample="sample", unit="sample")


IMAGE_CLASSIFICATION = Task("image-classification", sample="image", unit="image")

# A clip's outputs are means over its views. Where a model's views are divided into blocks, these
# are models of the pool and a clip leaves between them: still the whole, decided on fewer views.
VIDEO_CLASSIFICATION = Task(
    "video-classification", sample="clip", unit="clip", batch_size=4, stretch=1
)

SEMANTIC_SEGMENTATION = Task("semantic-segmentation", sample="image", unit="tile", metric="mIoU")

TASKS = {
    task.name: task for task in (IMAGE_CLASSIFICATION, VIDEO_CLASSIFICATION, SEMANTIC_SEGMENTATION)
}
