"""Files, folders and tables opened as rows."""

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from napari_cellclf.errors import CancelledError, UnreadableImageError
from napari_cellclf.io.collections import open_collection


def write_png(path, value=0, shape=(8, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.full(shape, value, "uint8")).save(path)
    return path


def test_a_flat_folder_is_a_row_an_image(tmp_path):
    files = [write_png(tmp_path / f"cell{n:02}.png", n) for n in (1, 2, 10)]
    opened = open_collection([tmp_path])
    assert opened.ids == tuple(map(str, files))
    assert [int(opened.read(n).data[0, 0]) for n in range(3)] == [1, 2, 10]
    assert opened.title == tmp_path.name
    assert opened.groups is None


def test_a_stack_is_a_row_a_plane(tmp_path):
    pixels = np.arange(3 * 2 * 8 * 9, dtype="uint16").reshape(3, 2, 8, 9)
    path = tmp_path / "film.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "TCYX", "Channel": {"Name": ["DNA", "actin"]}})
    opened = open_collection([path])
    assert opened.ids == tuple(f"{path}[t={t}]" for t in range(3))
    found = opened.read(2)
    assert found.channels == ("DNA", "actin")
    np.testing.assert_array_equal(found.to_cyx(), pixels[2])
    assert list(opened.groups) == [str(path)] * 3


def test_a_site_is_one_row_of_all_its_channels(tmp_path):
    plate = tmp_path / "HUVEC-01" / "Plate1"
    for channel in range(1, 7):
        write_png(plate / f"B02_s1_w{channel}.png", channel)
    opened = open_collection([tmp_path])
    assert len(opened) == 1
    assert opened.rows[0].fields["well"] == "B02"
    assert opened.read(0).to_cyx()[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_table_brings_its_columns_and_its_group(tmp_path):
    for name in ("a1", "a2", "b1", "b2"):
        write_png(tmp_path / f"{name}.png")
    table = tmp_path / "table.csv"
    lines = [f"{name}.png,{name[0]}" for name in ("a1", "a2", "b1", "b2")]
    table.write_text("\n".join(["path,group", *lines]))
    opened = open_collection([table])
    assert opened.group_column == "group"
    assert list(opened.groups) == ["a", "a", "b", "b"]


def test_what_the_names_say_is_known_and_keeps_rows_together(tmp_path):
    for embryo in (1, 2):
        for time in (1, 2):
            write_png(tmp_path / f"t{time}-embryo0{embryo}.png")
    opened = open_collection([tmp_path])
    assert opened.values("embryo") == ("01", "02", "01", "02")
    assert opened.group_column == "embryo"


def test_an_image_that_cannot_be_read_is_a_row_that_says_why(tmp_path):
    write_png(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    opened = open_collection([tmp_path])
    assert len(opened) == 2
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        opened.read(0)


def test_opening_tells_how_far_it_is_and_can_be_stopped(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"{number}.png")
    told = []
    open_collection([tmp_path], on_progress=told.append)
    assert [(one.done, one.total) for one in told] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(CancelledError):
        open_collection([tmp_path], should_stop=lambda: True)


def test_rows_are_named_as_the_classifier_names_them(tmp_path):
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.inference.prepare import UnreadImage, prepared_rows
    from napari_cellclf.io.sources import collect_sources

    write_png(tmp_path / "one.png", shape=(70, 70))
    tifffile.imwrite(
        tmp_path / "film.tif", np.zeros((2, 1, 70, 70), "uint8"), metadata={"axes": "TZYX"}
    )
    spec = ModelBundle.load(find_model("rxrx1-celltype")).spec
    named = [
        row.id
        for source in collect_sources([tmp_path])
        for row in prepared_rows(UnreadImage(source.id, source.read), spec, None)
    ]
    assert list(open_collection([tmp_path]).ids) == named


def write_field(folder, name="field"):
    """Write an image of two objects, and its mask beside it."""
    pixels = np.arange(40 * 50, dtype="uint16").reshape(40, 50)
    mask = np.zeros((40, 50), "uint16")
    mask[4:8, 5:9] = 3
    mask[20:30, 30:50] = 7
    tifffile.imwrite(folder / f"{name}.tif", pixels)
    tifffile.imwrite(folder / f"{name}_masks.tif", mask)
    return pixels, mask


def test_every_object_is_a_row_of_its_image(tmp_path):
    pixels, _ = write_field(tmp_path)
    opened = open_collection([tmp_path], objects=True)
    path = tmp_path / "field.tif"
    assert opened.ids == (f"{path}[object=3]", f"{path}[object=7]")
    assert opened.has_objects
    first, second = (row.object for row in opened.rows)
    assert first.centre == (5.5, 6.5)
    assert not first.touches_border
    assert second.touches_border
    assert opened.rows[0].mask == str(tmp_path / "field_masks.tif")
    assert list(opened.groups) == [str(path)] * 2
    np.testing.assert_array_equal(opened.read(1).data, pixels)


def test_a_mask_that_does_not_fit_is_left_out_and_named(tmp_path):
    write_field(tmp_path, "good")
    write_field(tmp_path, "small")
    tifffile.imwrite(tmp_path / "small_masks.tif", np.ones((4, 4), "uint8"))
    notes = []
    opened = open_collection([tmp_path], objects=True, on_note=notes.append)
    assert {row.source for row in opened.rows} == {str(tmp_path / "good.tif")}
    assert any("small" in note and "shape" in note for note in notes)


def test_a_table_of_centres_opens_as_objects(tmp_path):
    write_field(tmp_path)
    table = tmp_path / "objects.csv"
    table.write_text("path,y,x,kind\nfield.tif,10,11,a\nfield.tif,30,20,b\n")
    opened = open_collection([table])
    assert [row.object.centre for row in opened.rows] == [(10, 11), (30, 20)]
    assert opened.values("kind") == ("a", "b")
