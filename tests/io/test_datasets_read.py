"""Labelled images in every layout that is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from napari_cellclf.errors import DatasetError, InputError, NoImagesError
from napari_cellclf.io.datasets import read_dataset


def touch(root: Path, *names: str) -> Path:
    """Make files that nobody opens."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def below(root: Path, paths: Iterable[str]) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in paths]


def stage(minute: int, embryo: int = 1, *, date: str = "20230811", more: str = "") -> str:
    return f"Stage({minute:03d})-{date}-Cycle00-embryo{embryo:02d}-3{more}.tif"


class TestFolders:
    def test_a_folder_for_each_class(self, tmp_path: Path) -> None:
        root = touch(
            tmp_path, "b/2.png", "b/deeper/1.jpg", "a/x.TIF", "a/.hidden.png", "a/notes.txt",
            "a/.ipynb_checkpoints/x.png", "notes/readme.md", ".git/x.png",
        )  # fmt: skip
        data = read_dataset(root)
        assert data.class_names == ("a", "b")
        assert below(root, data.paths) == ["a/x.TIF", "b/2.png", "b/deeper/1.jpg"]
        assert data.table["label"].tolist() == ["a", "b", "b"]
        assert set(data.table["split"]) == {""}
        assert data.group_column is None
        assert data.source == (
            f"3 images in 2 folders of classes below {root.name}; without images that are read, "
            "and so no classes: notes"
        )

    def test_paths_are_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "data/a/1.png", "data/b/1.png")
        monkeypatch.chdir(tmp_path)
        assert all(Path(path).is_absolute() for path in read_dataset("data").paths)

    def test_numbered_folders_are_ordered(self, tmp_path: Path) -> None:
        data = read_dataset(touch(tmp_path, "day 10/1.png", "day 9/1.png"))
        assert [(spec.name, spec.value, spec.unit) for spec in data.classes] == [
            ("day 9", 9, "day"),
            ("day 10", 10, "day"),
        ]

    def test_the_group_is_guessed_from_names(self, tmp_path: Path) -> None:
        names = [f"{kind}/t{t}-embryo{e}.png" for kind in "ab" for e in (1, 2) for t in (1, 2)]
        data = read_dataset(touch(tmp_path, *names))
        assert data.group_column == "embryo"
        assert data.groups.tolist() == ["1", "2", "1", "2"] * 2
        assert "guessed from the file names" in data.group_reason

    def test_names_of_classes_are_no_groups(self, tmp_path: Path) -> None:
        names = [f"plate{p}/{n}.png" for p in (1, 2) for n in range(3)]
        assert read_dataset(touch(tmp_path, *names)).group_column is None

    def test_the_user_names_the_group(self, tmp_path: Path) -> None:
        names = [f"{kind}/plate{p}-A0{w}.png" for kind in "ab" for p in (1, 2) for w in (1, 2)]
        root = touch(tmp_path, *names)
        assert read_dataset(root).group_column == "plate"
        data = read_dataset(root, group="plate+well")
        assert data.groups[:2].tolist() == ["1/A01", "1/A02"]
        assert data.group_reason == "the group was chosen: plate+well"
        with pytest.raises(DatasetError, match="no column 'mouse'"):
            read_dataset(root, group="mouse")

    def test_images_beside_the_folders_are_left_out_and_said(self, tmp_path: Path) -> None:
        data = read_dataset(touch(tmp_path, "a/1.png", "b/1.png", "stray.png"))
        assert len(data) == 2
        assert data.source.endswith("1 image beside these folders has no class and is left out")

    def test_without_classes(self, tmp_path: Path) -> None:
        with pytest.raises(NoImagesError, match=r"holds no images .*folders found: none"):
            read_dataset(tmp_path)
        with pytest.raises(NoImagesError, match="holds 2 images but no folders of classes"):
            read_dataset(touch(tmp_path, "1.png", "2.png"))

    def test_a_site_in_a_class_is_one_image(self, tmp_path: Path) -> None:
        names = [f"{kind}/B02_s{s}_w{w}.png" for kind in "ab" for s in (1, 2) for w in (1, 2)]
        data = read_dataset(touch(tmp_path, *names))
        assert below(tmp_path, data.paths) == [
            f"{kind}/B02_s{s}_w1.png" for kind in "ab" for s in (1, 2)
        ]


