"""Show the demo's new plate in napari, which runs as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_cellclf.errors import InputError

_PLUGIN = "napari-cellclf"


def has_napari() -> bool:
    """Whether napari is installed; it is not imported."""
    return importlib.util.find_spec("napari") is not None


def napari_command(folder: Path) -> list[str]:
    """Return the command that opens a folder with the Classify widget beside it."""
    return ["napari", str(folder), "--plugin", _PLUGIN, "--with", _PLUGIN, "Classify"]


def as_typed(program: str) -> list[str]:
    """Return the words with which the user's shell finds a program of this environment."""
    here = Path(sys.executable).with_name(program + (".exe" if os.name == "nt" else ""))
    found = shutil.which(program)
    if found is not None and Path(found) == here:
        return [program]
    if not here.exists():
        return [sys.executable, "-m", "napari_cellclf" if program == "cellclf" else program]
    inside = here.is_relative_to(Path.cwd())
    return [str(here.relative_to(Path.cwd()) if inside else here)]


def shell_line(words: Sequence[str]) -> str:
    """Join words to a line that can be typed as it is, on this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def install_line() -> str:
    """Return the line that installs napari beside this package."""
    return shell_line([*as_typed("pip"), "install", "napari[all]"])


def require_napari() -> None:
    """Make sure that napari is installed, without importing it."""
    if not has_napari():
        raise InputError(
            f"napari is not installed, so --view cannot work; type {install_line()} or leave "
            "--view out"
        )


def open_napari(folder: Path) -> None:
    """Open a folder of images in napari, and wait until napari is closed."""
    words = napari_command(folder)
    print("Opening napari; close its window to end.", flush=True)
    code = _run(words)
    if code:
        raise InputError(f"napari ended with code {code}; to see why, type: {shell_line(words)}")


def _run(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", *words], check=False).returncode
