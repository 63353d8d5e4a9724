"""How soon the first answer comes: ``python benchmarks/start.py [--runs 5]``.

Everything is measured in new processes, by turns, so that a busy machine slows all of them; the
table has the medians. *With Keras* is the same with TensorFlow computing: on the command line by
``--engine keras``, in the widget by the same model without its ``model.onnx``.

The widget is opened in a fresh napari that shows a simulated site in six layers; its seconds begin
with the click on *Classify* and end with the classes in the widget and on the canvas. Needs a
display (on a machine without one: ``xvfb-run -a python benchmarks/start.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = "rxrx1-celltype"
#: The same without the graph of the engines.
BARE = "rxrx1-celltype-keras"
_OPENVINO = (
    "from napari_cellclf.inference.engine_library import engine_library; engine_library('openvino')"
)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--click", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.click:
        print(json.dumps(click(arguments.click)))
        return
    with tempfile.TemporaryDirectory(prefix="cellclf-start-") as temporary:
        folder = Path(temporary)
        os.environ.update(
            CELLCLF_MODELS=str(folder / "models"),
            CELLCLF_CACHE=str(folder / "cache"),
            NAPARI_CONFIG=str(folder / "napari.yaml"),
            TF_CPP_MIN_LOG_LEVEL="3",
        )
        write_bare(folder / "models")
        measure(write_site(folder), arguments.runs)


def write_site(folder: Path) -> Path:
    """Write one simulated site."""
    import tifffile

    from napari_cellclf import simulate_site

    path = folder / "site.tif"
    planes = simulate_site("RPE", seed=0, size=512).data
    tifffile.imwrite(path, planes, metadata={"axes": "CYX"}, imagej=True)
    return path


def write_bare(folder: Path) -> None:
    """Write the bundled model without ``model.onnx``, so that only Keras can compute it."""
    from napari_cellclf.bundles.bundle import REQUIRED, ModelBundle, members_of, read_all
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.bundles.write import write_bundle

    path = find_model(MODEL)
    members = members_of(path)
    files: dict[str, bytes | Path] = {name: read_all(members, name) for name in REQUIRED}
    spec = ModelBundle.load(path).spec.model_copy(update={"name": BARE})
    write_bundle(folder / f"{BARE}.cellclf", spec, files)


def measure(site: Path, runs: int) -> None:
    """Let all take turns, and print medians."""
    predict = ("-m", "napari_cellclf", "predict", MODEL, str(site))
    commands = {
        "Python alone": ("-c", "pass"),
        "`import napari_cellclf`": ("-c", "import napari_cellclf"),
        "`cellclf --help`": ("-m", "napari_cellclf", "--help"),
        "`import openvino`": ("-c", _OPENVINO),
        "`import keras`": ("-c", "import keras"),
        "`cellclf predict`, one site": predict,
        "the same in float32": (*predict, "--precision", "float32"),
        "the same with Keras": (*predict, "--engine", "keras"),
    }
    rows: dict[str, list[float]] = {name: [] for name in commands}
    # What was compiled is on the disk afterwards, as for a user's second command.
    first = seconds(predict)
    for _ in range(runs):
        for name, command in commands.items():
            rows[name].append(seconds(command))
        for model, what in ((MODEL, ""), (BARE, ", with Keras")):
            for name, taken in clicked(model).items():
                rows.setdefault(f"widget: {name}{what}", []).append(taken)
    print(f"\n| what | seconds, median of {runs} | all |\n|---|---|---|")
    print(f"| `cellclf predict`, the very first time | {first:.2f} | |")
    for name, taken in rows.items():
        each = " ".join(f"{one:.2f}" for one in taken)
        print(f"| {name} | {statistics.median(taken):.2f} | {each} |")


def seconds(command: tuple[str, ...]) -> float:
    """Time a new Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - began


def clicked(model: str) -> dict[str, float]:
    """Open a new napari, click, and return the seconds of each step."""
    command = [sys.executable, __file__, "--click", model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def click(model: str) -> dict[str, float]:
    """Do so in this process."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_cellclf import simulate_site
    from napari_cellclf.core.stains import STAINS

    viewer = napari.Viewer()
    pixels = simulate_site("RPE", seed=0, size=512).data
    layers = [viewer.add_image(plane, name=STAINS[i]) for i, plane in enumerate(pixels)]
    viewer.layers.selection = set(layers)
    QApplication.processEvents()

    began = time.perf_counter()
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    bench.show_tab(3)
    widget = bench.results
    QApplication.processEvents()
    opened = time.perf_counter() - began

    widget.form.model.choose(model)
    _live_for(1.0)
    taken = {"open": opened}
    for name in ("the first click", "the second click"):
        began = time.perf_counter()
        if not widget.classify():
            raise RuntimeError(widget.form.message.text())
        while widget.runner.running:
            QApplication.processEvents()
            time.sleep(0.002)
        QApplication.processEvents()
        taken[name] = time.perf_counter() - began
        if widget._shown is None:
            raise RuntimeError(widget.form.message.text())
    viewer.close()
    return taken


def _live_for(seconds: float) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
