"""Make the pictures of the documentation: ``python tools/screenshots.py``.

A real napari window in a virtual display (xvfb-run, Mesa) shows simulated images only, classified
by the model that ``cellclf demo`` trains on simulated images; what it shows can be passed on.

The picture of the page that ``cellclf serve`` shows is taken with Chromium and its driver.

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
    if arguments.only not in ("train", "label") and not (arguments.keep_demo and demo.exists()):
        _run_demo(demo)
    with tempfile.TemporaryDirectory(prefix="cellclf-screenshots-") as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["CELLCLF_MODELS"] = str(demo)
        if arguments.only in (None, "train"):
            _training(Path(folder), arguments.out)
        if arguments.only in (None, "label"):
            _labelling(Path(folder), arguments.out)
        if arguments.only in (None, "classify"):
            _simulated(demo / "new-plate", arguments.out)
        if arguments.only in (None, "results"):
            _results(Path(folder), arguments.out.resolve())
        if arguments.only in (None, "serve"):
            _page(demo, Path(folder), arguments.out)
        if arguments.real_out is not None:
            _real(arguments.real_out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="where the pictures go")
    parts = ("classify", "label", "train", "results", "serve")
    parser.add_argument("--only", choices=parts, help="of one part only")
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
    _picture(out / "why-site.png", lambda shot: _ask_why(shot, model, site))
    _picture(out / "classify-plate.png", lambda shot: _classify_plate(shot, model, plate))
    _picture(out / "classify-folder.png", lambda shot: _classify_folder(shot, model, plate))
    _picture(out / "classify-channels.png", _offer_channels)
    _picture(out / "classify-models.png", lambda shot: _look_after_models(shot, model))
    _picture(out / "sample-embryo.png", _sample_embryo)


def _training(folder: Path, out: Path) -> None:
    """Make the pictures of the Train widget."""
    from napari_cellclf.plugin.train.follower import running_processes

    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # The pictures show paths: short ones.
    os.chdir(folder)
    screen = _simulated_screen(Path("plates"))
    for name, prepare in (
        ("train-leakage", _train_leakage),
        ("train-preview", _train_preview),
        ("train-naming", _train_naming),
        ("train-advanced", _train_advanced),
        ("train-running", _train),
    ):
        _picture(out / f"{name}.png", lambda shot, prepare=prepare: prepare(shot, screen), "Train")
    # The run is of no more use once its picture is taken.
    for process in running_processes():
        process.terminate()
        while process.exit_code() is None:
            time.sleep(0.1)
    os.chdir(ROOT)


def _labelling(folder: Path, out: Path) -> None:
    """Make the picture of the tab that labels."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    screen = _simulated_screen(folder / "screen")
    _picture(out / "label-page.png", lambda shot: _label(shot, screen), "Label")


def _results(folder: Path, out: Path) -> None:
    """Make the pictures of the page of results, and of objects in the viewer."""
    out.mkdir(parents=True, exist_ok=True)
    # The pictures show paths: short ones.
    os.chdir(folder)
    screen = _simulated_screen(Path("new-plates"))
    model = "demo-celltype"
    _picture(out / "results.png", lambda shot: _look_through_results(shot, model, screen))
    table = _simulated_nuclei(Path("fields"))
    train = ["train", str(table), "--out", "nuclei-run", "--preset", "objects"]
    subprocess.run([sys.executable, "-m", "napari_cellclf", *train], check=True)
    shutil.copytree("nuclei-run/model.cellclf", "nuclei.cellclf")
    _picture(out / "results-objects.png", lambda shot: _look_at_objects(shot, table.parent))
    os.chdir(ROOT)


