"""Plain checks of an image's pixels, each with a name: what is wrong whatever the model says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import RGB_NAMES, Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A fraction of pixels at the largest value of the camera above which a channel is saturated.
SATURATED = 0.01
#: Pixel sizes that differ by a larger factor are remarked upon.
PIXEL_SIZE_FACTOR = 1.5
#: The largest values of cameras of 8 to 16 bits.
_LARGEST = frozenset((1 << bits) - 1 for bits in range(8, 17))
#: Pixels of a channel that are looked at first, or alone where an estimate will do.
_SAMPLE = 1 << 14


def image_remarks(image: Image, channels: Mapping[str, int | None]) -> tuple[str, ...]:
    """Say what plain checks find in one plane, in the file's own values.

    `channels`: the model's channels in its order, each with the index of the image's channel that
    feeds it; None for one that the image lacks, which is no remark.

    - ``empty image``: every channel is one value throughout.
    - ``constant channel: w3``: this channel is one value throughout.
    - ``same pixels: w1 and w4``: these agree on every pixel. Colours are not compared: a network of
      red, green and blue is given a grey image as three equal colours.
    - ``saturated: w5``: more than 1 % of its pixels have the largest value of a camera (of 8 to 16
      bits, or what the file declares as white), and at least half are below half of that. The
      second condition is for brightfield, whose background is bright and often white: of 450
      colours in real images of stained cells and tissue, 166 have more than 1 % of white pixels,
      and none of them is dark otherwise; of 120 real fluorescence channels, one is saturated.

    Examples
    --------
    >>> dna = np.arange(64).reshape(8, 8)
    >>> image = Image(np.stack([dna, dna, np.full((8, 8), 7)]), "CYX", ("w1", "w2", "w3"))
    >>> image_remarks(image, {"w1": 0, "w2": 1, "w3": 2, "w4": None})
    ('constant channel: w3', 'same pixels: w1 and w2')
    """
    planes = image.to_cyx()
    given = {name: planes[source] for name, source in channels.items() if source is not None}
    samples = {name: _sample(plane) for name, plane in given.items()}
    constant = [name for name, plane in given.items() if _is_constant(samples[name], plane)]
    if len(constant) == len(given):
        return ("empty image",) if given else ()
    varying = {name: plane for name, plane in given.items() if name not in constant}
    colours = {name for name in varying if name.lower() in RGB_NAMES}
    compared = {name: plane for name, plane in varying.items() if name not in colours}
    return (
        *(f"constant channel: {name}" for name in constant),
        *(f"same pixels: {_and(names)}" for names in _equal(compared, samples)),
        *(f"saturated: {name}" for name in varying if _is_saturated(samples[name], image.white)),
    )


def pixel_size_remark(here: float | None, in_training: float | None) -> tuple[str, ...]:
    """Say whether pixels, as the network is given them, are of another size than in training.

    `here`, `in_training`: in micrometres; None where they are not known, which is no remark.

    Examples
    --------
    >>> pixel_size_remark(1.3, 0.65), pixel_size_remark(0.7, 0.65), pixel_size_remark(1.3, None)
    (('pixel size: 1.3 µm, in training 0.65 µm',), (), ())
    """
    if here is None or in_training is None or not here > 0:
        return ()
    factor = max(here / in_training, in_training / here)
    if factor <= PIXEL_SIZE_FACTOR:
        return ()
    return (f"pixel size: {here:.3g} µm, in training {in_training:.3g} µm",)


def _sample(plane: NDArray[Any]) -> NDArray[Any]:
    """Take pixels from all over a plane."""
    step = max(1, int(np.ceil(np.sqrt(plane.size / _SAMPLE))))
    return np.ascontiguousarray(plane[::step, ::step])


def _is_constant(sample: NDArray[Any], plane: NDArray[Any]) -> bool:
    first = plane[0, 0]
    return bool((sample == first).all() and (plane == first).all())


def _equal(
    planes: Mapping[str, NDArray[Any]], samples: Mapping[str, NDArray[Any]]
) -> Iterator[list[str]]:
    """Find the planes that agree on every pixel, two or more at a time."""
    names = list(planes)
    while names:
        first, *others = names
        same = [
            name
            for name in others
            if np.array_equal(samples[name], samples[first])
            and np.array_equal(planes[name], planes[first])
        ]
        if same:
            yield [first, *same]
        names = [name for name in others if name not in same]


def _is_saturated(sample: NDArray[Any], white: float | None) -> bool:
    largest = sample.max()
    if largest not in _LARGEST and largest != white:
        return False
    return bool((sample == largest).mean() > SATURATED and (sample < largest / 2).mean() >= 0.5)


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
