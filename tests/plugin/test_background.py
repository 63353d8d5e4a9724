"""Work in threads: what waits does not keep other work from beginning."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from qtpy.QtCore import QThreadPool

from napari_cellclf.plugin.shared.background import LatestTask, Ticket


def test_work_that_waits_does_not_hold_up_other_work(qtbot: Any) -> None:
    pool = QThreadPool.globalInstance()
    most = pool.maxThreadCount()
    waiting = [LatestTask() for _ in range(most + 1)]

    def wait(ticket: Ticket) -> None:
        ticket.stop.wait(60)

    for task in waiting:
        task.start(wait)
    other = LatestTask()
    with qtbot.waitSignal(other.done, timeout=20_000) as done:
        other.start(lambda ticket: 7)
    assert done.args == [7]
    for task in waiting:
        task.stop()
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=20_000)
    assert pool.maxThreadCount() == most


_ENDS_AT_WORK = """
from qtpy.QtCore import QCoreApplication
from napari_cellclf.plugin.shared.background import LatestTask

application = QCoreApplication([])
task = LatestTask()
task.start(lambda ticket: ticket.stop.wait(60))
"""


#: A child that never is ready, for which a thread waits when Python ends.
_ENDS_WHILE_A_NETWORK_LOADS = """
import time
from qtpy.QtCore import QCoreApplication
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.plugin.shared.background import LatestTask
application = QCoreApplication([])
task = LatestTask()
engine = ProcessEngine("import time; time.sleep(600)", child="timeit")
task.start(lambda ticket: engine.wait_until_ready())
time.sleep(0.5)
"""


@pytest.mark.parametrize("script", [_ENDS_AT_WORK, _ENDS_WHILE_A_NETWORK_LOADS])
def test_python_ends_cleanly_while_work_is_being_done(script: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
