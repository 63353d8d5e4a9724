"""Exported models take their place only if another program answers the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import napari_cellclf as cc
from full_disk import contents, full_disk
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.keras_file import read_keras_file
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, ExportError, ModelNotFoundError, UnsafeModelError
from napari_cellclf.models.export import formats
from napari_cellclf.models.export.api import _WRITERS, export_model
from napari_cellclf.models.export.export_options import FORMATS
from napari_cellclf.models.export.formats import ExportSource, write_saved_model
from napari_cellclf.models.export.runtimes import run_onnx, run_openvino, run_saved_model
from telling import tells_nobody

Save = Callable[..., ModelBundle]
BUNDLED = [model.name for model in cc.list_models() if model.where == "bundled"]
PLAIN = {"onnx": "m.onnx", "openvino": "m.xml", "savedmodel": "m", "keras": "m.keras"}


def prepared(bundle: ModelBundle) -> np.ndarray:
    return bundle.spec.input.preprocessing(bundle.test_image)[np.newaxis]


def test_onnx(save: Save, tmp_path: Path) -> None:
    import onnx

    bundle = save()
    path = export_model(bundle, "onnx", tmp_path / "m.onnx")
    np.testing.assert_allclose(run_onnx(path, prepared(bundle)), bundle.test_output, atol=1e-5)
    props = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert props["cellclf.name"] == "small"
    assert json.loads(props["cellclf.classes"]) == ["a", "b", "c"]
    assert props["cellclf.spec_sha256"] == bundle.spec.spec_sha256
    said = cc.Preprocessing.model_validate_json(props["cellclf.preprocessing"])
    assert said == bundle.spec.input.preprocessing


@pytest.mark.parametrize("kind", FORMATS)
def test_no_exporter_tells_anybody(kind: str, save: Save, tmp_path: Path) -> None:
    bundle = save()
    target = tmp_path / PLAIN.get(kind, "m.zip")
    tells_nobody(
        f"""
from pathlib import Path
from napari_cellclf.models.export.api import export_model
try:
    export_model({str(bundle.path)!r}, {kind!r}, Path({str(target)!r}))
except Exception as error:
    print(error)
else:
    assert Path({str(target)!r}).exists()
