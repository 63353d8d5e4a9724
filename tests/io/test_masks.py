"""Masks are found for their images, read safely, and never taken for images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject
from napari_cellclf.errors import ImageError, InputError, NoImagesError
from napari_cellclf.io.class_folders import read_class_folders
from napari_cellclf.io.masks import (
    ObjectChoice,
    ObjectColumns,
    find_objects,
    mask_beside,
    read_mask,
)
from napari_cellclf.io.sources import ImageSource, collect_sources

MASK = np.zeros((12, 16), np.uint16)
MASK[1:4, 2:6], MASK[6:9, 8:12] = 3, 300


def _image(path: Path, level: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((12, 16), level, np.uint8)).save(path)
    return path


def _save(path: Path, mask: np.ndarray = MASK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, mask)
    elif path.suffix == ".png":
        Pillow.fromarray(mask).save(path)
    else:
        tifffile.imwrite(path, mask, photometric="minisblack")
    return path


def _numbers(source: ImageSource) -> list[int]:
    return [one.number for one in source.read().find_objects()]


@pytest.mark.parametrize("ending", ["_masks", "_cp_masks", "_labels"])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_a_mask_beside_its_image_is_found(tmp_path: Path, ending: str, suffix: str) -> None:
    image = _image(tmp_path / "field.png")
    mask = _save(tmp_path / f"field{ending}{suffix}")
    assert mask_beside(image) == mask
    notes: list[str] = []
    sources = collect_sources([tmp_path], on_note=notes.append)
    assert [source.id for source in sources] == [str(image)]
    (source,) = find_objects(sources, inputs=[tmp_path])
    assert _numbers(source) == [3, 300]
    assert source.metadata == {"path": str(image), "mask": str(mask)}


def test_masks_are_not_taken_for_images_and_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _image(tmp_path / f"{name}.png")
        _save(tmp_path / f"{name}_masks.png")
    alone = _image(tmp_path / "c_labels.png")
    notes: list[str] = []
    sources = collect_sources([tmp_path], on_note=notes.append)
    assert [Path(source.id).name for source in sources] == ["a.png", "b.png", alone.name]
    (note,) = notes
    assert "2 label masks beside their images are not taken for images, such as" in note


def test_masks_in_folders_of_classes_are_not_taken_for_images(tmp_path: Path) -> None:
    for name in ("round", "long"):
        _image(tmp_path / name / "1.png")
        _save(tmp_path / name / "1_cp_masks.png")
    data = read_class_folders(tmp_path)
    assert len(data) == 2
    assert "2 label masks beside their images are not taken for images" in data.source


def test_a_mask_given_among_the_images_is_none_of_them(tmp_path: Path) -> None:
    image, mask = _image(tmp_path / "a.png"), _save(tmp_path / "a_masks.png")
    sources = find_objects(collect_sources([image, mask]))
    assert [source.id for source in sources] == [str(image)]


@pytest.mark.parametrize("ending", ["", "_masks", "_labels"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_folder_of_masks_is_searched_by_name(tmp_path: Path, ending: str, flat: bool) -> None:
    image = _image(tmp_path / "images/plate1/field.png")
    below = "" if flat else "plate1/"
    mask = _save(tmp_path / f"masks/{below}field{ending}.tif")
    sources = collect_sources([tmp_path / "images"])
    (source,) = find_objects(sources, tmp_path / "masks", inputs=[tmp_path / "images"])
    assert source.metadata["mask"] == str(mask)
    assert source.id == str(image)


def test_the_same_subfolder_wins(tmp_path: Path) -> None:
    masks = {}
    for plate in ("plate1", "plate2"):
        _image(tmp_path / f"images/{plate}/field.png")
        masks[plate] = _save(tmp_path / f"masks/{plate}/field.png")
    sources = collect_sources([tmp_path / "images"])
    found = find_objects(sources, tmp_path / "masks", inputs=[tmp_path / "images"])
    for source in found:
        assert source.metadata["mask"] == str(masks[Path(source.id).parent.name])


def test_the_mask_of_another_plate_is_not_taken(tmp_path: Path) -> None:
    for plate in ("plate1", "plate2"):
        _image(tmp_path / f"images/{plate}/field.png")
    _save(tmp_path / "masks/plate2/field.png")
    notes: list[str] = []
    sources = collect_sources([tmp_path / "images"])
    (source,) = find_objects(
        sources, tmp_path / "masks", inputs=[tmp_path / "images"], on_note=notes.append
    )
    assert Path(source.id).parent.name == "plate2"
    (note,) = notes
    assert note.startswith("1 image has no mask and is left out: ")
    assert note.endswith("plate1/field.png")


def test_one_mask_for_two_images_is_refused(tmp_path: Path) -> None:
    for plate in ("plate1", "plate2"):
        _image(tmp_path / f"images/{plate}/field.png")
    _save(tmp_path / "masks/field.png")
    sources = collect_sources([tmp_path / "images"])
    with pytest.raises(InputError, match="give each image a mask of its own"):
        find_objects(sources, tmp_path / "masks", inputs=[tmp_path / "images"])


def test_masks_below_the_images_are_not_images(tmp_path: Path) -> None:
    _image(tmp_path / "field.png")
    _save(tmp_path / "masks/field.png")
    notes: list[str] = []
    sources = collect_sources([tmp_path])
    assert len(sources) == 2
    (source,) = find_objects(sources, tmp_path / "masks", inputs=[tmp_path], on_note=notes.append)
    assert _numbers(source) == [3, 300]
    assert notes == []


def test_one_mask_is_for_one_image(tmp_path: Path) -> None:
    image, mask = _image(tmp_path / "a.png"), _save(tmp_path / "other.tif")
    (source,) = find_objects(collect_sources([image]), mask)
    assert _numbers(source) == [3, 300]
    two = collect_sources([image, _image(tmp_path / "b.png")])
    with pytest.raises(InputError, match="is one mask, but there are 2 images"):
        find_objects(two, mask)
    with pytest.raises(NoImagesError, match="do not exist"):
        find_objects(two, tmp_path / "nowhere")


def test_without_any_mask_it_is_one_sentence(tmp_path: Path) -> None:
    images = [_image(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    with pytest.raises(NoImagesError, match=r"there is no mask beside a\.png and 2 more, so"):
        find_objects(collect_sources(images))


def test_a_mask_is_read_as_stored(tmp_path: Path) -> None:
    for name in ("m.tif", "m.png", "m.npy"):
        np.testing.assert_array_equal(read_mask(_save(tmp_path / name)), MASK)
    real = _save(tmp_path / "real.tif", MASK.astype(np.float32))
    assert read_mask(real).dtype == np.float32


def test_what_is_no_mask_is_one_sentence(tmp_path: Path) -> None:
    colours = tmp_path / "rgb.png"
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(colours)
    with pytest.raises(ImageError, match=r"rgb\.png is an image of 3 channels or colours"):
        read_mask(colours)
    pickled = tmp_path / "a_seg.npy"
    np.save(pickled, np.array({"masks": MASK}, object), allow_pickle=True)
    with pytest.raises(ImageError, match="is not a plain numpy array, which alone is safe"):
        read_mask(pickled)
    with pytest.raises(ImageError, match="more than 100"):
        read_mask(_save(tmp_path / "m.npy"), limit_bytes=100)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ImageError, match="is not a plain numpy array"):
        read_mask(tmp_path / "cut.npy")
    with pytest.raises(ImageError, match="does not exist"):
        read_mask(tmp_path / "none.npy")


def test_a_mask_of_another_size_is_one_sentence(tmp_path: Path) -> None:
    image = Image(np.zeros((12, 15)), "YX", source="a.tif")
    choice = ObjectChoice(str(_save(tmp_path / "m.tif")))
    with pytest.raises(ImageError, match=r"is of shape \(12, 16\), but a\.tif of \(12, 15\)"):
        choice.add_to(image)


def test_a_stack_has_a_mask_of_its_planes(tmp_path: Path) -> None:
    masks = np.stack([MASK, MASK * 0, MASK])
    image = Image(np.zeros((3, 2, 12, 16)), "TCYX", source="a.tif")
    choice = ObjectChoice(str(_save(tmp_path / "m.tif", masks)))
    planes = [plane for _, plane in choice.add_to(image).planes()]
    assert [len(plane.find_objects()) for plane in planes] == [2, 0, 2]
    named = ObjectChoice(choice.mask, (NamedObject(3),))
    with pytest.raises(ImageError, match="has 3 planes along t; say which of them"):
        named.add_to(image)


def test_a_table_names_objects(tmp_path: Path) -> None:
    image, mask = _image(tmp_path / "a.png"), _save(tmp_path / "m/a.tif")
    table = tmp_path / "t.csv"
    table.write_text(
        "path,mask,object,y,x,well,area_um\n"
        "a.png,m/a.tif,300,,,B02,4\n"
        "a.png,m/a.tif,7,2,5,B02,5\n"
        "a.png,m/a.tif,8,,,B02,6\n"
    )
    (source,) = find_objects(collect_sources([table]))
    assert source.id == str(image)
    assert source.metadata == {
        "well": "B02",
        "mask": str(mask),
        "path": str(image),
    }
    inside, point, missing = source.read().find_objects()
    assert (inside.number, inside.area, inside.fields["area_um"]) == (300, 12, "4")
    assert (point.number, point.centre, point.area) == (7, (2.0, 5.0), None)
    assert missing.number == 8
    assert np.isnan(missing.centre[0])


def test_a_table_of_centres_needs_no_mask(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,y,x\na.png,3,4.5\na.png,1,2\n")
    (source,) = find_objects(collect_sources([tmp_path / "t.csv"]))
    assert [(one.number, one.centre) for one in source.read().find_objects()] == [
        (1, (3.0, 4.5)),
        (2, (1.0, 2.0)),
    ]


def test_a_table_of_masks_is_about_all_their_objects(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    _save(tmp_path / "m.npy")
    (tmp_path / "t.csv").write_text("path,mask,well\na.png,m.npy,B02\n")
    (source,) = find_objects(collect_sources([tmp_path / "t.csv"]))
    assert _numbers(source) == [3, 300]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.png,m.tif,,,", "names no object"),
        ("a.png,m.tif,1.5,,", "has the object '1.5'"),
        ("a.png,m.tif,one,,", "has the object 'one'; give its number in the mask"),
        ("a.png,m.tif,nan,,", "has the object 'nan'"),
        ("a.png,m.tif,inf,,", "has the object 'inf'"),
        ("a.png,m.tif,1,2,", "only one of y and x"),
        ("a.png,m.tif,1,2,inf", "has 'inf' where"),
    ],
)
def test_rows_that_name_no_object_are_one_sentence(tmp_path: Path, row: str, says: str) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"path,mask,object,y,x\n{row}\n")
    with pytest.raises(InputError, match=says):
        collect_sources([tmp_path / "t.csv"])


def test_tables_of_whole_images_are_as_before() -> None:
    assert ObjectColumns.of(["path", "object", "label"]) is None
    assert ObjectColumns.of(["path", "y", "label"]) is None


@pytest.mark.parametrize("name", ["mask.jpg", "mask.tif"])
def test_masks_that_jpeg_changed_are_refused(tmp_path: Path, name: str) -> None:
    levels = (MASK > 0).astype(np.uint8) * 90
    if name.endswith("jpg"):
        Pillow.fromarray(levels).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, levels, compression="jpeg")
    with pytest.raises(ImageError, match=f"{name} is compressed as JPEG.*save the mask as PNG"):
        read_mask(tmp_path / name)


def test_an_image_given_alone_takes_the_mask_in_the_folder_of_the_same_name(
    tmp_path: Path,
) -> None:
    images = [_image(tmp_path / f"images/{below}a.png") for below in ("", "sub/")]
    masks = [_save(tmp_path / f"masks/{below}a.png") for below in ("", "sub/")]
    table = tmp_path / "table.csv"
    table.write_text("path\nimages/sub/a.png\n")
    for given in (images[1], table):
        (source,) = find_objects(collect_sources([given]), tmp_path / "masks", inputs=[given])
        assert source.metadata["mask"] == str(masks[1])
    both = find_objects(collect_sources(images), tmp_path / "masks", inputs=images)
    assert [source.metadata["mask"] for source in both] == list(map(str, masks))


def test_names_are_compared_however_accents_are_written(tmp_path: Path) -> None:
    image = _image(tmp_path / "images" / "\u00e9.png")
    mask = _save(tmp_path / "masks" / "e\u0301_masks.png")
    (source,) = find_objects(collect_sources([image]), tmp_path / "masks", inputs=[image])
    assert source.metadata["mask"] == str(mask)


def test_masks_given_as_images_are_told_so(tmp_path: Path) -> None:
    mask = _save(tmp_path / "a.png")
    with pytest.raises(NoImagesError, match="all images that were given are masks themselves"):
        find_objects(collect_sources([mask]), mask, inputs=[mask])


def test_objects_named_without_a_mask_are_those_of_the_mask_beside(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    _save(tmp_path / "a_masks.png")
    table = tmp_path / "table.csv"
    table.write_text("path,Object\na.png,300\n")
    (source,) = find_objects(collect_sources([table]), inputs=[table])
    assert _numbers(source) == [300]


def test_an_object_that_a_table_names_twice_is_one_row(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    _save(tmp_path / "a_masks.png")
    table = tmp_path / "table.csv"
    table.write_text("path,mask,object\n" + "a.png,a_masks.png,3\n" * 3)
    notes: list[str] = []
    (source,) = collect_sources([table], on_note=notes.append)
    assert notes == [f"{table}: 2 rows name an object again and are left out"]
    (source,) = find_objects([source], inputs=[table])
    assert _numbers(source) == [3]
    table.write_text("path,object,y,x\na.png,3,1,1\na.png,3,5,5\n")
    with pytest.raises(InputError, match="the object 3 at two places"):
        collect_sources([table])
