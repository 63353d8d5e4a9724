"""Look at every file of a data set, as a rule without decoding it."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import DatasetReport, Duplicates, FileFindings, make_report
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, ImageError, UnreadableImageError
from napari_cellclf.io.decoding import decoding
from napari_cellclf.io.files import read_file, read_header
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.raster import jpeg_is_complete, png_is_complete, sniff
from napari_cellclf.io.tiff import TiffHeader

_BLOCK = 2**20
_IN_A_PLANE = frozenset("YXCS")
_SAMPLES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def inspect_dataset(
    dataset: Dataset,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> DatasetReport:
    """Look at every image of a data set: what cannot be read, is twice there, or is odd.

    Returns headers are read and the content of every file is hashed; pixels are decoded only of
    images in RGB, to see whether they are grey. Files that were cut short are found, those
    that were damaged in their middle are not.
    """
    found = _Found(dataset.naming)
    paths = list(dict.fromkeys(dataset.paths))
    for number, path in enumerate(paths):
        if should_stop():
            raise CancelledError(f"stopped after looking at {number} of {len(paths)} images")
        found.look_at(path)
        on_progress(Progress(number + 1, len(paths), "looking at the images"))
    files = FileFindings(
        tuple(found.unreadable),
        _duplicates(dataset, found.by_hash.values()),
        _most_frequent(found.shapes),
        _most_frequent(found.dtypes),
        _most_frequent(found.channels),
        found.multi_plane,
    )
    return make_report(dataset, files)


@dataclass
class _Found:
    """What was seen so far."""

    naming: str | None
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    multi_plane: dict[str, str] = field(default_factory=dict)
    shapes: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)
    by_hash: defaultdict[bytes, list[str]] = field(default_factory=lambda: defaultdict(list))

    def look_at(self, path: str) -> None:
        """Read the headers and the hash of an image, which may be several files."""
        digest = hashlib.sha256()
        try:
            named = named_image(Path(path), self.naming)
            files = list(named.files.values()) if named else [Path(path)]
            headers = [_header(file) for file in files]
            for file in files:
                digest.update(_hash(file))
            if len({(header.shape, header.dtype) for header in headers}) > 1:
                raise UnreadableImageError(
                    f"{path}: the channels of this image differ in size or type; copy them again"
                )
        except ImageError as error:
            self.unreadable.append((path, str(error)))
            return
        header = headers[0]
        self.by_hash[digest.digest()].append(path)
        sizes = dict(zip(header.axes, header.shape, strict=True))
        self.shapes[f"{sizes['Y']}x{sizes['X']}"] += 1
        self.dtypes[str(header.dtype)] += 1
        channels = " + ".join(map(_short, named.channels)) if named else ""
        self.channels[channels or _channels(header)] += 1
        if math.prod(size for axis, size in sizes.items() if axis not in _IN_A_PLANE) > 1:
            self.multi_plane[path] = " ".join(f"{axis}={size}" for axis, size in sizes.items())


def _header(file: Path) -> TiffHeader:
    header = read_header(file)
    if "S" not in header.axes:
        return header
    # Grey or in colours: only its pixels say.
    image = read_file(file)
    return TiffHeader(image.shape, image.axes, image.dtype)


def _short(channel: str) -> str:
    """Shorten the name of a channel of RxRx1, such as ``w1 Hoechst``; others need every word."""
    return re.sub(r"(w\d) .*", r"\1", channel)


def _channels(header: TiffHeader) -> str:
    """Name the channels of a file as far as its header does."""
    sizes = dict(zip(header.axes, header.shape, strict=True))
    samples = _SAMPLES.get(sizes.get("S", 1), f"{sizes.get('S')} samples")
    number = sizes.get("C", 1)
    if number == 1:
        return samples
    return f"{number} channels" if samples == "grey" else f"{number} channels of {samples}"


def _hash(file: Path) -> bytes:
    """Hash a file block by block; PNG and JPEG, which are small, are searched for their end."""
    digest = hashlib.sha256()
    with decoding(file), file.open("rb") as handle:
        head = handle.read(_BLOCK)
        complete = {"png": png_is_complete, "jpeg": jpeg_is_complete}.get(sniff(head) or "")
        if complete is not None:
            data = head + handle.read()
            if not complete(data):
                raise UnreadableImageError(
                    f"{file}: the file ends after {len(data)} bytes, before its end mark; it was "
                    "truncated, copy it again"
                )
            return hashlib.sha256(data).digest()
        while head:
            digest.update(head)
            head = handle.read(_BLOCK)
    return digest.digest()


def _duplicates(dataset: Dataset, same: Iterable[list[str]]) -> tuple[Duplicates, ...]:
    """Tell which rows are one image: copies, and one file that the table names several times."""
    rows: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    table = dataset.table
    for path, label, split in zip(table["path"], table["label"], table["split"], strict=True):
        rows[path].append((label, split))
    found = []
    for paths in same:
        images = [(path, *row) for path in paths for row in rows[path]]
        if len(images) > 1:
            found.append(Duplicates(*map(tuple, zip(*images, strict=True))))
    return tuple(sorted(found, key=lambda one: (not one.contradictory, not one.leaks, one.paths)))


def _most_frequent(counts: Counter[str]) -> Mapping[str, int]:
    return dict(counts.most_common())
