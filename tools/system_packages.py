"""Install the system packages that the tests with a window need: a virtual display, OpenGL, Qt's.

Run by tox before the tests. As root on Debian and its relatives it installs what is missing; on
any other Linux it names what is missing in one line and goes on, since most tests need none of
it; on macOS and Windows there is nothing to do. With ``--browser`` it looks for Chromium, too,
in which the page of ``cellclf serve`` is tested.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

# What the wheel of PyQt6 links against or loads at run time and does not carry itself.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libGLX_mesa.so.0": "libglx-mesa0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
PROGRAMS = {"Xvfb": "xvfb"}
#: Ubuntu has these only as snaps.
BROWSER = {"chromium": "chromium", "chromedriver": "chromium-driver"}


def missing_packages() -> list[str]:
    """Return the Debian packages of the libraries and programs that are not here."""
    return _absent(PROGRAMS) + [name for file, name in LIBRARIES.items() if not _loads(file)]


def _absent(programs: dict[str, str]) -> list[str]:
    return [package for name, package in programs.items() if shutil.which(name) is None]


def can_install() -> bool:
    """Whether this is root on a system with Debian's package manager."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(packages: list[str]) -> bool:
    """Install packages with apt-get, asking nothing.

    Parameters
    ----------
    packages : list of str
        Names of Debian packages.

    Returns
    -------
    bool
        Whether they are installed now; if not, apt-get has said why.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return all(
        subprocess.call(["apt-get", "-q", *command], env=environment, stdin=subprocess.DEVNULL) == 0
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages])
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> int:
    """Install what is missing, or say what is."""
    if not sys.platform.startswith("linux"):
        return 0
    browser = _absent(BROWSER) if "--browser" in sys.argv else []
    # Without a browser its tests are left out, which is no reason to leave out the others.
    if browser and not provide("the tests of the server's page", browser):
        print("The tests of the server's page are left out.")
    packages = missing_packages()
    return 0 if not packages or provide("the tests with a window", packages) else int(can_install())


def provide(purpose: str, packages: list[str]) -> bool:
    """Install packages where that is possible, else name them in one line.

    Parameters
    ----------
    purpose : str
        What needs them.
    packages : list of str
        Names of Debian packages.

    Returns
    -------
    bool
        Whether they are installed now.
    """
    names = " ".join(packages)
    if not can_install():
        print(f"For {purpose} these system packages are needed (Debian's names): {names}")
        return False
    print(f"Installing system packages for {purpose}: {names}", flush=True)
    return install(packages)


if __name__ == "__main__":
    sys.exit(main())
