"""Every normalisation does what its protocol promises, and a new one works everywhere."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.normalization import (
    NORMALIZATIONS,
    Normalization,
    parse_normalization,
    typed_forms,
)
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import CellclfError, ExportError, NormalizationError

U8 = np.dtype("uint8")
CHANNELS = ({"name": "DNA"}, {"name": "actin"})


def an_example(found: type[Normalization]) -> Normalization:
    """Make one of its kind, from the examples of fields without a default."""
    needed = {n: f.examples[0] for n, f in found.model_fields.items() if f.is_required()}
    return found(**needed)


def pixels() -> np.ndarray:
    noise = np.random.default_rng(0).normal((120, 80), (30, 10), (21, 14, 2))
    return np.clip(noise.round(), 0, 255).astype(np.float32)


def check_normalization(name: str) -> None:
    """Check what any normalisation must do."""
    found = NORMALIZATIONS.get(name)
    one = an_example(found)
    assert one.kind == name
    assert one == an_example(found)
    assert hash(one) == hash(an_example(found))
    with pytest.raises(ValidationError, match="frozen"):
        one.kind = "other"  # type: ignore[misc]

    given = pixels()
    given.flags.writeable = False
    out = one(given, U8)
    assert out.shape == given.shape
    assert out.dtype == np.float32
    assert not np.shares_memory(out, given)
    assert np.isfinite(one(np.full((4, 4, 2), 7, np.float32), U8)).all()
    # What is filled in for a channel that is missing becomes zero.
    neutral = one(np.full((4, 4, 2), one.neutral(255, 2), np.float32), U8)
    np.testing.assert_allclose(neutral, 0, atol=1e-5)
    if found.unit_range:
        assert 0 <= out.min() <= out.max() <= 1

    prepare = Preprocessing(channels=CHANNELS, normalization=one.model_dump())
    assert prepare.normalization == one
    again = Preprocessing.model_validate_json(prepare.model_dump_json())
    assert again == prepare
    assert type(again.normalization) is found

    forms = found.forms or {name: ""}
    assert forms.items() <= typed_forms().items()
    for form in forms:
        # Letters may stand for numbers; then the message is of this form.
        with contextlib.suppress(NormalizationError):
            assert type(parse_normalization(form)) is found
        with pytest.raises(NormalizationError, match=re.escape(form)):
            parse_normalization(form.partition(":")[0] + ":?")


def check_export(name: str, folder: Path) -> None:
    """Compare the package's own processing, by bioimageio.core, with the classifier."""
    from bioimageio.core import load_model_description, predict

    import napari_cellclf as cc
    from napari_cellclf.models.export.api import export_model

    bundle = save(folder, an_example(NORMALIZATIONS.get(name)))
    path = export_model(bundle, "bioimageio", folder / "model.zip", authors=["A. Nobody, Nowhere"])
    described = load_model_description(path)
    (output,) = predict(model=described, inputs=described.inputs[0].test_tensor).members.values()
    classifier = cc.load_classifier(bundle.path, precision="float32")
    expected = classifier.predict(bundle.test_image).probabilities
    np.testing.assert_allclose(np.asarray(output.data), expected, atol=1e-4)


def save(folder: Path, normalization: Normalization) -> ModelBundle:
    import keras

    from napari_cellclf.models.save import save_bundle

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 2), name="image")
    value = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    value = keras.layers.GlobalAveragePooling2D()(value)
    last = keras.layers.Dense(3, "softmax", kernel_initializer="he_normal", name="classes")
    return save_bundle(
        keras.Model(inputs, last(value)),
        folder / "small.cellclf",
        preprocessing=Preprocessing(channels=CHANNELS, normalization=normalization),
        classes=["a", "b", "c"],
        architecture="compact-cnn",
        test_image=Image(np.moveaxis(pixels(), -1, 0).astype(U8), "CYX", ["DNA", "actin"]),
        licence="CC BY 4.0",
        description="Made for tests.",
    )


