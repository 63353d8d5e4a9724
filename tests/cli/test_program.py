"""The command line as a program: it ends when its work does, whatever its threads are at."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

#: A command whose thread cannot be stopped, as one that decodes an image in one piece.
ENDLESS = """
import sys, threading, time
from napari_cellclf.cli import app

def run(argv=None):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", flush=True)
    if "wait" in sys.argv:
        try:
            time.sleep(60)
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
