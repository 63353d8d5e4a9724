"""Maps of evidence: they find what decides, on the image's own pixels, from every engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop, objects_at
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import Progress
from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.errors import AxesError, CancelledError, EngineError, InputError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.explain import Explanation
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.process_engine import ProcessEngine

Save = Callable[..., ModelBundle]

SIDE, SPOT = 64, 16
TEXTURES = ("stripes", "checks")
#: Without a class for noise alone, one texture is what lacks the other.
KINDS = (*TEXTURES, "nothing")
CHANNEL = Preprocessing(channels=({"name": "grey"},))


def _texture(kind: str) -> Any:
    rows, columns = np.mgrid[:SPOT, :SPOT]
    return (rows // 2 % 2) if kind == "stripes" else ((rows // 2 + columns // 2) % 2)


def _with_spot(kind: str, seed: int, place: tuple[int, int] | None = None) -> tuple[Any, Any]:
    """Return noise with a textured spot, and where the spot's corner is."""
    random = np.random.default_rng(seed)
    pixels = random.normal(100, 8, (SIDE, SIDE))
    top, left = random.integers(0, SIDE - SPOT, 2) if place is None else place
    if kind in TEXTURES:
        pixels[top : top + SPOT, left : left + SPOT] += 60 * (_texture(kind) - 0.5)
    return pixels.clip(0, 255).astype(np.uint8), (int(top), int(left))


@pytest.fixture(scope="module")
def spots(save: Save, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A network that was trained for seconds to tell two textures apart, wherever they are."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = tensor = keras.Input((None, None, 1))
    for filters in (12, 24, 24):
        tensor = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(tensor)
    pooled = layers.GlobalAveragePooling2D()(tensor)
    network = keras.Model(image, layers.Dense(3, activation="softmax", name="last")(pooled))
    network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    truth = np.arange(300) % 3
    images = [Image(_with_spot(KINDS[k], n)[0], "YX", ("grey",)) for n, k in enumerate(truth)]
    network.fit(np.stack([CHANNEL(one) for one in images]), truth, 16, epochs=12, verbose=0)
    path = tmp_path_factory.mktemp("models") / "spots.cellclf"
    fields = {"preprocessing": CHANNEL, "classes": KINDS, "test_image": images[0]}
    return load_classifier(save(path, network=network, **fields).path, precision="float32")


def _unseen(seed: int) -> tuple[Image, tuple[int, int], str]:
    kind = TEXTURES[seed % 2]
    pixels, corner = _with_spot(kind, 1000 + seed)
    return Image(pixels, "YX", ("grey",)), corner, kind


def _is_in_spot(heat: Any, corner: tuple[int, int], slack: int = 4) -> bool:
    top = np.unravel_index(np.nanargmax(heat), heat.shape)
    return all(low - slack <= at < low + SPOT + slack for at, low in zip(top, corner, strict=True))


@pytest.mark.parametrize("method", ["cam", "occlusion"])
def test_the_maximum_lies_in_the_evidence(spots: Classifier, method: Any) -> None:
    hits = []
    for seed in range(20):
        image, corner, kind = _unseen(seed)
        found = spots.explain(image, class_name=kind, method=method)
        assert (found.method, found.class_name) == (method, kind)
        assert found.heat.shape == (SIDE, SIDE)
        hits.append(_is_in_spot(found.heat, corner))
    assert sum(hits) >= 18


def test_both_methods_agree(spots: Classifier) -> None:
    alike = []
    for seed in range(10):
        image = _unseen(seed)[0]
        maps = [spots.explain(image, method=method).heat for method in ("cam", "occlusion")]
        alike.append(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1])
    assert np.median(alike) > 0.6


def test_evidence_against_a_class_is_negative(spots: Classifier) -> None:
    image, _, kind = _unseen(3)
    other = next(one for one in TEXTURES if one != kind)
    found = spots.explain(image, class_name=kind)
    against = spots.explain(image, class_name=other)
    assert np.corrcoef(against.heat.ravel(), found.heat.ravel())[0, 1] < 0
    every = [spots.explain(image, class_name=name).heat for name in KINDS]
    np.testing.assert_allclose(np.sum(every, axis=0), 0, atol=1e-4 * found.limit)
    assert found.probability > 0.5 > against.probability
    assert found.limit == pytest.approx(np.abs(found.heat).max())


def test_the_place_is_right_after_resizing_and_cropping(spots: Classifier) -> None:
    image, (top, left), kind = _unseen(4)
    large = replace(image, data=np.asarray(image.data).repeat(2, axis=0))
    bundle = spots.bundle
    preprocessing = CHANNEL.model_copy(update={"size": (SIDE, SIDE)})
    fed = bundle.spec.input.model_copy(update={"preprocessing": preprocessing})
    spec = bundle.spec.model_copy(update={"input": fed})
    resizing = Classifier(replace(bundle, spec=spec), spots.engine)
    heat = resizing.explain(large).heat
    assert heat.shape == (2 * SIDE, SIDE)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 2 * top - 8 <= row < 2 * (top + SPOT) + 8
    assert left - 4 <= column < left + SPOT + 4

    middle = preprocessing.model_copy(update={"size": None, "centre": 0.5})
    spec = bundle.spec.model_copy(
        update={"input": fed.model_copy(update={"preprocessing": middle})}
    )
    wide = np.random.default_rng(0).normal(100, 8, (2 * SIDE, 2 * SIDE))
    wide[32 : 32 + SIDE, 32 : 32 + SIDE] = image.data
    cropping = Classifier(replace(bundle, spec=spec), spots.engine)
    heat = cropping.explain(replace(image, data=wide.astype(np.uint8)), class_name=kind).heat
    assert np.isnan(heat[:32]).all()
    assert np.isnan(heat[:, 96:]).all()
    assert not np.isnan(heat[32:96, 32:96]).any()
    assert _is_in_spot(heat, (top + 32, left + 32))


