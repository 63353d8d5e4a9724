from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.arrays import dump_array, parse_array
from napari_cellclf.bundles.bundle import ModelBundle, members_of, read_spec
from napari_cellclf.bundles.paths import previous_path
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.errors import (
    BundleError,
    IntegrityError,
    ModelError,
    ModelNotFoundError,
    UnsafeModelError,
)


def test_folder_and_zip_are_the_same_bundle(tmp_path: Path) -> None:
    folder = samples.bundle(tmp_path, "folder")
    packed = samples.bundle(tmp_path, "packed", as_zip=True)
    assert folder.path.is_dir()
    assert zipfile.is_zipfile(packed.path)
    assert folder.spec == packed.spec
    assert np.array_equal(folder.test_input, packed.test_input)
    assert np.array_equal(folder.test_output, packed.test_output)
    assert folder.layers() == packed.layers()
    one, other = folder.weights(), packed.weights()
    assert one.keys() == other.keys() == {"dense/kernel", "dense/bias"}
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_zip_is_stored(tmp_path: Path) -> None:
    packed = samples.bundle(tmp_path, as_zip=True)
    with zipfile.ZipFile(packed.path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_test_image_has_its_axes(tmp_path: Path) -> None:
    image = samples.bundle(tmp_path).test_image
    assert (image.axes, image.shape, image.dtype) == ("YX", (4, 4), np.uint8)


def test_a_huge_test_image_is_refused(tmp_path: Path) -> None:
    files = samples.files() | {"test_input.npy": dump_array(np.zeros((2, (1 << 24) + 1), np.uint8))}
    bundle = write_bundle(tmp_path / "two.cellclf", samples.spec(), files)
    with pytest.raises(BundleError, match=r"holds 33,554,434 numbers; limit 33,554,432"):
        _ = bundle.test_image


@pytest.mark.parametrize("shape", [(60_000, 60_000, 1), (None, None, 60_000)])
def test_a_network_of_another_size_is_refused_before_it_is_built(
    tmp_path: Path, shape: tuple[int | None, int | None, int]
) -> None:
    fields = {"architecture": {"name": "compact-cnn", "input_shape": shape}}
    with pytest.raises(BundleError, match="write the bundle again"):
        samples.bundle(tmp_path, fields=fields).layers()


def test_a_test_image_whose_axes_do_not_fit(tmp_path: Path) -> None:
    bundle = samples.bundle(
        tmp_path, fields={"test_image": {"axes": "CYX", "channels": ["a", "b"]}}
    )
    with pytest.raises(BundleError, match="test image of two"):
        assert bundle.test_image


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("member", ["weights.safetensors", "test_input.npy", "test_output.npy"])
def test_a_changed_byte_is_noticed(tmp_path: Path, member: str, as_zip: bool) -> None:
    path = samples.bundle(tmp_path, as_zip=as_zip).path
    if as_zip:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        contents[member] = _flip(contents[member])
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        (path / member).write_bytes(_flip((path / member).read_bytes()))
    with pytest.raises(IntegrityError, match=f"{member} of two.cellclf is not the file"):
        ModelBundle.load(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_flipped_bit_of_a_zip_goes_unnoticed_or_crashes(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "two.cellclf"
    if not path.exists():
        samples.bundle(tmp_path, as_zip=True)
    whole = bytearray(path.read_bytes())
    spoiled = bytearray(whole)
    spoiled[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = tmp_path / "broken.cellclf"
    broken.write_bytes(spoiled)
    original = ModelBundle.load(path)
    try:
        loaded = ModelBundle.load(broken)
    except ModelError:
        return
    # What the flip may have hit without harm: dates, spaces between two words of JSON.
    assert loaded.spec == original.spec
    assert np.array_equal(loaded.test_output, original.test_output)


def test_a_network_changed_after_loading_is_noticed(tmp_path: Path) -> None:
    bundle = samples.bundle(tmp_path)
    file = bundle.path / "weights.safetensors"
    file.write_bytes(_flip(file.read_bytes()))
    with pytest.raises(IntegrityError):
        bundle.weights()


@pytest.mark.parametrize(
    "member", ["weights.safetensors", "test_input.npy", "bundle.json", "README.md"]
)
def test_a_missing_file_is_named(tmp_path: Path, member: str) -> None:
    path = samples.bundle(tmp_path).path
    (path / member).unlink()
    with pytest.raises(BundleError, match=f"lacks {member}"):
        ModelBundle.load(path)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no links")
def test_a_link_inside_a_folder_is_refused(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path).path
    (path / "test_input.npy").rename(tmp_path / "elsewhere.npy")
    (path / "test_input.npy").symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(UnsafeModelError, match="not a plain file"):
        ModelBundle.load(path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "got.cellclf"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"not a complete model file \(truncated download\?\)"):
        ModelBundle.load(path)


@pytest.mark.parametrize("name", ["../up.txt", "/abs", "model.pb", "sub/bundle.json"])
def test_a_zip_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    path = samples.bundle(tmp_path, as_zip=True).path
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UnsafeModelError, match="does not belong"):
        ModelBundle.load(path)


def test_other_files_in_a_folder_do_not_matter(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path).path
    (path / ".DS_Store").write_bytes(b"x")
    assert ModelBundle.load(path).spec.name == "two"


@pytest.mark.parametrize("address", ["hf://a/b", "s3://bucket/x", "https://x.org/m.cellclf"])
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(UnsafeModelError, match="is an address"):
        ModelBundle.load(address)
    with pytest.raises(UnsafeModelError, match="is an address"):
        ModelBundle.load(Path(address))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model at"):
        ModelBundle.load(tmp_path / "no.cellclf")


def test_a_bare_network_is_not_a_bundle(tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    file.write_bytes(b"x")
    with pytest.raises(BundleError, match="without its preprocessing and classes"):
        ModelBundle.load(file)


def _edit(path: Path, **changes: object) -> None:
    file = path / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "reads up to 1; upgrade it"),
        ({"format_version": "one"}, "format_version"),
        ({"surprise": 1}, "surprise is not a setting"),
        ({"classes": []}, "classes"),
        ({"files": {}}, "lacks weights.safetensors"),
        ({"temperature": None}, "temperature"),
    ],
)
def test_an_invalid_description(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = samples.bundle(tmp_path).path
    _edit(path, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        read_spec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [{"name": "b", "display_name": "bee"}, {"name": "a"}]},
        {"temperature": 500.0},
        {"licence": "MIT"},
        {"unsure_threshold": 0.1},
        {"spec_sha256": None},
        {"spec_sha256": "0" * 64},
    ],
    ids=str,
)
def test_an_edited_description_is_noticed(tmp_path: Path, changes: dict[str, object]) -> None:
    path = samples.bundle(tmp_path).path
    _edit(path, **changes)
    for read in (read_spec, ModelBundle.load):
        with pytest.raises(IntegrityError, match=r"bundle\.json of two.* was edited"):
            read(path)


