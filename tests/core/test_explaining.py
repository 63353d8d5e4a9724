"""HiRes-CAM is the gradient times the map, occlusion looks everywhere, maps are in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.explaining import (
    hires_cam,
    map_offset,
    noise_around,
    occlusion,
    on_image,
)
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ImageObject, ObjectCrop
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import EngineError

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "conv/kernel": RANDOM.normal(size=(3, 3, 2, 5)),
    "hidden/kernel": RANDOM.normal(size=(5, 3)),
    "member1/last/kernel": RANDOM.normal(size=(5, 3)),
    "member1/last/bias": RANDOM.normal(size=3),
    "member10/last/kernel": RANDOM.normal(size=(4, 3)),
    "member10/last/bias": RANDOM.normal(size=3),
    "member2/last/kernel": RANDOM.normal(size=(4, 3)),
    "member2/last/bias": RANDOM.normal(size=3),
}


def _softmax(logits: Any) -> Any:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def _logits(features: Any, members: tuple[str, ...]) -> list[Any]:
    found, start = [], 0
    for name in members:
        kernel = WEIGHTS[f"{name}/last/kernel"]
        part = features[start : start + len(kernel)]
        found.append(part @ kernel + WEIGHTS[f"{name}/last/bias"])
        start += len(kernel)
    return found


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("members", [("member1",), ("member1", "member2", "member10")])
def test_the_map_is_the_gradient_times_the_features(rooted: bool, members: tuple[str, ...]) -> None:
    channels = sum(len(WEIGHTS[f"{name}/last/kernel"]) for name in members)
    held = np.random.default_rng(3).uniform(0, 2, (3, 4, channels))

    def features(at: Any) -> Any:
        mean = at.mean(axis=(0, 1))
        return np.sqrt(mean + 0.01) if rooted else mean

    def target(at: Any) -> float:
        logits = np.mean(_logits(features(at), members), axis=0)
        return float(logits[1] - logits.mean())

    probabilities = np.mean([_softmax(one) for one in _logits(features(held), members)], axis=0)
    # In 16 bits, as fast engines compute.
    found = hires_cam(
        held.astype(np.float16).astype(np.float32),
        features(held).astype(np.float16).astype(np.float32),
        probabilities.astype(np.float32),
        WEIGHTS,
        1,
    )
    expected = np.zeros((3, 4))
    for place in np.ndindex(held.shape):
        moved = held.copy()
        moved[place] += 1e-5
        expected[place[:2]] += (target(moved) - target(held)) / 1e-5 * held[place]
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


def test_heads_of_another_form_are_refused() -> None:
    held = np.random.default_rng(3).uniform(0, 2, (3, 4, 5)).astype(np.float32)
    mean = held.mean(axis=(0, 1))
    right = _softmax(_logits(mean, ("member1",))[0])
    for features, probabilities in (
        (held.max(axis=(0, 1)), right),
        (mean[:4], right),
        (mean, right[::-1]),
        (mean, np.full(7, 1 / 7)),
    ):
        with pytest.raises(EngineError, match="use the method occlusion"):
            hires_cam(held, features, probabilities.astype(np.float32), WEIGHTS, 0)


@pytest.mark.parametrize("shape", [(40, 40), (1, 300), (7, 31), (200, 4)])
def test_occlusion_looks_at_every_pixel_in_few_passes(shape: tuple[int, int]) -> None:
    passes = []

    def compute(batch: Any) -> Any:
        passes.append(len(batch))
        bright = batch.reshape(len(batch), -1).max(axis=1)
        return np.stack([bright, 1 - bright], axis=1).astype(np.float32)

    for corner in (0, -1):
        pixels = np.full((*shape, 1), 0.1, np.float32)
        pixels[corner, corner] = 0.9
        found = occlusion(compute, pixels, 0)
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert found[corner, corner] == found.max() > 1
        np.testing.assert_allclose(occlusion(compute, pixels, 1), -found, atol=1e-5)
    assert sum(passes) <= 4 * 320


def _strided(first: int) -> Callable[[Any], Any]:
    """Average nine by nine pixels around every fourth, from `first`."""

    def apply(images: Any) -> Any:
        padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
        shifted = [padded[:, r : r + 64, c : c + 64] for r in range(9) for c in range(9)]
        return np.mean(shifted, axis=0)[:, first::4, first::4].astype(np.float32)

    return apply


@pytest.mark.parametrize(("first", "expected"), [(0, 0.375), (3, -0.375)])
def test_maps_beside_their_images_are_noticed(first: int, expected: float) -> None:
    images = noise_around(np.random.default_rng(1).normal(5, 2, (64, 64, 3)).astype(np.float32))
    assert images.dtype == np.float32
    assert abs(images.mean() - 5) < 0.5
    found = map_offset(_strided(first)(images))
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert map_offset(np.zeros((4, 2, 3, 1), np.float32)) == (0.0, 0.0)


def test_a_map_lies_on_the_pixels_that_were_seen() -> None:
    channels = ({"name": "a"},)
    image = Image(np.zeros((40, 60)), "YX", ("a",))
    cells = np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = on_image(cells, Preprocessing(channels=channels, size=(8, 12)), image)
    assert (whole[0, 0], whole[-1, -1]) == (0, 5)
    # Centres of cells.
    np.testing.assert_allclose(whole[30:32, 29:31].mean(), 4, atol=1e-5)
    beside = on_image(cells, Preprocessing(channels=channels), image, offset=(-0.5, 0))
    np.testing.assert_allclose(beside[39, 29:31].mean(), 4, atol=0.1)

    masked = Preprocessing(channels=channels, object_crop=ObjectCrop(side=10, masked=True))
    mask = np.ones((3, 4), bool)
    mask[0, 0] = False
    one = ImageObject(1, (1.0, 1.5), (0, 0, 3, 4), 11, mask)
    found = on_image(np.ones((5, 5), np.float32), masked, image, one)
    seen = np.zeros((40, 60), bool)
    seen[:3, :4] = mask
    np.testing.assert_array_equal(np.isfinite(found), seen)
    np.testing.assert_allclose(found[seen], 1, atol=1e-6)
