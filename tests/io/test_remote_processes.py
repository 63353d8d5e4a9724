"""Two processes that want one file, and one that is killed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import FAST, Server, serving
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file

BODY = bytes(range(256)) * 2048
CHECKSUM = Checksum("sha256", hashlib.sha256(BODY).hexdigest())

CODE = """
import sys
from pathlib import Path
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file

def asked():
    asked.times += 1
    if asked.times == 3:
        print("waiting", flush=True)
    return False

asked.times = 0
url, folder, digest, size = sys.argv[1:]
path = fetch_file(
    url, Path(folder), checksum=Checksum("sha256", digest), max_bytes=int(size),
    on_progress=lambda progress: print("receiving", flush=True), should_stop=asked,
)
print(path.read_bytes() == bytes(range(256)) * 2048, flush=True)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files["/m.cellclf"] = BODY
        running.fault = "hold"
        yield running


def start(server: Server, folder: Path) -> subprocess.Popen[str]:
    arguments = [f"{server.url}/m.cellclf", str(folder), CHECKSUM.digest, str(len(BODY))]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, text=True
    )


def read_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert any(line.strip() == word for line in process.stdout), f"ended before {word!r}"


def test_the_second_process_waits_and_uses_what_the_first_fetched(
    server: Server, tmp_path: Path
) -> None:
    with start(server, tmp_path) as first:
        read_until(first, "receiving")
        with start(server, tmp_path) as second:
            read_until(second, "waiting")
            server.released.set()
            read_until(first, "True")
            read_until(second, "True")
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(server.requests) == 1


@pytest.mark.skipif(os.name == "nt", reason="a signal of POSIX")
def test_after_a_kill_the_next_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    with start(server, tmp_path) as process:
        read_until(process, "receiving")
        process.kill()
    server.released.set()
    assert not (tmp_path / "m.cellclf").exists()
    path = fetch_file(
        f"{server.url}/m.cellclf", tmp_path, checksum=CHECKSUM, max_bytes=len(BODY), rules=FAST
    )
    assert path.read_bytes() == BODY
    began = server.ranges()[-1]
    assert began is not None
    assert 0 < int(began.removeprefix("bytes=").rstrip("-")) <= len(BODY) // 2
    names = sorted(entry.name for entry in tmp_path.iterdir() if entry.suffix != ".lock")
    assert names == [".m.cellclf.checked.json", "m.cellclf"]
