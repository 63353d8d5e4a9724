"""``python -m napari_cellclf`` is the same as the command ``cellclf``."""

from __future__ import annotations

from napari_cellclf.cli import program

if __name__ == "__main__":
    program()
