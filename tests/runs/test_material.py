"""Bad images among good ones, and how pixels are settled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import ignore_progress, never_stop
from napari_cellclf.errors import CancelledError, DatasetError
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.read import read_image
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.runs.resolve import preprocessing_of
from napari_cellclf.runs.training import prepare_split

GREY = Preprocessing(channels=[{"name": "grey"}], normalization={"kind": "scale_linear"})
CONFIG = TrainingConfig()


def prepare(dataset, rotations=(), **options):
    given = {"on_progress": ignore_progress, "should_stop": never_stop} | options
    return prepare_split(dataset, GREY, CONFIG, rotations=rotations, **given)


@pytest.fixture
def dataset(make_images):
    """200 images, 100 of each of two classes."""
    return read_dataset(make_images(n=100))


def spoil(dataset, *rows: int) -> list[str]:
    for row in rows:
        Path(dataset.paths[row]).write_bytes(b"no image")
    return [dataset.paths[row] for row in rows]


def test_one_bad_image_of_200_is_left_out_and_named(dataset):
    (path,) = spoil(dataset, 7)
    found = prepare(dataset)
    assert len(found.arrays) == 199
    assert 7 not in found.rows
    ((named, reason),) = found.bad
    assert named == path
    assert "\n" not in reason
    # Every other image is still with its own class.
    for number in (0, 6, 7, 150, 198):
        row = found.rows[number]
        np.testing.assert_array_equal(found.arrays[number], GREY(read_image(dataset.paths[row])))
        assert found.labels[number] == dataset.labels[row]


def test_all_turns_of_a_bad_image_are_left_out(dataset):
    part = dataset.subset(np.arange(10))
    spoil(part, 3)
    found = prepare(part, rotations=(90, 45))
    assert found.rows.tolist() == [row for row in range(10) if row != 3 for _ in range(3)]
    image = read_image(part.paths[4]).to_cyx()[0] / np.float32(255)
    at = found.rows.tolist().index(4)
    np.testing.assert_allclose(found.arrays[at][..., 0], image, atol=1e-6)
    np.testing.assert_allclose(found.arrays[at + 1][..., 0], np.rot90(image), atol=1e-6)


def test_more_than_one_percent_are_refused(dataset):
    spoil(dataset, 3, 100)
    assert len(prepare(dataset).bad) == 2
    spoil(dataset, 50)
    with pytest.raises(DatasetError, match=r"3 of 200 images cannot be used \(.*003.png"):
        prepare(dataset)


@pytest.mark.parametrize("rotations", [(), (90,)])
def test_no_class_is_lost_altogether(dataset, rotations):
    part = dataset.subset(np.r_[0:100, 150])
    spoil(part, 100)
    with pytest.raises(DatasetError, match="no image of class light can be used"):
        prepare(part, rotations)


def test_stopping(dataset):
    with pytest.raises(CancelledError):
        prepare(dataset, should_stop=lambda: True)


class TestPixels:
    def write(self, folder: Path, name: str, pixels: np.ndarray) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_encode(pixels))
        return str(path)

    def test_fixed_numbers_are_those_of_all_training_images(self, tmp_path):
        random = np.random.default_rng(0)
        pixels = [random.integers(0, 255, (4 + n, 5, 3), np.uint8) for n in range(4)]
        paths = [self.write(tmp_path, f"{n}.png", one) for n, one in enumerate(pixels)]
        (tmp_path / "bad.png").write_bytes(b"")
        paths.insert(0, str(tmp_path / "bad.png"))
        config = TrainingConfig(normalization="fixed", size="own")
        found = preprocessing_of(paths, config)
        together = np.concatenate([one.reshape(-1, 3) for one in pixels]).astype(float)
        np.testing.assert_allclose(found.normalization.mean, together.mean(axis=0))
        np.testing.assert_allclose(found.normalization.std, together.std(axis=0))
        assert found.size is None
        assert len(found.channels) == 3

    def test_fixed_numbers_are_those_of_the_middle_that_is_looked_at(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
        path = self.write(tmp_path, "one.png", pixels)
        found = preprocessing_of([path], TrainingConfig(normalization="fixed", centre=0.5))
        middle = pixels[2:6, 3:9].reshape(-1, 3).astype(float)
        np.testing.assert_allclose(found.normalization.mean, middle.mean(axis=0))
        assert found.centre == 0.5

    def test_constant_images_divide_by_one(self, tmp_path):
        path = self.write(tmp_path, "flat.png", np.full((4, 4), 9, np.uint8))
        found = preprocessing_of([path], TrainingConfig(normalization="fixed"))
        assert found.normalization.std == (1.0,)

    def site(self, folder: Path, well: str, channels) -> str:
        plane = np.zeros((4, 4), np.uint8)
        names = [f"HUVEC-01/Plate1/{well}_s1_w{channel}.png" for channel in channels]
        first, *_ = [self.write(folder, name, plane) for name in names]
        return first

    def test_stains_that_some_sites_lack_may_be_missing(self, tmp_path):
        paths = [self.site(tmp_path, "B02", (1, 2, 6)), self.site(tmp_path, "B03", (1, 2))]
        found = preprocessing_of(paths, TrainingConfig()).channels
        assert [(spec.name[:2], spec.required) for spec in found] == [
            ("w1", True),
            ("w2", True),
            ("w6", False),
        ]
        assert all(isinstance(spec, ChannelSpec) for spec in found)

    def test_chosen_channels_in_the_chosen_order(self, tmp_path):
        path = self.site(tmp_path, "B02", (1, 2, 5))
        config = TrainingConfig(channels=("w5", "w1"), optional_channels=("w1",))
        found = preprocessing_of([path], config).channels
        assert [(spec.name[:2], spec.required) for spec in found] == [("w5", True), ("w1", False)]
        with pytest.raises(DatasetError, match="no one channel 'w9'"):
            preprocessing_of([path], TrainingConfig(channels=("w9",)))

    def test_nothing_can_be_read(self, tmp_path):
        with pytest.raises(DatasetError, match="none of the training images can be read"):
            preprocessing_of([str(tmp_path / "no.png")], CONFIG)

    def test_the_second_projects_preset(self, tmp_path):
        path = self.write(tmp_path, "a.png", np.zeros((8, 8), np.uint16))
        found = preprocessing_of([path], load_preset("drosophila-seed"))
        assert found.size == (224, 224)
        assert found.normalization.model_dump() == {
            "kind": "scale_linear",
            "factor": 7.0,
            "eight_bit": True,
        }
