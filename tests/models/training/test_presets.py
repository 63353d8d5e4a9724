"""Presets: readable files that every setting of is checked."""

from __future__ import annotations

import pytest

from napari_cellclf.cli.options import parse_setting
from napari_cellclf.errors import InputError
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.presets import (
    choose_preset,
    find_preset,
    list_presets,
    load_preset,
    make_config,
)

NAMES = [
    "brightfield-cells",
    "brightfield-rgb",
    "drosophila-seed",
    "embryo-stages",
    "fluorescence",
    "objects",
    "rxrx1-seed",
    "single-cells",
    "stained-objects",
]


def test_there_are_these():
    assert [preset.name for preset in list_presets()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_makes_a_configuration_and_says_what_for(name):
    preset = find_preset(name)
    config = load_preset(name)
    assert isinstance(config, TrainingConfig)
    assert preset.title
    assert preset.description.endswith(".")
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_the_first_project():
    config = load_preset("rxrx1-seed")
    assert config.architecture == "seed-cnn"
    assert config.channels == ("w2 ConA",)
    assert config.size == (512, 512)
    assert config.balance == "equal-numbers"
    assert not config.augmentation.varies


def test_the_second_project():
    config, preset = load_preset("drosophila-seed"), find_preset("drosophila-seed")
    assert config.fixed_rotations == (45, 90, 135, 180, 270)
    assert not config.augmentation.varies
    assert (config.head_epochs > 0, config.epochs) == (True, 0)
    assert config.top_k == (1, 3, 6)
    # Seventeen stages: 51, 60, ... 195 or 204.
    assert preset.data == {"every": 9, "minutes": [51, 204]}


@pytest.mark.parametrize("name", ["brightfield-rgb", "fluorescence", "embryo-stages"])
def test_those_for_use_hold_on_what_they_have_not_seen(name):
    config = load_preset(name)
    assert config.augmentation.varies
    assert config.ema > 0
    assert config.weights == "imagenet" or config.architecture == "compact-cnn"


def test_one_cell_in_the_middle_is_brightfield_looked_at_more_closely():
    changes = {"centre": 0.6, "size": [192, 192]}
    assert load_preset("brightfield-rgb", changes) == load_preset("brightfield-cells")


def test_changes_leave_the_preset_as_it_is():
    before = load_preset("fluorescence")
    changed = load_preset(
        "fluorescence",
        {"augmentation.rotation": 0.1, "parameters.width": 8, "normalization.kind": "percentile"},
    )
    assert changed.augmentation.rotation == 0.1
    assert changed.augmentation.noise == before.augmentation.noise
    assert changed.parameters["width"] == 8
    assert changed.normalization.kind == "percentile"
    assert load_preset("fluorescence") == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epoch", 3, "epoch is not a setting"),
        ("augmentation.rotations", 0.1, "rotations is not a setting"),
        ("epochs", -1, "epochs cannot be -1"),
        ("learning_rate", float("nan"), "learning_rate cannot be nan"),
        ("learning_rate", "fast", "learning_rate cannot be 'fast'"),
        ("epochs.more", 1, "epochs is 10; set epochs itself"),
        ("size", [0], "size"),
        ("balance", "fair", "balance cannot be 'fair'"),
        ("seed", -1, "seed cannot be -1"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(field, value, message):
    with pytest.raises(InputError, match=message) as raised:
        load_preset("fluorescence", {field: value})
    assert "\n" not in str(raised.value)


def test_no_epochs_at_all():
    with pytest.raises(InputError, match="both 0") as raised:
        make_config({"epochs": 0})
    # Not with all settings in it.
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("preset", "architecture", "name"),
    [
        (None, None, "fluorescence"),
        (None, "compact-cnn", "fluorescence"),
        (None, "seed-cnn", "rxrx1-seed"),
        (None, "resnet50", "brightfield-rgb"),
        ("embryo-stages", "resnet50", "embryo-stages"),
    ],
)
def test_the_preset_that_is_meant(preset, architecture, name):
    found = choose_preset(preset, architecture)
    assert found.name == name
    fields = found.fields_for(architecture)
    if architecture is not None:
        assert fields["architecture"] == architecture
    assert make_config(fields)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\n[config]\nepochs = 3\n[config.parameters]\nwidth = 16\n')
    assert find_preset(str(path)).title == "Mine"
    assert load_preset(str(path)).parameters == {"width": 16}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[config", "not valid TOML"),
        (b"epochs = 3", "must hold title, description and a table"),
        (b"config = 3", "must hold title, description and a table"),
        (b"[config]\nepochs = 3\n[more]\na = 1", "must hold title, description and a table"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        find_preset(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        find_preset(str(tmp_path / "no.toml"))


def test_no_such_preset():
    with pytest.raises(InputError, match="choose one of brightfield-cells, brightfield-rgb"):
        find_preset("flourescence")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs=3", 3),
        ("learning_rate = 1e-3", 1e-3),
        ("reproducible=true", True),
        ("size=[64, 32]", [64, 32]),
        ("weights=null", None),
        ("architecture=resnet50", "resnet50"),
        ("continue_from=a=b.cellclf", "a=b.cellclf"),
        ('source="2 words"', "2 words"),
        ("normalization={kind='percentile'}", {"kind": "percentile"}),
    ],
)
def test_settings_as_they_are_typed(text, value):
    assert parse_setting(text)[1] == value
