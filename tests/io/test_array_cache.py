"""Arrays by key: in any order, from several processes, whatever happens to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.errors import CancelledError, DatasetError
from napari_cellclf.io import array_cache
from napari_cellclf.io.array_cache import ArrayCache

MOST = 1 << 20


def array(number: int) -> np.ndarray:
    return np.full((number % 3 + 1, 2), number, np.float32)


def add(cache: ArrayCache, *numbers: int, error: type[Exception] | None = None) -> None:
    with cache.adding(cache.find([])) as adder:
        for number in numbers:
            adder.add(str(number), array(number))
        if error is not None:
            raise error


@settings(deadline=None, max_examples=40)
@given(
    parts=st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=5),
    wanted=st.lists(st.integers(0, 9), max_size=12),
)
def test_what_was_added_in_any_parts_is_found_in_any_order(tmp_path_factory, parts, wanted):
    cache = ArrayCache(tmp_path_factory.mktemp("cache"), "group", MOST)
    for part in parts:
        add(cache, *part)
    there = {number for part in parts for number in part}
    found = cache.find([str(number) for number in wanted])
    assert {wanted[number] for number in found.missing} == set(wanted) - there
    for number, asked in enumerate(wanted):
        if asked in there:
            np.testing.assert_array_equal(found[number], array(asked))


def test_groups_share_the_room_and_nothing_else(tmp_path):
    one, other = (ArrayCache(tmp_path, group, MOST) for group in ("one", "other"))
    add(one, 1)
    assert other.find(["1"]).missing == [0]
    crowded = ArrayCache(tmp_path, "other", 0)
    add(crowded, 2)
    assert one.find(["1"]).missing == [0]
    assert crowded.find(["2"]).missing == []


def test_what_another_process_took_away_is_not_mistaken_for_something_else(tmp_path):
    cache = ArrayCache(tmp_path, "group", MOST)
    add(cache, 1)
    with pytest.raises(KeyError, match="2"):
        cache.find(["1", "2"])[1]
    with pytest.raises(DatasetError, match="1 of 2 arrays are gone"):
        cache.find_all(["1", "2"])
    np.testing.assert_array_equal(cache.find_all(["1"])[0], array(1))


def test_a_part_is_closed_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(array_cache, "_SECONDS", 0.0)
    cache = ArrayCache(tmp_path, "group", MOST)
    with pytest.raises(ZeroDivisionError):
        add(cache, 0, 1, 2, error=ZeroDivisionError)
    assert cache.find(["0", "1", "2", "3"]).missing == [3]


def test_only_a_stop_keeps_what_was_begun(tmp_path):
    cache = ArrayCache(tmp_path, "group", MOST)
    for number, error in enumerate((ZeroDivisionError, CancelledError)):
        with pytest.raises(error):
            add(cache, number, error=error)
    assert cache.find(["0", "1"]).missing == [0]


def test_two_that_add_the_same_do_not_disturb_each_other(tmp_path):
    first, second = (ArrayCache(tmp_path, "group", MOST) for _ in range(2))
    with first.adding(first.find([])) as one, second.adding(second.find([])) as other:
        for number in range(3):
            one.add(str(number), array(number))
            other.add(str(number), array(number))
    found = first.find(["0", "1", "2"])
    assert found.missing == []
    np.testing.assert_array_equal(found[2], array(2))


def test_parts_that_are_mapped_outlive_their_files(tmp_path):
    if sys.platform == "win32":
        pytest.skip("Windows keeps the files")
    cache = ArrayCache(tmp_path, "group", MOST)
    add(cache, 1)
    found = cache.find(["1"])
    add(ArrayCache(tmp_path, "group", 0), 2)
    assert cache.find(["1"]).missing == [0]
    np.testing.assert_array_equal(found[0], array(1))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_leaves_whole_parts_alone(tmp_path):
    code = f"""
