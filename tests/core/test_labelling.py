"""The book of labels: classes, who and when, undo and redo, and what listeners are told."""

from __future__ import annotations

import itertools
import random

import pytest

from napari_cellclf.core.labelling import Change, LabelBook, describe
from napari_cellclf.errors import InputError


@pytest.fixture
def book() -> LabelBook:
    times = (f"2026-03-01T12:00:{second % 60:02}Z" for second in itertools.count())
    return LabelBook("ada", ["round", "long"], clock=lambda: next(times))


def _state(book: LabelBook) -> tuple[object, ...]:
    unsure = {row for row in "abcdefgh" if book.is_unsure(row)}
    return book.classes, dict(book.labels), unsure


def test_a_label_knows_who_and_when(book: LabelBook) -> None:
    book.label(["a"], "round", drawn="random")
    label = book.label_of("a")
    assert label is not None
    assert (label.class_name, label.who, label.drawn) == ("round", "ada", "random")
    assert label.when.startswith("2026-03-01T12:00:")
    assert book.counts() == {"round": 1, "long": 0}


def test_a_new_class_is_added_by_its_first_label(book: LabelBook) -> None:
    book.label(["a", "b"], "  with   tail ")
    assert book.classes == ("round", "long", "with tail")
    assert book.undo() == '2 labels "with tail"'
    assert book.classes == ("round", "long")
    assert not book.labels


def test_labels_are_taken_back_and_changed(book: LabelBook) -> None:
    book.label(["a", "b"], "round")
    book.label(["b"], "long")
    book.clear(["a", "never labelled"])
    assert {row: label.class_name for row, label in book.items()} == {"b": "long"}
    book.undo()
    book.undo()
    assert {row: label.class_name for row, label in book.items()} == {"a": "round", "b": "round"}


def test_unsure_takes_a_label_back_and_a_label_the_mark(book: LabelBook) -> None:
    book.label(["a"], "round")
    book.mark_unsure(["a", "b"])
    assert book.label_of("a") is None
    assert book.is_unsure("a")
    book.label(["b"], "long")
    assert not book.is_unsure("b")
    book.undo()
    assert book.is_unsure("b")
    book.undo()
    assert book.label_of("a") is not None
    assert not book.is_unsure("a")
    book.mark_unsure(["c"])
    book.mark_unsure(["c"], unsure=False)
    assert not book.is_unsure("c")


def test_classes_are_renamed_and_merged_with_undo(book: LabelBook) -> None:
    book.label(["a"], "round")
    book.label(["b"], "long")
    book.rename_class("round", "circle")
    book.merge_classes("circle", "long")
    assert book.classes == ("long",)
    assert book.counts() == {"long": 2}
    assert book.undo() == 'merging "circle" into "long"'
    assert book.classes == ("circle", "long")
    assert book.counts() == {"circle": 1, "long": 1}
    assert book.undo() == 'renaming "round" to "circle"'
    assert book.classes == ("round", "long")
    assert book.redo() == 'renaming "round" to "circle"'
    assert book.counts() == {"circle": 1, "long": 1}
    book.remove_class("circle")
    assert book.label_of("a") is None
    book.undo()
    assert book.classes == ("circle", "long")
    assert book.counts() == {"circle": 1, "long": 1}


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda book: book.add_class(" "), "type 1 to 200"),
        (lambda book: book.add_class("x" * 201), "201 characters"),
        (lambda book: book.add_class("round"), "already"),
        (lambda book: book.rename_class("round", "long"), "merge the classes"),
        (lambda book: book.rename_class("square", "x"), "there are: round, long"),
        (lambda book: book.merge_classes("round", "round"), "two classes"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    book: LabelBook, act: object, words: str
) -> None:
    before = _state(book)
    with pytest.raises(InputError, match=words):
        act(book)  # type: ignore[operator]
    assert _state(book) == before
    assert not book.can_undo


def test_different_labels_at_once_are_one_step(book: LabelBook) -> None:
    book.label_each({"a": "round", "b": "long"}, drawn={"b": "random"})
    assert [(row, label.drawn) for row, label in book.items()] == [("a", ""), ("b", "random")]
    assert book.undo() == "2 labels"
    assert not book.labels


def test_undo_and_redo_have_no_limit_and_a_listener_can_follow(book: LabelBook) -> None:
    """Whatever is done, a book that makes the same changes is the same, back and forth."""
    follower = LabelBook()
    follower.replay(book.snapshot())
    end = book.listen(follower.replay)
    rng = random.Random(7)
    states = [_state(book)]
    for _ in range(400):
        steps = len(book._undo)
        _do_something(book, rng)
        if len(book._undo) > steps:
            states.append(_state(book))
        assert _state(follower) == _state(book)
    assert len(states) > 200
    while book.can_undo:
        book.undo()
        assert _state(follower) == _state(book) == states[len(book._undo)]
    assert not book.labels
    assert book.classes == ("round", "long")
    while book.can_redo:
        book.redo()
    assert _state(follower) == _state(book)
    assert _state(book) == states[-1]
    again = LabelBook()
    again.replay(book.snapshot())
    assert _state(again) == _state(book)
    end()
    book.label(["zzz"], "round")
    assert follower.label_of("zzz") is None


def _do_something(book: LabelBook, rng: random.Random) -> None:
    rows = rng.sample("abcdefgh", rng.randint(1, 3))
    names = list(book.classes) or ["first"]
    match rng.randrange(8):
        case 0 | 1 | 2:
            book.label(rows, rng.choice([*names, f"class {rng.randrange(5)}"]))
        case 3:
            book.clear(rows)
        case 4:
            book.mark_unsure(rows, rng.random() < 0.7)
        case 5 if (new := f"name {rng.randrange(9)}") not in names:
            book.rename_class(rng.choice(book.classes or ("?",)), new) if book.classes else None
        case 6 if len(book.classes) > 2:
            book.merge_classes(*rng.sample(book.classes, 2))
        case 7 if len(book.classes) > 3:
            book.remove_class(rng.choice(book.classes))


def test_a_new_step_ends_what_can_be_redone(book: LabelBook) -> None:
    book.label(["a"], "round")
    book.undo()
    assert book.can_redo
    book.label(["b"], "round")
    assert not book.can_redo
    assert book.redo() == ""
    book.undo()
    assert book.undo() == ""


def test_nothing_happens_where_nothing_changes(book: LabelBook) -> None:
    told: list[tuple[Change, ...]] = []
    book.listen(told.append)
    book.clear(["a"])
    book.mark_unsure(["a"], unsure=False)
    book.rename_class("round", "round")
    assert not told
    assert not book.can_undo


def test_what_was_done_is_described() -> None:
    assert describe((Change("label", "a"),)) == "taking back label"
    assert describe((Change("unsure", "a"), Change("unsure", "b"))) == "2 unsure marks"
    assert describe((Change("add", name="x"),)) == 'class "x"'
    assert describe((Change("remove", name="x"),)) == 'removing class "x"'