class TestSplitFolders:
    @pytest.mark.parametrize("valid", ["valid", "val", "validation", "Valid"])
    def test_train_valid_and_test(self, tmp_path: Path, valid: str) -> None:
        names = [f"{part}/{kind}/{part}.png" for part in ("train", valid, "test") for kind in "ab"]
        data = read_dataset(touch(tmp_path, *names))
        counts = data.counts()
        assert counts.to_numpy().tolist() == [[1, 1, 1]] * 2
        assert data.split("given").sha256 == data.sha256

    def test_train_and_test_alone(self, tmp_path: Path) -> None:
        data = read_dataset(touch(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png"))
        assert data.table["split"].tolist() == ["train", "train", "test"]

    def test_one_embryo_in_two_parts_is_found(self, tmp_path: Path) -> None:
        names = [f"train/{stage(m, e)}" for m in (60, 69) for e in (1, 2)]
        names += [f"test/{stage(m, 2, more='-ROTATED-90')}" for m in (60, 69)]
        data = read_dataset(touch(tmp_path, *names))
        assert data.leaks() == ("20230811/0/2",)
        assert data.class_names == ("060", "069")

    def test_two_folders_for_one_part_are_refused(self, tmp_path: Path) -> None:
        root = touch(tmp_path, "train/a/1.png", "val/a/1.png", "valid/a/1.png")
        with pytest.raises(DatasetError, match="both for validation"):
            read_dataset(root)

    def test_a_class_may_be_called_test(self, tmp_path: Path) -> None:
        assert read_dataset(touch(tmp_path, "test/1.png", "control/1.png")).class_names == (
            "control",
            "test",
        )


def plates(
    root: Path, *sites: tuple[str, int, str], table: str | None = None, channels: int = 2
) -> Path:
    for experiment, plate, well in sites:
        for channel in range(1, channels + 1):
            touch(root, f"images/{experiment}/Plate{plate}/{well}_s1_w{channel}.png")
    if table is not None:
        root.joinpath("metadata.csv").write_text(table, encoding="utf-8")
    return root


class TestScreens:
    SITES = (
        ("HUVEC-01", 1, "B02"), ("HUVEC-01", 2, "B02"), ("RPE-01", 1, "B02"), ("RPE-01", 2, "C03"),
    )  # fmt: skip

    def test_a_row_a_site(self, tmp_path: Path) -> None:
        data = read_dataset(plates(tmp_path, *self.SITES))
        assert data.class_names == ("HUVEC", "RPE")
        assert below(tmp_path, data.paths)[0] == "images/HUVEC-01/Plate1/B02_s1_w1.png"
        assert data.table["plate"].tolist() == ["1", "2", "1", "2"]
        assert data.group_column == "experiment+plate"
        assert data.table["missing_channels"][0].startswith("w3 Phalloidin; w4")

    def test_experiments_are_the_groups_where_they_can_be(self, tmp_path: Path) -> None:
        sites = [(f"{kind}-{n:02d}", 1, "B02") for kind in ("HUVEC", "RPE") for n in (1, 2)]
        data = read_dataset(plates(tmp_path, *sites))
        assert data.group_column == "experiment"

    def test_any_column_of_the_table_is_a_label(self, tmp_path: Path) -> None:
        rows = [f"{e}_{p}_{w}_1,HUVEC,s{p}0" for e, p, w in self.SITES]
        table = "\n".join(["site_id,cell_type,sirna", *rows])
        data = read_dataset(plates(tmp_path, *self.SITES, table=table), label="sirna")
        # Names of molecules lie on no scale.
        assert [(spec.name, spec.value) for spec in data.classes] == [("s10", None), ("s20", None)]
        assert data.source.endswith("labelled by sirna")
        assert read_dataset(tmp_path, label="well").class_names == ("B02", "C03")

    def test_a_label_that_sites_lack_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"4 of 4 images have no 'sirna'.*experiment, plate"):
            read_dataset(plates(tmp_path, *self.SITES), label="sirna")

    def test_the_publishers_split_is_known(self, tmp_path: Path) -> None:
        sides = ("train", "test", "train", "test")
        rows = [f"{e}_{p}_{w}_1,{side}" for (e, p, w), side in zip(self.SITES, sides, strict=True)]
        data = read_dataset(
            plates(tmp_path, *self.SITES, table="\n".join(["site_id,dataset", *rows]))
        )
        assert data.table["split"].tolist() == list(sides)

    def test_a_split_without_training_images_of_a_class_is_not_taken(self, tmp_path: Path) -> None:
        rows = [f"{e}_{p}_{w}_1,{'test' if e[0] == 'R' else 'train'}" for e, p, w in self.SITES]
        data = read_dataset(
            plates(tmp_path, *self.SITES, table="\n".join(["site_id,dataset", *rows]))
        )
        assert set(data.table["split"]) == {""}


class TestEmbryos:
    def test_a_class_for_each_kept_minute(self, tmp_path: Path) -> None:
        root = touch(tmp_path, *(stage(m, e) for m in range(48, 214, 3) for e in (1, 2)))
        data = read_dataset(root, every=9)
        assert data.class_names == tuple(f"{m:03d}" for m in range(51, 205, 9))
        assert len(data.classes) == 18
        assert {(spec.value, spec.unit) for spec in data.classes[:2]} == {
            (51.0, "minute"),
            (60.0, "minute"),
        }
        assert data.is_ordered
        assert data.group_column == "date+cycle+embryo"
        assert data.source.endswith("76 of 112 images are of other minutes and are left out")

    def test_the_seventeen_stages_of_a_movie_that_begins_at_minute_60(self, tmp_path: Path) -> None:
        root = touch(tmp_path, *(stage(m) for m in range(60, 205, 9)))
        assert len(read_dataset(root, every=9).classes) == 17

    def test_copies_are_of_the_same_group(self, tmp_path: Path) -> None:
        copies = ("", "-MULTIPLIED-7", "-ROTATED-90", "-ROTATED-45-MULTIPLIED-6")
        root = touch(tmp_path, *(stage(60, e, more=more) for more in copies for e in (1, 2)))
        data = read_dataset(root)
        assert sorted(set(data.groups)) == ["20230811/0/1", "20230811/0/2"]
        assert sorted(set(data.table["rotation"])) == ["0", "45", "90"]

    def test_the_same_number_on_another_day_is_another_embryo(self, tmp_path: Path) -> None:
        root = touch(tmp_path, stage(60), stage(60, date="20230812"))
        assert len(set(read_dataset(root).groups)) == 2

    def test_embryos_may_lie_in_any_folders(self, tmp_path: Path) -> None:
        root = touch(tmp_path, f"day1/{stage(60)}", f"day2/{stage(69, 2)}", "day2/overview.tif")
        data = read_dataset(root)
        assert data.class_names == ("060", "069")
        assert data.source.endswith("1 image whose name says no minute is left out")
        # Unless the user says that the folders are the classes.
        folders = read_dataset(root, kind="folders")
        assert folders.class_names == ("day1", "day2")
        assert folders.group_column == "date+cycle+embryo"

    def test_minutes_that_nothing_is_of(self, tmp_path: Path) -> None:
        root = touch(tmp_path, stage(52), stage(61))
        with pytest.raises(DatasetError, match=r"minutes 52 to 61; choose .* --minutes 52-61"):
            read_dataset(root, every=9)
        assert len(read_dataset(root, every=9, minutes=(52, 204))) == 2
        with pytest.raises(DatasetError, match="the earlier minute first"):
            read_dataset(root, minutes=(204, 51))
        with pytest.raises(DatasetError, match="at least 1"):
            read_dataset(root, every=0)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"kind": "names", "naming": "rxrx1"}, r"no images named like .*B02_s1_w3\.png"),
        ({"kind": "names", "naming": "drosophila"}, r"no images named like Stage\(060\)"),
        ({"kind": "names"}, r"named like Stage\(060\).*, HUVEC-01"),
        ({"kind": "splits"}, "holds no images"),
    ],
)
def test_a_layout_that_is_not_there_is_said(
    tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    root = touch(tmp_path, "a/1.png")
    with pytest.raises(NoImagesError, match=message):
        read_dataset(root, **chosen)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match="does not exist"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no kind 'zip'"):
        read_dataset(tmp_path, kind="zip")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="looks like a URL"):
        read_dataset("https://example.org/data.csv")
