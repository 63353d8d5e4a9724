"""Work in threads: what waits does not keep other work from beginning."""

from __future__ import annotations

from typing import Any

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
