"""Prepared images on disk: the very numbers that prediction is fed, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.schema import InputSpec
from napari_cellclf.core.image import Image, rotate_image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import CancelledError, DatasetError, UnreadableImageError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.engine import ProbabilitiesOnly
from napari_cellclf.io import prepared as module
from napari_cellclf.io.array_cache import KeptArrays
from napari_cellclf.io.cache import remove_abandoned
from napari_cellclf.io.prepared import TurnedFile, item_keys, prepare_images
from napari_cellclf.io.read import read_image
from napari_cellclf.models.training.presets import find_preset

GREY = Preprocessing(channels=[{"name": "grey"}], normalization={"kind": "scale_linear"})
NORMALIZATIONS = [
    {"kind": "zero_mean_unit_variance"},
    {"kind": "percentile", "low": 2, "high": 98},
    {"kind": "scale_linear", "factor": 7, "eight_bit": True},
]
SEED = find_preset("drosophila-seed").config["normalization"]


def write(path: Path, shape=(12, 10), dtype=np.uint8, seed=0) -> str:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)
    path.write_bytes(png_encode(pixels))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [write(tmp_path / f"{n}.png", seed=n) for n in range(3)]


class Capture(ProbabilitiesOnly):
    """An engine that keeps what it is fed."""

    device = "none"

    def __init__(self, n_classes: int) -> None:
        self.fed: list[np.ndarray] = []
        self._answer = np.full(n_classes, 1 / n_classes, np.float32)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.fed.extend(np.array(batch))
        return np.tile(self._answer, (len(batch), 1))


def fed_by_prediction(paths: list[str], preprocessing: Preprocessing) -> list[np.ndarray]:
    bundle = ModelBundle.load(find_model("rxrx1-celltype"))
    spec = bundle.spec.model_copy(update={"input": InputSpec(preprocessing=preprocessing)})
    engine = Capture(len(spec.classes))
    Classifier(SimpleNamespace(spec=spec), engine).predict(paths)
    return engine.fed


@pytest.mark.parametrize("size", [None, (16, 8), (5, 7)], ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=lambda one: one["kind"])
@pytest.mark.parametrize("kind", ["grey", "16 bits", "colour", "site"])
def test_training_is_fed_what_prediction_is_fed(tmp_path, kind, normalization, size):
    """Element by element, for every kind of file."""
    channels: list[Any] = [{"name": "grey"}]
    if kind == "grey":
        paths = [write(tmp_path / f"{n}.png", seed=n) for n in range(2)]
    elif kind == "16 bits":
        paths = [write(tmp_path / f"{n}.png", dtype=np.uint16, seed=n) for n in range(2)]
    elif kind == "colour":
        paths = [write(tmp_path / f"{n}.png", (12, 10, 3), seed=n) for n in range(2)]
        channels = [{"name": name} for name in ("red", "green", "blue")]
    else:
        folder = tmp_path / "HUVEC-01" / "Plate1"
        folder.mkdir(parents=True)
        sites = [
            [write(folder / f"B0{n}_s1_w{w}.png", seed=10 * n + w) for w in (1, 2, 5)]
            for n in (2, 3)
        ]
        paths = [site[0] for site in sites]
        # One is not there, and the order is not that of the files.
        channels = [
            {"name": "w5 Phalloidin"},
            {"name": "w6 WGA", "required": False},
            {"name": "w1 Hoechst"},
        ]
        channels[0]["name"] = next(c for c in read_image(paths[0]).channels if c.startswith("w5"))
    preprocessing = Preprocessing(channels=channels, normalization=normalization, size=size)
    expected = fed_by_prediction(paths, preprocessing)
    found = prepare_images(
        [TurnedFile(path) for path in paths], preprocessing, folder=tmp_path / "prepared"
    )
    assert found.bad == {}
    assert len(expected) == len(found) == 2
    for number, one in enumerate(expected):
        assert found[number].dtype == one.dtype == np.float32
        np.testing.assert_array_equal(found[number], one)


def test_turned_images_are_turned_before_they_are_prepared(tmp_path, files):
    preprocessing = Preprocessing(channels=[{"name": "grey"}], size=(8, 8))
    items = [TurnedFile(files[0]), TurnedFile(files[0], 45), TurnedFile(files[0], 90)]
    found = prepare_images(items, preprocessing, frame="grow", folder=tmp_path / "prepared")
    for number, item in enumerate(items):
        turned = rotate_image(read_image(item.path), item.degrees, "grow")
        np.testing.assert_array_equal(found[number], preprocessing(turned))


class TestDrosophila:
    """The published brightening of the real image, before any resize."""

    @pytest.fixture
    def pair(self, real_data: Path) -> tuple[Path, Path]:
        folder = real_data / "drosophila"
        (raw,) = folder.glob("*-3.tif")
        (multiplied,) = folder.glob("*MULTIPLIED-7.tif")
        return raw, multiplied

    def test_pixels_are_the_published_ones(self, pair, tmp_path):
        raw, multiplied = pair
        pixels = read_image(raw).to_cyx()[0]
        assert pixels.dtype == np.uint16
        by_hand = np.minimum((pixels >> 8).astype(int) * 7, 255)
        published = read_image(multiplied).to_cyx()[0]
        np.testing.assert_array_equal(published, by_hand)
        preprocessing = Preprocessing(channels=[{"name": "image"}], normalization=SEED)
        found = prepare_images([TurnedFile(str(raw))], preprocessing, folder=tmp_path)[0]
        assert found.shape == (*pixels.shape, 1)
        np.testing.assert_allclose(found[..., 0] * 255, by_hand, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(np.rint(found[..., 0] * 255), by_hand)

    def test_the_file_that_is_multiplied_already_gives_them_without_the_factor(
        self, pair, tmp_path
    ):
        raw, multiplied = pair
        once = SEED | {"factor": 1.0}
        factor, plain = (
            Preprocessing(channels=[{"name": "image"}], normalization=normalization)
            for normalization in (SEED, once)
        )
        from_raw = prepare_images([TurnedFile(str(raw))], factor, folder=tmp_path)[0]
        from_copy = prepare_images([TurnedFile(str(multiplied))], plain, folder=tmp_path)[0]
        np.testing.assert_allclose(from_raw, from_copy, rtol=0, atol=1e-6)


class TestTheSetOnDisk:
    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        read: list[str] = []

        def count(path: str, naming: None) -> Image:
            read.append(path)
            return read_image(path)

        monkeypatch.setattr(module, "read_image", count)
        return read

    def prepare(self, files: list[str], folder: Path, **options: Any) -> KeptArrays:
        return prepare_images([TurnedFile(file) for file in files], GREY, folder=folder, **options)

    def test_files_are_decoded_once(self, tmp_path, files, counted):
        first = self.prepare(files, tmp_path / "sets")
        told: list[Any] = []
        second = self.prepare(files, tmp_path / "sets", on_progress=told.append)
        assert sorted(counted) == files
        np.testing.assert_array_equal(np.stack(list(first)), np.stack(list(second)))
        assert [(one.done, one.total) for one in told] == [(3, 3)]

    def test_a_changed_file_is_prepared_again(self, tmp_path, files, counted):
        before = np.array(self.prepare(files, tmp_path / "sets")[1])
        write(Path(files[1]), seed=9)
        os.utime(files[1], ns=(1, 1))
        after = self.prepare(files, tmp_path / "sets")[1]
        assert sorted(counted) == sorted([*files, files[1]])
        assert not np.array_equal(before, after)

    def test_everything_that_matters_is_in_its_key(self, files):
        item = TurnedFile(files[0])
        keys = [
            *item_keys([item, TurnedFile(files[0], 45), TurnedFile(files[1])], GREY, "keep"),
            *item_keys([item], GREY, "grow"),
            *item_keys([item], GREY.model_copy(update={"size": (4, 4)}), "keep"),
        ]
        os.utime(files[0], ns=(1, 1))
        keys += item_keys([item], GREY, "keep")
        assert len(set(keys)) == 6

    def test_files_of_two_folders_are_not_confused(self, tmp_path, monkeypatch):
        keys = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            os.utime(write(tmp_path / name / "a.png"), ns=(1, 1))
            monkeypatch.chdir(tmp_path / name)
            keys += item_keys(
                [TurnedFile("a.png"), TurnedFile(str(tmp_path / name / "a.png"))], GREY, "keep"
            )
        assert keys[0] == keys[1] != keys[2] == keys[3]

    def test_the_rest_of_a_data_set_is_no_part_of_a_key(self, files):
        one, *_ = item_keys([TurnedFile(file) for file in files], GREY, "keep")
        assert item_keys([TurnedFile(files[2]), TurnedFile(files[0])], GREY, "keep")[1] == one

    def test_another_split_prepares_what_is_new_and_nothing_else(self, tmp_path, files, counted):
        self.prepare(files[:2], tmp_path / "sets")
        told: list[Any] = []
        both = self.prepare(files[::-1], tmp_path / "sets", on_progress=told.append)
        assert sorted(counted) == files
        assert [(one.done, one.total) for one in told] == [(3, 3)]
        for file, found in zip(files[::-1], both, strict=True):
            np.testing.assert_array_equal(found, GREY(read_image(file)))

    def test_turns_of_an_image_are_decoded_once(self, tmp_path, files, counted, monkeypatch):
        # With more threads two may begin with the same image.
        monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
        items = [TurnedFile(file, degrees) for file in files for degrees in (0, 90, 45)]
        found = prepare_images(items, GREY, folder=tmp_path / "sets")
        assert counted == files
        for item, pixels in zip(items, found, strict=True):
            turned = rotate_image(read_image(item.path), item.degrees, "keep")
            np.testing.assert_array_equal(pixels, GREY(turned))

    def test_an_image_that_is_there_twice_is_prepared_once(self, tmp_path, files, counted):
        found = self.prepare([files[0], files[1], files[0]], tmp_path / "sets")
        assert sorted(counted) == files[:2]
        np.testing.assert_array_equal(found[0], found[2])
        assert found.missing == []

    @pytest.mark.parametrize("suffix", [".json", ".f32"])
    @pytest.mark.parametrize(
        "damage",
        [Path.unlink, lambda file: file.write_bytes(b""), lambda file: os.truncate(file, 20)],
        ids=["removed", "emptied", "cut off"],
    )
    def test_a_damaged_set_is_made_anew(self, tmp_path, files, counted, suffix, damage):
        expected = np.stack(list(self.prepare(files, tmp_path / "sets")))
        (file,) = (tmp_path / "sets").glob(f"*{suffix}")
        damage(file)
        np.testing.assert_array_equal(
            np.stack(list(self.prepare(files, tmp_path / "sets"))), expected
        )
        assert len(counted) == 6

    @pytest.mark.parametrize(
        "content", ["[]", "null", '{"keys": [], "shapes": 3, "bad": {}}', '{"bad": []}']
    )
    def test_an_index_that_says_something_else(self, tmp_path, files, counted, content):
        self.prepare(files, tmp_path / "sets")
        (file,) = (tmp_path / "sets").glob("*.json")
        file.write_text(content)
        assert len(self.prepare(files, tmp_path / "sets")) == 3
        assert len(counted) == 6

    def test_images_of_several_sizes(self, tmp_path):
        shapes = [(4, 6), (9, 2), (1, 1)]
        files = [write(tmp_path / f"{n}.png", shape) for n, shape in enumerate(shapes)]
        found = self.prepare(files, tmp_path / "sets")
        assert [one.shape for one in found] == [(*shape, 1) for shape in shapes]
        for number, file in enumerate(files):
            np.testing.assert_array_equal(found[number], GREY(read_image(file)))

    def test_bad_images_are_listed_and_leave_the_others_in_place(self, tmp_path, files):
        Path(files[1]).write_bytes(b"no image")
        missing = str(tmp_path / "no.png")
        for _ in range(2):
            found = self.prepare([*files, missing], tmp_path / "sets")
            assert sorted(found.bad) == [1, 3]
            assert files[1] in found.bad[1]
            assert found[1].shape == (0, 0, 0)
            np.testing.assert_array_equal(found[2], GREY(read_image(files[2])))

    def test_what_could_not_be_read_is_tried_again(self, tmp_path, files, monkeypatch):
        def fail(path: str, naming: None) -> Any:
            raise UnreadableImageError(f"{path} cannot be read now")

        with monkeypatch.context() as patched:
            patched.setattr(module, "read_image", fail)
            assert sorted(self.prepare(files, tmp_path / "sets").bad) == [0, 1, 2]
        found = self.prepare(files, tmp_path / "sets")
        assert (found.bad, found.missing) == ({}, [])

    def test_nothing_but_bad_images(self, tmp_path):
        found = self.prepare([str(tmp_path / "no.png")], tmp_path / "sets")
        assert list(found.bad) == [0]
        assert list(self.prepare([str(tmp_path / "no.png")], tmp_path / "sets").bad) == [0]

    def test_what_was_prepared_before_a_stop_is_kept(self, tmp_path, files, counted):
        asked: list[int] = []

        def stop() -> bool:
            asked.append(1)
            return len(asked) == 2

        with pytest.raises(CancelledError, match="after preparing 2 of 3 images"):
            self.prepare(files, tmp_path / "sets", should_stop=stop)
        # Others were read ahead, and are not kept.
        counted.clear()
        told: list[Any] = []
        assert len(self.prepare(files, tmp_path / "sets", on_progress=told.append)) == 3
        assert counted == [files[2]]
        assert [(one.done, one.total) for one in told] == [(3, 3)]

    def test_what_a_killed_process_left_goes_when_it_is_old(self, tmp_path, files):
        folder = tmp_path / "sets"
        for name, age in ((".old.partial", 7200), (".new.partial", 10)):
            (folder / name).mkdir(parents=True)
            (folder / name / "numbers").write_bytes(b"1234")
            for path in (folder / name / "numbers", folder / name):
                past = path.stat().st_mtime - age
                os.utime(path, (past, past))
        self.prepare(files, folder)
        assert [path.name for path in folder.glob(".*")] == [".new.partial"]
        remove_abandoned(tmp_path / "no")

    def test_sets_not_used_for_longest_make_room(self, tmp_path, files, monkeypatch):
        folder = tmp_path / "sets"
        for file in files:
            self.prepare([file], folder)
        names = sorted(folder.glob("*.f32"))
        for age, name in enumerate(names):
            os.utime(name, (1000 - age, 1000 - age))
        monkeypatch.setattr(module, "MOST_BYTES", 2 * names[0].stat().st_size)
        self.prepare([write(tmp_path / "another.png", seed=9)], folder)
        assert not names[2].exists()
        assert not names[2].with_suffix(".json").exists()
        assert names[0].exists()
        assert names[1].exists()


class TestAFullDisk:
    def test_is_seen_before_it_is_written_to(self, tmp_path, files, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
        with pytest.raises(DatasetError, match="set CELLCLF_CACHE to a larger disk"):
            prepare_images([TurnedFile(file) for file in files], GREY, folder=tmp_path / "sets")
        assert list((tmp_path / "sets").iterdir()) == []

    def test_is_told_in_a_sentence_when_it_gets_full(self, tmp_path, files, monkeypatch):
        def full(*_: Any) -> Callable[[], None]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(np, "ascontiguousarray", full)
        with pytest.raises(DatasetError, match=r"\(No space left on device\); free some space"):
            prepare_images([TurnedFile(file) for file in files], GREY, folder=tmp_path / "sets")
        assert list((tmp_path / "sets").iterdir()) == []

    def test_a_cache_that_cannot_be_written(self, tmp_path, files):
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="set CELLCLF_CACHE to another folder"):
            prepare_images([TurnedFile(files[0])], GREY, folder=tmp_path / "file" / "sets")


def test_prepared_images_keep_the_hash_of_the_pixels_they_were_made_from(
    files: list[str], tmp_path: Path
) -> None:
    items = [TurnedFile(path, degrees) for path in files for degrees in (0, 90)]
    expected = [" ".join(pixel_hashes(read_image(item.path))) for item in items]
    for _ in range(2):
        found = prepare_images(items, GREY, folder=tmp_path / "cache")
        assert found.notes == expected
