"""Ctrl-C, a kill and the file "stop", asked of a process that is inside of a library."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_cellclf.errors import RunError
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")

#: In the middle of a step: a call that lets other threads run, and that no signal ends.
_STUCK = """
import hashlib, sys
from pathlib import Path
from napari_cellclf.cli import stopping
from napari_cellclf.errors import RunError
from napari_cellclf.runs.folder import RunFolder

run, asks = RunFolder(Path(sys.argv[1])), sys.argv[3] == "asks"
stopping.PATIENCE = float(sys.argv[2])
note = lambda line: print(line, file=sys.stderr, flush=True)
with stopping.stoppable(run, note) as should_stop:
    if asks:
        should_stop()
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"", b"", 400_000_000)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def start(run: RunFolder) -> Iterator[Start]:
    """Start a process that is stuck, with so much patience."""
    children: list[subprocess.Popen[str]] = []

    def starter(patience: float, asks: str = "asks") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _STUCK, str(run.path), str(patience), asks]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        return child

    yield starter
    for child in children:
        child.kill()
        child.communicate()


def ended(child: subprocess.Popen[str], run: RunFolder) -> tuple[float, str]:
    """Return how long it took to end by itself, and what it said."""
    began = time.monotonic()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    (record,) = read_progress(run.log)[0]
    assert record["event"] == "stopped"
    assert record["message"] in said
    return time.monotonic() - began, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_a_step_takes_no_longer_than_its_patience(start, run, number):
    child = start(1)
    child.send_signal(number)
    seconds, said = ended(child, run)
    assert 0.8 < seconds < 10
    assert "press Ctrl-C again to end at once" in said.splitlines()[0]
    assert "resumes from its last checkpoint" in said.splitlines()[1]


def test_a_second_signal_ends_it_at_once(start, run):
    child = start(1000)
    child.send_signal(signal.SIGINT)
    assert child.stderr.readline().startswith("stopping after this step")
    child.send_signal(signal.SIGINT)
    seconds, _ = ended(child, run)
    assert seconds < 10


@pytest.mark.parametrize(("now", "patience"), [(False, 1), (True, 1000)])
def test_the_file_stop_asks_and_ends(start, run, now, patience):
    child = start(patience)
    run.ask_to_stop()
    time.sleep(0.3)
    assert child.poll() is None
    if now:
        run.ask_to_stop(now=True)
        assert run.stop_wish() == "now"
    assert ended(child, run)[0] < 10


def test_a_file_of_before_is_not_for_this_process(start, run):
    """A run sweeps it away, and asks only then."""
    run.ask_to_stop(now=True)
    child = start(0, "does not ask")
    time.sleep(1)
    assert child.poll() is None


def test_wishes(run: RunFolder, tmp_path: Path):
    assert run.stop_wish() == ""
    run.ask_to_stop()
    assert run.stop_wish() == "soon"
    run.ask_to_stop(now=True)
    run.ask_to_stop(now=True)
    assert run.stop_wish() == "now"
    other = tmp_path / "of somebody"
    other.write_text("dear")
    run.stop_file.unlink()
    run.stop_file.symlink_to(other)
    with pytest.raises(RunError, match="make it by hand"):
        run.ask_to_stop(now=True)
    assert other.read_text() == "dear"
