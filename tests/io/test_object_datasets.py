"""Labelled objects: read from tables, split by image, written down and prepared once an image."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject, ObjectCrop, objects_in_mask
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import DatasetError
from napari_cellclf.io import prepared as prepared_module
from napari_cellclf.io.dataset_inspection import inspect_dataset
from napari_cellclf.io.dataset_tables import read_dataset_csv, write_dataset_csv
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.prepared import items_of, prepare_images
from napari_cellclf.io.rows import RowReader
from napari_cellclf.reports.dataset_summary import dataset_text

N_IMAGES = 6
CALL = Preprocessing(
    channels=({"name": "image"},),
    object_crop=ObjectCrop(side=7),
    normalization={"kind": "percentile"},
)


def _mask() -> np.ndarray:
    mask = np.zeros((40, 40), np.uint16)
    for number in range(4):
        mask[3 + 9 * number : 8 + 9 * number, 5 + 3 * number : 10 + 3 * number] = number + 1
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(N_IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40)).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        Pillow.fromarray(_mask()).save(tmp_path / f"masks/{number}_masks.png")
    return tmp_path


def _table(folder: Path, text: str, name: str = "objects.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _rows(n: int = N_IMAGES, extra: str = "") -> str:
    head = f"path,mask,object,label{',' + extra if extra else ''}\n"
    return head + "".join(
        f"images/{image}.png,masks/{image}_masks.png,{number},{'ab'[number % 2]}"
        f"{f',{extra}{image // 2}' if extra else ''}\n"
        for image in range(n)
        for number in range(1, 5)
    )


def test_a_table_of_objects_is_read(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows()))
    assert data.has_objects
    assert len(data) == 24
    assert data.ids[1] == f"{folder / 'images/0.png'}[object=2]"
    assert data.masks[0] == str(folder / "masks/0_masks.png")
    assert data.objects[2] == NamedObject(3)
    assert data.group_column == "path"
    assert data.group_reason == "objects of one image stay together"
    assert data.source.startswith("24 objects in 6 images of the table objects.csv")


def test_objects_of_one_image_stay_on_one_side(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows())).split(seed=1)
    assert data.leaks() == ()
    sides = data.table.groupby("path")["split"].nunique()
    assert (sides == 1).all()
    folds = data.k_fold(3)
    assert all(fold.test.table["path"].nunique() == 2 for fold in folds)
    even = data.equal_numbers(0)
    assert len(set(np.bincount(even.train.labels).tolist())) == 1


def test_a_known_plate_above_the_image_wins(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows(extra="plate")))
    assert data.group_column == "plate"
    split = data.split(seed=0)
    assert (split.table.groupby("plate")["split"].nunique() == 1).all()


def test_another_group_is_the_user_s_choice(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows()), group="object")
    assert data.group_column == "object"


def test_centres_are_objects_too(folder: Path) -> None:
    data = read_dataset(
        _table(folder, "path,y,x,label\nimages/0.png,5,7,a\nimages/0.png,14.25,10,b\n")
    )
    assert data.objects == (NamedObject(1, (5.0, 7.0)), NamedObject(2, (14.25, 10.0)))
    assert data.masks == (None, None)


def test_masks_beside_the_images_are_found(folder: Path) -> None:
    for number in range(N_IMAGES):
        name = f"{number}_masks.png"
        (folder / "masks" / name).rename(folder / "images" / name)
    data = read_dataset(_table(folder, "path,object,label\nimages/0.png,1,a\nimages/1.png,2,b\n"))
    assert data.masks == tuple(str(folder / f"images/{n}_masks.png") for n in (0, 1))


def test_a_mask_alone_does_not_make_an_image_an_object(folder: Path) -> None:
    data = read_dataset(_table(folder, "path,mask,label\nimages/0.png,m.png,a\n"))
    assert not data.has_objects


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("images/0.png,,3,,", "neither a mask nor y and x"),
        ("images/0.png,masks/0_masks.png,,,", "names no object"),
    ],
)
def test_rows_that_name_no_object_are_refused(folder: Path, row: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_dataset(_table(folder, f"path,mask,object,y,x,label\n{row},a\n"))


def test_it_is_written_and_read_again(folder: Path, tmp_path: Path) -> None:
    data = read_dataset(_table(folder, _rows())).split(seed=0)
    write_dataset_csv(data, folder / "dataset.csv", folder)
    assert "images/0.png" in (folder / "dataset.csv").read_text()
    assert str(folder) not in (folder / "dataset.csv").read_text()
    again = read_dataset_csv(folder / "dataset.csv", folder)
    assert again.table.equals(data.table)
    assert again.sha256 == data.sha256
    other = data.subset(np.arange(len(data)) != 3)
    assert other.sha256 != data.sha256


def test_each_object_is_prepared_as_by_hand_and_each_image_decoded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_dataset(_table(folder, _rows()))
    reads: list[str] = []
    lock = threading.Lock()
    read = prepared_module.read_image

    def counted(path: str, **options: object) -> Image:
        with lock:
            reads.append(path)
        return read(path, **options)

    monkeypatch.setattr(prepared_module, "read_image", counted)
    found = prepare_images(items_of(data), CALL, folder=folder / "cache")
    assert sorted(reads) == sorted(set(data.paths))
    for row in range(len(data)):
        (one,) = (o for o in objects_in_mask(_mask()) if o.number == data.objects[row].number)
        expected = CALL(read(data.paths[row]), region=one)
        np.testing.assert_array_equal(found[row], expected)
    reads.clear()
    prepare_images(items_of(data), CALL, folder=folder / "cache")
    assert reads == []


def test_a_changed_mask_is_prepared_again(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows(1)))
    before = prepare_images(items_of(data), CALL, folder=folder / "cache")
    Pillow.fromarray(np.roll(_mask(), 2, axis=1)).save(folder / "masks/0_masks.png")
    after = prepare_images(items_of(data), CALL, folder=folder / "cache")
    assert set(before.keys).isdisjoint(after.keys)


def test_objects_that_are_not_there_are_named(folder: Path) -> None:
    text = _rows() + "images/0.png,masks/0_masks.png,77,a\nimages/1.png,masks/0_masks.png,x,a\n"
    data = read_dataset(_table(folder, text.replace(",x,a", ",3,b")))
    found = prepare_images(items_of(data), CALL, folder=folder / "cache")
    assert list(found.bad) == [24]
    assert "has no object 77" in found.bad[24]
    report = inspect_dataset(data)
    assert report.unreadable[0][0].endswith("0.png[object=77]")
    text = dataset_text(report)
    assert "class  objects" in text
    assert "training would" in text


def test_an_object_with_two_labels_is_reported(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows() + "images/0.png,masks/0_masks.png,1,a\n"))
    assert len(data) == 25
    report = inspect_dataset(data)
    (one,) = report.duplicates
    assert one.contradictory
    assert one.paths[0].endswith("0.png[object=1]")


def test_objects_of_one_image_are_no_copies(folder: Path) -> None:
    assert inspect_dataset(read_dataset(_table(folder, _rows()))).duplicates == ()


def test_a_picture_of_an_object_is_its_crop(folder: Path) -> None:
    data = read_dataset(_table(folder, _rows()))
    picture = RowReader(data, ObjectCrop(side=7, masked=True))(data.ids[0])
    assert picture.height_width == (7, 7)
    top, left = 5 - 3, 7 - 3
    whole = np.asarray(Pillow.open(folder / "images/0.png"))
    np.testing.assert_array_equal(picture.data[0], whole[top : top + 7, left : left + 7])


def test_too_many_bad_objects_are_no_accident(folder: Path) -> None:
    from napari_cellclf.core.dataset_report import check_bad

    data = read_dataset(_table(folder, _rows()))
    with pytest.raises(DatasetError, match="2 of 24 objects cannot be used"):
        check_bad(data, {0: "it is gone", 1: "it is gone"})


def test_objects_without_any_mask_are_not_taken_for_whole_images(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,object,label\na.tif,1,round\na.tif,2,long\n")
    with pytest.raises(DatasetError, match="neither a mask nor y and x"):
        read_dataset(table)