quiet = pytest.mark.filterwarnings(
    # bioimageio.spec leaves files to the garbage collector.
    "ignore:unclosed file:ResourceWarning",
)


@pytest.mark.parametrize("name", NORMALIZATIONS.names())
def test_every_normalization_keeps_its_promises(name):
    check_normalization(name)


@quiet
@pytest.mark.parametrize("name", NORMALIZATIONS.names())
def test_every_normalization_is_exported(name, tmp_path):
    check_export(name, tmp_path)


@pytest.fixture
def median(install):
    install("normalizations", "median", "median:Median")


@pytest.mark.usefixtures("median")
def test_the_median_keeps_its_promises():
    check_normalization("median")
    out = NORMALIZATIONS.get("median")()(pixels(), U8)
    np.testing.assert_allclose(np.median(out, axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(np.median(np.abs(out), axis=(0, 1)), 1, atol=1e-6)
    assert parse_normalization("median") == NORMALIZATIONS.get("median")()


@quiet
@pytest.mark.usefixtures("median")
def test_the_median_is_exported(tmp_path):
    check_export("median", tmp_path)


@pytest.mark.parametrize("sides", [(4, 4), (5, 3), (1, 2)])
@pytest.mark.usefixtures("median")
def test_the_graph_computes_the_median_of_any_size(sides):
    import keras

    from napari_cellclf.models.export.onnx.convert import ClassifierSteps, to_onnx
    from napari_cellclf.models.export.runtimes import run_onnx

    form = NORMALIZATIONS.get("median")()
    inputs = keras.Input((None, None, 2))
    network = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    batch = np.random.default_rng(0).integers(0, 65535, (3, *sides, 2)).astype(np.float32)
    batch[1, ..., 0] = 5
    found = run_onnx(to_onnx(network, steps=ClassifierSteps(normalize=form.write_onnx)), batch)
    expected = [form(image, np.dtype("uint16")).max(axis=(0, 1)) for image in batch]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"kind": "median"}, "no normalisation named 'median' is installed; installed: fixed"),
        ({"kind": 3}, "a normalisation needs a kind"),
        ({"low": 3}, "a normalisation needs a kind"),
        ({"kind": "percentile", "low": -1}, "greater than or equal to 0"),
        ("median", "instance of Normalization"),
    ],
)
def test_a_kind_that_is_not_installed_is_one_clear_line(record: Any, words: str):
    with pytest.raises(ValidationError, match=words) as caught:
        Preprocessing(channels=CHANNELS, normalization=record)
    assert caught.value.error_count() == 1
    (error,) = caught.value.errors()
    assert error["loc"][0] == "normalization"
    assert "\n" not in error["msg"]


def test_a_bundle_of_a_kind_that_is_not_installed_is_one_clear_line(tmp_path, install):
    install("normalizations", "median", "median:Median")
    bundle = save(tmp_path, NORMALIZATIONS.get("median")())
    assert ModelBundle.load(bundle.path).spec.input.preprocessing.normalization.kind == "median"

    from napari_cellclf.core import extensions

    extensions._declared.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "_declared", lambda group: {})
        with pytest.raises(CellclfError, match="no normalisation named 'median' is") as caught:
            ModelBundle.load(bundle.path)
    assert "\n" not in str(caught.value)


def test_one_that_says_nothing_of_export_is_refused(tmp_path, monkeypatch):
    from napari_cellclf.core import normalization
    from napari_cellclf.models.export.api import export_model

    found = NORMALIZATIONS.get("percentile")
    monkeypatch.setattr(found, "bioimageio_steps", normalization.Normalization.bioimageio_steps)
    bundle = save(tmp_path, found())
    with pytest.raises(ExportError, match="'percentile' does not say how it is written"):
        export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=["A. Nobody, Nowhere"])


def test_the_schema_is_json():
    schema = Preprocessing.model_json_schema()
    assert schema["properties"]["normalization"]["properties"]["kind"] == {"type": "string"}
    json.dumps(schema)