def _page(demo: Path, folder: Path, out: Path) -> None:
    """Make the picture of the page of ``cellclf serve``."""
    from imagecodecs import png_decode
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "hide-scrollbars", f"user-data-dir={folder / 'chromium'}", "window-size=1000,800",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    first = sorted((demo / "new-plate").rglob("*_s1_w1.png"))[3]
    site = sorted(first.parent.glob(first.name.replace("_w1", "_w?")))
    command = [sys.executable, "-m", "napari_cellclf", "serve", demo / "demo-celltype.cellclf"]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
        ready = next(line for line in server.stderr if "ready at" in line)
        browser = webdriver.Chrome(options, webdriver.ChromeService(_program("chromedriver")))
        try:
            browser.get(ready.split()[3])
            browser.find_element("id", "files").send_keys("\n".join(map(str, site)))
            said = browser.find_element("id", "status")
            WebDriverWait(browser, PATIENCE_SECONDS).until(lambda _: "Classified" in said.text)
            bottom = browser.execute_script(
                "return document.querySelector('footer').getBoundingClientRect().bottom"
            )
            size = {"width": 1000, "height": int(bottom) + 16, "deviceScaleFactor": 1}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"mobile": False})
            pixels = png_decode(browser.get_screenshot_as_png())[..., :3]
            # So that the small dots of the legend keep their colours.
            _save(pixels, out / "serve-page.png", "MAXCOVERAGE")
        finally:
            browser.quit()
            server.terminate()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"there is no {name}; install it (Debian: apt-get install {name})")
    return found


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
    """A window with a widget, to be brought into the state that a picture shows."""

    def __init__(self, tab: str = "Results") -> None:
        import napari

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(WIDTH, HEIGHT)
        dock, self.bench = self.viewer.window.add_plugin_dock_widget(
            "napari-cellclf", "Cell Classifier"
        )
        number = ["Images", "Label", "Train", "Results"].index(tab)
        self.bench.show_tab(number)
        #: The page that is shown.
        self.widget = [self.bench.images, self.bench.label, None, None][number]
        if self.widget is None:
            self.widget = self.bench.train if tab == "Train" else self.bench.results
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
        self.wait(lambda: not self.widget.runner.running)

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Let the window live until something is over."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_over() and time.monotonic() < end:
            self.pump(0.05)

    def save(self, path: Path) -> None:
        """Take the picture of the whole window."""
        self.pump(1)
        _save(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3], path)


def _save(pixels: Any, path: Path, method: str = "MEDIANCUT") -> None:
    from PIL import Image

    picture = Image.fromarray(pixels).quantize(
        COLOURS, method=Image.Quantize[method], dither=Image.Dither.NONE
    )
    picture.save(path, optimize=True)
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


def _picture(path: Path, prepare: Callable[[Shot], Any], tab: str = "Results") -> None:
    shot = Shot(tab)
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


def _ask_why(shot: Shot, model: str, site: Path) -> None:
    _classify(shot, model, site)
    shot.viewer.window.resize(WIDTH, 900)
    shot.widget.form.why.button.click()
    shot.wait(lambda: shot.widget.form.why.button.text() == "Why?")


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


def _look_through_results(shot: Shot, model: str, folder: Path) -> None:
    shot.viewer.window.resize(WIDTH, 1000)
    images = shot.bench.images
    images.files.set_path(str(folder))
    shot.wait(lambda: images.collection is not None)
    # Every 17th image has a wrong label.
    for number, row in enumerate(images.collection.rows):
        cells = row.fields["experiment"].partition("-")[0]
        wrong = CELL_TYPES[CELL_TYPES.index(cells) - 1]
        shot.bench.label.page.book.label([row.id], cells if number % 17 else wrong)
    shot.choose(model)
    shot.classify()
    page = shot.widget.form.page
    page.overview.group.setCurrentIndex(page.overview.group.findData("plate"))
    page.overview.confusion_section.unfold(True)
    page.worst.click()
    shot.pump(1)
    page.show_in_viewer.click()


