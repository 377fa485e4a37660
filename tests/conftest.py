"""Settings of all tests."""

import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import settings

from committee.rule.scores import CONFIDENCES

# Programs in the background have interrupts ignored, and hand that on to those that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomized, so that a failure is the same failure everywhere; no deadline, because machines that
# run tests are shared.
settings.register_profile("committee", derandomize=True, deadline=None, database=None)
settings.load_profile("committee")


def _let_torchvision_import() -> object | None:
    """Beside a CPU build of torch, define what the CUDA build of torchvision needs to import.

    Returns:
        What must be kept alive for it, if anything.
    """
    if not (find_spec("torch") and find_spec("torchvision")):
        return None
    from committee.errors import ModelError
    from committee.models.sources.torchvision import import_torchvision

    try:
        import_torchvision("tests")
    except ModelError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


# Registries there are offer no torchvision for processors only; the tests need none of its kernels.
_LIBRARY = _let_torchvision_import()


@pytest.fixture(autouse=True)
def _only_own_confidences() -> Iterator[None]:
    """What a test registers is gone after it; studies compare all that is registered."""
    before = dict(CONFIDENCES)
    yield
    CONFIDENCES.clear()
    CONFIDENCES.update(before)
