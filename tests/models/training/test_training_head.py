"""A frozen backbone on cached features, then fine-tuning."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest
from training_patterns import config, material

from napari_cellclf.errors import CancelledError, DatasetError, EngineError
from napari_cellclf.inference.engine import Machine
from napari_cellclf.models.architectures.transfer import add_head
from napari_cellclf.models.training import features, stages
from napari_cellclf.models.training.features import FeatureNetwork, Way
from napari_cellclf.models.training.network import split_head
from napari_cellclf.models.training.reporter import MemoryKeeper, Silent
from napari_cellclf.models.training.stages import train_network


def tiny():
    """A backbone of one convolution with the head of pretrained networks."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    tensor = keras.layers.Conv2D(4, 5, strides=2)(inputs)
    tensor = keras.layers.ReLU()(keras.layers.BatchNormalization()(tensor))
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(tensor))
    return add_head(backbone, 2, name="tiny", hidden_units=None, dropout=0.2, train_backbone=False)


HEAD = {"head_epochs": 4, "head_learning_rate": 3e-3, "weights": "imagenet", "crop": None}


@pytest.fixture
def computed(monkeypatch):
    """How many images each call to a backbone's engine was given, in every way to compute it."""
    sizes, load = [], FeatureNetwork.load

    def counted(self, way, images):
        compute, device = load(self, way, images)
        return lambda batch: sizes.append(len(batch)) or compute(batch), device

    monkeypatch.setattr(FeatureNetwork, "load", counted)
    return sizes


@pytest.fixture(params=["openvino", "onnxruntime", "keras"])
def engine(request, monkeypatch):
    """The engine that is the fastest here."""
    if not find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    machine = Machine(frozenset({request.param, "keras"}))
    monkeypatch.setattr(features, "look_at_machine", lambda: machine)
    return request.param


def compute(images, folder, backbone=None, **options):
    backbone = split_head(tiny())[0] if backbone is None else backbone
    keys = features.pixel_keys(images)
    return features.cached_features(backbone, images, keys, folder=folder, **options)


def pixels(count, size=32, seed=0):
    return list(np.random.default_rng(seed).normal(size=(count, size, size, 1)).astype("float32"))


def test_damaged_features_are_reported_and_computed_again(tmp_path):
    images, notes = pixels(5), []
    first = compute(images, tmp_path)
    (numbers,) = tmp_path.glob("*.f32")
    content = bytearray(numbers.read_bytes())
    content[0] ^= 1
    numbers.write_bytes(content)
    again = compute(images, tmp_path, note=notes.append)
    np.testing.assert_allclose(again, first, rtol=1e-5)
    assert notes[-1].startswith("the features of 1 image in the cache had been changed or damaged")


def test_only_the_head_learns_and_the_backbone_computes_once(tmp_path, computed):
    network = tiny()
    before = network.get_weights()
    settings = config(**HEAD, epochs=0)
    train_network(network, material(), settings, features_folder=tmp_path)
    changed = [(a != b).any() for a, b in zip(before, network.get_weights(), strict=True)]
    # Kernel and bias of the last layer.
    assert changed[-2:] == [True, True]
    assert not any(changed[:-2])
    # 6 to learn from and 4 to judge by, in full batches.
    assert computed == [4, 4, 4]
    train_network(tiny(), material(), settings, features_folder=tmp_path)
    assert computed == [4, 4, 4]


