"""The part Models in a real viewer: real files, a real server, a list of this computer."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.bundles.write import share_model
from napari_cellclf.plugin.classify.models.forms import ImportEntries, describe
from napari_cellclf.plugin.classify.models.shelf import ShelfEntry, in_words
from napari_cellclf.plugin.classify.models.work import list_shelf

pytestmark = pytest.mark.timeout(600)

PATIENCE = 300_000
CLASSES = ("early", "late")

_MAKE_NETWORK = """
import sys
import keras
from keras import layers
keras.utils.set_random_seed(3)
keras.Sequential([
    keras.Input((24, 24, 1)), layers.Conv2D(4, 3, activation="relu"),
    layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax"),
]).save(sys.argv[1])
"""


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody else's network."""
    path = tmp_path_factory.mktemp("foreign") / "theirs.keras"
    subprocess.run([sys.executable, "-c", _MAKE_NETWORK, str(path)], check=True, timeout=300)
    return path


@pytest.fixture
def own_models(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of this test, with one to fetch that a list of this computer names."""
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    packed = share_model(bundles / "grey.cellclf", tmp_path / "grey.zip").path
    content = packed.read_bytes()
    entry = {
        "kind": "bundle",
        "name": "grey",
        "title": "Grey",
        "uri": packed.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "licence": "CC0-1.0",
        "description": "Tells early from late.",
        "classes": list(CLASSES),
        "channels": ["membrane"],
    }
    listed = {"format_version": 1, "title": "ours", "entries": [entry]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    monkeypatch.setenv("CELLCLF_REGISTRY", str(tmp_path / "list.json"))
    return tmp_path / "mine"


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], own_models: Path) -> Any:
    """A viewer that knows this test's models."""
    return make_napari_viewer()


@pytest.fixture
def part(viewer: Any) -> Any:
    """The widget with its part Models unfolded."""
    from napari_cellclf.plugin.classify.widget import ClassifyWidget

    widget = ClassifyWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Classify")
    widget.form.models_section.unfold(True)
    return widget


def finish(qtbot: Any, widget: Any) -> str:
    """Wait for what is under way, and return what is said then."""
    qtbot.waitUntil(lambda: not widget.form.models.running, timeout=PATIENCE)
    return str(widget.form.models.form.message.text())


def places(widget: Any) -> dict[str, str]:
    return {entry.name: entry.place for entry in list_shelf()}


def test_it_lists_what_is_here_and_what_can_be_fetched(part: Any) -> None:
    found = places(part)
    assert found["rxrx1-celltype"] == "bundled"
    assert found["grey"] == found["saureus-cellcycle-dna"] == "fetch"
    assert "weights" in found.values()
    form = part.form.models.form
    assert form.tree.select("grey")
    assert "Tells early from late." in form.details.label.text()
    assert "CC0-1.0" in form.details.label.text()
    assert form.fetch.isEnabled()
    assert not form.use.isEnabled()
    assert not form.remove.isEnabled()
    assert form.tree.select("rxrx1-celltype")
    assert form.details.label.text().startswith("Tells HEPG2, HUVEC, RPE and U2OS cells apart")
    assert not form.fetch.isEnabled()
    assert form.use.isEnabled()
    # What comes with the plugin stays.
    assert not form.remove.isEnabled()


def test_fetch_use_share_and_remove(
    part: Any, own_models: Path, tmp_path: Path, qtbot: Any, answer_dialog: Any
) -> None:
    models = part.form.models
    models.form.tree.select("grey")
    models.form.fetch.click()
    assert "was fetched to" in finish(qtbot, part)
    assert (own_models / "grey.cellclf").exists()
    assert part.form.model.current().reference == "grey"
    assert part.form.model.current().classes == CLASSES
    qtbot.mouseClick(models.form.share, Qt.MouseButton.LeftButton)
    # What is selected meanwhile is not what was asked for.
    models.form.tree.select("rxrx1-celltype")
    answer_dialog(models, tmp_path / "shared")
    assert "shared.cellclf" in finish(qtbot, part)
    assert part.form.model.choose(str(tmp_path / "shared.cellclf"))
    assert part.form.model.current().classes == CLASSES
    models.form.tree.select("grey")
    models.form.remove.click()
    assert (own_models / "grey.cellclf").exists()
    assert models.form.remove.text() == "Really remove"
    models.form.remove.click()
    assert "was removed" in finish(qtbot, part)
    assert not (own_models / "grey.cellclf").exists()
    assert places(part)["grey"] == "fetch"
    # The copy that was shared is chosen still; the removed one is listed no more.
    assert part.form.model.current().reference == str(tmp_path / "shared.cellclf")
    assert "grey" not in part.form.model.references()


def test_export_in_the_format_that_is_chosen(
    part: Any, tmp_path: Path, qtbot: Any, answer_dialog: Any
) -> None:
    models = part.form.models
    models.form.tree.select("rxrx1-celltype")
    assert not models.form.export_form.isVisibleTo(models)
    models.form.export.click()
    assert models.form.export_form.isVisibleTo(models)
    box = models.form.export_form.settings.control("format").native
    while box.currentText() != "bioimageio":
        qtbot.keyClick(box, Qt.Key.Key_Down)
    export = models.form.export_form.export
    qtbot.mouseClick(export, Qt.MouseButton.LeftButton)
    answer_dialog(models, tmp_path / "out.zip")
    assert "--author" in finish(qtbot, part)
    assert models.form.message.is_wrong()
    while box.currentText() != "onnx":
        qtbot.keyClick(box, Qt.Key.Key_Up)
    qtbot.mouseClick(export, Qt.MouseButton.LeftButton)
    answer_dialog(models, tmp_path / "out", key=True)
    assert "out.onnx" in finish(qtbot, part)
    assert not models.form.message.is_wrong(), models.form.message.text()
    assert (
        onnx.load(tmp_path / "out.onnx").graph.output[0].type.tensor_type.shape.dim[1].dim_value
        == 4
    )
    assert not models.form.export_form.isVisibleTo(models)


def test_a_fetch_that_fails_says_why(
    part: Any, own_models: Path, tmp_path: Path, qtbot: Any
) -> None:
    (tmp_path / "grey.zip").write_bytes(b"something else")
    models = part.form.models
    models.form.tree.select("grey")
    models.fetch_selected()
    text = finish(qtbot, part)
    assert "grey.zip" in text
    assert models.form.message.is_wrong()
    assert not (own_models / "grey.cellclf").exists()


def test_import_asks_for_what_is_missing_and_guesses_nothing(
    part: Any, own_models: Path, network_file: Path, qtbot: Any
) -> None:
    models = part.form.models
    models.look_at(str(network_file))
    finish(qtbot, part)
    form = models.form.import_form
    assert form.isVisibleTo(part)
    assert "(24, 24, 1)" in form.says.text()
    form.bring.click()
    said = models.form.message.text()
    assert "the 2 classes" in said
    assert "how pixels were scaled" in said
    form.name.setText("theirs")
    form.classes.setText("early, late")
    form.channels.setText("DNA")
    form.normalization.setCurrentText("percentile:0.5,99")
    assert "between two percentiles" in form.meaning.text()
    form.bring.click()
    assert "was imported to" in finish(qtbot, part)
    assert not form.isVisibleTo(part)
    assert part.form.model.current().reference == "theirs"
    assert part.form.model.current().classes == CLASSES
    assert (own_models / "theirs.cellclf" / "bundle.json").exists()


def test_a_file_that_is_no_network(part: Any, tmp_path: Path, qtbot: Any) -> None:
    wrong = tmp_path / "page.keras"
    wrong.write_text("<!doctype html><title>404</title>")
    part.form.models.look_at(str(wrong))
    assert "truncated download?" in finish(qtbot, part)
    assert part.form.models.form.message.is_wrong()
    assert not part.form.models.form.import_form.isVisibleTo(part)


def test_cancel_leaves_nothing(part: Any, own_models: Path, network_file: Path, qtbot: Any) -> None:
    models = part.form.models
    models.look_at(str(network_file))
    finish(qtbot, part)
    form = models.form.import_form
    for line, text in ((form.name, "theirs"), (form.classes, "a, b"), (form.channels, "DNA")):
        line.setText(text)
    form.normalization.setCurrentText("min_max")
    models.import_described()
    assert models.running
    models.form.cancel.click()
    assert "nothing was kept" in finish(qtbot, part)
    # The thread ends within a poll of its own; then nothing may have been written.
    qtbot.wait(500)
    assert not (own_models / "theirs.cellclf").exists()
    assert not list(own_models.glob("*"))


@pytest.fixture
def server(bundles: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server in a process of its own: its address and its token."""
    token = tmp_path / "token.txt"
    token.write_text("tell-me-the-class-of-this\n")
    command = [sys.executable, "-m", "napari_cellclf", "serve", str(bundles / "grey.cellclf")]
    with subprocess.Popen(
        [*command, "--port", "0", "--token-file", str(token)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        ready = (re.search(r"ready at (\S+)", line) for line in process.stderr)
        address = next(found.group(1) for found in ready if found)
        yield address, "tell-me-the-class-of-this"
        process.terminate()
        process.stderr.read()


def test_another_computer_computes(
    viewer: Any, part: Any, server: tuple[str, str], bundles: Path, qtbot: Any
) -> None:
    address, token = server
    models = part.form.models
    models.form.server.click()
    form = models.form.server_form
    form.address.setText(address)
    form.connect_button.click()
    refused = finish(qtbot, part)
    assert "token" in refused
    form.token.setText(token)
    form.connect_button.click()
    assert "is ready to use" in finish(qtbot, part)
    choice = part.form.model.current()
    assert choice.is_remote
    assert token not in repr(choice)
    pixels = np.random.default_rng(2).integers(0, 200, (48, 48), np.uint8)
    layer = viewer.add_image(pixels, name="membrane")
    viewer.layers.selection = {layer}
    qtbot.waitUntil(lambda: not part._soon.isActive(), timeout=5000)
    assert part.classify(), part.form.message.text()
    qtbot.waitUntil(lambda: not part.runner.running, timeout=PATIENCE)
    result = layer.metadata["cellclf"]["result"]
    assert result["label"] in CLASSES
    assert part._model.is_idle()
    part.form.model.choose(str(bundles / "grey.cellclf"))
    assert part.classify(), part.form.message.text()
    qtbot.waitUntil(lambda: not part.runner.running, timeout=PATIENCE)
    here = layer.metadata["cellclf"]["result"]["probabilities"]
    for name, value in result["probabilities"].items():
        assert here[name] == pytest.approx(value, abs=1e-5)


def test_counts_in_words() -> None:
    entries = [ShelfEntry("a", "A", "mine"), ShelfEntry("b", "B", "fetch")]
    weights = ShelfEntry("w", "W", "weights")
    assert in_words([*entries, ShelfEntry("c", "C", "fetch"), weights]) == "1 yours, 2 to fetch"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": "early"}, "2 classes"),
        ({"channels": "DNA, actin"}, "1 channel"),
        ({"size": "24"}, "100x100"),
        ({"normalization": "magic"}, "magic"),
        ({"name": "a name"}, "name"),
        ({"size": "30x30"}, "24 x 24"),
    ],
)
def test_wrong_answers_are_told(network_file: Path, changes: dict[str, str], says: str) -> None:
    from napari_cellclf.bundles.foreign import look_at

    right = {
        "name": "theirs",
        "classes": "early, late",
        "channels": "DNA",
        "size": "24x24",
        "normalization": "min_max",
    }
    said = describe(look_at(network_file), ImportEntries(**{**right, **changes}))
    assert isinstance(said, str)
    assert says in said
    assert not isinstance(describe(look_at(network_file), ImportEntries(**right)), str)
