"""Every wrong setting is one line that names it, what was given, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cellclf.cli import main
from napari_cellclf.errors import ArchitectureError, InputError
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.training.config import TrainingConfig, parse_value
from napari_cellclf.models.training.presets import find_preset, make_config

WRONG = {
    "size=[0,5]": "size: [0, 5] is not a height and a width; give two whole numbers from 8 to 163",
    "size=[1,1]": "size: [1, 1] is not a height and a width",
    "epochs=true": "epochs: True is not a whole number",
    "learning_rate=true": "learning_rate: True is not a number",
    "crop=false": "crop: False is not a whole number",
    "fixed_rotations=[true]": "fixed_rotations: [True] is not a list of numbers",
    "augmentation.zoom=true": "augmentation.zoom: True is not a number",
    "size=[20000,20000]": "size: [20000, 20000] is not a height and a width",
    "size=[true,5]": "size: [True, 5] is not a height and a width",
    "size=5": "size: 5 is not a height and a width",
    "size=big": "size: 'big' is not a height and a width",
    'channels=[""]': "channels cannot be ['']; give text that is not empty",
    'channels=["a","a"]': "channels: 'a' is named twice; name each channel once",
    "channels=DNA": "channels cannot be 'DNA'; give a list",
    "channels=[]": "channels cannot be []; give a list of at least 1",
    "normalization=percentil": "normalization: 'percentil' is not a normalisation; give one of ",
    "normalization=percentile:9,1": "normalization: normalisation 'percentile:9,1' has numbers",
    "normalization=5": "normalization cannot be 5; give a table of names and values",
    "fixed_rotations=[nan]": "fixed_rotations.0 cannot be nan; give a finite number",
    "fixed_rotations=[inf]": "fixed_rotations.0 cannot be inf; give a finite number",
    "fixed_rotations=5": "fixed_rotations cannot be 5; give a list",
    "top_k=[0]": "top_k.0 cannot be 0; give a number of at least 1",
    "batch_size=1000000000000": "batch_size cannot be 1000000000000; give a number of at most 655",
    "epochs=-1": "epochs cannot be -1; give a number of at least 0",
    "learning_rate=nan": "learning_rate cannot be nan; give a",
    "seed=4294967296": "seed cannot be 4294967296; give a number below 4294967296",
    "checkpoint_seconds=inf": "checkpoint_seconds cannot be inf; give a finite number",
    "precision=double": "precision cannot be 'double'; give 'auto', 'float32', 'bfloat16' or",
    "augmentation.rotation=7": "augmentation.rotation cannot be 7; give a number of at most 0.5",
    "augmentation.foo=1": "augmentation.foo is not a setting",
    "foo=1": "foo is not a setting",
}


@pytest.mark.parametrize(("setting", "expected"), WRONG.items())
def test_a_wrong_setting_is_one_line(setting, expected):
    name, _, text = setting.partition("=")
    with pytest.raises(InputError) as refused:
        make_config({}, {name: parse_value(text)})
    said = str(refused.value)
    assert said.startswith(expected)
    assert "\n" not in said
    assert "Input should" not in said


@pytest.mark.parametrize("command", ["train", "tune"])
@pytest.mark.parametrize("setting", ["size=[0,5]", 'channels=[""]', "fixed_rotations=[nan]"])
def test_commands_say_so_before_they_begin(command, setting, tmp_path, capsys):
    out = tmp_path / "run"
    trials = ["--trials", "1"] if command == "tune" else []
    assert main([command, str(tmp_path), "--out", str(out), "--set", setting, *trials]) != 0
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert WRONG[setting] in said[0]
    assert not out.exists()


@pytest.mark.parametrize(
    "typed", ["percentile:1,99", "min_max", "scale_linear:x3", "auto", "fixed"]
)
def test_a_normalisation_can_be_typed_as_everywhere(typed):
    config = make_config({}, {"normalization": typed})
    again = TrainingConfig.model_validate_json(config.model_dump_json())
    assert again.normalization == config.normalization


@pytest.mark.parametrize("parameters", [{"width": "x"}, {"width": float("nan")}, {"dropout": "a"}])
def test_parameters_of_another_type_are_one_line(parameters):
    with pytest.raises(ArchitectureError, match="compact-cnn cannot be built with") as refused:
        build_network("compact-cnn", input_shape=(64, 64, 1), n_classes=2, **parameters)
    assert "\n" not in str(refused.value)
    assert "supported between" not in str(refused.value)


@pytest.mark.parametrize("value", ["9" * 5000, "1e400", "[" * 20_000, "\0"])
def test_settings_that_cannot_be_parsed_are_one_line(value: str) -> None:
    with pytest.raises(InputError, match="epochs") as raised:
        make_config({"epochs": parse_value(value)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 20_000, "x = " + "9" * 5000, "#" * (1 << 21), "\0"]
)
def test_presets_that_cannot_be_parsed_are_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(InputError, match="not valid TOML") as raised:
        find_preset(str(file))
    assert "\n" not in str(raised.value)
