"""Watch what a program says to others: processes, look-ups, connections and files at home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

#: What Python says when a process is begun or a name is looked up in the network.
_TALK = ("os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")
_WATCHED = f"""
import sys, time
told = []
sys.addaudithook(lambda event, _: told.append(event) if event in {_TALK!r} else None)
"""
#: What compiled code does, which Python does not hear of.
_LOOKED_UP = re.compile(r"AF_INET|\"/etc/(resolv\.conf|hosts)\"")
#: Where programs may keep what says nothing of who uses them, such as a list of fonts.
_FOLDERS = ("CELLCLF_CACHE", "KERAS_HOME", "MPLCONFIGDIR")
#: Seconds that a thread is given that tells later.
_PATIENCE = 2


def tells_nobody(code: str, folder: Path, *, quietly: bool = True) -> None:
    """Run a program with an empty home, and see that it neither tells nor leaves anything.

    `quietly`: whether it begins no process of its own either.
    """
    home = folder / "home"
    home.mkdir()
    # Nothing of the machine's own that says that it is one for tests, where nothing is told anyway.
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    trace = folder / "trace"
    done = subprocess.run(
        [*_tracer(trace), sys.executable, "-c", f"{_WATCHED}{code}{_LAST}"],
        capture_output=True,
        text=True,
        check=False,
        env=kept | {"HOME": str(home)} | {name: str(folder / name) for name in _FOLDERS},
    )
    assert done.returncode == 0, done.stderr
    told = set(done.stdout.splitlines()[-1].split())
    assert not (told if quietly else {one for one in told if one.startswith("socket")})
    assert [str(path) for path in home.rglob("*")] == []
    if trace.exists():
        lines = trace.read_text(errors="replace").splitlines()
        assert [line for line in lines if _LOOKED_UP.search(line)] == []


_LAST = f"""
time.sleep({_PATIENCE})
print(" ", *sorted(told))
"""


def _tracer(trace: Path) -> list[str]:
    """Return what is put before a command to hear of its compiled code too, where that works."""
    strace = shutil.which("strace")
    if strace is None:
        return []
    command = [strace, "-f", "-qq", "-o", str(trace), "-e", "trace=connect,sendto,openat"]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True, timeout=20)
    except (subprocess.SubprocessError, OSError):
        trace.unlink(missing_ok=True)
        return []
    return command
