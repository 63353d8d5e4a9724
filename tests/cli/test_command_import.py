"""``cellclf models import``: it asks for what a file does not say, and guesses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.normalization import Percentile

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network that takes images of any size, in two channels."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    path = tmp_path_factory.mktemp("theirs") / "their net.keras"
    network.save(path)
    return path


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


SAID = ("--classes", "a,b , c", "--channels", "DNA,actin", "--preprocessing", "min_max")


def test_it_asks_for_everything_that_is_missing(cellclf: Run, file: Path) -> None:
    result = cellclf("models", "import", file)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert "their net.keras takes images of shape (any, any, 2) and has 3 outputs" in line
    for option in ("--classes (3 names", "--channels (2 names", "--preprocessing (", "--size ("):
        assert option in line


def test_it_asks_for_no_more_than_is_missing(cellclf: Run, file: Path) -> None:
    (line,) = cellclf("models", "import", file, *SAID).err.splitlines()
    assert line.endswith("must be given: --size (HxW, or own)")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--size", "0x0"), "size: (0, 0) is not a height and a width"),
        (("--size", "own", "--out", "nowhere"), "'nowhere' must end in .cellclf"),
        (("--size", "own", "--classes", "a,b"), "tells 3 classes apart, but 2 were named"),
        (("--size", "own", "--classes", "a,b,a"), "two classes have the same name"),
        (("--size", "own", "--classes", "a,,b"), "a name without letters"),
        (("--size", "own", "--channels", "DNA"), "takes 2 channels, but 1 was named"),
        (("--size", "own", "--preprocessing", "by eye"), "is not a normalisation"),
        (("--size", "own", "--preprocessing", "none.json"), "none.json"),
        (("--size", "own", "--name", "../evil"), "name cannot be '../evil'; give text of the form"),
    ],
)
def test_what_is_said_is_checked(
    cellclf: Run, file: Path, options: tuple[str, ...], told: str
) -> None:
    if "none.json" in options:
        options = tuple(option for option in options if option not in ("--size", "own"))
        result = cellclf("models", "import", file, "--classes", "a,b,c", *options)
    else:
        result = cellclf("models", "import", file, *SAID, *options)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert told in line


def test_a_size_is_two_numbers(cellclf: Run, file: Path) -> None:
    result = cellclf("models", "import", file, *SAID, "--size", "100")
    assert result.code == 2
    assert "'100' is not of the form HxW, such as 100x100, nor own" in result.err


def test_a_model_is_made(cellclf: Run, file: Path, models: Path) -> None:
    result = cellclf("models", "import", file, *SAID, "--size", "32x40", "--licence", "MIT")
    assert result.code == 0, result.err
    spec = ModelBundle.load(models / "their-net.cellclf").spec
    assert spec.class_names == ("a", "b", "c")
    assert spec.input.channels == ("DNA", "actin")
    assert spec.input.preprocessing.size == (32, 40)
    assert spec.input.preprocessing.normalization == Percentile(low=0, high=100)
    assert spec.licence == "MIT"
    again = cellclf("models", "import", file, *SAID, "--size", "32x40")
    assert again.code == 1
    assert "exists already" in again.err


def test_a_whole_preprocessing_from_a_file(cellclf: Run, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "prepare.json"
    channels = [{"name": "DNA", "aliases": ["DAPI"]}, {"name": "actin"}]
    path.write_text(json.dumps({"channels": channels, "normalization": {"kind": "scale_linear"}}))
    options = ("--classes", "a,b,c", "--preprocessing", path, "--out", tmp_path / "m.cellclf")
    result = cellclf("models", "import", file, *options)
    assert result.code == 0, result.err
    prepared = ModelBundle.load(tmp_path / "m.cellclf").spec.input.preprocessing
    assert prepared.channels[0].aliases == ("DAPI",)
    both = cellclf("models", "import", file, *options, "--channels", "DNA,actin")
    assert "says channels and size already" in both.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not readable JSON"),
        ("[" * 30_000, "is nested deeper"),
        (" " * 2_000_000, "has over 1048576 bytes"),
        ('{"channels": []}', "is not a preprocessing: channels"),
    ],
    ids=["cut", "deep", "long", "other"],
)
def test_a_preprocessing_that_cannot_be_read(
    content: str, told: str, cellclf: Run, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "prepare.json"
    path.write_text(content)
    result = cellclf("models", "import", file, "--classes", "a,b,c", "--preprocessing", path)
    assert told in result.err


def test_a_preprocessing_is_no_pipe_that_is_waited_for(
    cellclf: Run, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "prepare.json"
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    os.mkfifo(path)
    result = cellclf("models", "import", file, "--classes", "a,b,c", "--preprocessing", path)
    assert "not a plain file" in result.err


def test_names_of_files_do_not_steer_the_terminal(cellclf: Run, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[2J\x9b31m.keras"
    path.write_bytes(b"x")
    (line,) = cellclf("models", "import", path).err.splitlines()
    assert line.isprintable()
    assert "x1b[2J" in line


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "model.tflite", "https://a.org/m.keras"])
def test_other_kinds_get_advice(cellclf: Run, name: str, tmp_path: Path) -> None:
    path: Any = name if "://" in name else tmp_path / name
    if "://" not in name:
        path.write_bytes(b"x")
    result = cellclf("models", "import", path)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
