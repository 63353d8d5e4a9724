"""The microscope: blur and noise, and the camera, which differs from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.float32]


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


def blur(field: Field, sigma: float) -> Field:
    """Smooth a field with a Gaussian of `sigma` pixels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(field, sigma, mode="nearest", truncate=3.0), np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Field:
    """Make noise of zero mean and unit variance whose blobs are about `sigma` pixels wide.

    Coarse noise is drawn on a coarse grid and enlarged: the cost does not grow with `sigma`.
    """
    from scipy.ndimage import zoom

    step = max(1, int(sigma / 1.6))
    grid = tuple(-(-side // step) + 4 for side in shape)
    coarse = blur(rng.standard_normal(grid, np.float32), sigma / step)
    fine = zoom(coarse, step, order=1) if step > 1 else coarse
    field = fine[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def soft_step(values: Field, width: float) -> Field:
    """Go smoothly from 0 (below zero) to 1 (above), over about `width`."""
    return np.asarray(0.5 + 0.5 * np.tanh(values / np.float32(width)), np.float32)


def dots(points: NDArray[np.floating], weights: NDArray[np.floating], size: int) -> Field:
    """Add up weighted points ``(..., y and x)`` on a square field; those outside are left out."""
    where = np.rint(points.reshape(-1, 2)).astype(np.int64)
    inside = ((where >= 0) & (where < size)).all(axis=1)
    index = where[inside, 0] * size + where[inside, 1]
    heavy = np.broadcast_to(weights, points.shape[:-1]).reshape(-1)[inside]
    return np.bincount(index, heavy, size * size).reshape(size, size).astype(np.float32)


def ellipses(
    centres: NDArray[np.floating],
    radii: NDArray[np.floating],
    angles: NDArray[np.floating],
    size: int,
    reach: float,
) -> Iterator[tuple[int, tuple[slice, slice], Field]]:
    """Go over ellipses, each with its window and the distance from its centre.

    `centres`: ndarray, shape (N, 2); ``y, x`` in pixels; may lie outside the field. `radii`:
    ndarray, shape (N, 2); half length along the axis and half width across it. `angles`: ndarray,
    shape (N,); direction of the long axis, radians from the x axis. Yields in that window, 0 at the
    centre and 1 on the ellipse.
    """
    for number, ((y, x), (along, across), angle) in enumerate(
        zip(centres, radii, angles, strict=True)
    ):
        half = reach * max(along, across)
        top, left = max(int(y - half), 0), max(int(x - half), 0)
        bottom, right = min(int(y + half) + 1, size), min(int(x + half) + 1, size)
        if top >= bottom or left >= right:
            continue
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
        dx = np.arange(left, right, dtype=np.float32)[None] - np.float32(x)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u = (cos * dx + sin * dy) / np.float32(along)
        v = (cos * dy - sin * dx) / np.float32(across)
        yield number, (slice(top, bottom), slice(left, right)), np.sqrt(u * u + v * v)
