"""Know an image again by its pixels, wherever it lies and whatever its file is called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

_ROWS_AT_ONCE = 512
#: Beyond it, not every whole number is a float of its own.
_LARGEST_WHOLE = 2**53
#: A channel with fewer values in a sample of its pixels, such as an empty one, tells no image.
_TELLING_VALUES, _SAMPLE = 16, 4096


def pixel_hashes(plane: Image) -> tuple[str, ...]:
    """Hash the pixels of one plane: 16 hexadecimal digits for each channel that tells it.

    Only size and values count, so that every lossless copy has the same: one in another file
    format or a wider type (8 bits saved as 16, or as floating point), grey saved as three equal
    samples, channels in another order. A copy of some of the channels has theirs.

    Examples
    --------
    >>> from napari_cellclf.core.image import Image
    >>> grey = np.arange(600).reshape(20, 30)
    >>> copies = [Image(grey.astype("float32"), "YX"), Image(np.stack([grey] * 3), "CYX")]
    >>> {pixel_hashes(copy) for copy in copies} == {pixel_hashes(Image(grey, "YX"))}
    True
    """
    channels = plane.to_cyx()
    telling = [_hash(channel[np.newaxis]) for channel in channels if _is_telling(channel)]
    return tuple(sorted(set(telling))) or (_hash(channels),)


def _is_telling(channel: NDArray[Any]) -> bool:
    flat = channel.ravel()
    return len(np.unique(flat[:: max(1, len(flat) // _SAMPLE)])) >= _TELLING_VALUES


def _hash(channels: NDArray[Any]) -> str:
    dtype = _narrowest(channels)
    digest = hashlib.blake2b(f"{channels.shape} {dtype}".encode(), digest_size=8)
    for channel in channels:
        for row in range(0, len(channel), _ROWS_AT_ONCE):
            digest.update(np.ascontiguousarray(channel[row : row + _ROWS_AT_ONCE], dtype).data)
    return digest.hexdigest()


def _narrowest(pixels: NDArray[Any]) -> np.dtype[Any]:
    """Return the type that holds these values exactly, whatever type they are in."""
    # As Python's own numbers, since a comparison may overflow half precision.
    low, high = pixels.min().item(), pixels.max().item()
    if pixels.dtype.kind == "f":
        in_range = low > -_LARGEST_WHOLE and high < _LARGEST_WHOLE
        if not (in_range and all(np.array_equal(plane, np.rint(plane)) for plane in pixels)):
            return np.dtype("<f8")
    for dtype in ("<u1", "<u2", "<u4"):
        if low >= 0 and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype("<u8" if low >= 0 else "<i8")


@dataclass(frozen=True)
class SeenImages:
    """The images of a training run, by the hashes of their pixels, each with its split."""

    splits: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, hashes: Iterable[tuple[str, str]]) -> SeenImages:
        """Collect pairs of hash and split; what is in two splits counts where it matters most."""
        found: dict[str, str] = {}
        for image, split in hashes:
            found[image] = min(found.get(image, split), split, key=SPLITS.index)
        return cls(found)

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> SeenImages:
        """Read what `to_array` returned."""
        is_pairs = array.ndim == 2 and array.shape[1] == 2 and array.dtype == np.uint64
        if not is_pairs or (array[:, 1] >= len(SPLITS)).any():
            raise InputError(
                f"an array of {array.dtype} and shape {array.shape} lists no images; write the "
                "bundle again"
            )
        return cls({f"{image:016x}": SPLITS[split] for image, split in array.tolist()})

    def to_array(self) -> NDArray[np.uint64]:
        """Return a row for each hash, shape (N, 2): the hash, and the number of its split."""
        rows = [(int(image, 16), SPLITS.index(split)) for image, split in self.splits.items()]
        return np.array(sorted(rows), np.uint64).reshape(-1, 2)

    def split_of(self, hashes: Iterable[str]) -> str:
        """Return the split that an image was in, by any of its hashes; else ``""``."""
        found = {self.splits[one] for one in hashes if one in self.splits}
        return min(found, key=SPLITS.index, default="")


def keep_sides(splits: Sequence[str], groups: Sequence[str], before: Sequence[str]) -> list[str]:
    """Return splits in which an image that a model has seen stays on the side it was on.

    The images of its group (``""`` for none) follow it, so that no group is on two sides; where
    they were on several, training goes before validation, and that before testing.
    `before`: the split of each image when the model was trained, ``""`` for a new one.

    Examples
    --------
    >>> keep_sides(["test", "test", "train", "test"], ["", "a", "a", ""], ["train", "test", "", ""])
    ['train', 'test', 'test', 'test']
    """
    of_group: dict[str, str] = {}
    for group, split in zip(groups, before, strict=True):
        if group and split:
            of_group[group] = min(of_group.get(group, split), split, key=SPLITS.index)
    return [
        of_group.get(group, old or new)
        for new, group, old in zip(splits, groups, before, strict=True)
    ]


def seen_warning(
    seen_as: Sequence[str], role: str, right: NDArray[np.bool_], noun: str = "image"
) -> tuple[str, str] | None:
    """Say what is wrong with an accuracy where the model has seen some of the images.

    `seen_as`: the split of each image when the model was trained; empty if unknown. `role`: what
    all of them were to it. `right`: which were predicted right. `noun`: what one is.
    Returns ``"error"`` or ``"warning"``, and a sentence.
    """
    total, trained = len(right), seen_as.count("train")
    if role == "train" or trained == total:
        these = f"The model was trained on these {noun}s"
        return "error", f"{these}, so its accuracy on them is too high."
    if trained:
        new = right[[split != "train" for split in seen_as]]
        return "error", (
            f"The model was trained on {trained:,} of these {counted(total, noun)}, so its "
            "accuracy is too "
            f"high; on the other {len(new)} it is {100 * new.mean():.1f} %."
        )
    chosen = seen_as.count("validation")
    if role == "validation" or chosen:
        of_all = f"{chosen:,} of these {counted(total, noun)}"
        images = of_all if 0 < chosen < total else f"these {noun}s"
        return "warning", (
            f"The settings of the model were chosen on {images}, so that it looks a little better "
            "than it is."
        )
    return None
