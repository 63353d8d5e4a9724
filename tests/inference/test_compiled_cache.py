"""Compiled networks on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_cellclf.inference import compiled_cache
from napari_cellclf.inference.compiled_cache import (
    engines_folder,
    find_compiled,
    keep_compiled,
    key_of,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


def _file(key: str) -> Path:
    return engines_folder() / f"{key}.compiled"


def test_what_was_kept_is_found_under_its_key_alone():
    key, other = key_of("network", "float32"), key_of("networkfloat32")
    assert find_compiled(key) is None
    keep_compiled(key, b"compiled")
    assert find_compiled(key) == b"compiled"
    assert find_compiled(other) is None
    assert [path.name for path in engines_folder().iterdir()] == [_file(key).name]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_one_is_not_used(damage):
    key = key_of("network")
    keep_compiled(key, bytes(range(100)))
    content = bytearray(_file(key).read_bytes())
    if damage == "cut":
        content = content[:-1]
    elif damage == "flipped":
        content[60] ^= 1
    else:
        content = bytearray()
    _file(key).write_bytes(content)
    assert find_compiled(key) is None
    keep_compiled(key, b"again")
    assert find_compiled(key) == b"again"


def test_the_one_not_used_for_longest_goes_first(monkeypatch):
    monkeypatch.setattr(compiled_cache, "MAX_BYTES", 300)
    keys = [key_of(str(number)) for number in range(3)]
    for age, key in zip((30, 20), keys, strict=False):
        keep_compiled(key, bytes(100))
        os.utime(_file(key), (1e9 - age, 1e9 - age))
    # It is the older of the two, but used now.
    assert find_compiled(keys[0]) is not None
    keep_compiled(keys[2], bytes(100))
    assert [find_compiled(key) is not None for key in keys] == [True, False, True]


def test_a_gigabyte_is_kept():
    engines_folder().mkdir(parents=True)
    for age in (1, 2, 3):
        # As large as they say, without taking room.
        with _file(str(age)).open("wb") as file:
            file.truncate(400 << 20)
        os.utime(_file(str(age)), (1e9 - age, 1e9 - age))
    keep_compiled(key_of("network"), b"compiled")
    assert [_file(str(age)).exists() for age in (1, 2, 3)] == [True, True, False]


def test_a_folder_that_is_only_read_is_read(monkeypatch):
    key = key_of("network")
    keep_compiled(key, b"compiled")

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(compiled_cache.os, "utime", refuse)
    assert find_compiled(key) == b"compiled"


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    with caplog.at_level("INFO"):
        keep_compiled(key_of("network"), b"compiled")
    assert "is not kept" in caplog.text
    assert find_compiled(key_of("network")) is None


def test_what_a_killed_process_left_goes_when_it_is_old():
    key = key_of("network")
    keep_compiled(key, b"compiled")
    for name, age in ((".old.partial", 7200), (".new.partial", 10)):
        (engines_folder() / name).mkdir()
        past = engines_folder().stat().st_mtime - age
        os.utime(engines_folder() / name, (past, past))
    keep_compiled(key, b"compiled")
    names = sorted(path.name for path in engines_folder().iterdir())
    assert names == [".new.partial", _file(key).name]