def _look_at_objects(shot: Shot, folder: Path) -> None:
    shot.choose(str(Path("nuclei.cellclf").resolve()))
    image, mask = (folder / f"field0{end}.tif" for end in ("", "_masks"))
    shot.viewer.open(image, plugin="napari")
    shot.viewer.open(mask, plugin="napari", layer_type="labels")
    shot.viewer.layers.selection = {shot.viewer.layers[0]}
    shot.pump(1)
    shot.classify()
    shot.widget.form.results.table.selectRow(40)
    shot.viewer.reset_view()


def _simulated_nuclei(folder: Path) -> Path:
    """Draw fields of nuclei with their masks, and write a table of their classes."""
    import csv

    import numpy as np
    from scipy.ndimage import gaussian_filter
    from skimage.draw import ellipse
    from tifffile import imwrite

    folder.mkdir()
    rng, rows = np.random.default_rng(3), []
    kinds = {"resting": (13, 10, 60), "dividing": (14, 4, 120), "dying": (6, 5, 170)}
    for field in range(6):
        pixels, mask = rng.normal(22, 3, (512, 512)), np.zeros((512, 512), np.uint16)
        number = 0
        while number < 150:
            kind = str(rng.choice(list(kinds), p=(0.6, 0.25, 0.15)))
            long, short, bright = kinds[kind]
            radii = np.array([long, short]) * rng.uniform(0.85, 1.15)
            place, turned = rng.integers(16, 496, 2), rng.uniform(0, np.pi)
            spot = ellipse(*place, *radii, shape=mask.shape, rotation=turned)
            if mask[spot].any():
                continue
            number += 1
            mask[spot] = number
            pixels[spot] += bright * rng.uniform(0.7, 1.2)
            rows.append((f"field{field}.tif", f"field{field}_masks.tif", number, kind))
        noisy = gaussian_filter(pixels, 1.2) + rng.normal(0, 4, pixels.shape)
        imwrite(folder / f"field{field}.tif", noisy.clip(0, 255).astype(np.uint8))
        imwrite(folder / f"field{field}_masks.tif", mask)
    table = folder / "objects.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "mask", "object", "label"), *rows])
    return table


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


