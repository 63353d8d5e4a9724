"""The command line, ``cellclf``: it parses before it imports.

Importing this package loads the standard library only. Each command imports what it needs when it
runs, so that ``--help`` answers at once.
"""

from napari_cellclf.cli.app import main, program

__all__ = ["main", "program"]
