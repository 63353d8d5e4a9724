"""Files as a lazy stack: what is read, and what is kept."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_cellclf.io import stacks
from napari_cellclf.io.stacks import lazy_stack

U8 = np.dtype(np.uint8)


class Reader:
    """Reads files that hold one byte as planes of that byte."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, path: Path) -> np.ndarray:
        self.names.append(path.name)
        return np.full((2, 3), path.read_bytes()[0], np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.bin" for number in range(4)]
    for number, path in enumerate(found):
        path.write_bytes(bytes([number]))
    return found


def test_what_is_looked_at_twice_is_read_once(paths: list[Path]) -> None:
    read = Reader()
    stack = lazy_stack([{1: paths[0], 2: paths[1]}, {2: paths[3]}], [2, 1], read, (2, 3), U8)
    assert stack.shape == (2, 2, 2, 3)
    assert read.names == []
    for _ in range(2):
        assert np.asarray(stack[:, :, 0, 0]).tolist() == [[1, 0], [3, 0]]
    assert sorted(read.names) == ["0.bin", "1.bin", "3.bin"]


def test_a_changed_file_is_read_again(paths: list[Path]) -> None:
    stack = lazy_stack([{0: paths[0]}], None, Reader(), (2, 3), U8)
    assert np.asarray(stack).max() == 0
    paths[0].write_bytes(bytes([9]))
    os.utime(paths[0], ns=(1, 1))
    assert np.asarray(stack).max() == 9


def test_what_is_done_to_a_plane_stays_with_who_did_it(paths: list[Path]) -> None:
    stack = lazy_stack([{0: paths[2]}], None, Reader(), (2, 3), U8)
    for _ in range(2):
        plane = stack[0].compute()
        assert (plane == 2).all()
        plane[:] = 77


def test_few_planes_are_kept(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_KEPT_PLANES", 2)
    read = Reader()
    stack = lazy_stack([{0: path} for path in paths], None, read, (2, 3), U8)
    for index in (0, 1, 0, 2, 0, 1):
        np.asarray(stack[index])
    assert read.names == ["0.bin", "1.bin", "2.bin", "1.bin"]


def test_large_planes_are_not_kept(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_KEPT_BYTES", 5)
    read = Reader()
    stack = lazy_stack([{0: paths[1]}], None, read, (2, 3), U8)
    assert all(np.asarray(stack).max() == 1 for _ in range(2))
    assert len(read.names) == 2


def test_a_file_that_is_gone_is_the_readers_to_report(paths: list[Path]) -> None:
    stack = lazy_stack([{0: paths[0]}], None, Reader(), (2, 3), U8)
    paths[0].unlink()
    with pytest.raises(FileNotFoundError):
        np.asarray(stack)


def test_a_stack_can_be_sent_to_another_process(paths: list[Path]) -> None:
    stack = lazy_stack([{0: path} for path in paths], None, Reader(), (2, 3), U8)
    assert np.asarray(stack[3]).max() == 3
    again = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(stack))
