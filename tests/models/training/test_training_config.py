import pytest
from pydantic import ValidationError

from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig


def test_survives_json():
    config = TrainingConfig(
        normalization={"kind": "percentile"}, augmentation={"flips": "horizontal"}, size=(64, 32)
    )
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="learning_rat"):
        TrainingConfig(learning_rat=1)


def test_refuses_to_train_for_no_epoch():
    with pytest.raises(ValidationError, match="both 0"):
        TrainingConfig(epochs=0)


def test_changes_are_checked():
    config = TrainingConfig()
    assert config.changed(seed=4).seed == 4
    with pytest.raises(ValidationError):
        config.changed(batch_size=0)


def test_augmentation_can_be_off_and_scaled():
    assert AugmentationConfig.off().varies == ()
    half = AugmentationConfig.off(rotation=0.4, noise=1.0).scaled(0.5)
    assert (half.rotation, half.noise, half.varies) == (0.2, 0.5, ("rotation", "noise"))
    assert AugmentationConfig.off(rotation=0.4).scaled(9).rotation == 0.5