def test_another_layout_of_the_same_description_is_no_edit(tmp_path: Path) -> None:
    bundle = samples.bundle(
        tmp_path, fields={"title": "Zwei \u00fcber \u03bcm", "temperature": 1e-6}
    )
    file = bundle.path / "bundle.json"
    known = json.loads(file.read_text("utf-8"))
    turned = dict(reversed(known.items()))
    file.write_text(json.dumps(turned, indent=7))
    assert ModelBundle.load(bundle.path).spec == bundle.spec


def test_files_outside_the_bundle_cannot_be_named(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path).path
    known = json.loads((path / "bundle.json").read_text())["files"]
    _edit(path, files=known | {"../../etc/passwd": "0" * 64})
    with pytest.raises(BundleError, match="names '../../etc/passwd'".replace(".", r"\.")):
        ModelBundle.load(path)


def test_the_older_bundle_is_found_where_an_exchange_was_cut_off(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path).path
    path.rename(previous_path(path))
    assert ModelBundle.load(path).spec.name == "two"


@given(st.binary(max_size=200))
def test_an_array_of_nonsense_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        parse_array(content, "x.npy")


def test_arrays_of_objects_or_of_another_size_are_refused() -> None:
    whole = dump_array(np.zeros((4, 4), np.uint16))
    assert parse_array(whole, "x.npy").shape == (4, 4)
    huge = whole.replace(b"(4, 4), }    ", b"(4, 40000), }")
    assert len(huge) == len(whole)
    for content in (whole[:-1], whole + b"x", huge):
        with pytest.raises(BundleError, match=r"x\.npy declares"):
            parse_array(content, "x.npy")
    with pytest.raises(ValueError, match="allow_pickle"):
        dump_array(np.array([{}], dtype=object))


def _flip(content: bytes) -> bytes:
    spoiled = bytearray(content)
    spoiled[len(spoiled) // 2] ^= 1
    return bytes(spoiled)


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        ("bundle.json", 4 << 20),
        ("weights.safetensors", (2 << 30) - (4 << 20)),
        ("model.onnx", 256 << 20),
        ("test_input.npy", 64 << 20),
        ("test_output.npy", 1 << 20),
        ("README.md", 1 << 20),
    ],
)
def test_files_are_limited_in_size(member: str, limit: int, tmp_path: Path) -> None:
    with (tmp_path / member).open("wb") as file:
        file.truncate(limit)
    with members_of(tmp_path).open(member) as span:
        assert span.size == limit
    with (tmp_path / member).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UnsafeModelError, match=f"limit {limit}"), members_of(tmp_path).open(member):
        pass
