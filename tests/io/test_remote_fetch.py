"""Every row of *Downloads*: what a server may do wrong, and what must hold all the same."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import FAST, Server, serving
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, DownloadError, InputError
from napari_cellclf.io.remote import download as transfer
from napari_cellclf.io.remote.checksum import Checksum, was_checked
from napari_cellclf.io.remote.fetch import fetch_file

BODY = bytes(range(256)) * 2048
SHA256 = Checksum("sha256", hashlib.sha256(BODY).hexdigest())
MD5 = Checksum("md5", hashlib.md5(BODY, usedforsecurity=False).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files["/m.cellclf"] = BODY
        yield running


def fetch(server: Server, folder: Path, **options: Any) -> Path:
    wanted = {"checksum": SHA256, "max_bytes": len(BODY), "rules": FAST} | options
    return fetch_file(f"{server.url}/m.cellclf", folder, **wanted)


def left(folder: Path) -> list[str]:
    """Return every file, hidden ones as well, but for the lock of an older filelock."""
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


@pytest.mark.parametrize("checksum", [SHA256, MD5], ids=["sha256", "md5"])
def test_a_file_is_fetched_once(server: Server, tmp_path: Path, checksum: Checksum) -> None:
    path = fetch(server, tmp_path, checksum=checksum)
    assert path == tmp_path / "m.cellclf"
    assert path.read_bytes() == BODY
    assert fetch(server, tmp_path, checksum=checksum) == path
    assert len(server.requests) == 1
    assert left(tmp_path) == [".m.cellclf.checked.json", "m.cellclf"]


def test_the_second_use_reads_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(server, tmp_path)
    monkeypatch.setattr(Checksum, "fits", lambda *_: pytest.fail("read again"))
    assert fetch(server, tmp_path) == path


def test_a_file_that_was_written_to_is_read_again_and_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    path = fetch(server, tmp_path)
    path.write_bytes(BODY[::-1])
    assert not was_checked(path, SHA256)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_file_that_was_put_there_by_hand_is_checked_and_used(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "m.cellclf").write_bytes(BODY)
    fetch(server, tmp_path, offline=True)
    assert was_checked(tmp_path / "m.cellclf", SHA256)
    assert server.requests == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("short", "ended after 262144 of 524288 bytes"),
        ("wrong", "not the file that was expected .its SHA-256 differs"),
        ("endless", "larger than the 524288 bytes"),
        ("trickle", "too slow"),
        ("stall", "too slow"),
        ("loop", "redirects too often"),
        ("leave", "not an https address"),
        ("404", "answers 404 .* check the address"),
        ("403", "answers 403 .* not public"),
        ("500", "answers 500"),
        ("503", "answers 503"),
    ],
)
def test_a_fault_is_named_and_leaves_nothing(
    server: Server, tmp_path: Path, fault: str, reason: str
) -> None:
    # A stalled server never lets go: if the client had no limits of its own, this would hang.
    server.fault, server.tags = fault, False
    with pytest.raises(DownloadError, match=reason) as error:
        fetch(server, tmp_path)
    assert "\n" not in str(error.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize(("fault", "tries"), [("500", 3), ("short", 3), ("404", 1), ("wrong", 1)])
def test_only_what_may_pass_is_tried_again_and_not_forever(
    server: Server, tmp_path: Path, fault: str, tries: int
) -> None:
    server.fault = fault
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    assert len(server.requests) == tries


@pytest.mark.parametrize("fault", ["503", "short", "stall", "shifted"])
def test_a_fault_that_passes_is_survived(server: Server, tmp_path: Path, fault: str) -> None:
    server.fault, server.faulty = fault, 2
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_broken_download_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.fault, server.faulty = "short", 1
    fetch(server, tmp_path)
    assert server.ranges() == [None, f"bytes={len(BODY) // 2}-"]


def test_without_a_tag_it_starts_from_the_beginning(server: Server, tmp_path: Path) -> None:
    server.tags = False
    server.fault, server.faulty = "short", 1
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.ranges() == [None, None]


def test_a_file_that_changes_in_between_is_not_patched_together(
    server: Server, tmp_path: Path
) -> None:
    server.files["/m.cellclf"] = BODY[::-1]
    server.fault, server.faulty = "short", 1

    def change(_: Progress) -> None:
        server.files["/m.cellclf"] = BODY

    assert fetch(server, tmp_path, on_progress=change).read_bytes() == BODY


def test_what_another_process_left_is_continued_only_if_it_is_whole(
    server: Server, tmp_path: Path
) -> None:
    server.fault, server.faulty = "short", 1
    begun = transfer.PartialFile(tmp_path / "m.cellclf")

    def spoil(_: Progress) -> None:
        if len(server.requests) == 1:
            begun.path.write_bytes(b"?" * 1000)

    begun.path.write_bytes(b"")
    assert fetch(server, tmp_path, on_progress=spoil).read_bytes() == BODY
    assert server.ranges()[-1] is None
    assert left(tmp_path) == [".m.cellclf.checked.json", "m.cellclf"]


def test_a_size_above_the_cap_is_refused_before_a_byte_of_it_is_kept(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="larger than the 1000 bytes"):
        fetch(server, tmp_path, max_bytes=1000)
    assert left(tmp_path) == []


def test_redirects_are_followed_with_the_part_that_was_asked_for(
    server: Server, tmp_path: Path
) -> None:
    server.fault = "elsewhere"
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/m.cellclf", "/elsewhere/m.cellclf"]


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch_file("http://127.0.0.1:9/x", tmp_path, checksum=SHA256, max_bytes=9)
    assert left(tmp_path) == []


def test_the_next_place_is_tried(server: Server, tmp_path: Path) -> None:
    path = fetch_file(
        f"{server.url}/gone.cellclf",
        tmp_path,
        checksum=SHA256,
        max_bytes=len(BODY),
        mirrors=["file:///nowhere/m.cellclf", f"{server.url}/m.cellclf"],
        rules=FAST,
    )
    assert path == tmp_path / "gone.cellclf"
    assert path.read_bytes() == BODY


def test_where_no_place_has_it_the_first_is_told(server: Server, tmp_path: Path) -> None:
    server.fault = "404"
    with pytest.raises(
        DownloadError,
        match=r"m\.cellclf could not be fetched from any of 2 addresses; the first: .* 404",
    ):
        fetch(server, tmp_path, mirrors=["file:///nowhere/m.cellclf"])
    assert left(tmp_path) == []


def test_progress_counts_bytes(server: Server, tmp_path: Path) -> None:
    told: list[Progress] = []
    fetch(server, tmp_path, on_progress=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (told[-1].done, {progress.total for progress in told}) == (len(BODY), {len(BODY)})


@pytest.mark.parametrize("fault", ["", "stall", "trickle", "503"])
def test_a_cancel_is_noticed_at_once_and_leaves_nothing(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.fault = fault
    answers: list[bool] = []

    def should_stop() -> bool:
        answers.append(len(answers) == 3)
        return answers[-1]

    with pytest.raises(CancelledError, match="stopped while"):
        fetch(server, tmp_path, should_stop=should_stop)
    assert answers == [False, False, False, True]
    assert left(tmp_path) == []


@pytest.mark.parametrize("say", ["argument", "environment"])
def test_offline_says_what_to_do(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: str
) -> None:
    monkeypatch.setenv("CELLCLF_OFFLINE", "1" if say == "environment" else "0")
    with pytest.raises(DownloadError, match=r"fetch it once .* or copy it there"):
        fetch(server, tmp_path, offline=say == "argument")
    assert server.requests == []
    assert left(tmp_path) == []


def test_offline_uses_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(server, tmp_path)
    monkeypatch.setenv("CELLCLF_OFFLINE", "1")
    assert fetch(server, tmp_path) == path


def test_too_little_space_is_said_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = os.statvfs(tmp_path)
    assert nearly_full.f_bavail > 0
    monkeypatch.setattr(transfer, "_RESERVE", nearly_full.f_frsize * nearly_full.f_blocks)
    with pytest.raises(DownloadError, match=r"0\.5 MB are needed .* CELLCLF_CACHE"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    import signal

    # The system itself refuses to write further, as a full disk does.
    monkeypatch.setattr(transfer, "_RESERVE", 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DownloadError, match=os.strerror(errno.EFBIG)):
            fetch(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="CELLCLF_CACHE"):
        fetch(server, tmp_path / "file")


def test_what_killed_processes_left_is_swept(server: Server, tmp_path: Path) -> None:
    old = transfer.PartialFile(tmp_path / "old.cellclf").path
    young = transfer.PartialFile(tmp_path / "young.cellclf").path
    for path in (old, young):
        path.write_bytes(b"begun")
    os.utime(old, (0, 0))
    fetch(server, tmp_path)
    assert not old.exists()
    assert young.exists()


def test_files_of_this_computer_are_copied_and_checked(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    source = tmp_path / "share" / "m.cellclf"
    source.write_bytes(BODY)
    options: dict[str, Any] = {"checksum": SHA256, "max_bytes": len(BODY), "offline": True}
    for uri in (source, str(source), source.as_uri()):
        path = fetch_file(uri, tmp_path / str(hash(str(uri))), **options)
        assert path.read_bytes() == BODY
    source.write_bytes(BODY[::-1])
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch_file(source, tmp_path / "other", **options)


def test_a_file_that_is_not_there_and_a_share_offline_are_said(tmp_path: Path) -> None:
    options: dict[str, Any] = {"checksum": SHA256, "max_bytes": 9}
    with pytest.raises(DownloadError, match="there is no file"):
        fetch_file(tmp_path / "x", tmp_path, **options)
    with pytest.raises(DownloadError, match="network must not be used"):
        fetch_file("file://server/share/x", tmp_path, offline=True, **options)


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "a" * 32])
def test_a_checksum_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(InputError, match="not a SHA-256"):
        Checksum("sha256", digest)
