"""Where in an image the evidence for a class lies: HiRes-CAM, and occlusion.

HiRes-CAM (Draelos and Carin 2020, arXiv:2011.08891) is the gradient of a class's logit times the
feature map, summed over channels. For a network that ends in an average over the image, perhaps a
root, and one dense layer, the gradient is known from the weights of that layer. Logits mean
something in comparison only, so that it is taken of the logit minus the mean of all classes'.

Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901) covers one patch after the other and looks how
much less likely the class becomes. It needs nothing but probabilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import ImageObject
    from napari_cellclf.core.preprocessing import Preprocessing

#: How far probabilities that are made of the features may be from those of the network, which may
#: compute in 16 bits.
_AGREES = 0.02
#: Patches along the geometric mean of height and width, which overlap by half, and along the longer
#: side at most: so that no image takes many more than 256 passes.
_PATCHES = 8
_MOST_PATCHES = 64
#: Below it, a probability says no more than that.
_LEAST = 1e-6
#: Pairs of images of noise by which it is found how feature maps lie on images.
_NOISE_PAIRS = 6


@dataclass(frozen=True, eq=False)
class _Member:
    """The last dense layer of a network: shapes (F, K) and (K,)."""

    kernel: NDArray[Any]
    bias: NDArray[Any]


def hires_cam(
    feature_map: NDArray[np.float32],
    features: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    weights: Mapping[str, NDArray[Any]],
    index: int,
) -> NDArray[np.float32]:
    """Compute HiRes-CAM of the class at `index`; an EngineError if the head is of another form.

    Nothing is assumed about the head: a dense layer is sought that makes these probabilities of
    these features. Of several networks, the mean of their maps is returned.

    `feature_map`: shape (h, w, C). `features`: shape (F,). `probabilities`: shape (K,), before any
    temperature. `weights`: of the whole network, by their paths. Returns shape (h, w), above 0 for
    the class and below 0 against it; their sum is the logit without its bias, where the features
    are averages.
    """
    slopes = _slopes(feature_map.mean(axis=(0, 1), dtype=np.float64), features)
    members = _members(features, probabilities, weights)
    kernel = np.concatenate([member.kernel for member in members]) / len(members)
    gradient = slopes * (kernel[:, index] - kernel.mean(axis=1)) / np.prod(feature_map.shape[:2])
    return np.asarray(feature_map @ gradient, np.float32)


def _slopes(means: NDArray[np.float64], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Say how fast each feature grows with the mean of its channel."""
    if means.shape == features.shape:
        # 16 bits keep two to three digits.
        near = 0.02 * max(1e-6, float(np.abs(features).max()))
        if np.abs(features - means).max() <= near:
            return np.ones(len(features))
        squares = np.square(features, dtype=np.float64)
        if features.min() > 0 and np.ptp(squares - means) <= 2 * near * features.max():
            return 0.5 / features.astype(np.float64)
    raise _other_head()


def _members(
    features: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    weights: Mapping[str, NDArray[Any]],
) -> list[_Member]:
    """Find the dense layers that make the probabilities of the features."""

    def error(members: list[_Member]) -> float:
        ends = np.cumsum([len(member.kernel) for member in members])[:-1]
        parts = np.split(features.astype(np.float64), ends)
        found = [
            _softmax(part @ member.kernel + member.bias)
            for part, member in zip(parts, members, strict=True)
        ]
        return float(np.abs(np.mean(found, axis=0) - probabilities).max())

    candidates = [
        members
        for members in _heads(weights, len(probabilities))
        if sum(len(member.kernel) for member in members) == len(features)
    ]
    best = min(candidates, key=error, default=None)
    if best is None or error(best) > _AGREES:
        raise _other_head()
    return best


def _heads(weights: Mapping[str, NDArray[Any]], n_classes: int) -> Iterator[list[_Member]]:
    """Go over dense layers with an output for each class: each, and those of one name together."""
    together: dict[str, list[_Member]] = {}
    for name in sorted(weights, key=_by_number):
        if weights[name].ndim == 2 and weights[name].shape[1] == n_classes:
            layer = name.rpartition("/")[0]
            bias = weights.get(f"{layer}/bias", np.zeros(n_classes))
            member = _Member(weights[name], bias)
            together.setdefault(layer.rpartition("/")[2], []).append(member)
            yield [member]
    yield from (members for members in together.values() if len(members) > 1)


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort "member2" before "member10"."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum())


def _other_head() -> EngineError:
    return EngineError(
        "the network does not end in an average over the image and one dense layer, which the "
        "method cam needs; use the method occlusion"
    )


