"""``python -m napari_cellclf`` is the same as the command ``cellclf``."""

from __future__ import annotations

import sys

from napari_cellclf.cli import main

if __name__ == "__main__":
    sys.exit(main())
