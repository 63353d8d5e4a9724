"""Only regular files are opened, and nothing is ever waited for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from napari_cellclf.errors import InputError, UnreadableImageError
from napari_cellclf.io.csv_tables import open_csv
from napari_cellclf.io.files import read_file
from napari_cellclf.io.regular_files import NotRegularError, open_regular, read_regular

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither pipes nor devices")


def test_a_file_is_read_and_a_link_followed_only_if_asked(tmp_path: Path) -> None:
    file, link = tmp_path / "a.bin", tmp_path / "b.bin"
    file.write_bytes(b"pixels")
    assert read_regular(file) == read_regular(file, 6) == b"pixels"
    with pytest.raises(OSError, match="larger than 5 bytes"):
        read_regular(file, 5)
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("links cannot be made here")
    assert read_regular(link) == b"pixels"
    with pytest.raises(OSError, match="link"):
        read_regular(link, follow=False)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotRegularError, match="not a plain file"):
        open_regular(tmp_path)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="null"):
        open_regular(tmp_path / "a\0b")


@posix
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.tif"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(OSError, match=r"not a plain file|No such device|No such file"):
            open_regular(path)
        with pytest.raises(InputError, match="cannot be read as a CSV table"):
            open_csv(path)
        with pytest.raises(UnreadableImageError):
            read_file(path)
