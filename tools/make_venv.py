"""Make a virtual environment: ``python3 tools/make_venv.py .venv``.

The same as ``python3 -m venv``, except that it works on a plain Debian too, whose Python comes
without the part that puts pip into a new environment: as root that package is installed first,
otherwise one line says what to install.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import system_packages

OLDEST, NEWEST = (3, 11), (3, 13)


def main(folder: str) -> int:
    """Make the environment `folder`, or say why it cannot be made."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        print(f"This is Python {version}; napari-cellclf needs 3.11 or newer.")
        return 1
    if sys.version_info[:2] > NEWEST:
        print(f"This is Python {version}; if TensorFlow is not to be had for it, use 3.11 to 3.13.")
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info.minor}-venv"
        if not (system_packages.can_install() and system_packages.install([package])):
            print(f"This Python cannot make virtual environments: install {package} and try again.")
            return 1
    # A new process: this one may have looked for ensurepip before it was installed.
    return subprocess.call([sys.executable, "-m", "venv", folder])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tools/make_venv.py FOLDER")
    sys.exit(main(sys.argv[1]))