def test_an_object_is_explained_in_its_place(spots: Classifier) -> None:
    image, _, kind = _unseen(5)
    pixels = np.random.default_rng(0).normal(100, 8, (150, 170))
    pixels[:SIDE, :SIDE] = image.data
    fed = spots.bundle.spec.input
    crop = fed.preprocessing.model_copy(update={"object_crop": ObjectCrop(side=SIDE)})
    spec = spots.bundle.spec.model_copy(
        update={"input": fed.model_copy(update={"preprocessing": crop})}
    )
    of_objects = Classifier(replace(spots.bundle, spec=spec), spots.engine)
    field = Image(
        pixels.astype(np.uint8), "YX", ("grey",), objects=objects_at([(28, 30), (100, 100)])
    )
    found = of_objects.explain(field, number=1, class_name=kind)
    assert found.id == "image[object=1]"
    # Four rows of the crop lie above the image, and are mirrored.
    assert not np.isnan(found.heat[:60, :62]).any()
    assert np.isnan(found.heat[61:]).all()
    assert np.isnan(found.heat[:, 63:]).all()
    with pytest.raises(InputError, match=r"2 objects \(1, 2\), but none was chosen; give one"):
        of_objects.explain(field)
    with pytest.raises(InputError, match="but none has the number 7"):
        of_objects.explain(field, number=7)


def test_a_plane_of_a_stack_is_named(spots: Classifier) -> None:
    images = [_unseen(seed)[0] for seed in range(3)]
    stack = Image(np.stack([one.data for one in images]), "TYX", ("grey",), source="s.tif")
    found = spots.explain(stack, plane={"T": 2})
    assert found.id == "s.tif[t=2]"
    np.testing.assert_array_equal(found.heat, spots.explain(images[2]).heat)
    with pytest.raises(AxesError, match="say which of them, from t=0 to t=2"):
        spots.explain(stack)


def test_what_cannot_be_asked_is_said(spots: Classifier) -> None:
    image = _unseen(0)[0]
    with pytest.raises(
        InputError, match="has no class 'dots'; choose one of stripes, checks, nothing"
    ):
        spots.explain(image, class_name="dots")
    with pytest.raises(InputError, match="no method 'saliency'"):
        spots.explain(image, method="saliency")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="classifies whole images, but object 3"):
        spots.explain(image, number=3)


def test_occlusion_tells_how_far_it_is_and_is_stopped(spots: Classifier) -> None:
    told: list[Progress] = []
    image = _unseen(0)[0]
    spots.explain(image, method="occlusion", on_progress=told.append)
    assert told[-1].done == told[-1].total <= 300
    with pytest.raises(CancelledError, match="stopped as asked"):
        spots.explain(image, method="occlusion", should_stop=lambda: True)


def test_other_networks_are_explained_by_occlusion(
    save: Save, tmp_path: Path, make_image: Callable[..., Image]
) -> None:
    import keras

    layers = keras.layers
    parts = [layers.Conv2D(4, 3, 2), layers.GlobalMaxPooling2D(), layers.Dense(3, "softmax")]
    network = keras.Sequential([keras.Input((20, 24, 2)), *parts])
    preprocessing = Preprocessing(channels=({"name": "DNA"}, {"name": "actin"}), size=(20, 24))
    path = save(tmp_path / "max.cellclf", network=network, preprocessing=preprocessing).path
    classifier = load_classifier(path, precision="float32")
    assert classifier.explain(make_image(1)).method == "occlusion"
    with pytest.raises(EngineError, match="use the method occlusion"):
        classifier.explain(make_image(1), method="cam")


@pytest.mark.parametrize("engine", ["keras", "openvino", "onnxruntime", "child"])
def test_every_engine_gives_the_same_map(engine: Any) -> None:
    site = simulate_site("HUVEC", seed=1, size=128)
    expected = _bundled("keras", site)
    assert expected.method == "cam"
    assert expected.heat.shape == (128, 128)
    found = expected
    if engine == "child":
        bundle = load_classifier("rxrx1-celltype").bundle
        with closing(ProcessEngine(str(bundle.path), "auto", "float32")) as child:
            child.wait_until_ready()
            found = Classifier(bundle, child).explain(site)
    elif find_spec(engine):
        found = _bundled(engine, site)
    np.testing.assert_allclose(found.heat, expected.heat, atol=1e-3 * expected.limit)


def _bundled(engine: Any, site: Image) -> Explanation:
    return load_classifier("rxrx1-celltype", engine=engine, precision="float32").explain(site)
