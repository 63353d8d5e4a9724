"""Make the pictures of the documentation: ``python tools/screenshots.py``.

A real napari window in a virtual display (xvfb-run, Mesa) shows simulated images only, classified
by the model that ``cellclf demo`` trains on simulated images; what it shows can be passed on.

With ``--real-out DIR`` pictures of real images are made as well, from the folder in CELLCLF_DATA or
``../shared/data`` and with the bundled model. Their licence does not allow them into this
repository, so DIR must lie outside of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
DATA = Path(os.environ.get("CELLCLF_DATA", ROOT.parent / "shared" / "data"))
CELL_TYPES = ("HEPG2", "HUVEC", "RPE", "U2OS")

WIDTH, HEIGHT = 1240, 800
#: Colours in a saved picture; more would make the files many times larger.
COLOURS = 200
PATIENCE_SECONDS = 600


def main() -> int:
    """Make the pictures."""
    arguments = _parser().parse_args()
    if arguments.real_out is not None and ROOT in arguments.real_out.resolve().parents:
        print(f"{arguments.real_out} lies in the repository; choose a folder outside of it.")
        return 2
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        return _again_with_display()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    demo = Path(tempfile.gettempdir()) / "cellclf-demo"
    if not (arguments.keep_demo and demo.exists()):
        _run_demo(demo)
    with tempfile.TemporaryDirectory(prefix="cellclf-screenshots-") as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["CELLCLF_MODELS"] = str(demo)
        _simulated(demo / "new-plate", arguments.out)
        if arguments.real_out is not None:
            _real(arguments.real_out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="where the pictures go")
    parser.add_argument("--keep-demo", action="store_true", help="use the last run's demo")
    parser.add_argument("--real-out", type=Path, help="also make pictures of real images, there")
    return parser


def _again_with_display() -> int:
    program = shutil.which("xvfb-run")
    if program is None:
        print("There is no display; install xvfb (Debian: apt-get install xvfb).")
        return 2
    screen = ["-a", "-s", "-screen 0 1600x1200x24"]
    return subprocess.call([program, *screen, sys.executable, *sys.argv])


def _run_demo(out: Path) -> None:
    command = "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", command, "demo", "--out", str(out)], check=True)


def _simulated(plate: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model = "demo-celltype"
    site = sorted(plate.rglob("*_s1_w1.png"))[3]
    _picture(out / "classify-site.png", lambda shot: _classify(shot, model, site))
    _picture(out / "classify-plate.png", lambda shot: _classify_plate(shot, model, plate))
    _picture(out / "classify-folder.png", lambda shot: _classify_folder(shot, model, plate))
    _picture(out / "classify-channels.png", _offer_channels)
    _picture(out / "sample-embryo.png", _sample_embryo)


def _real(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    images = DATA / "rxrx1" / "images"
    for cell_type in CELL_TYPES:
        site = images / f"{cell_type}-01" / "Plate1" / "B02_s1_w1.png"
        _picture(
            out / f"classify-{cell_type}.png",
            lambda shot, site=site: _classify(shot, "rxrx1-celltype", site),
        )
    light = out / "classify-light.png"
    _picture(light, lambda shot: _classify(shot, "rxrx1-celltype", site, "light"))
    _picture(
        out / "classify-root.png", lambda shot: _classify_plate(shot, "rxrx1-celltype", images)
    )
    embryo = DATA / "drosophila" / "Stage(060)-20230811-Cycle00-embryo03-3.tif"
    _picture(out / "embryo.png", lambda shot: shot.viewer.open(embryo, plugin="napari-cellclf"))


class Shot:
    """A window with the widget, to be brought into the state that a picture shows."""

    def __init__(self) -> None:
        import napari

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(WIDTH, HEIGHT)
        dock, self.widget = self.viewer.window.add_plugin_dock_widget("napari-cellclf", "Classify")
        self.pump(1)
        window = self.viewer.window._qt_window
        from qtpy.QtCore import Qt

        window.resizeDocks([dock], [370], Qt.Orientation.Horizontal)
        self.pump(0.5)

    def pump(self, seconds: float) -> None:
        """Let the window live for a while."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)

    def choose(self, model: str) -> None:
        """Choose a model."""
        if not self.widget.form.model.choose(model):
            raise RuntimeError(self.widget.form.message.text())

    def classify(self) -> None:
        """Press Classify and wait."""
        if not self.widget.classify():
            raise RuntimeError(self.widget.form.message.text())
        end = time.monotonic() + PATIENCE_SECONDS
        while self.widget.runner.running and time.monotonic() < end:
            self.pump(0.05)

    def save(self, path: Path) -> None:
        """Take the picture of the whole window."""
        from PIL import Image

        self.pump(1)
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels[..., :3])
        picture = picture.quantize(
            COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
        picture.save(path, optimize=True)
        print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


def _picture(path: Path, prepare: Callable[[Shot], Any]) -> None:
    shot = Shot()
    try:
        prepare(shot)
        shot.save(path)
    finally:
        shot.viewer.close()
        shot.pump(0.2)


def _classify(shot: Shot, model: str, site: Path, theme: str = "dark") -> None:
    shot.viewer.theme = theme
    shot.choose(model)
    shot.viewer.open(site, plugin="napari-cellclf")
    shot.pump(1)
    shot.classify()


def _classify_plate(shot: Shot, model: str, plate: Path) -> None:
    shot.choose(model)
    shot.viewer.open(plate, plugin="napari-cellclf")
    shot.pump(1)
    shot.classify()
    shot.viewer.dims.set_point(0, 5)
    # The message that some sites lack channels goes away by itself.
    shot.pump(8)


def _classify_folder(shot: Shot, model: str, folder: Path) -> None:
    shot.choose(model)
    shot.widget.form.tabs.setCurrentIndex(1)
    shot.widget.form.folder.set_path(str(folder))
    shot.classify()


def _offer_channels(shot: Shot) -> None:
    from napari_cellclf import simulate_site

    shot.choose("rxrx1-celltype")
    site = simulate_site("RPE", seed=4)
    names = ["DAPI", "ER", "488", "RNA"]
    colours = ["blue", "green", "red", "cyan"]
    layers = [
        shot.viewer.add_image(site.data[i], name=name, colormap=colour, blending="additive")
        for i, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    shot.viewer.layers.selection = set(layers)
    shot.pump(1)


def _sample_embryo(shot: Shot) -> None:
    shot.viewer.open_sample("napari-cellclf", "simulated_embryo")
    shot.viewer.dims.set_point(0, 12)


if __name__ == "__main__":
    sys.exit(main())
