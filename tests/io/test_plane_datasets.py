"""Labelled planes of stacks: read from tables, split by stack, prepared one by one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject, ObjectCrop
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import AxesError
from napari_cellclf.io import prepared as prepared_module
from napari_cellclf.io.collections import open_collection
from napari_cellclf.io.dataset_inspection import inspect_dataset
from napari_cellclf.io.dataset_tables import read_dataset_csv, write_dataset_csv
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.plane_columns import PlaneColumns
from napari_cellclf.io.prepared import items_of, prepare_images
from napari_cellclf.io.read import read_image
from napari_cellclf.io.rows import RowReader
from napari_cellclf.io.sources import collect_sources
from napari_cellclf.io.written_images import WriteOptions, write_images

WHOLE = Preprocessing(channels=({"name": "image"},), normalization={"kind": "percentile"})
CELLS = WHOLE.model_copy(update={"object_crop": ObjectCrop(side=7)})
N_STACKS, N_TIMES = 4, 5


def _save(path: Path, pixels: np.ndarray, axes: str = "TYX") -> Path:
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": axes}, photometric="minisblack")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(N_STACKS):
        random = np.random.default_rng(number)
        _save(tmp_path / f"{number}.ome.tif", random.integers(0, 255, (5, 40, 40), np.uint8))
        masks = np.zeros((N_TIMES, 40, 40), np.uint16)
        for time in range(N_TIMES):
            masks[time, 3 + time : 9 + time, 5:11] = 1
            masks[time, 20:26, 10 + time : 16 + time] = 2
        _save(tmp_path / f"{number}_masks.ome.tif", masks)
    return tmp_path


def _table(folder: Path, text: str) -> Path:
    path = folder / "planes.csv"
    path.write_text(text)
    return path


def _planes(extra: str = "") -> str:
    rows = [
        f"{number}.ome.tif,{time},{'ab'[(number + time) % 2]}"
        for number in range(N_STACKS)
        for time in range(N_TIMES)
    ]
    return "path,t,label\n" + "\n".join(rows) + f"\n{extra}"


def _objects() -> str:
    rows = [
        f"{stack}.ome.tif,t={time},{stack}_masks.ome.tif,{one},{'ab'[one - 1]}"
        for stack in range(N_STACKS)
        for time in range(N_TIMES)
        for one in (1, 2)
    ]
    return "path,plane,mask,object,label\n" + "\n".join(rows) + "\n"


def test_a_table_of_planes_is_read(folder: Path) -> None:
    data = read_dataset(_table(folder, _planes()))
    assert data.ids[3] == f"{folder / '0.ome.tif'}[t=3]"
    assert data.planes[3] == (("T", 3),)
    assert data.group_column == "path"
    assert data.group_reason == "planes of one stack stay together"
    assert data.source.startswith("20 planes in 4 images of the table")
    sides = data.split(seed=1).table.groupby("path")["split"].nunique()
    assert (sides == 1).all()
    assert all(fold.test.table["path"].nunique() == 1 for fold in data.k_fold(4))
    assert len(data.leave_one_group_out()) == N_STACKS


def test_the_word_of_label_files_is_taken_too(folder: Path) -> None:
    data = read_dataset(_table(folder, "path,plane,label\n0.ome.tif,t=3,a\n0.ome.tif,,b\n"))
    assert data.planes == ((("T", 3),), ())


@pytest.mark.parametrize("head", ["path,t,label", "path,plane,label"])
def test_columns_of_other_things_are_no_planes(folder: Path, head: str) -> None:
    data = read_dataset(_table(folder, f"{head}\n0.ome.tif,24 h,a\n1.ome.tif,3,b\n"))
    assert not data.has_planes
    assert data.ids[0] == str(folder / "0.ome.tif")


def test_a_time_of_flat_images_is_a_field(folder: Path) -> None:
    tifffile.imwrite(folder / "flat.tif", np.arange(1600, dtype=np.uint16).reshape(40, 40))
    tifffile.imwrite(folder / "other.tif", np.arange(1600, dtype=np.uint16).reshape(40, 40))
    data = read_dataset(_table(folder, "path,t,label\nflat.tif,30,a\nother.tif,60,b\n"))
    assert not data.has_planes
    assert data.table["t"].tolist() == ["30", "60"]
    assert not prepare_images(items_of(data), WHOLE, folder=folder / "cache").bad


def test_spreadsheets_write_whole_numbers_with_a_point() -> None:
    rows = [{"path": "a", "Z": "1.0", "t": "3"}, {"path": "a", "Z": "", "t": "4"}]
    columns = PlaneColumns.of_rows(["Z", "t"], rows)
    assert columns is not None
    assert columns.plane_in(rows[0], "it") == (("T", 3), ("Z", 1))
    assert columns.plane_in(rows[1], "it") == (("T", 4),)


def test_the_column_to_learn_is_no_axis(folder: Path) -> None:
    data = read_dataset(_table(folder, "path,t\n0.ome.tif,0\n1.ome.tif,1\n"), label="t")
    assert not data.has_planes


def test_it_is_written_and_read_again(folder: Path) -> None:
    data = read_dataset(_table(folder, _objects())).split(seed=0)
    write_dataset_csv(data, folder / "dataset.csv", folder)
    again = read_dataset_csv(folder / "dataset.csv", folder)
    assert again.ids == data.ids
    assert again.sha256 == data.sha256
    assert read_dataset(folder / "dataset.csv").ids == data.ids


def test_a_field_of_names_is_no_axis_when_it_is_written(folder: Path) -> None:
    data = read_dataset(_table(folder, "path,label\n0.ome.tif,a\n1.ome.tif,b\n"))
    named = data.table.assign(t=["1", "2"])
    write_dataset_csv(type(data)(named, data.classes), folder / "dataset.csv", folder)
    assert not read_dataset(folder / "dataset.csv").has_planes


def test_a_plane_is_prepared_as_if_it_was_saved_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_dataset(_table(folder, _planes()))
    reads: list[str] = []
    lock = threading.Lock()

    def counted(path: str, **options: object) -> Image:
        with lock:
            reads.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(prepared_module, "read_image", counted)
    found = prepare_images(items_of(data), WHOLE, folder=folder / "cache")
    assert sorted(reads) == sorted(set(data.paths))
    assert len(set(found.keys)) == len(data)
    for row, (path, plane) in enumerate(zip(data.paths, data.planes, strict=True)):
        alone = Image(tifffile.imread(path)[dict(plane)["T"]], "YX")
        np.testing.assert_array_equal(found[row], WHOLE(alone))
        assert found.notes[row] == " ".join(pixel_hashes(alone))
    reads.clear()
    prepare_images(items_of(data.subset([3, 7])), WHOLE, folder=folder / "cache")
    assert reads == []


def test_objects_in_planes_are_cut_from_their_plane(folder: Path) -> None:
    data = read_dataset(_table(folder, _objects()))
    assert data.ids[-1] == f"{folder / '3.ome.tif'}[t=4,object=2]"
    assert data.objects[-1] == NamedObject(2, plane=(("T", 4),))
    found = prepare_images(items_of(data), CELLS, folder=folder / "cache")
    for row, one in enumerate(data.objects):
        time = dict(data.planes[row])["T"]
        pixels = tifffile.imread(data.paths[row])[time]
        marks = tifffile.imread(data.masks[row])[time]
        alone = Image(pixels, "YX", objects=marks)
        (region,) = (o for o in alone.find_objects() if o.number == one.number)
        np.testing.assert_array_equal(found[row], CELLS(alone, region=region))
    picture = RowReader(data, ObjectCrop(side=7))(data.ids[-1])
    y, x = 23, 17
    whole = tifffile.imread(data.paths[-1])[4]
    np.testing.assert_array_equal(picture.data[0], whole[y - 3 : y + 4, x - 3 : x + 4])


def test_a_mask_may_be_of_the_plane_alone(folder: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:15, 20:25] = 9
    tifffile.imwrite(folder / "m.tif", mask)
    data = read_dataset(_table(folder, "path,plane,mask,object,label\n0.ome.tif,t=2,m.tif,9,a\n"))
    (found,) = prepare_images(items_of(data), CELLS, folder=folder / "cache")
    plane = Image(tifffile.imread(data.paths[0])[2], "YX", objects=mask)
    np.testing.assert_array_equal(found, CELLS(plane, region=plane.find_objects()[0]))


def test_planes_that_are_not_there_are_bad_rows(folder: Path) -> None:
    tifffile.imwrite(folder / "flat.tif", np.arange(1600, dtype=np.uint16).reshape(40, 40))
    data = read_dataset(
        _table(folder, _planes("0.ome.tif,9,a\nflat.tif,1,b\nflat.tif,0,a\n1.ome.tif,,a\n"))
    )
    found = prepare_images(items_of(data), WHOLE, folder=folder / "cache")
    assert sorted(found.bad) == [20, 21, 23]  # plane 0 of a flat image is all of it
    assert "has no plane t=9: along t its planes are numbered from 0 to 4" in found.bad[20]
    assert "has no axis t (its axes: YX), so there is no plane t=1" in found.bad[21]
    report = inspect_dataset(data)
    assert dict(report.unreadable).keys() == {data.ids[20], data.ids[21], data.ids[23]}
    assert report.bad_by_class == {"a": 2, "b": 1}
    assert report.files.multi_plane == {str(folder / "1.ome.tif"): "T=5 Y=40 X=40"}


def test_objects_of_planes_that_are_not_there_are_bad_rows(folder: Path) -> None:
    text = _objects() + "0.ome.tif,t=9,0_masks.ome.tif,1,a\n0.ome.tif,t=1,0_masks.ome.tif,7,a\n"
    data = read_dataset(_table(folder, text))
    found = prepare_images(items_of(data), CELLS, folder=folder / "cache")
    assert sorted(found.bad) == [40, 41]
    report = inspect_dataset(data)
    assert {name.rpartition("[")[2] for name, _ in report.unreadable} == {"t=9]", "t=1,object=7]"}
    assert report.bad_by_class == {"a": 2}


def test_equal_planes_and_planes_of_two_labels_are_reported(folder: Path) -> None:
    pixels = tifffile.imread(folder / "0.ome.tif")
    pixels[4] = pixels[1]
    _save(folder / "0.ome.tif", pixels)
    report = inspect_dataset(read_dataset(_table(folder, _planes("2.ome.tif,2,b\n"))))
    named = {one.paths for one in report.duplicates}
    path = folder / "0.ome.tif"
    assert (f"{path}[t=1]", f"{path}[t=4]") in named
    assert (f"{folder / '2.ome.tif'}[t=2]",) * 2 in named


def test_a_table_of_planes_opens_as_those_rows(folder: Path) -> None:
    data = read_dataset(_table(folder, "path,t,label\n0.ome.tif,3,a\n0.ome.tif,1,b\n"))
    opened = open_collection([folder / "planes.csv"])
    assert opened.ids == data.ids
    assert opened.values("label") == ("a", "b")
    np.testing.assert_array_equal(opened.read(0).data, tifffile.imread(folder / "0.ome.tif")[3])


def test_planes_of_one_stack_are_one_source(folder: Path) -> None:
    first, second = collect_sources(
        [_table(folder, "path,t\n0.ome.tif,3\n1.ome.tif,0\n0.ome.tif,1\n")]
    )
    assert list(first.planes) == [(("T", 3),), (("T", 1),)]
    assert list(second.planes) == [(("T", 0),)]


def test_planes_are_written_as_images(folder: Path) -> None:
    data = read_dataset(_table(folder, _planes())).split(seed=0)
    written = write_images(data, folder / "out", WriteOptions())
    assert not written.bad
    assert not written.dataset.has_planes
    assert len(set(written.dataset.paths)) == len(data)
    again = read_dataset(folder / "out" / "dataset.csv")
    assert not again.has_planes
    row = again.table["original"].tolist().index(data.ids[8])
    np.testing.assert_array_equal(
        read_image(again.paths[row]).data, tifffile.imread(data.paths[8])[3]
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_plane_has_the_pixels_of_one_saved_by_itself(tmp_path: Path, data: st.DataObject) -> None:
    sizes = data.draw(st.tuples(*[st.integers(1, 3)] * 2))
    pixels = np.random.default_rng(0).integers(0, 65535, (*sizes, 2, 9, 11), np.uint16)
    path = _save(tmp_path / "stack.ome.tif", pixels, "TZCYX")
    time, depth = (data.draw(st.integers(0, size - 1)) for size in sizes)
    alone = _save(tmp_path / "alone.ome.tif", pixels[time, depth], "CYX")
    stack = read_image(path)
    # The readers leave out axes of length 1.
    place = {one: at for one, at in (("Z", depth), ("T", time)) if one in stack.axes}
    plane = stack.plane(place)
    np.testing.assert_array_equal(plane.to_cyx(), read_image(alone).to_cyx())
    assert pixel_hashes(plane) == pixel_hashes(read_image(alone))
    for axis in place:
        with pytest.raises(AxesError, match="has no plane"):
            stack.plane(place | {axis: stack.shape[stack.axes.index(axis)]})
        with pytest.raises(AxesError, match="say which of them"):
            stack.plane({one: at for one, at in place.items() if one != axis})
