import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, InputError, ModelError
from napari_cellclf.models.architectures.compact_cnn import build
from napari_cellclf.models.augmentation import AugmentationConfig
from napari_cellclf.models.fit import CropSampler, FitConfig, fit

SHORT = FitConfig(steps=6, batch_size=4, crop=16)
# Noise only: random all the same, and quick to trace.
FEW = AugmentationConfig(
    rotation=0,
    zoom=0,
    gaps=0,
    bleed_through=0,
    sharpness=0,
    illumination=0,
    haze=0,
    gamma=0,
    gain=0,
    offset=0,
    grey_steps=0,
    channel_dropout=0,
)


def stripes(count=3, size=32):
    """Two classes: stripes along X, and along Y."""
    random = np.random.default_rng(0)
    wave = np.sin(np.arange(size) * 0.8)
    images, labels = [], []
    for label in (0, 1):
        for _ in range(count):
            plane = np.broadcast_to(wave if label else wave[:, None], (size, size))
            noisy = plane + 0.3 * random.normal(size=(size, size))
            images.append(noisy[..., None].astype("float32"))
            labels.append(label)
    return images, labels


def small(seed=0, n_classes=2):
    return build((None, None, 1), n_classes, width=8, depth=2, seed=seed)


def test_learns_two_patterns():
    images, labels = stripes()
    network = small()
    config = FitConfig(steps=40, batch_size=8, crop=24, learning_rate=1e-2, ema_momentum=0.8)
    result = fit(network, images, labels, config)
    answers = np.asarray(network(np.stack(images), training=False)).argmax(axis=1)
    assert answers.tolist() == labels
    assert len(result.losses) == 40
    assert np.mean(result.losses[-5:]) < np.mean(result.losses[:5])


def test_same_seed_same_weights_and_other_seed_others():
    images, labels = stripes()
    runs = []
    for seed in (1, 1, 2):
        network = small(seed=5)
        config = SHORT.model_copy(update={"seed": seed})
        fit(network, images, labels, config, FEW)
        runs.append(network.get_weights())
    for first, again in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(first, again)
    assert not np.allclose(runs[0][0], runs[2][0])


def test_feeds_exactly_the_prepared_pixels():
    prepare = Preprocessing(channels=({"name": "DNA"},))
    from napari_cellclf.core.image import Image

    raw = np.random.default_rng(2).integers(0, 255, (40, 40)).astype("uint8")
    prepared = prepare(Image(raw, "YX"))
    pixels, _ = CropSampler([prepared], [0], FitConfig(crop=40, batch_size=2)).draw()
    np.testing.assert_array_equal(pixels[0], prepared)


def test_sampler_gives_rare_classes_as_often():
    images = [np.full((40, 40, 1), i, "float32") for i in range(10)]
    labels = [0] * 9 + [1]
    sampler = CropSampler(images, labels, FitConfig(crop=16, batch_size=10))
    for _ in range(5):
        pixels, classes = sampler.draw()
        assert np.bincount(classes).tolist() == [5, 5]
        assert ((pixels[:, 0, 0, 0] == 9) == (classes == 1)).all()


def test_sampler_takes_the_smallest_image_as_limit():
    images = [np.zeros((100, 30, 1), "float32"), np.zeros((64, 64, 1), "float32")]
    pixels, _ = CropSampler(images, [0, 1], FitConfig(crop=48, batch_size=2)).draw()
    assert pixels.shape == (2, 30, 30, 1)


def test_network_keeps_the_running_mean_of_its_weights():
    images, labels = stripes()
    networks = small(seed=1), small(seed=1)
    for network, momentum in zip(networks, (0.0, 0.9), strict=True):
        fit(network, images, labels, SHORT.model_copy(update={"ema_momentum": momentum}))
    start = small(seed=1).get_weights()[0]
    moved = [np.abs(network.get_weights()[0] - start).max() for network in networks]
    assert 0 < moved[1] < moved[0]


def test_progress_knows_its_total():
    seen: list[Progress] = []
    images, labels = stripes()
    fit(small(), images, labels, SHORT, on_progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(i + 1, 6) for i in range(6)]
    assert "loss" in seen[0].message


def test_stops_within_one_batch():
    images, labels = stripes()
    seen: list[Progress] = []
    with pytest.raises(CancelledError, match="after step 2 of 6"):
        fit(
            small(),
            images,
            labels,
            SHORT,
            on_progress=seen.append,
            should_stop=lambda: len(seen) == 2,
        )


def test_loss_that_is_not_a_number_is_refused_and_undone():
    images, labels = stripes()
    images[0] = np.full_like(images[0], np.nan)
    network = small()
    before = network.get_weights()
    with pytest.raises(ModelError, match=r"became nan in step \d of 6; lower the learning rate"):
        fit(network, images, labels, SHORT.model_copy(update={"batch_size": 16}))
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_saved_network_has_no_augmentation(tmp_path):
    images, labels = stripes()
    network = small()
    fit(network, images, labels, SHORT, FEW)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in small().layers]


@pytest.mark.parametrize(
    ("images", "labels", "part"),
    [
        ([], [], "0 images and 0 labels"),
        ([np.zeros((32, 32, 1), "float32")], [0, 1], "1 images and 2 labels"),
        ([np.zeros((32, 32, 1), "float32")], [7], r"\[7\] are not classes"),
        ([np.zeros((32, 32, 2), "float32")], [0], r"\(32, 32, 2\)"),
        ([np.zeros((32, 32), "float32")], [0], r"\(32, 32\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(images, labels, part):
    with pytest.raises(InputError, match=part):
        fit(small(), images, labels, SHORT)


TORCH = """
import numpy as np
from napari_cellclf.models.architectures.compact_cnn import build
from napari_cellclf.models.augmentation import AugmentationConfig
from napari_cellclf.models.fit import FitConfig, fit
images = [np.random.default_rng(i).normal(size=(32, 32, 2)).astype("float32") for i in (0, 1)]
runs = []
for _ in range(2):
    network = build((None, None, 2), 2, width=8, depth=2, seed=1)
    fit(network, images, [0, 1], FitConfig(steps=3, batch_size=4, crop=24), AugmentationConfig())
    runs.append(network.get_weights())
assert all(np.array_equal(a, b) for a, b in zip(*runs))
"""


def test_runs_on_torch_too():
    pytest.importorskip("torch", reason="torch is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TORCH],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
