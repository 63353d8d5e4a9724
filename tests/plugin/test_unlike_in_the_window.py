"""Images unlike anything in training, in a real viewer: the same scores as in the console."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.plugin.classify.widget import ClassifyWidget

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000

_MAKE = """
import sys
from pathlib import Path
import keras, numpy as np
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle

keras.utils.set_random_seed(7)
network = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=2, width=8)
rng = np.random.default_rng(0)
images = [Image(rng.integers(0, 255, (48, 48), np.uint8), "YX") for _ in range(30)]

def save(name, crop=None, **more):
    prepare = Preprocessing(channels=[{"name": "DNA"}], object_crop=crop)
    return save_bundle(
        network, Path(sys.argv[1], name + ".cellclf"), preprocessing=prepare,
        classes=("round", "long"), architecture="compact-cnn", test_image=images[0], **more,
    )

features = load_classifier(save("plain").path, own_process=False).features(images)
save("known", unlikeness=Unlikeness.fit(features))
save("known-objects", {"side": 24}, unlikeness=Unlikeness.fit(features))
"""

_PREDICT = """
import json, sys
import numpy as np
from napari_cellclf import Image, load_classifier
stack = Image(np.load(sys.argv[2]), "TYX", ["DNA"])
found = load_classifier(sys.argv[1], own_process=False).predict(stack)
print(json.dumps([found.unlike_scores.tolist(), [list(one) for one in found.remarks]]))
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that say what is unlike anything in training, which was noise."""
    return tmp_path_factory.mktemp("known")


def _stack() -> Any:
    """Make an image of training, large squares, and one value throughout."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    y, x = np.mgrid[:48, :48] // 16
    squares = ((y + x) % 2 * 200).astype(np.uint8)
    return np.stack([noise, squares, np.full_like(noise, 9)])


def _finish(qtbot: Any, widget: ClassifyWidget) -> None:
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def test_the_window_says_what_the_console_says(
    make_napari_viewer: Callable[..., Any], known: Path, run_python: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch, qtbot: Any, tmp_path: Path,
) -> None:  # fmt: skip
    run_python(_MAKE, str(known))
    monkeypatch.setenv("CELLCLF_MODELS", str(known))
    np.save(tmp_path / "stack.npy", _stack())
    told = run_python(_PREDICT, str(known / "known.cellclf"), str(tmp_path / "stack.npy"))
    scores, remarks = json.loads(told)
    assert scores[0] <= 1 < scores[1]
    assert remarks == [[], [], ["empty image"]]

    viewer = make_napari_viewer()
    widget = ClassifyWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Classify")
    assert widget.form.model.choose("known")
    viewer.add_image(_stack(), name="DNA")
    _finish(qtbot, widget)
    rows = widget._shown.rows
    assert [row.unlike_score for row in rows] == pytest.approx(scores, rel=1e-3, abs=0.01)
    assert [list(row.remarks) for row in rows] == remarks
    message = widget.form.message.text()
    assert "of 3 images are unlike anything in training, 1 has remarks." in message

    view = widget.form.results
    for step, expected in ((0, ""), (1, f"score {scores[1]:.2f}; 1 is the limit")):
        viewer.dims.set_point(0, step)
        qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
        assert view._doubts.isVisibleTo(widget) == bool(expected)
        assert expected in view._doubts.text()
    assert view._winner.text().endswith(", unlike")
    viewer.dims.set_point(0, 2)
    qtbot.waitUntil(lambda: "Check the image: empty image." in view._doubts.text(), timeout=5000)
    assert widget.form.minimumSizeHint().width() <= 360
    assert widget.save_csv(widget._shown, str(tmp_path / "t.csv"))
    with (tmp_path / "t.csv").open() as file:
        saved = list(csv.DictReader(file))
    assert [float(row["unlike_score"]) for row in saved] == pytest.approx(
        scores, rel=1e-3, abs=0.01
    )
    assert [row["remarks"] for row in saved] == ["", "", "empty image"]

    # Objects: their layer has the columns, and they are counted apart.
    assert widget.form.model.choose("known-objects")
    field = viewer.add_image(np.random.default_rng(2).integers(0, 99, (96, 96), np.uint8))
    mask = np.zeros((96, 96), np.uint16)
    mask[10:30, 10:30], mask[60:80, 60:80] = 3, 7
    labels = viewer.add_labels(mask, name="nuclei")
    viewer.layers.selection = {field}
    _finish(qtbot, widget)
    assert {"unlike", "unlike_score"} <= set(labels.features)
    assert view.objects.legend.texts()[-1][0] == "unlike"
