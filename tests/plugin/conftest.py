"""Real viewers, real widgets, and a tiny real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

# Before napari is imported: leaks of widgets fail a test, and so does touching a layer off the
# main thread.
os.environ["NAPARI_STRICT_QT"] = "1"
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.stains import CELL_TYPES, STAINS

SIDE = 48


_MAKE_BUNDLE = """
import json, sys
import keras, numpy as np
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle

keras.utils.set_random_seed(7)
for path, channels, classes, crop in json.loads(sys.argv[1]):
    channels = tuple(ChannelSpec(**channel) for channel in channels)
    count = len(channels)
    network = build_network(
        "compact-cnn", input_shape=(None, None, count), n_classes=len(classes)
    )
    kernel, *rest = network.layers[-1].get_weights()
    # Untrained, but a prediction that depends strongly on the image.
    network.layers[-1].set_weights([kernel * 30, *rest])
    pixels = np.random.default_rng(0).integers(0, 255, (count, 48, 48), np.uint8)
    test = Image(pixels, "CYX", tuple(channel.name for channel in channels))
    save_bundle(
        network, path, preprocessing=Preprocessing(channels=channels, object_crop=crop),
        classes=classes, architecture="compact-cnn", test_image=test,
    )
"""


def in_child(code: str, *arguments: str) -> str:
    """Run Python in a process of its own: TensorFlow and OpenGL do not go together in one."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _no_tensorflow_beside_opengl() -> None:
    """Keep a run of the whole suite in one process from dying.

    Mesa's OpenGL and TensorFlow each bring an LLVM and cannot be loaded together, see
    `napari_cellclf.inference.process_engine`; these tests are run on their own.
    """
    if sys.platform.startswith("linux") and "tensorflow" in sys.modules:
        pytest.skip("other tests have loaded TensorFlow here; run pytest tests/plugin by itself")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny real models: of stains, of one channel, of colours, of objects."""
    from napari_cellclf.io.rxrx1 import stain_channels

    folder = tmp_path_factory.mktemp("models")
    stains = [channel.model_dump() for channel in stain_channels(optional=(5, 6))]
    colours = [{"name": name} for name in ("red", "green", "blue")]
    square, box = {"side": 24}, {"side": None, "margin": 2, "masked": True}
    wanted = [
        (str(folder / "stains.cellclf"), stains, CELL_TYPES, None),
        (str(folder / "grey.cellclf"), [{"name": "membrane"}], ("early", "late"), None),
        (str(folder / "colour.cellclf"), colours, ("a", "b", "c"), None),
        (str(folder / "objects.cellclf"), [{"name": "DNA"}], ("dividing", "resting"), square),
        (str(folder / "masked.cellclf"), [{"name": "DNA"}], ("round", "long"), box),
    ]
    in_child(_MAKE_BUNDLE, json.dumps(wanted))
    return folder


@pytest.fixture
def models(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the models of the tests be those that there are, instead of the user's own."""
    monkeypatch.setenv("CELLCLF_MODELS", str(bundles))
    return bundles


@pytest.fixture
def run_python(models: Path) -> Callable[..., str]:
    """Run Python in a process that knows the tests' models."""
    return in_child


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A plate of three sites as files; the last has no w5 and w6."""
    from skimage.io import imsave

    folder = tmp_path / "HUVEC-01" / "Plate1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for well, site, count in (("B02", 1, 6), ("B02", 2, 6), ("B03", 1, 4)):
        for channel in range(1, count + 1):
            pixels = rng.integers(0, 40 * channel, (SIDE, SIDE), np.uint8)
            imsave(folder / f"{well}_s{site}_w{channel}.png", pixels, check_contrast=False)
    return folder


@pytest.fixture
def site_pixels() -> np.ndarray[Any, Any]:
    """Six channels, as uint8."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 200, (len(STAINS), SIDE, SIDE), np.uint8)


@pytest.fixture
def open_widget(make_napari_viewer: Callable[..., Any], models: Path) -> Callable[..., Any]:
    """Open a viewer with the widget docked as a user would."""
    from napari_cellclf.plugin.classify.widget import ClassifyWidget

    def opener(model: str = "stains") -> tuple[Any, ClassifyWidget]:
        viewer = make_napari_viewer()
        widget = ClassifyWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Classify")
        assert widget.form.model.choose(model)
        return viewer, widget

    return opener


@pytest.fixture
def answer_dialog(qtbot: Any) -> Callable[..., None]:
    """Type a path into the file dialog that is open, and confirm it as a user does."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QDialogButtonBox, QFileDialog, QLineEdit, QWidget

    def answer(inside: QWidget, path: Path | None, *, key: bool = False) -> None:
        (dialog,) = inside.findChildren(QFileDialog)
        assert dialog.isVisible()
        assert not dialog.isModal()
        line = dialog.findChild(QLineEdit, "fileNameEdit")
        # Without the focus Qt takes what is completed while one types for files that are chosen.
        dialog.activateWindow()
        line.setFocus()
        qtbot.waitUntil(line.hasFocus, timeout=10_000)
        if path is not None:
            line.selectAll()
            qtbot.keyClicks(line, str(path))
        saves = dialog.acceptMode() == QFileDialog.AcceptMode.AcceptSave
        kind = (
            QDialogButtonBox.StandardButton.Save if saves else QDialogButtonBox.StandardButton.Open
        )
        with qtbot.waitSignal(dialog.destroyed, timeout=10_000):
            if key:
                qtbot.keyClick(line, Qt.Key.Key_Return)
            else:
                button = dialog.findChild(QDialogButtonBox).button(kind)
                qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return answer