import os, signal
import numpy as np
from pathlib import Path
from napari_cellclf.io import array_cache
cache = array_cache.ArrayCache(Path({str(tmp_path)!r}), "group", 1 << 20)
with cache.adding(cache.find([])) as adder:
    for number in range(100):
        array_cache._SECONDS = 0.0 if number == 49 else 1e9
        adder.add(str(number), np.full(1000, number, np.float32))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    keys = [str(number) for number in range(100)]
    found = ArrayCache(tmp_path, "group", MOST).find(keys)
    assert found.missing == list(range(50, 100))
    assert all((found[number] == number).all() for number in range(50))
    assert len(list(Path(tmp_path).glob(".*.partial"))) == 1


def test_no_room_is_made_at_the_cost_of_what_is_used_with_the_new_ones(tmp_path):
    add(ArrayCache(tmp_path, "group", MOST), 1)
    add(ArrayCache(tmp_path, "group", MOST), 2)
    crowded = ArrayCache(tmp_path, "group", 0)
    with crowded.adding(crowded.find(["1", "3"])) as adder:
        adder.add("3", array(3))
    assert crowded.find_all(["3", "1"]).missing == []
    assert crowded.find(["2"]).missing == [0]


@pytest.mark.parametrize(
    "shape", ["[-1, -2]", "[Infinity, 1]", "[1e30, 1]", "[4294967296, 4294967296]", "[" * 100_000]
)
def test_an_index_whose_bits_have_changed_is_not_used(tmp_path, shape):
    cache = ArrayCache(tmp_path, "group", MOST)
    add(cache, 1)
    (index,) = tmp_path.glob("*.json")
    index.write_text(index.read_text().replace("[2, 2]", shape))
    assert cache.find(["1"]).missing == [0]


@pytest.mark.parametrize("floats", [-3, -1, 1])
def test_a_part_with_fewer_or_more_numbers_than_its_index_says_is_not_used(tmp_path, floats):
    cache = ArrayCache(tmp_path, "group", MOST)
    add(cache, 1, 2)
    assert cache.find(["1", "2"]).missing == []
    (numbers,) = tmp_path.glob("*.f32")
    content = numbers.read_bytes()
    numbers.write_bytes(content[: 4 * floats] if floats < 0 else content + bytes(4 * floats))
    assert cache.find(["1", "2"]).missing == [0, 1]
    # Nor is the one that is whole: which numbers are lost cannot be known.
    with pytest.raises(DatasetError, match="2 of 2 arrays are gone"):
        cache.find_all(["1", "2"])
    add(cache, 1)
    with pytest.raises(DatasetError, match="1 of 2 arrays are gone"):
        cache.find_all(["1", "2"])
    assert len(cache.find_all(["1"])) == 1


def test_an_index_with_fewer_shapes_than_keys_is_not_used(tmp_path):
    cache = ArrayCache(tmp_path, "group", MOST)
    add(cache, 1)
    (index,) = tmp_path.glob("*.json")
    said = json.loads(index.read_text())
    index.write_text(json.dumps(said | {"keys": [*said["keys"], "7"]}))
    assert cache.find(["1", "7"]).missing == [0, 1]


@pytest.mark.parametrize("damage", ["one bit", "rolled"])
def test_damaged_arrays_are_missing_and_counted(tmp_path: Path, damage: str) -> None:
    add(ArrayCache(tmp_path, "group", MOST), 1, 2)
    file = next(tmp_path.glob("*.f32"))
    content = bytearray(file.read_bytes())
    content = content[4:] + content[:4] if damage == "rolled" else content
    if damage == "one bit":
        content[-1] ^= 1
    file.write_bytes(content)
    cache = ArrayCache(tmp_path, "group", MOST)
    found = cache.find(["1", "2"])
    assert (found.missing, found.damaged) == (([1], 1) if damage == "one bit" else ([0, 1], 2))
    add(cache, 1, 2)
    again = cache.find(["1", "2"])
    np.testing.assert_array_equal(again[1], array(2))
    assert again.missing == []
