"""The example of an augmentation: dead pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.augmentation.layers import build_augmenter
from napari_cellclf.models.training.presets import make_config


def test_pixels_are_stuck_at_the_extremes_of_their_channel(
    install: Callable[[str, str, str], Path],
) -> None:
    install("augmentations", "dead_pixels", "dead_pixels:DEAD_PIXELS")
    config = AugmentationConfig.off(extra={"dead_pixels": 0.2})
    assert config.varies == ("dead_pixels",)
    pixels = np.random.default_rng(0).normal(size=(16, 64, 64, 2)).astype(np.float32)
    varied = np.asarray(build_augmenter(config, seed=1)(pixels, training=True))
    changed = varied != pixels
    # A pixel of the camera is dead in both channels, up to those that were extreme already.
    np.testing.assert_allclose(changed[..., 0].mean(), changed[..., 1].mean(), atol=1e-3)
    extremes = [pixels.min(axis=(1, 2)), pixels.max(axis=(1, 2))]
    for low_or_high in extremes:
        assert ((varied == low_or_high[:, None, None]) & changed).any()
    stuck = [varied == extreme[:, None, None] for extreme in extremes]
    assert (stuck[0] | stuck[1])[changed].all()
    fractions = changed.mean(axis=(1, 2, 3))
    assert fractions.max() <= 0.22
    assert fractions.min() < 0.1 < fractions.max()


def test_its_strength_is_a_setting_like_the_others(
    install: Callable[[str, str, str], Path],
) -> None:
    with pytest.raises(ValidationError, match="no augmentation 'dead_pixels' is installed"):
        AugmentationConfig(extra={"dead_pixels": 0.01})
    install("augmentations", "dead_pixels", "dead_pixels:DEAD_PIXELS")
    config = make_config({}, {"augmentation.extra.dead_pixels": 0.01})
    assert config.augmentation.extra == {"dead_pixels": 0.01}
    assert AugmentationConfig.model_validate_json(config.augmentation.model_dump_json())
