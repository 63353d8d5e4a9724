"""The demo's folder: it replaces what an earlier demo wrote, and never anything else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from napari_cellclf.errors import InputError

#: Lists what the demo wrote, so that the next one knows its own files.
MARKER = "demo.json"
_MADE_BY = "cellclf demo"


def claim_folder(folder: Path, names: Iterable[str]) -> None:
    """Make a folder ready for the demo's files."""
    names = sorted(names)
    earlier = _earlier_files(folder)
    foreign = [name for name in names if name not in earlier and (folder / name).exists()]
    if foreign:
        raise InputError(
            f"{folder / foreign[0]} was not written by the demo and would be overwritten; move it "
            "away or choose another folder with --out"
        )
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Written before the files, so that a demo that was interrupted can be replaced, too.
    marker = {"made_by": _MADE_BY, "files": names}
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _earlier_files(folder: Path) -> list[str]:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder with --out")
    if not folder.exists() or not any(folder.iterdir()):
        return []
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        marker = None
    files = marker.get("files") if isinstance(marker, dict) else None
    ours = isinstance(marker, dict) and marker.get("made_by") == _MADE_BY
    if not ours or not isinstance(files, list) or not all(_is_below(folder, n) for n in files):
        raise InputError(
            f"{folder} holds files that the demo did not write; choose a new folder with --out"
        )
    return [name for name in files if (folder / name).is_file()]


def _is_below(folder: Path, name: object) -> bool:
    """Whether a name leads to a place inside the folder, links followed."""
    if not isinstance(name, str) or PurePosixPath(name).is_absolute():
        return False
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())
