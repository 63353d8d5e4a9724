"""The command line as a program: it ends when its work does, whatever its threads are at."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

#: A command whose thread cannot be stopped, as one that decodes an image in one piece.
ENDLESS = """
import signal, sys, threading, time
from napari_cellclf.cli import app

# Whoever starts the tests in the background has the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def run(argv=None):
    threading.Thread(target=time.sleep, args=(60,)).start()
    try:
        print("begun", flush=True)
        time.sleep(60 if "wait" in sys.argv else 0)
    except KeyboardInterrupt:
        return 130
    print("the end of a line", end="")
    return 3

app.main = run
app.program()
"""


def test_it_does_not_wait_for_threads_that_go_on() -> None:
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=50, check=False
    )
    assert (result.returncode, result.stdout) == (3, "begun\nthe end of a line")
    assert time.monotonic() - start < 40


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_it_ends_at_once_when_it_is_interrupted() -> None:
    command = [sys.executable, "-c", ENDLESS, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.skipif(sys.platform == "win32", reason="its shell cannot close a stream")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_errors(tmp_path: Path, closed: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8)
    for name in ("a/1.tif", "b/1.tif"):
        (tmp_path / name).parent.mkdir()
        tifffile.imwrite(tmp_path / name, pixels)
    command = f"{shlex.quote(sys.executable)} -m napari_cellclf data {tmp_path} {closed}"
    result = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
