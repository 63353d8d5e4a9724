import numpy as np
import pytest
from pydantic import ValidationError

from napari_cellclf.models.augmentation.config import AUGMENTATIONS, AugmentationConfig
from napari_cellclf.models.augmentation.layers import build_augmenter


def crops(count=4, channels=3, size=32):
    values = np.random.default_rng(0).normal(size=(count, size, size, channels))
    return values.astype("float32")


def run(pixels, seed=0, training=True, **changes):
    augment = build_augmenter(AugmentationConfig.off(**changes), seed)
    return np.asarray(augment(pixels, training=training))


def test_everything_off_changes_nothing():
    pixels = crops()
    np.testing.assert_allclose(run(pixels), pixels, atol=2e-3)


def test_does_nothing_outside_training():
    pixels = crops()
    augment = build_augmenter(AugmentationConfig(drop_together=(2,)))
    np.testing.assert_array_equal(np.asarray(augment(pixels, training=False)), pixels)


@pytest.mark.parametrize(
    "change",
    [
        {"flips": True},
        {"rotation": 0.5},
        {"zoom": 0.2},
        {"gaps": 1.0},
        {"bleed_through": 0.5},
        {"sharpness": 0.9},
        {"defocus": 1.0},
        {"illumination": 0.3},
        {"haze": 0.3},
        {"gamma": 0.5},
        {"gain": 0.3},
        {"offset": 0.3},
        {"noise": 0.3},
        {"grey_steps": 0.5},
        {"channel_dropout": 1.0},
        {"channel_subset": 1.0},
        {"drop_together": (1,), "drop_together_probability": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_part_varies_keeps_the_shape_and_stays_finite(change):
    pixels = crops()
    varied = run(pixels, **change)
    assert varied.shape == pixels.shape
    assert varied.dtype == np.float32
    assert np.isfinite(varied).all()
    assert np.abs(varied - pixels).max() > 0.05


def test_blank_channels_stay_blank():
    pixels = crops(count=8, channels=6)
    pixels[..., 4:] = 0
    augment = build_augmenter(AugmentationConfig(channel_dropout=0, gaps=1.0))
    varied = np.asarray(augment(pixels, training=True))
    assert (varied[..., 4:] == 0).all()
    assert (varied[..., :4].std(axis=(1, 2)) > 0).all()


def test_dropout_blanks_the_group_as_one():
    varied = run(crops(count=64, channels=6), drop_together=(4, 5), drop_together_probability=0.5)
    blank = (varied == 0).all(axis=(1, 2))
    np.testing.assert_array_equal(blank[:, 4], blank[:, 5])
    assert 0.2 < blank[:, 4].mean() < 0.8
    assert not blank[:, :4].any()


def test_dropout_never_blanks_the_only_channel():
    assert (run(crops(channels=1), channel_dropout=1.0) != 0).any(axis=(1, 2)).all()


def test_a_subset_holds_at_least_one_channel_that_was_there():
    pixels = crops(count=300, channels=4, size=8)
    pixels[:100, ..., 2:] = 0
    there = (run(pixels, channel_subset=1.0) != 0).any(axis=(1, 2))
    assert there.any(axis=1).all()
    assert not there[:100, 2:].any()
    assert set(there[100:].sum(axis=1)) == {1, 2, 3, 4}
    assert there[100:].any(axis=0).all()
    # Few channels more often than many: those are hard.
    assert (there[100:].sum(axis=1) == 1).mean() > 0.3
    sometimes = (run(pixels, channel_subset=0.3) != 0).any(axis=(1, 2))
    assert 0.6 < sometimes[100:].all(axis=1).mean() < 0.9


def test_same_seed_same_pixels_and_other_seed_others():
    pixels = crops()
    config = AugmentationConfig()
    first, again, other = (
        np.asarray(build_augmenter(config, seed)(pixels, training=True)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_curve_keeps_mean_and_deviation():
    varied = run(crops(), gamma=0.5)
    np.testing.assert_allclose(varied.mean(axis=(1, 2)), crops().mean(axis=(1, 2)), atol=1e-3)
    np.testing.assert_allclose(varied.std(axis=(1, 2)), crops().std(axis=(1, 2)), atol=1e-2)


def test_grey_steps_leave_few_levels_in_some_channels():
    varied = run(crops(count=16), grey_steps=1.0)
    counts = [len(np.unique(channel)) for image in varied for channel in image.transpose(2, 0, 1)]
    assert min(counts) < 40
    assert max(counts) > 500


def test_zoom_changes_the_size_of_things_by_no_more_than_it_says():
    spot = np.zeros((64, 65, 65, 1), "float32")
    spot[:, 22:43, 22:43] = 1
    areas = run(spot, zoom=0.22).sum(axis=(1, 2, 3)) / spot[0].sum()
    assert areas.min() > 0.6 * 0.9
    assert areas.max() < 1.6 * 1.1
    assert areas.min() < 0.9
    assert areas.max() > 1.1


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_every_augmentation_varies_only_in_training_and_repeatably(name):
    """What every augmentation must do, ours and those of other packages."""
    augmentation = AUGMENTATIONS.get(name)
    assert augmentation.name == name
    config = AugmentationConfig(cutout=1, shift=0.5, channel_dropout=1, gaps=1, drop_together=(1,))
    if name in AUGMENTATIONS.foreign_names():
        config = config.model_copy(update={"extra": {name: 1.0}})
    assert augmentation.is_wanted(config)
    assert not augmentation.is_wanted(AugmentationConfig.off())
    pixels = crops(channels=2)
    first, again = (augmentation.make(config, 3) for _ in range(2))
    np.testing.assert_array_equal(np.asarray(first(pixels, training=False)), pixels)
    varied = np.asarray(first(pixels, training=True))
    assert (varied.shape, varied.dtype) == (pixels.shape, np.float32)
    assert np.isfinite(varied).all()
    assert np.abs(varied - pixels).max() > 0.05
    np.testing.assert_array_equal(varied, np.asarray(again(pixels, training=True)))


def test_an_augmentation_that_is_not_installed_is_named():
    with pytest.raises(ValidationError, match="no augmentation 'snow' is installed"):
        AugmentationConfig(extra={"snow": 0.5})


@pytest.mark.parametrize("change", [{"rotation": 2.0}, {"noise": -1.0}, {"brightness": 1.0}])
def test_configuration_refuses_what_it_does_not_know(change):
    with pytest.raises(ValidationError):
        AugmentationConfig(**change)