def test_features_are_those_of_keras(tmp_path, engine):
    backbone, _ = split_head(tiny())
    images, notes = pixels(7), []
    found = compute(images, tmp_path, backbone, exact=True, batch_size=3, note=notes.append)
    expected = keras.ops.convert_to_numpy(backbone(np.stack(images), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    (note,) = notes
    assert note.startswith(f"the features of the backbone are computed by {engine} ")
    rounded = compute(images, tmp_path, backbone)
    np.testing.assert_allclose(rounded, expected, atol=2e-2 * np.linalg.norm(expected))


def test_another_split_computes_what_is_new_and_nothing_else(tmp_path, engine, computed):
    images = pixels(9)
    compute(images[:5], tmp_path, batch_size=2)
    assert sum(computed) == 6
    told = []
    compute(images[::-1], tmp_path, batch_size=2, on_progress=told.append)
    assert sum(computed) == 6 + 4
    assert [(one.done, one.total) for one in told] == [(7, 9), (9, 9)]


def test_what_a_feature_is_does_not_depend_on_the_others(tmp_path, engine):
    images = pixels(9)
    whole = compute(images, tmp_path / "whole", exact=True, batch_size=4)
    compute(images[3:4], tmp_path / "parts", exact=True, batch_size=4)
    compute(images[6:], tmp_path / "parts", exact=True, batch_size=4)
    parts = compute(images, tmp_path / "parts", exact=True, batch_size=4)
    np.testing.assert_array_equal(whole, parts)


def test_images_of_several_sizes(tmp_path, engine):
    backbone, _ = split_head(tiny())
    images = pixels(2) + pixels(3, size=20) + pixels(1, size=33)
    found = compute(images, tmp_path, backbone, exact=True)
    for image, row in zip(images, found, strict=True):
        (expected,) = keras.ops.convert_to_numpy(backbone(image[None], training=False))
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_features_of_other_weights_or_another_graph_are_computed_again(tmp_path, computed):
    backbone, _ = split_head(tiny())
    images = pixels(1)
    compute(images, tmp_path, backbone, batch_size=1)
    # The same once more, though its layers are counted on.
    compute(images, tmp_path, split_head(tiny())[0], batch_size=1)
    assert len(computed) == 1
    weights = backbone.get_weights()
    backbone.set_weights([weights[0] + 1, *weights[1:]])
    compute(images, tmp_path, backbone, batch_size=1)
    config = backbone.get_config()
    (convolution,) = (one for one in config["layers"] if one["class_name"] == "Conv2D")
    convolution["config"]["strides"] = (1, 1)
    other = keras.Model.from_config(config)
    other.set_weights(backbone.get_weights())
    compute(images, tmp_path, other, batch_size=1)
    assert len(computed) == 3


def test_rounded_features_are_not_taken_for_exact_ones(tmp_path, monkeypatch, computed):
    pytest.importorskip("openvino", reason="openvino is not installed")
    machine = Machine(frozenset({"openvino", "keras"}))
    monkeypatch.setattr(features, "look_at_machine", lambda: machine)
    for _ in range(2):
        compute(pixels(1), tmp_path, batch_size=1)
        compute(pixels(1), tmp_path, exact=True, batch_size=1)
    assert len(computed) == 2


def test_an_engine_that_differs_from_keras_is_not_used(tmp_path, monkeypatch, computed):
    pytest.importorskip("openvino", reason="openvino is not installed")
    machine = Machine(frozenset({"openvino", "keras"}))
    monkeypatch.setattr(features, "look_at_machine", lambda: machine)
    for limit in ("TOLERANCE", "ROUNDED_TOLERANCE"):
        monkeypatch.setattr(features, limit, -1.0)
    images, notes, backbone = pixels(3), [], split_head(tiny())[0]
    found = compute(images, tmp_path, backbone, note=notes.append)
    assert len(notes) == 3
    assert "differ from Keras's by" in notes[0]
    assert notes[0].endswith("%, more than -100.00%; falling back to another engine")
    assert notes[2] == f"the features of the backbone are computed by {Way('keras').identity}"
    expected = keras.ops.convert_to_numpy(backbone(np.stack(images), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # Next time nothing is tried again.
    notes.clear()
    compute(images, tmp_path, backbone, note=notes.append)
    assert (len(computed), notes) == (1, [])


def test_features_that_another_process_computes_meanwhile_are_taken(
    tmp_path, monkeypatch, engine, computed
):
    images, backbone = pixels(3), split_head(tiny())[0]
    expected, load = compute(images, tmp_path / "other", backbone, exact=True), FeatureNetwork.load
    computed.clear()

    def fail(self, way, some):
        # By the time that one way has failed, the other process has finished with the next.
        monkeypatch.setattr(FeatureNetwork, "load", load)
        compute(images, tmp_path / "here", backbone, exact=True)
        raise EngineError("cannot compute it")

    ways = [Way(engine, "fast"), *features.ways_to_compute(features.look_at_machine(), exact=True)]
    monkeypatch.setattr(
        features, "ways_to_compute", lambda machine, *, exact: ways[1:] if exact else ways
    )
    monkeypatch.setattr(FeatureNetwork, "load", fail)
    np.testing.assert_array_equal(compute(images, tmp_path / "here", backbone), expected)
    assert len(computed) == 1


class Unknown(keras.layers.Layer):
    """A layer that nobody has operators for."""

    def call(self, inputs):
        return inputs


def test_a_backbone_that_cannot_be_exported_is_computed_by_keras(tmp_path, monkeypatch):
    machine = Machine(frozenset({"openvino", "keras"}))
    monkeypatch.setattr(features, "look_at_machine", lambda: machine)
    inputs = keras.Input((32, 32, 1))
    unknown = Unknown(name="turn")(inputs)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(unknown))
    notes = []
    found = compute(pixels(2), tmp_path, backbone, note=notes.append)
    assert found.shape == (2, 1)
    assert "turn" in notes[0]
    assert "\n" not in notes[0]
    assert "computed by keras" in notes[-1]


def test_damaged_features_are_computed_again(tmp_path):
    images = pixels(1)
    first = compute(images, tmp_path)
    (file,) = tmp_path.glob("*.f32")
    file.write_bytes(file.read_bytes()[:-8])
    np.testing.assert_array_equal(first, compute(images, tmp_path))


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="set CELLCLF_CACHE to another folder"):
        compute(pixels(1), tmp_path / "file" / "features")


def test_both_stages_are_taken_up_anywhere(tmp_path):
    settings = config(**HEAD, epochs=1, steps_per_epoch=2, finetune_statistics=False)
    whole = tiny()
    history = train_network(whole, material(), settings, features_folder=tmp_path).history
    assert [record["stage"] for record in history] == ["head"] * 4 + ["network"]
    keeper, stops = MemoryKeeper(), 0
    while True:
        network, asked = tiny(), []
        try:
            again = train_network(
                network,
                material(),
                settings,
                features_folder=tmp_path,
                keeper=keeper,
                should_stop=lambda asked=asked: asked.append(1) or len(asked) >= 6,
            ).history
            break
        except CancelledError:
            stops += 1
    assert stops >= 2
    assert history == again
    for one, other in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_head_that_another_version_trained_in_another_way_starts_again(tmp_path, monkeypatch):
    settings, keeper, notes, asked = config(**HEAD, epochs=0), MemoryKeeper(), [], []
    expected = train_network(tiny(), material(), settings, features_folder=tmp_path).history

    def train(**options):
        return train_network(
            tiny(), material(), settings, features_folder=tmp_path, keeper=keeper, **options
        ).history

    with monkeypatch.context() as patched:
        patched.setattr(stages, "is_small_head", lambda head: False)
        with pytest.raises(CancelledError):
            train(should_stop=lambda: asked.append(1) or len(asked) >= 3)
    monkeypatch.setattr(Silent, "note", lambda self, message: notes.append(message))
    assert train() == expected
    assert "the stage starts from the beginning" in notes[0]


def test_features_before_a_stop_are_kept(tmp_path, computed):
    with pytest.raises(CancelledError, match="after the features of 4 images"):
        train_network(
            tiny(),
            material(),
            config(**HEAD, epochs=0),
            features_folder=tmp_path,
            should_stop=lambda: bool(computed),
        )
    assert computed == [4]
    train_network(tiny(), material(), config(**HEAD, epochs=0), features_folder=tmp_path)
    assert computed == [4, 4, 4]
