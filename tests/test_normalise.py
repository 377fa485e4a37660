"""Bytes of images to inputs: the compiled part, in each of its copies, as NumPy does it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee.compiled import native
from committee.models import inputs as module
from committee.models.inputs import prepared
from committee.spec.preprocessing import Preprocessing

pytestmark = pytest.mark.skipif(native is None, reason="the compiled part could not be built")
COPIES = native.instruction_sets() if native else []


@pytest.fixture(params=COPIES, scope="module")
def copy(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each copy that this processor runs."""
    before = native.use(request.param)
    yield request.param
    native.use(before)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3]),
    grey=st.booleans(),
    order=st.sampled_from(["rgb", "bgr"]),
    seed=st.integers(0, 99),
    strided=st.booleans(),
)
def test_as_numpy_does(
    copy: str,
    shape: tuple[int, int, int],
    channels: int,
    grey: bool,
    order: str,
    seed: int,
    strided: bool,
) -> None:
    rng = np.random.default_rng(seed)
    mean, std = rng.random(channels), rng.random(channels) + 0.01
    recipe = Preprocessing(
        shape[1:], channels, order=order, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )
    images = rng.integers(0, 256, (*shape, 1 if grey else channels), np.uint8)
    if strided:
        images = np.asfortranarray(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "native", None)
        plain = prepared(images, recipe)
    fast = prepared(images, recipe)
    assert fast.shape == plain.shape == (shape[0], channels, *shape[1:])
    assert fast.dtype == np.float32
    assert fast.flags.c_contiguous
    np.testing.assert_array_equal(fast, plain)


def test_writes_where_it_is_told(copy: str) -> None:
    recipe = Preprocessing((2, 2), 3)
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    out = np.zeros((4, 3, 2, 2), np.float32)
    assert prepared(images, recipe, out[1:3]).base is out
    np.testing.assert_array_equal(out[1:3], prepared(images, recipe))
    assert not out[0].any()
    assert not out[3].any()


@pytest.mark.parametrize(
    "out", [np.zeros((1, 3, 2, 3), np.float32), np.zeros((2, 3, 2, 2), np.float32)]
)
def test_room_of_another_shape_is_refused(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="out"):
        prepared(np.zeros((1, 2, 2, 3), np.uint8), Preprocessing((2, 2), 3), out)
