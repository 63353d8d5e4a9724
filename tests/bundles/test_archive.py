"""Zips that say one thing to one reader and another to the next, or wait for nobody."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import samples
from hostile import write
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.archive import MAX_MEMBERS, open_archive
from napari_cellclf.bundles.bundle import ModelBundle, read_spec
from napari_cellclf.bundles.catalogue import list_models
from napari_cellclf.bundles.keras_file import read_keras_file
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError

LIMITS = {"a.txt": 100, "b.txt": 100}


def _zip(*members: tuple[str, bytes], comment: bytes = b"") -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
        archive.comment = comment
    return bytearray(stream.getvalue())


def _plain() -> bytearray:
    return _zip(("a.txt", b"first"), ("b.txt", b"second"))


def _open(content: bytes) -> dict[str, bytes]:
    archive = open_archive(io.BytesIO(content), "m.zip", LIMITS)
    return {name: archive.read(name) for name in archive.members}


def test_members_are_read_in_place() -> None:
    assert _open(bytes(_plain())) == {"a.txt": b"first", "b.txt": b"second"}


def test_sizes_in_the_long_form_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w") as archive,
        archive.open("a.txt", "w", force_zip64=True) as to,
    ):
        to.write(b"first")
    assert _open(stream.getvalue()) == {"a.txt": b"first"}


def _central(content: bytearray) -> int:
    return content.index(b"PK\x01\x02")


def _other_name_before_the_data(content: bytearray) -> None:
    content[30:35] = b"b.txt"


def _other_size_before_the_data(content: bytearray) -> None:
    struct.pack_into("<II", content, 18, 4, 4)


def _other_crc_before_the_data(content: bytearray) -> None:
    struct.pack_into("<I", content, 14, 1)


def _compressed_before_the_data(content: bytearray) -> None:
    struct.pack_into("<H", content, 8, 8)


def _sizes_after_the_data(content: bytearray) -> None:
    content[6] |= 8
    content[_central(content) + 8] |= 8


def _overlapping(content: bytearray) -> None:
    """Let the second member's entry point at the first one's data."""
    second = content.index(b"PK\x01\x02", _central(content) + 1)
    struct.pack_into("<I", content, second + 42, 0)


def _bytes_in_front(content: bytearray) -> None:
    content[:0] = b"#!/bin/sh\n"


def _bytes_between(content: bytearray) -> None:
    place = _central(content)
    content[place:place] = b"hidden"
    end = content.index(b"PK\x05\x06")
    struct.pack_into("<I", content, end + 16, place + 6)


def _bytes_behind(content: bytearray) -> None:
    content += b"more"


def _long_form_of_the_end(content: bytearray) -> None:
    end = content.index(b"PK\x05\x06")
    content[end:end] = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)


def _millions_of_entries(content: bytearray) -> None:
    end = content.index(b"PK\x05\x06")
    struct.pack_into("<HH", content, end + 8, 0xFFFE, 0xFFFE)


def _directory_of_a_gigabyte(content: bytearray) -> None:
    struct.pack_into("<I", content, content.index(b"PK\x05\x06") + 12, 1 << 30)


def _name_with_an_end_inside(content: bytearray) -> None:
    """Readers in C stop at the NUL, others do not."""
    spoiled = _zip(("a.txt", b"first"), ("b.txtX.py", b"second"))
    content[:] = spoiled.replace(b"b.txtX.py", b"b.txt\0.py")


def _unknown_compression(content: bytearray) -> None:
    struct.pack_into("<H", content, _central(content) + 10, 99)


@pytest.mark.parametrize(
    "bend",
    [
        _other_name_before_the_data,
        _other_size_before_the_data,
        _other_crc_before_the_data,
        _compressed_before_the_data,
        _sizes_after_the_data,
        _overlapping,
        _bytes_in_front,
        _bytes_between,
        _bytes_behind,
        _long_form_of_the_end,
        _millions_of_entries,
        _directory_of_a_gigabyte,
        _name_with_an_end_inside,
        _unknown_compression,
    ],
)
def test_zips_that_say_two_things_are_refused(bend: Callable[[bytearray], None]) -> None:
    content = _plain()
    bend(content)
    with pytest.raises(ModelError):
        _open(bytes(content))


@pytest.mark.parametrize(
    "name",
    [
        "../a.txt",
        "/a.txt",
        "C:\\a.txt",
        "sub\\a.txt",
        "a.txt/",
        "A.TXT",
        "\N{CYRILLIC SMALL LETTER A}.txt",
        "a\u200b.txt",
        "a.txt ",
        ".",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UnsafeModelError, match="does not belong"):
        _open(bytes(_zip((name, b"x"))))


@pytest.mark.parametrize("comment", [b"hello", b"PK\x05\x06" + b"\0" * 18])
def test_a_comment_is_refused(comment: bytes) -> None:
    with pytest.raises(ModelError):
        _open(bytes(_zip(("a.txt", b"first"), comment=comment)))


def test_more_members_than_any_file_of_ours_are_refused() -> None:
    many = _zip(*((f"{number}.txt", b"") for number in range(MAX_MEMBERS + 1)))
    with pytest.raises(UnsafeModelError, match="lists 33 members"):
        _open(bytes(many))


def test_a_file_of_pytorch_is_named_as_what_it_is() -> None:
    with pytest.raises(UnsafeModelError, match="holds a pickle, as PyTorch's files do"):
        _open(bytes(_zip(("archive/data.pkl", b"\x80\x02."), ("archive/data/0", b"\0"))))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(_plain()) - 1), value=st.integers(0, 255), cut=st.integers(0, 300))
def test_bent_bytes_are_told_or_change_nothing_that_is_read(
    place: int, value: int, cut: int
) -> None:
    content = _plain()
    content[place] = value
    if cut < len(content) // 4:
        del content[len(content) - cut :]
    try:
        read = _open(bytes(content))
    except ModelError:
        return
    assert read == _open(bytes(_plain()))
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == read


def test_a_wrong_crc_of_the_description_is_told(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path, as_zip=True).path
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        crc = struct.pack("<I", zlib.crc32(archive.read("bundle.json")))
    path.write_bytes(content.replace(crc, b"\1\2\3\4"))
    with pytest.raises(BundleError, match=r"bundle\.json in two\.cellclf is damaged"):
        read_spec(path)


def _fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


def _device(path: Path) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("this system has no such device")
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no such sockets")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(path))
    server.close()


def _loop(path: Path) -> None:
    path.symlink_to(path)


SPECIAL = pytest.mark.parametrize("make", [_fifo, _device, _socket])


@SPECIAL
def test_nothing_waits_for_what_is_no_file(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, look in (("m.keras", read_keras_file), ("m.cellclf", ModelBundle.load)):
        make(tmp_path / name)
        with pytest.raises(UnsafeModelError, match="not a plain file"):
            look(tmp_path / name)


@SPECIAL
@pytest.mark.parametrize("member", ["bundle.json", "weights.safetensors", "test_input.npy"])
def test_nor_inside_a_bundle(
    make: Callable[[Path], None], member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = samples.bundle(tmp_path).path
    (path / member).unlink()
    make(path / member)
    with pytest.raises(UnsafeModelError, match="not a plain file"):
        ModelBundle.load(path)


def test_a_list_of_models_passes_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path))
    _fifo(tmp_path / "pipe.cellclf")
    samples.bundle(tmp_path)
    names = [model.name for model in list_models() if model.where == "mine"]
    assert names == ["two"]


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    _loop(tmp_path / "m.keras")
    with pytest.raises(BundleError, match="cannot be opened"):
        read_keras_file(tmp_path / "m.keras")


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no file that can be opened and not be read")
    for name, look in (("m.keras", read_keras_file), ("m.cellclf", ModelBundle.load)):
        (tmp_path / name).symlink_to("/proc/self/mem")
        with pytest.raises(BundleError, match=rf"{name} cannot be read \(Input/output error\)"):
            look(tmp_path / name)


def test_a_file_that_grows_shorter_meanwhile_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras")
    with path.open("rb", buffering=0) as handle:
        archive = open_archive(
            handle,
            "m.keras",
            {"metadata.json": 999, "config.json": 9999, "model.weights.h5": 99999},
        )
        os.truncate(path, 400)
        with pytest.raises(BundleError, match="truncated download"):
            archive.read("model.weights.h5")
