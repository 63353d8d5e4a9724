"""Walk folders of images, and remember what is passed over."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from napari_cellclf.core.counting import counted
from napari_cellclf.io.local_paths import (
    IMAGE_SUFFIXES,
    Seen,
    is_hidden,
    is_left_by_tools,
    stem_of_masked,
)

#: Endings of what lies beside images and is nobody's image.
_TEXTS = frozenset(
    f".{ending}"
    for ending in (
        *("cfg", "csv", "db", "doc", "docx", "htm", "html", "ini", "ipynb", "json", "log", "md"),
        *("ods", "pdf", "pptx", "py", "r", "rtf", "sh", "toml", "tsv", "txt", "xls", "xlsm"),
        *("xlsx", "xml", "yaml", "yml"),
    )
)
#: What a folder holds that this package wrote: a run, a model, a report on data, an evaluation.
_OWN = (
    {"run.json", "dataset.csv"},
    {"bundle.json", "weights.safetensors"},
    {"report.txt", "dataset.csv", "classes-before.png"},
    {"report.html", "metrics.json"},
    {"tuning.json"},
)
#: Jupyter's copy of a file that lies beside it.
_COPY = re.compile(r"(.+)-checkpoint(\.\w+)")
_MOST_NAMED = 5


@dataclass
class LeftOut:
    """What is below a folder and is not taken for an image."""

    #: Files by their ending, such as ``".czi"``.
    endings: Counter[str] = field(default_factory=Counter)
    #: Thumbnails and copies that other programs made.
    made_by_tools: list[Path] = field(default_factory=list)
    #: Label masks of images beside them.
    masks: list[Path] = field(default_factory=list)
    #: Folders that this package wrote.
    own: list[Path] = field(default_factory=list)
    #: Folders that cannot be listed, and why.
    closed: list[tuple[Path, str]] = field(default_factory=list)

    def add(self, other: LeftOut) -> None:
        """Take what was left out elsewhere."""
        self.endings.update(other.endings)
        self.made_by_tools += other.made_by_tools
        self.masks += other.masks
        self.own += other.own
        self.closed += other.closed

    def sentences(self) -> list[str]:
        """Say what was left out, and why; nothing if nothing was."""
        said = []
        if self.endings:
            tally = ", ".join(
                f"{ending or 'no ending'} ({count})"
                for ending, count in self.endings.most_common(_MOST_NAMED)
            )
            count = self.endings.total()
            files = counted(count, "file has an ending that is", "files have endings that are")
            said.append(f"{files} not read: {tally}; convert them to TIFF or PNG")
        said += _listed(
            self.made_by_tools,
            "file made by another program (a thumbnail, a copy) is left out",
            "files made by other programs (thumbnails, copies) are left out",
        )
        said += _listed(
            self.masks,
            "label mask beside its image is not taken for an image",
            "label masks beside their images are not taken for images",
        )
        said += _listed(
            self.own,
            "folder of results of this program is left out",
            "folders of results of this program are left out",
        )
        said += [
            f"the folder {path} cannot be listed ({reason})"
            for path, reason in self.closed[:_MOST_NAMED]
        ]
        if len(self.closed) > _MOST_NAMED:
            said.append(
                f"{counted(len(self.closed) - _MOST_NAMED, 'more folder')} cannot be listed"
            )
        return said


def _listed(paths: list[Path], one: str, several: str) -> list[str]:
    return [f"{counted(len(paths), one, several)}, such as {paths[0]}"] if paths else []


def image_files(folder: Path, left_out: LeftOut | None = None) -> Iterator[Path]:
    """Go over all images below a folder; links between folders are followed once."""
    left_out = LeftOut() if left_out is None else left_out
    seen = Seen()

    def note_closed(error: OSError) -> None:
        left_out.closed.append((Path(error.filename), error.strerror or str(error)))

    # Absolute for the sake of names of folders above; the walk keeps the path as it was given.
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=note_closed):
        here = Path(parent)
        if not seen.is_new(here):
            folders.clear()
            continue
        if here != folder and is_own_output(names):
            left_out.own.append(here)
            folders.clear()
            continue
        left_out.made_by_tools += [here / name for name in folders if is_left_by_tools(name)]
        kept = ((here.joinpath(name).is_symlink(), name) for name in folders if not is_hidden(name))
        folders[:] = [name for _, name in sorted(kept)]
        yield from _images_of(here, names, left_out)


def _images_of(folder: Path, names: list[str], left_out: LeftOut) -> Iterator[Path]:
    there = frozenset(names)
    masks = _masks_among(names)
    for name in sorted(names):
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        copy = _COPY.fullmatch(name) if "-checkpoint" in name else None
        if is_hidden(name) or (copy and f"{copy[1]}{copy[2]}" in there):
            if name[:1] != "." and suffix in IMAGE_SUFFIXES:
                left_out.made_by_tools.append(folder / name)
        elif name in masks:
            left_out.masks.append(folder / name)
        elif suffix in IMAGE_SUFFIXES:
            yield folder / name
        elif suffix not in _TEXTS:
            left_out.endings[suffix] += 1


def _masks_among(names: Iterable[str]) -> frozenset[str]:
    """Find the label masks of images that are among the names, too."""
    of_image = {name: stem for name in names if (stem := stem_of_masked(name)) is not None}
    if not of_image:
        return frozenset()
    split = (os.path.splitext(name) for name in names)  # noqa: PTH122
    stems = {stem for stem, suffix in split if suffix.lower() in IMAGE_SUFFIXES}
    return frozenset(name for name, stem in of_image.items() if stem in stems)


def is_own_output(names: Iterable[str]) -> bool:
    """Whether a folder holds what this package wrote, by the names in it."""
    there = set(names)
    return any(own <= there for own in _OWN)
