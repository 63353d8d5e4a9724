from __future__ import annotations

import pytest

from napari_cellclf.cli.terminal import ProgressReporter, choose_style
from napari_cellclf.core.progress import Progress


@pytest.mark.parametrize(
    ("stderr", "stdout", "json", "style"),
    [
        (True, True, False, "bar"),
        (True, False, False, "bar"),
        (False, True, False, "lines"),
        (False, False, False, "lines"),
        (True, False, True, "none"),
        (True, True, True, "bar"),
    ],
)
def test_style(stderr: bool, stdout: bool, json: bool, style: str) -> None:
    chosen = choose_style(stderr_is_terminal=stderr, stdout_is_terminal=stdout, json=json)
    assert chosen == style


def test_a_log_gets_a_line_after_two_seconds_and_then_every_thirty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 1.9, 2.1, 20.0, 32.2])
    reporter = ProgressReporter("lines", clock=lambda: next(times))
    for done in range(5):
        reporter(Progress(done, 100))
    assert capsys.readouterr().err == "cellclf: 2 of 100 images\ncellclf: 4 of 100 images\n"


def test_nothing_is_written_for_programs_but_notes(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter("none") as reporter:
        reporter.begin("loading")
        reporter(Progress(1, 2))
        reporter.note("one\nline")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "cellclf: one\\nline\n")


def test_notes_are_written_beside_a_bar_and_the_bar_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressReporter("bar") as reporter:
        reporter.begin("loading [b]a model[/b]")
        reporter(Progress(1, 2, "classifying"))
        reporter.note("[red]x[/red]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cellclf: [red]x[/red]" in captured.err


def test_a_bar_moves_to_and_fro_whenever_something_of_unknown_length_begins() -> None:
    with ProgressReporter("bar", "training", unit=None, estimates=False) as reporter:
        reporter.begin("training: starting")
        reporter(Progress(3, 10, "preparing images 3 of 6, about 40 s left for this part"))
        (task,) = reporter._bar.tasks
        assert (task.completed, task.total) == (3, 10)
        assert task.description.endswith("3 of 6, about 40 s left for this part")
        reporter.begin("training: compiling the network")
        (task,) = reporter._bar.tasks
        assert task.total is None
        assert task.description == "training: compiling the network"
        reporter(Progress(4, 10, "training, epoch 1 of 2"))
        assert reporter._bar.tasks[0].total == 10


def test_silenced_it_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter("bar") as reporter:
        reporter.silence()
        reporter(Progress(1, 2))
    assert capsys.readouterr().err == ""