""",
        tmp_path,
        # TensorFlow and bioimageio.core look at the system with programs of its own.
        quietly=False,
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_keeps_the_older_export(kind: str, save: Save, tmp_path: Path) -> None:
    bundle = save()
    target = tmp_path / "to" / PLAIN.get(kind, "m.zip")
    about = {"licence": "CC-BY-4.0", "authors": ["A"]} if kind == "bioimageio" else {}
    export_model(bundle, kind, target, **about)
    before = contents(target.parent)
    with pytest.raises(ExportError, match="free some space") as told, full_disk():
        export_model(bundle, kind, target, overwrite=True, **about)
    assert "\n" not in str(told.value)
    assert contents(target.parent) == before


def test_openvino_keeps_32_bits(save: Save, tmp_path: Path) -> None:
    bundle = save()
    path = export_model(bundle, "openvino", tmp_path / "m.xml")
    np.testing.assert_allclose(run_openvino(path, prepared(bundle)), bundle.test_output, atol=1e-5)
    assert 'precision="FP16"' not in path.read_text()
    assert "spec_sha256" in path.read_text()


def test_saved_model(save: Save, tmp_path: Path) -> None:
    bundle = save()
    path = export_model(bundle, "savedmodel", tmp_path / "m")
    assert (path / "saved_model.pb").is_file()
    found = run_saved_model(path, prepared(bundle))
    np.testing.assert_allclose(found, bundle.test_output, atol=1e-5)


def test_keras(save: Save, tmp_path: Path) -> None:
    bundle = save()
    path = export_model(bundle, "keras", tmp_path / "m.keras")
    read_keras_file(path)
    found = np.asarray(keras.saving.load_model(path)(prepared(bundle)))
    np.testing.assert_allclose(found, bundle.test_output, atol=1e-5)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_bundled_models(name: str, format: str, tmp_path: Path) -> None:
    path = export_model(name, format, tmp_path / PLAIN[format])
    bundle = ModelBundle.load(cc.load_classifier(name).bundle.path)
    run = run_onnx if format == "onnx" else run_openvino
    np.testing.assert_allclose(run(path, prepared(bundle)), bundle.test_output, atol=1e-5)


@pytest.mark.parametrize("format", PLAIN)
def test_what_differs_never_takes_its_place(
    format: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = save()
    monkeypatch.setattr(formats, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="differs from the stored prediction"):
        export_model(bundle, format, tmp_path / "new" / PLAIN[format])
    assert list((tmp_path / "new").iterdir()) == []


def test_an_older_export_is_replaced_only_if_asked(save: Save, tmp_path: Path) -> None:
    bundle, path = save(), tmp_path / "m.onnx"
    path.write_text("older")
    with pytest.raises(ExportError, match="exists already"):
        export_model(bundle, "onnx", path)
    assert path.read_text() == "older"
    export_model(bundle, "onnx", path, overwrite=True)
    assert path.stat().st_size > 1000
    assert sorted(part.name for part in tmp_path.iterdir()) == ["m.onnx", "small.cellclf"]


def test_the_second_file_of_an_older_export_counts_too(save: Save, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text("older")
    with pytest.raises(ExportError, match=r"m\.bin exists already"):
        export_model(save(), "openvino", tmp_path / "m.xml")


@pytest.mark.parametrize(("format", "name"), [("savedmodel", "thesis"), ("onnx", "thesis.onnx")])
def test_a_folder_of_other_things_is_never_replaced(
    format: str, name: str, save: Save, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "chapter1.txt").write_text("years of work")
    with pytest.raises(ExportError, match="choose another name"):
        export_model(save(), format, tmp_path / name, overwrite=True)
    assert (tmp_path / name / "chapter1.txt").is_file()


@pytest.mark.parametrize(
    ("format", "name", "message"),
    [
        ("onnxx", "m.onnx", "there is no format 'onnxx'"),
        ("onnx", "m.zip", "must end in .onnx"),
        ("openvino", "m.bin", "must end in .xml"),
    ],
)
def test_requests_that_cannot_be_met(format: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_model("no-such-model", format, tmp_path / name)


def test_authors_of_what_has_no_place_for_them(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="bioimageio packages only"):
        export_model("no-such-model", "onnx", tmp_path / "m.onnx", authors=["A. Nobody"])


def test_models_and_places_are_looked_at_first(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        export_model("no-such-model", "onnx", tmp_path / "m.onnx")
    with pytest.raises(UnsafeModelError, match="address"):
        export_model("no-such-model", "onnx", "s3://bucket/m.onnx")


def test_a_place_that_cannot_be_written(save: Save, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="could not be written"):
        export_model(save(), "onnx", tmp_path / "file" / "m.onnx")


def test_progress_and_stop(save: Save, tmp_path: Path) -> None:
    bundle, told = save(), []
    export_model(bundle, "onnx", tmp_path / "m.onnx", on_progress=told.append)
    assert [progress.done for progress in told] == [0, 1, 2, 3]
    assert {progress.total for progress in told} == {3}
    steps: list[Progress] = []
    with pytest.raises(CancelledError):
        export_model(
            bundle,
            "onnx",
            tmp_path / "n.onnx",
            on_progress=steps.append,
            should_stop=lambda: len(steps) == 2,
        )
    assert not (tmp_path / "n.onnx").exists()


@pytest.mark.parametrize(("format", "library"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_a_missing_library_is_one_sentence(
    format: str, library: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str, *args: object) -> object:
        if name == library:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args)

    bundle = save()
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ExportError, match=r'pip install "napari-cellclf\[export\]"') as refusal:
        export_model(bundle, format, tmp_path / PLAIN[format])
    assert library in str(refusal.value)


def test_saved_models_need_tensorflow(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = save()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        write_saved_model(ExportSource(bundle, keras.Sequential()), tmp_path / "m")


def test_every_format_has_its_writer() -> None:
    assert list(_WRITERS) == list(FORMATS)


def test_the_example_of_the_guide_needs_nothing_of_this_package(save: Save, tmp_path: Path) -> None:
    bundle = save(size=(20, 20), temperature=2.0)
    image = np.random.default_rng(3).integers(0, 65535, (2, 41, 33), np.uint16)
    np.save(tmp_path / "image.npy", image)
    model = export_model(bundle, "onnx", tmp_path / "m.onnx")
    example = Path(__file__).parents[3] / "docs" / "examples" / "onnx_alone.py"
    assert "napari_cellclf" not in example.read_text(encoding="utf-8")
    printed = subprocess.run(
        [sys.executable, example, model, tmp_path / "image.npy"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    prediction = cc.load_classifier(bundle.path, precision="float32").predict(image)
    expected = zip(prediction.classes, prediction.probabilities[0], strict=True)
    assert printed.splitlines() == [f"{name}: {value:.4f}" for name, value in expected]
