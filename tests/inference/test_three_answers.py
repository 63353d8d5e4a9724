"""Probabilities, features and feature map: the same from every engine, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.arrays import dump_weights
from napari_cellclf.bundles.bundle import REQUIRED, UNLIKE, ModelBundle, members_of, read_all
from napari_cellclf.bundles.schema import RoundingSpec, UnlikeSpec
from napari_cellclf.bundles.write import copy_bundle, write_bundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.errors import BundleError, EngineError, IntegrityError, SelfTestError
from napari_cellclf.inference import load
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.engine import Computed, ProbabilitiesOnly
from napari_cellclf.inference.keras_engine import KerasEngine, expose
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.process_engine import ProcessEngine

Save = Callable[..., ModelBundle]
MakeImage = Callable[..., Image]
layers = keras.layers


@pytest.fixture(params=["keras", "openvino", "onnxruntime", "child"])
def engine(request: pytest.FixtureRequest, bundle: ModelBundle) -> Iterator[Any]:
    """Each engine of the tiny network, in float32."""
    if request.param != "child":
        if not find_spec(request.param):
            pytest.skip(f"{request.param} is not installed")
        yield load_classifier(bundle.path, engine=request.param, precision="float32").engine
        return
    with closing(ProcessEngine(str(bundle.path), "auto", "float32")) as child:
        child.wait_until_ready()
        yield child


def _softmax(logits: Any) -> Any:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(1, 20, 24), (5, 33, 21)])
def test_every_engine_gives_what_probabilities_are_made_of(
    engine: Any, shape: tuple[int, ...], network: Any
) -> None:
    batch = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    assert engine.gives == {"features", "feature_map"}
    found = engine.compute(batch, features=True, feature_map=True)
    kernel, bias = network.layers[-1].get_weights()
    assert {one.dtype for one in (found.probabilities, found.features, found.feature_map)} == {
        np.dtype(np.float32)
    }
    np.testing.assert_allclose(found.probabilities, engine(batch), atol=1e-6)
    np.testing.assert_allclose(
        found.probabilities, _softmax(found.features @ kernel + bias), atol=1e-5
    )
    np.testing.assert_allclose(found.feature_map.mean(axis=(1, 2)), found.features, atol=1e-5)
    here = KerasEngine(network).compute(batch, feature_map=True)
    np.testing.assert_allclose(found.feature_map, here.feature_map, atol=1e-4)


def test_only_what_is_asked_for_is_given(engine: Any) -> None:
    batch = np.ones((2, 20, 24, 2), np.float32)
    alone = engine.compute(batch)
    assert (alone.features, alone.feature_map) == (None, None)
    mapped = engine.compute(batch, feature_map=True)
    assert mapped.features is None
    assert mapped.feature_map.shape == (2, 9, 11, 8)
    # The next batch leaves the answers of this one as they are.
    before = mapped.feature_map.copy()
    engine.compute(batch * 3, feature_map=True)
    np.testing.assert_array_equal(mapped.feature_map, before)


def _image() -> Any:
    return keras.Input((16, 16, 2), name="features")


def _plain() -> Any:
    image = _image()
    tensor = layers.Conv2D(4, 3, activation="relu")(image)
    tensor = layers.GlobalMaxPooling2D()(tensor)
    return keras.Model(image, layers.Softmax()(layers.Dense(3)(tensor)))


def _rooted() -> Any:
    image = _image()
    tensor = keras.ops.mean(layers.Conv2D(4, 3, activation="relu")(image), axis=(1, 2))
    tensor = layers.Dropout(0.2)(keras.ops.sqrt(tensor + 0.01))
    return keras.Model(image, layers.Dense(3, activation="softmax")(tensor))


def _hidden() -> Any:
    stages = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(5, "relu")]
    return keras.Sequential([_image(), *stages, layers.Dense(3, "softmax")])


def _nested() -> Any:
    image = _image()
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    backbone = keras.Model(image, pooled, name="backbone")
    return keras.Sequential([_image(), backbone, layers.Dense(3, "softmax")])


def _inside() -> Any:
    inner = _plain()
    outer = keras.Input((16, 16, 2))
    return keras.Model(outer, layers.Activation("linear")(inner(layers.Rescaling(2.0)(outer))))


def _members() -> Any:
    image = keras.Input((16, 16, 2))
    networks = [_plain(), _hidden()]
    for number, network in enumerate(networks):
        network.name = f"member{number}"
    return keras.Model(image, layers.Average()([network(image) for network in networks]))


def _flat() -> Any:
    return keras.Sequential(
        [_image(), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3, "softmax")]
    )


def _bare() -> Any:
    image = _image()
    return keras.Model(image, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(image)))


def _tokens() -> Any:
    image = _image()
    tokens = layers.Reshape((64, 4))(layers.Conv2D(4, 2, 2)(image))
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 4)(tokens, tokens)])
    pooled = layers.GlobalAveragePooling1D()(tokens)
    return keras.Model(image, layers.Dense(3, "softmax")(pooled))


def _convolutional() -> Any:
    stages = [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D(), layers.Softmax()]
    return keras.Sequential([_image(), *stages])


KINDS: dict[str, tuple[Callable[[], Any], dict[str, tuple[int, ...]]]] = {
    "plain": (_plain, {"features": (4,), "feature_map": (14, 14, 4)}),
    "rooted": (_rooted, {"features": (4,), "feature_map": (14, 14, 4)}),
    "hidden": (_hidden, {"features": (5,), "feature_map": (14, 14, 4)}),
    "nested": (_nested, {"features": (4,), "feature_map": (14, 14, 4)}),
    "inside": (_inside, {"features": (4,), "feature_map": (14, 14, 4)}),
    "members": (_members, {"features": (9,), "feature_map": (14, 14, 8)}),
    "bare": (_bare, {"features": (2,), "feature_map": (16, 16, 2)}),
    "flat": (_flat, {"features": (784,)}),
    "tokens": (_tokens, {"features": (4,)}),
    "convolutional": (_convolutional, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_give_what_they_have(kind: str) -> None:
    keras.utils.set_random_seed(1)
    make, shapes = KINDS[kind]
    network = make()
    before = network.to_json()
    batch = np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype(np.float32)
    engine = KerasEngine(network)
    assert engine.gives == set(shapes)
    found = engine.compute(batch, features=True, feature_map=True)
    np.testing.assert_allclose(found.probabilities, engine(batch), atol=1e-6)
    for extra in ("features", "feature_map"):
        answer = getattr(found, extra)
        assert (None if answer is None else answer.shape[1:]) == shapes.get(extra)
    # It is looked at, not changed.
    assert network.to_json() == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tokens"])
@pytest.mark.skipif(not find_spec("onnxruntime"), reason="onnxruntime is not installed")
def test_they_are_written_to_the_graph(kind: str) -> None:
    import onnxruntime

    from napari_cellclf.bundles.onnx_file import check_onnx
    from napari_cellclf.models.export.onnx.convert import to_onnx

    keras.utils.set_random_seed(1)
    make, shapes = KINDS[kind]
    network = make()
    content = to_onnx(network, extras=True)
    check_onnx(content, "it", inputs=(None, 16, 16, 2), n_classes=3)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = ["probabilities", *shapes]
    assert [port.name for port in session.get_outputs()] == names
    batch = np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype(np.float32)
    answers = session.run(names, {session.get_inputs()[0].name: batch})
    expected = expose(network).giving(tuple(expose(network).tensors))(batch)
    for found, other in zip(answers, expected if shapes else [expected], strict=True):
        # Of a map in the graph, channels are the second axis.
        again = np.moveaxis(found, 1, -1)
        np.testing.assert_allclose(again, other, atol=1e-5)


def test_members_give_theirs_one_after_the_other() -> None:
    from napari_cellclf.models.architectures.registry import build_network

    network = build_network(
        "compact-cnn", input_shape=(None, None, 2), n_classes=3, members=2, width=8, depth=2, seed=4
    )
    batch = np.random.default_rng(0).normal(size=(2, 40, 36, 2)).astype(np.float32)
    found = KerasEngine(network).compute(batch, features=True, feature_map=True)
    halves = np.split(found.features, 2, axis=1)
    each = []
    for number, half in enumerate(halves, start=1):
        kernel, bias = network.get_layer(f"member{number}").layers[-1].get_weights()
        each.append(_softmax(half @ kernel + bias))
    np.testing.assert_allclose(np.mean(each, axis=0), found.probabilities, atol=1e-5)
    assert found.feature_map.shape == (2, 10, 9, 32)


def test_a_network_that_gives_the_same_rows_for_any_batch_is_refused() -> None:
    answers = {"probabilities": np.ones((3, 2)), "features": np.ones((1, 4))}
    with pytest.raises(EngineError, match=r"features of shape \(1, 4\) for 3 images"):
        Computed.of(answers, 3)


class _Half(ProbabilitiesOnly):
    device = "cpu:0"

    def __call__(self, batch: Any) -> Any:
        return np.full((len(batch), 3), 1 / 3, np.float32)


def test_what_gives_only_probabilities_says_so(known: ModelBundle, make_image: MakeImage) -> None:
    assert _Half().compute(np.ones((2, 4, 4, 2), np.float32), features=True).features is None
    classifier = Classifier(known, _Half())
    assert classifier.predict(make_image(0)).unlike_scores is None
    with pytest.raises(EngineError, match="gives no features of known"):
        classifier.features(make_image(0))


@pytest.fixture(scope="session")
def unlikeness(classifier: Classifier, make_image: MakeImage) -> Unlikeness:
    features = classifier.features([make_image(seed) for seed in range(100, 140)])
    assert features.shape == (40, 8)
    return Unlikeness.fit(features)


@pytest.fixture(scope="session")
def known(
    save: Save, unlikeness: Unlikeness, tmp_path_factory: pytest.TempPathFactory
) -> ModelBundle:
    return save(tmp_path_factory.mktemp("models") / "known.cellclf", unlikeness=unlikeness)


def test_images_unlike_those_of_training_are_flagged(
    known: ModelBundle, unlikeness: Unlikeness, make_image: MakeImage, tmp_path: Path
) -> None:
    assert known.spec.unlike == UnlikeSpec(
        level=unlikeness.level, n_groups=unlikeness.n_groups, n_images=40
    )
    shared = copy_bundle(known.path, tmp_path / "shared.zip")
    classifier = load_classifier(shared.path, precision="float32")
    usual = [make_image(seed) for seed in range(8)]
    ramp = np.tile(np.arange(24, dtype=np.uint16) * 9, (2, 20, 1))
    odd = Image(ramp, "CYX", ("DNA", "actin"))
    found = classifier.predict([*usual, odd], batch_size=4)
    assert found.unlike_scores is not None
    assert found.unlike is not None
    assert found.unlike[-1]
    assert found.unlike_scores[-1] > 3 * found.unlike_scores[:-1].max()
    expected = unlikeness.scores(classifier.features([*usual, odd]))
    np.testing.assert_allclose(found.unlike_scores, expected, rtol=1e-3, atol=1e-3)
    table = found.to_dataframe()
    assert list(table)[:5] == ["image", "label", "confidence", "unlike", "unlike_score"]
    assert table["unlike"].tolist() == found.unlike.tolist()


def test_with_several_views_the_image_itself_is_compared(
    known: ModelBundle, save: Save, unlikeness: Unlikeness, make_image: MakeImage, tmp_path: Path
) -> None:
    images = [make_image(seed) for seed in range(3)]
    views = save(tmp_path / "views.cellclf", unlikeness=unlikeness, views="all")
    several, one = (load_classifier(one.path, precision="float32") for one in (views, known))
    found = several.predict(images)
    np.testing.assert_allclose(
        found.unlike_scores, one.predict(images).unlike_scores, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        found.probabilities, several.compute(np.stack(list(map(several.preprocessing, images)))),
        atol=1e-6,
    )  # fmt: skip


def test_features_of_stacks_and_sizes_come_in_order(
    classifier: Classifier, make_image: MakeImage
) -> None:
    images = [make_image(0), make_image(1, size=(30, 30)), make_image(2)]
    together = classifier.features(images, batch_size=2)
    alone = np.concatenate([classifier.features(image) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    with pytest.raises(BaseException, match="channel"):
        classifier.features([make_image(0), Image(np.ones((3, 9, 9)), "CYX", list("xyz"))])


def test_a_bundle_of_one_output_stays_one(
    bundle: ModelBundle, network: Any, make_image: MakeImage, tmp_path: Path
) -> None:
    from napari_cellclf.models.export.onnx.convert import to_onnx

    files: dict[str, Any] = {name: read_all(members_of(bundle.path), name) for name in REQUIRED}
    old = write_bundle(
        tmp_path / "t.cellclf", bundle.spec, {**files, "model.onnx": to_onnx(network)}
    )
    found = load_classifier(old.path, engine="auto")
    if not found.device.startswith("keras"):
        assert found.engine.gives == frozenset()
    prediction = found.predict(make_image(0))
    assert (prediction.unlike_scores, prediction.unlike) == (None, None)
    assert not {"unlike", "unlike_score", "remarks"} & set(prediction.to_dataframe())


def _with(known: ModelBundle, folder: Path, content: bytes, **fields: Any) -> ModelBundle:
    names = (*REQUIRED, "model.onnx")
    files: dict[str, Any] = {name: read_all(members_of(known.path), name) for name in names}
    spec = known.spec.model_copy(update=fields)
    return write_bundle(folder / "other.cellclf", spec, {**files, UNLIKE: content})


def test_a_file_of_unlikeness_that_is_not_one_is_refused(
    known: ModelBundle, unlikeness: Unlikeness, tmp_path: Path
) -> None:
    arrays = unlikeness.to_arrays()
    lacking = dump_weights({key: one for key, one in arrays.items() if key != "threshold"})
    for number, content in enumerate((b"", b"no safetensors", lacking)):
        with pytest.raises(BundleError, match=r"unlike\.safetensors of other"):
            _ = _with(known, tmp_path / str(number), content).unlikeness
    whole = dump_weights(arrays)
    other = UnlikeSpec(level=0.5, n_groups=3, n_images=40)
    with pytest.raises(BundleError, match="not what the bundle says of it"):
        _ = _with(known, tmp_path / "other", whole, unlike=other).unlikeness
    with pytest.raises(BundleError, match="lacks the description of what is unlike"):
        _with(known, tmp_path / "silent", whole, unlike=None)
    with pytest.raises(BundleError, match="lacks the file of what is unlike"):
        write_bundle(
            tmp_path / "lacking.cellclf",
            known.spec,
            {name: read_all(members_of(known.path), name) for name in REQUIRED},
        )
    changed = _with(known, tmp_path / "changed", whole)
    (changed.path / UNLIKE).write_bytes(lacking)
    with pytest.raises(IntegrityError):
        _ = changed.unlikeness


def test_one_of_another_network_is_noticed_when_it_is_saved(save: Save, tmp_path: Path) -> None:
    other = Unlikeness.fit(np.random.default_rng(0).normal(size=(20, 5)))
    with pytest.raises(SelfTestError, match="does not fit its own network: features of shape"):
        save(tmp_path / "t.cellclf", unlikeness=other)
    assert not (tmp_path / "t.cellclf").exists()


@pytest.mark.parametrize(
    ("moved", "told"), [(None, "float32"), (0.01, "fast"), (0.2, "float32"), (0.05, "fast")]
)
def test_sixteen_bits_must_leave_the_scores_where_they_are(
    moved: float | None, told: str, known: ModelBundle
) -> None:
    rounding = RoundingSpec(n=5, largest=0.001, largest_unlike=moved)
    spec = known.spec.model_copy(update={"rounding": rounding})
    bundle = ModelBundle(known.path, spec)
    assert load._may_round(bundle, "auto") is (told == "fast")
    assert load._may_round(bundle, "fast")
