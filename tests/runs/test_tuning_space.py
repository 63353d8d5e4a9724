"""What is searched, and what a choice means for a configuration."""

from __future__ import annotations

import pytest

from napari_cellclf.errors import InputError
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.runs.tuning.space import Between, OneOf, configuration, search_space
from napari_cellclf.runs.tuning.trial_records import preset_text

CONFIG = TrainingConfig(batch_size=16, learning_rate=0.01)
VARIED = AugmentationConfig.off(rotation=0.2, noise=0.5)


def _names(config: TrainingConfig, *names: str, n: int = 100) -> list[str]:
    return [one.name for one in search_space(config, names, n)]


def test_rate_and_batch_are_always_searched():
    rate, batch = search_space(CONFIG, (), 100)
    assert rate == Between(name="learning_rate", start=0.01, low=0.001, high=0.1, log=True)
    assert batch == OneOf(name="batch_size", start=16, choices=(4, 8, 16, 32))


def test_each_stage_has_its_rate():
    both = CONFIG.changed(head_epochs=3)
    assert _names(both) == ["head_learning_rate", "learning_rate", "batch_size"]
    assert _names(both.changed(epochs=0)) == ["head_learning_rate", "batch_size"]


@pytest.mark.parametrize(("own", "n", "choices"), [(16, 10, (4, 8, 16)), (1, 50, (1, 2))])
def test_batches_fit_the_images(own: int, n: int, choices: tuple[int, ...]):
    batch = search_space(CONFIG.changed(batch_size=own), (), n)[-1]
    assert isinstance(batch, OneOf)
    assert batch.choices == choices
    assert batch.start in batch.choices


def test_everything_can_be_searched_at_once():
    config = CONFIG.changed(
        parameters={"dropout": 0.3}, weights="some.weights.h5", augmentation=VARIED.model_dump()
    )
    found = search_space(config, ("dropout", "finetune_depth", "augmentation"), 100)
    starts = {one.name: one.start for one in found[2:]}
    assert starts == {"dropout": 0.3, "finetune_depth": 1.0, "augmentation": 1.0}
    assert all(one.low <= one.start <= one.high for one in found[2:])


def test_the_architecture_tells_its_dropout():
    (dropout,) = search_space(CONFIG, ("dropout",), 100)[2:]
    assert 0 <= dropout.start < 1


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({}, "momentum", "cannot be searched"),
        ({}, "finetune_depth", "learned before"),
        ({"weights": "imagenet", "head_epochs": 1, "epochs": 0}, "finetune_depth", "epochs"),
        ({"augmentation": AugmentationConfig.off(flips=True)}, "augmentation", "flips"),
        ({"augmentation": VARIED, "head_epochs": 1, "epochs": 0}, "augmentation", "epochs"),
        ({"continue_from": "model.cellclf"}, "dropout", "as it was built"),
        ({"architecture": "seed-cnn"}, "dropout", "has no dropout"),
    ],
)
def test_what_would_change_nothing_is_refused(changes: dict, name: str, says: str):
    config = TrainingConfig.model_validate({"learning_rate": 0.01, **changes})
    with pytest.raises(InputError, match=says):
        search_space(config, (name,), 100)


def test_a_choice_becomes_settings():
    config = CONFIG.changed(
        parameters={"width": 8}, augmentation=VARIED.model_dump(), steps_per_epoch=10
    )
    choice = {"learning_rate": 0.05, "batch_size": 32, "dropout": 0.1, "augmentation": 2.0}
    made = configuration(config, choice)
    assert (made.learning_rate, made.batch_size) == (0.05, 32)
    assert made.parameters == {"width": 8, "dropout": 0.1}
    assert (made.augmentation.rotation, made.augmentation.noise) == (0.4, 1.0)
    assert made.steps_per_epoch == 5


def test_the_first_choice_changes_nothing():
    config = load_preset("fluorescence")
    ranges = search_space(config, ("augmentation", "dropout"), 1000)
    assert configuration(config, {one.name: one.start for one in ranges}) == config


def test_a_preset_is_loaded_as_it_was_written(tmp_path):
    config = load_preset(
        "fluorescence",
        {
            "augmentation.rotation": 0.0,
            "augmentation.shift": 1e-05,
            "channels": ['a "quoted"\tname', "w1 Hoechst", "ö\x7f"],
            "fixed_rotations": [45, 90.5],
            "size": "own",
            "crop": None,
            "parameters.odd key": True,
        },
    )
    path = tmp_path / "best.toml"
    text = preset_text(config, title='"best"', description="", data={"minutes": [51, 204]})
    path.write_text(text, encoding="utf-8")
    assert load_preset(str(path)) == config


@pytest.mark.parametrize("name", ["rxrx1-seed", "drosophila-seed", "embryo-stages"])
def test_presets_survive_being_written(tmp_path, name: str):
    path = tmp_path / "again.toml"
    path.write_text(preset_text(load_preset(name), title="", description="", data={}))
    assert load_preset(str(path)) == load_preset(name)
