"""The microscope and its camera: what differs from batch to batch though the cells do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.simulation.fields import blur

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """How one channel was taken in one batch."""

    #: Grey values that a structure of brightness 1 gives.
    gain: float
    #: Grey value of darkness.
    offset: float
    #: Photons for each grey value: fewer of them, more shot noise.
    photons: float
    #: Blur in pixels.
    focus: float
    #: Part of the light lost in the corners.
    shading: float
    #: Where the light is brightest, ``y, x`` as parts of the field.
    centre: tuple[float, float]


def camera_of(batch: int, channel: int) -> Camera:
    """Set up the camera as it stood for a channel in a batch."""
    rng = np.random.default_rng([batch, channel, 1])
    return Camera(
        gain=float(45 * rng.lognormal(0, 0.35)),
        offset=float(rng.uniform(1, 6)),
        photons=float(rng.uniform(3, 8)),
        focus=float(rng.uniform(0.5, 0.9)),
        shading=float(rng.uniform(0.05, 0.3)),
        centre=(float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.65))),
    )


def take(scene: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take a picture.

    `scene`: ndarray, shape (Y, X), float32; brightness, 1 for a typical structure. Returns grey
    values, saturated at 255.
    """
    light = np.maximum(blur(scene, camera.focus), 0) * _illumination(scene.shape, camera)
    expected = camera.gain * light
    # Shot noise (Poisson, taken as normal) and the noise of reading out.
    deviation = np.sqrt(expected / np.float32(camera.photons) + np.float32(0.3))
    noise = rng.standard_normal(scene.shape, np.float32) * deviation
    grey = np.rint(expected + camera.offset + noise)
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


def _illumination(shape: tuple[int, ...], camera: Camera) -> NDArray[np.float32]:
    y = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None] - np.float32(camera.centre[0])
    x = np.linspace(0, 1, shape[1], dtype=np.float32)[None] - np.float32(camera.centre[1])
    return np.asarray(1 - np.float32(2 * camera.shading) * (y * y + x * x), np.float32)