def noise_around(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make pairs of images of noise that differ in the middle only, for `map_offset`.

    `pixels`: shape (Y, X, C); a prepared image, whose range the noise has. Returns shape (N, Y, X,
    C).
    """
    height, width = pixels.shape[:2]
    random = np.random.default_rng(0)
    mean, spread = pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))

    def noise() -> NDArray[np.float32]:
        return np.asarray(random.normal(mean, spread, pixels.shape), np.float32)

    images = np.stack([noise() for _ in range(_NOISE_PAIRS)]).repeat(2, axis=0)
    rows = slice(height // 4, height - height // 4)
    columns = slice(width // 4, width - width // 4)
    for image in images[1::2]:
        image[rows, columns] = noise()[rows, columns]
    return images


def map_offset(maps: NDArray[np.float32]) -> tuple[float, float]:
    """Find how far feature maps lie beside their images, from those of `noise_around`.

    Convolutions with a stride see an even number of pixels from one side or the other, so that a
    map can lie half a cell beside its image: 16 pixels of EfficientNet-Lite0's 224.

    `maps`: shape (N, h, w, C). Returns rows and columns, in cells.
    """
    changed = np.square(maps[1::2] - maps[::2], dtype=np.float64).sum(axis=(0, 3))
    total = changed.sum()
    if total == 0:
        return 0.0, 0.0

    def beside(profile: NDArray[np.float64]) -> float:
        middle = float(profile @ np.arange(len(profile)) / total)
        return float(np.clip(middle - (len(profile) - 1) / 2, -1, 1))

    return beside(changed.sum(axis=1)), beside(changed.sum(axis=0))


def on_image(
    cells: NDArray[np.float32],
    preprocessing: Preprocessing,
    image: Image,
    region: ImageObject | None = None,
    offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Put a map of what the network was given onto the image's own pixels.

    `cells`: shape (h, w), all over the prepared image. `offset`: see `map_offset`. Returns shape
    (Y, X), linear between cells; NaN where the network saw nothing.
    """
    cut = preprocessing.cut(image, region)
    rows, columns = (
        _between(size, count, beside)
        for size, count, beside in zip(cut.shape, cells.shape, offset, strict=True)
    )
    seen = rows @ cells @ columns.T
    return cut.put_back(seen.astype(np.float32), image.height_width)


def _between(size: int, count: int, offset: float) -> NDArray[np.float32]:
    """Return how each of `size` pixels is made of the two of `count` cells that are nearest."""
    places = np.clip((np.arange(size) + 0.5) * count / size - 0.5 + offset, 0, count - 1)
    below = np.minimum(places.astype(np.intp), max(0, count - 2))
    part = places - below
    weights = np.zeros((size, count), np.float32)
    pixels = np.arange(size)
    weights[pixels, below] = 1 - part
    weights[pixels, np.minimum(below + 1, count - 1)] += part
    return weights


def occlusion(
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    pixels: NDArray[np.float32],
    index: int,
    *,
    patch: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> NDArray[np.float32]:
    """Cover one patch after the other with its channels' means, and see what the class loses.

    `compute`: prepared images (N, Y, X, C) to probabilities (N, K). `pixels`: shape (Y, X, C).
    `patch`, `stride`: in pixels; by default an eighth of the image and half of that. Returns shape
    (Y, X): by how much the log-odds of the class fall, on average over the patches that cover a
    pixel.
    """
    sides = pixels.shape[:2]
    patch = patch or _patch(sides)
    places = list(product(*_starts(sides, patch, stride or (patch + 1) // 2)))
    fill = pixels.mean(axis=(0, 1))
    before = _log_odds(compute(pixels[np.newaxis]), index)[0]
    lost, covered = np.zeros(sides, np.float64), np.zeros(sides, np.float64)
    for first in range(0, len(places), batch_size):
        if should_stop():
            raise CancelledError("the explanation was stopped as asked; ask again")
        some = places[first : first + batch_size]
        batch = np.repeat(pixels[np.newaxis], len(some), axis=0)
        for image, (top, left) in zip(batch, some, strict=True):
            image[top : top + patch, left : left + patch] = fill
        for (top, left), after in zip(some, _log_odds(compute(batch), index), strict=True):
            lost[top : top + patch, left : left + patch] += before - after
            covered[top : top + patch, left : left + patch] += 1
        on_progress(Progress(first + len(some), len(places), "covering one patch after the other"))
    return (lost / covered).astype(np.float32)


def _patch(sides: tuple[int, ...]) -> int:
    height, width = sides
    return max(1, round(max(sqrt(height * width) / _PATCHES, max(sides) / _MOST_PATCHES)))


def _starts(sides: tuple[int, ...], patch: int, stride: int) -> list[NDArray[np.intp]]:
    """Spread patches evenly, from edge to edge."""
    last = [max(0, side - patch) for side in sides]
    return [np.linspace(0, end, 1 + -(-end // stride)).round().astype(np.intp) for end in last]


def _log_odds(probabilities: NDArray[np.float32], index: int) -> NDArray[np.float64]:
    likely = np.clip(probabilities[:, index].astype(np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(np.log(likely / (1 - likely)))