def _look_after_models(shot: Shot, model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # All of the questions are to be seen.
        shot.viewer.window.resize(WIDTH, 1080)
        network = Path(folder) / "their-network.keras"
        # TensorFlow and OpenGL crash each other in one process.
        export = ["models", "export", model, "--format", "keras", "--out", str(network)]
        subprocess.run([sys.executable, "-m", "napari_cellclf", *export], check=True)
        shot.widget.form.models_section.unfold(True)
        models = shot.widget.form.models
        models.form.tree.select("saureus-cellcycle-dna")
        models.look_at(str(network))
        shot.wait(lambda: not models.running)
    form = models.form.import_form
    form.name.setText("their-network")
    form.classes.setText("HEPG2, HUVEC, RPE, U2OS")
    form.normalization.setCurrentText("percentile:1,99.5")
    shot.pump(1)


def _sample_embryo(shot: Shot) -> None:
    shot.viewer.open_sample("napari-cellclf", "simulated_embryo")
    shot.viewer.dims.set_point(0, 12)


def _simulated_screen(folder: Path) -> Path:
    from imagecodecs import png_encode

    from napari_cellclf.core.simulation.site import simulate_plate

    for plate in (1, 2, 3, 4):
        for site in simulate_plate(wells_per_type=3, plate=plate, seed=plate):
            place = folder / site.experiment / f"Plate{plate}"
            place.mkdir(parents=True, exist_ok=True)
            for channel, pixels in enumerate(site.draw().data, start=1):
                name = f"{site.well}_s{site.site}_w{channel}.png"
                (place / name).write_bytes(png_encode(pixels))
    return folder


def _label(shot: Shot, screen: Path) -> None:
    """Label a few images, and wait for what is learnt from them."""
    from qtpy.QtTest import QTest

    images = shot.bench.images
    images.choose_path(str(screen))
    shot.wait(lambda: images.collection is not None)
    images.labels.set_path(str(screen.parent / "labels.csv"))
    images.start.click()
    shot.pump(1)
    page = shot.bench.label.page
    first = next(row for row in page.collection.rows if Path(row.source).name.startswith("B02_s1"))
    shot.viewer.open(first.source, plugin="napari-cellclf")
    for name in CELL_TYPES:
        page.book.add_class(name)
    shot.viewer.window._qt_window.activateWindow()
    page.gallery.view.setFocus()
    shot.wait(lambda: shot.bench.learning.is_ready)
    for _ in range(24):
        current = page.gallery.current()
        name = Path(page.collection.rows[current].source).parts[-3].rpartition("-")[0]
        QTest.keyClick(page.gallery.view, str(CELL_TYPES.index(name) + 1))
        shot.wait(lambda current=current: page.gallery.current() != current)
    page.gallery.sort_by("field:well")
    page.gallery.go_to(page.gallery.rows.number(7))
    page.bar.name.ended.emit()
    shot.bench.label.message.say("Labels are kept in screen/labels.csv.")
    shot.pump(4)


def _choose_data(shot: Shot, data: Path) -> None:
    widget = shot.widget
    widget.form.data.path.set_path(str(data))
    widget.form.run.folder.set_path("celltypes")
    shot.wait(lambda: widget.data.split is not None and not widget.data.inspecting)


def _train_leakage(shot: Shot, data: Path) -> None:
    _choose_data(shot, data)
    shot.widget.form.split.choose("random")
    shot.wait(lambda: not shot.widget.data.busy)
    shot.widget.form.data_section.unfold(False)


def _train_preview(shot: Shot, data: Path) -> None:
    _choose_data(shot, data)
    for section in shot.widget.form.sections[:2]:
        section.unfold(False)
    shot.pump(0.5)
    shot.widget.preview()
    shot.wait(lambda: not shot.widget._previewing.running)
    shown = ("w1 Hoechst", "w2 ConA", "w3 Phalloidin")
    for layer in shot.viewer.layers:
        layer.visible = layer.name.endswith(shown)
        low, high = layer.contrast_limits
        layer.contrast_limits = low, low + (high - low) * 0.6
    shot.viewer.dims.set_point((0, 1), (1, 3))
    shot.viewer.reset_view()


def _train_naming(shot: Shot, data: Path) -> None:
    """Show a lab's own file names, and how a typed pattern understands them."""
    lab = Path("lab")
    for file in sorted(data.rglob("*.png")):
        cells, plate = file.parts[-3].rpartition("-")[0], file.parent.name.lower()
        well, site, channel = file.stem.split("_")
        named = lab / cells / f"{plate} {well} f{site[1:]}-c{channel[1:]}.png"
        named.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, named)
    widget = shot.widget
    widget.form.data.naming.set_naming("{label}/{plate} {well} f{site}-c{channel}.png")
    _choose_data(shot, lab)
    widget.form.data.naming.box.lineEdit().setCursorPosition(0)
    shot.pump(1)


def _train_advanced(shot: Shot, data: Path) -> None:
    _choose_data(shot, data)
    form = shot.widget.form
    for section in (*form.sections[:2], form.run_section):
        section.unfold(False)
    form.advanced_section.unfold(True)
    form.model.advanced_section.unfold(True)
    form.model.advanced.enter({"balance": "class-weights", "warmup": 0.2})
    shot.pump(1)


def _train(shot: Shot, data: Path) -> None:
    widget = shot.widget
    first = sorted(data.rglob("*_s1_w1.png"))[0]
    shot.viewer.open(first, plugin="napari-cellclf")
    _choose_data(shot, data)
    widget.form.model.batch_size.setText("8")
    widget.form.model.advanced.enter({"steps_per_epoch": 8})
    widget.refresh()
    if not widget.run.start():
        raise RuntimeError(widget.form.run.message.text())
    state = widget.run.follower
    shot.wait(lambda: len(state.state.points) >= 7 or not widget.run.active)
    shot.pump(0.6)


if __name__ == "__main__":
    sys.exit(main())
