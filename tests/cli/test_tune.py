"""``cellclf tune``, from a folder of images to the best settings and what they come to."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from imagecodecs import png_encode

PRESET = """
title = "Small"

[config]
size = [32, 32]
epochs = 1
batch_size = 8

[config.parameters]
width = 8
depth = 2
"""


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """Settings that train in no time."""
    path = tmp_path / "small.toml"
    path.write_text(PRESET)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Dark and light noise, 12 images of each."""
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 130)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(level, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            (tmp_path / "images" / name / f"{number}.png").write_bytes(png_encode(pixels))
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


def test_searches_applies_and_goes_on(cellclf, images, preset, tmp_path):
    out = tmp_path / "tuning"
    command = ("tune", images, "--out", out, "--preset", preset, "--metric", "accuracy")
    first = cellclf(*command, "--trials", 1)
    assert first.code == 0, first.err
    assert "trial 0 is the best of 1 (1 complete): validation accuracy" in first.out
    assert not (out / "best").exists()

    second = cellclf(*command, "--trials", 1, "--apply")
    assert second.code == 0, second.err
    assert "trial 0 (learning_rate" in first.err
    assert "trial 0 (learning_rate" not in second.err
    assert f"preset: {out / 'best.toml'}" in second.out
    with (out / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete"]
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["config"]["monitor"] == "accuracy"
    # Only now the test images.
    evaluated = json.loads((out / "best" / "report" / "metrics.json").read_text())["evaluations"]
    assert [one["role"] for one in evaluated] == ["test", "validation"]

    changed = cellclf(*command, "--trials", 1, "--weights", "imagenet")
    assert changed.code == 1
    assert "begun with other settings (weights)" in changed.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--trials", "0"), "at least 1"),
        (("--trials", "2", "--search", "momentum"), "cannot be searched"),
        (("--trials", "2", "--metric", "luck"), "no metric 'luck' is installed"),
        (("--trials", "2", "--timeout", "-1"), "seconds above 0"),
        ((), "--trials"),
    ],
)
def test_a_wrong_command_line_is_refused(cellclf, tmp_path, arguments, says: str):
    result = cellclf("tune", tmp_path, "--out", tmp_path / "tuning", *arguments)
    assert result.code == 2
    assert says in result.err
    assert not (tmp_path / "tuning").exists()


def test_what_cannot_be_searched_is_said_before_anything_is_written(
    cellclf, images, preset, tmp_path
):
    command = ("tune", images, "--out", tmp_path / "tuning", "--preset", preset, "--trials", 2)
    result = cellclf(*command, "--search", "finetune-depth")
    assert result.code == 1
    assert "finetune_depth can be searched where" in result.err
    assert not (tmp_path / "tuning").exists()
