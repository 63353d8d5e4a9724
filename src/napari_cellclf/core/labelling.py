"""Labels as they are given: who gave which when, the classes, undo and redo.

Whatever happens is a tuple of `Change`, which is what listeners get and what a label file keeps;
making the same changes again gives the same book.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import InputError

Action = Literal["label", "unsure", "add", "rename", "merge", "remove"]

_LONGEST_NAME = 200


class Label(NamedTuple):
    """The class that somebody gave a row."""

    class_name: str
    who: str = ""
    #: ISO 8601, UTC, such as ``2026-03-01T12:00:00Z``.
    when: str = ""
    #: ``"random"`` for a row that was offered at random, which an honest estimate needs.
    drawn: str = ""


class Change(NamedTuple):
    """One thing that happened to a row (label, unsure) or to the classes."""

    action: Action
    #: The id of the row; empty where it is about classes.
    row: str = ""
    #: The class; empty where a label is taken back.
    name: str = ""
    #: Of a class that was added: its place. Of a renamed or merged one: what it was called. Of a
    #: row marked unsure: ``"no"`` where the mark is taken away.
    detail: str = ""
    who: str = ""
    when: str = ""
    drawn: str = ""


Listener = Callable[[tuple[Change, ...]], None]


@dataclass(frozen=True)
class _Step:
    """What can be undone at once."""

    done: tuple[Change, ...]
    #: In the order in which they are to be made.
    inverse: tuple[Change, ...]


def now() -> str:
    """Return the time as labels state it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def class_name(text: str) -> str:
    """Check what a user typed as the name of a class, and return it in its one spelling."""
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not 0 < len(name) <= _LONGEST_NAME:
        raise InputError(
            f"the name of a class has {len(name)} characters; type 1 to {_LONGEST_NAME}"
        )
    return name


class LabelBook:
    """The labels of a collection's rows and the classes, in an order that the user chooses.

    Rows are named by their ids. Every method that changes something tells the listeners what
    happened after it has.
    """

    def __init__(
        self, who: str = "", classes: Iterable[str] = (), *, clock: Callable[[], str] = now
    ) -> None:
        self.who = who
        self._clock = clock
        self._classes: list[str] = []
        self._labels: dict[str, Label] = {}
        self._unsure: dict[str, None] = {}
        self._without_class: dict[str, None] = {}
        self._undo: list[_Step] = []
        self._redo: list[_Step] = []
        self._listeners: list[Listener] = []
        for name in classes:
            self._apply(Change("add", name=class_name(name)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order."""
        return tuple(self._classes)

    @property
    def labels(self) -> Mapping[str, Label]:
        """The label of each labelled row by its id, in the order in which they were given."""
        return self._labels

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether something was undone and nothing else happened since."""
        return bool(self._redo)

    def items(self) -> Iterable[tuple[str, Label]]:
        """Go over ids and labels, in the order in which they were given."""
        return tuple(self._labels.items())

    def label_of(self, row: str) -> Label | None:
        """Return the label of a row."""
        return self._labels.get(row)

    def is_unsure(self, row: str) -> bool:
        """Whether somebody looked at a row and could not tell its class."""
        return row in self._unsure

    def remark(self) -> str:
        """Say which recorded rows have no class and never had one, as by hand; empty if none.

        Examples
        --------
        >>> book = LabelBook()
        >>> book.replay([Change("label", "a.png", "round"), Change("label", "b.png")])
        >>> book.remark()
        '1 row has no class, such as b.png, and counts as not labelled.'
        """
        if not self._without_class:
            return ""
        count = len(self._without_class)
        first = re.split(r"[\\/]", next(iter(self._without_class)))[-1]
        has, counts = ("row has", "counts") if count == 1 else ("rows have", "count")
        return f"{count:,} {has} no class, such as {first}, and {counts} as not labelled."

    def counts(self) -> dict[str, int]:
        """Count the labels of every class, in order."""
        found = Counter(label.class_name for label in self._labels.values())
        return {name: found[name] for name in self._classes}

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell a listener of every change from now on; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def label(self, rows: Iterable[str], name: str, *, drawn: str | Mapping[str, str] = "") -> None:
        """Give rows a class; one that is new is added as the last.

        `drawn`: how the rows were chosen, for all of them or by id; see `Label.drawn`.
        """
        name = class_name(name)
        adding = [] if name in self._classes else [Change("add", name=name)]
        self._record(
            [
                *adding,
                *(
                    Change(
                        "label", row, name, drawn=drawn if isinstance(drawn, str) else drawn[row]
                    )
                    for row in rows
                ),
            ]
        )

    def label_each(self, names: Mapping[str, str], *, drawn: Mapping[str, str]) -> None:
        """Give rows different classes at once, so that one undo takes all of them back.

        `names`: id to class; one that is new is added as the last. `drawn`: by id, where there is
        something to say.
        """
        new = [name for name in dict.fromkeys(names.values()) if name not in self._classes]
        self._record(
            [
                *(Change("add", name=name) for name in new),
                *(
                    Change("label", row, name, drawn=drawn.get(row, ""))
                    for row, name in names.items()
                ),
            ]
        )

    def clear(self, rows: Iterable[str]) -> None:
        """Take back the labels of rows; those that have none stay as they are."""
        self._record([Change("label", row) for row in rows if row in self._labels])

    def mark_unsure(self, rows: Iterable[str], unsure: bool = True) -> None:
        """Mark rows as looked at without a result; a label that they have is taken back."""
        rows = [row for row in rows if self.is_unsure(row) != unsure]
        taken_back = [Change("label", row) for row in rows if unsure and row in self._labels]
        detail = "" if unsure else "no"
        self._record([*taken_back, *(Change("unsure", row, detail=detail) for row in rows)])

    def add_class(self, name: str) -> None:
        """Add a class as the last."""
        name = class_name(name)
        if name in self._classes:
            raise InputError(f"there is a class {name!r} already; type another name")
        self._record([Change("add", name=name)])

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name."""
        new = class_name(new)
        self._check_known(old)
        if new in self._classes and new != old:
            raise InputError(
                f"there is a class {new!r} already; type another name, or merge the classes"
            )
        if new != old:
            self._record([Change("rename", name=new, detail=old)])

    def merge_classes(self, old: str, into: str) -> None:
        """Make all labels of a class those of another one, and remove the class."""
        self._check_known(old)
        self._check_known(into)
        if old == into:
            raise InputError(f"{old!r} cannot be merged with itself; choose two classes")
        self._record([Change("merge", name=into, detail=old)])

    def remove_class(self, name: str) -> None:
        """Remove a class; its labels are taken back."""
        self._check_known(name)
        of_it = [row for row, label in self._labels.items() if label.class_name == name]
        self._record([*(Change("label", row) for row in of_it), Change("remove", name=name)])

    def undo(self) -> str:
        """Take back what was done last; returns what that was, or nothing if there is nothing."""
        if not self._undo:
            return ""
        step = self._undo.pop()
        self._redo.append(step)
        self._make(step.inverse)
        return describe(step.done)

    def redo(self) -> str:
        """Do again what was undone last; returns what that is, or nothing if there is nothing."""
        if not self._redo:
            return ""
        step = self._redo.pop()
        self._undo.append(step)
        self._make(step.done)
        return describe(step.done)

    def replay(self, changes: Iterable[Change]) -> None:
        """Make changes that were recorded earlier; they cannot be undone."""
        # Those of a long file are not all kept at a time unless somebody is told of them.
        kept = tuple(changes) if self._listeners else changes
        known: set[str] = set()
        for change in kept:
            self._apply(change)
            # A label is taken back of a row that something was said of before.
            if change.action == "label" and not change.name and change.row not in known:
                self._without_class[change.row] = None
            known.add(change.row)
        if self._listeners:
            self._tell(tuple(kept))

    def snapshot(self) -> tuple[Change, ...]:
        """Return the fewest changes that make an empty book this one."""
        return (
            *(Change("add", name=name, who=self.who, when=self._clock()) for name in self._classes),
            *(_as_change(row, label) for row, label in self._labels.items()),
            *(Change("unsure", row, who=self.who, when=self._clock()) for row in self._unsure),
        )

    def _record(self, changes: Iterable[Change]) -> None:
        when = self._clock()
        done, inverse = [], []
        for change in changes:
            stamped = change._replace(who=self.who, when=when)
            inverse.append(self._inverse(stamped))
            self._apply(stamped)
            done.append(stamped)
        if done:
            backwards = tuple(one for each in reversed(inverse) for one in each)
            self._undo.append(_Step(tuple(done), backwards))
            self._redo.clear()
            self._tell(tuple(done))

    def _make(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            self._apply(change)
        self._tell(changes)

    def _tell(self, changes: tuple[Change, ...]) -> None:
        for listener in tuple(self._listeners):
            listener(changes)

    def _apply(self, change: Change) -> None:
        name, old = change.name, change.detail
        match change.action:
            case "label":
                self._unsure.pop(change.row, None)
                # Taken out first, so that the order is that in which labels were given last.
                self._labels.pop(change.row, None)
                if name:
                    self._without_class.pop(change.row, None)
                    self._place(name)
                    label = Label(name, change.who, change.when, change.drawn)
                    self._labels[change.row] = label
            case "unsure" if old:
                self._unsure.pop(change.row, None)
            case "unsure":
                self._unsure[change.row] = None
            case "add":
                self._place(name, int(old) if old.isdecimal() else None)
            case "remove":
                self._classes = [one for one in self._classes if one != name]
            case "rename":
                self._classes = [name if one == old else one for one in self._classes]
                self._move(old, name)
            case "merge":
                self._classes = [one for one in self._classes if one != old]
                self._move(old, name)

    def _place(self, name: str, at: int | None = None) -> None:
        if name not in self._classes:
            self._classes.insert(len(self._classes) if at is None else at, name)

    def _move(self, old: str, new: str) -> None:
        for row, label in self._labels.items():
            if label.class_name == old:
                self._labels[row] = label._replace(class_name=new)

    def _inverse(self, change: Change) -> tuple[Change, ...]:
        """Return the changes that undo a change that is still to be made."""
        who, when = change.who, change.when
        match change.action:
            case "label" | "unsure":
                return self._as_now(change.row, who, when)
            case "add":
                known = change.name in self._classes
                return () if known else (Change("remove", name=change.name, who=who, when=when),)
            case "rename":
                return (change._replace(name=change.detail, detail=change.name),)
            case "merge":
                return (
                    self._added_again(change.detail, who, when),
                    *self._labels_of(change.detail),
                )
            case "remove":
                return (self._added_again(change.name, who, when),)

    def _as_now(self, row: str, who: str, when: str) -> tuple[Change, ...]:
        label = self._labels.get(row)
        if label is None:
            unsure = [Change("unsure", row, who=who, when=when)] if self.is_unsure(row) else []
            return (Change("label", row, who=who, when=when), *unsure)
        return (_as_change(row, label),)

    def _added_again(self, name: str, who: str, when: str) -> Change:
        place = str(self._classes.index(name))
        return Change("add", name=name, detail=place, who=who, when=when)

    def _labels_of(self, name: str) -> tuple[Change, ...]:
        return tuple(
            _as_change(row, label)
            for row, label in self._labels.items()
            if label.class_name == name
        )

    def _check_known(self, name: str) -> None:
        if name not in self._classes:
            known = ", ".join(self._classes) or "none"
            raise InputError(f"there is no class {name!r} (there are: {known}); choose one of them")


def _as_change(row: str, label: Label) -> Change:
    return Change("label", row, label.class_name, "", label.who, label.when, label.drawn)


def describe(changes: tuple[Change, ...]) -> str:
    """Write what was done in a few words.

    Examples
    --------
    >>> describe((Change("label", "a.png", "round"), Change("label", "b.png", "round")))
    '2 labels "round"'
    >>> describe((Change("rename", name="late", detail="old"),))
    'renaming "old" to "late"'
    """
    last = changes[-1]
    rows = [change for change in changes if change.action == last.action]
    names = {change.name for change in rows}
    count = counted(len(rows), "label") if len(rows) > 1 else "label"
    match last.action:
        case "label" if names == {""}:
            return f"taking back {count}"
        case "label":
            return f'{count} "{last.name}"' if len(names) == 1 else count
        case "unsure":
            return "unsure mark" if len(rows) == 1 else counted(len(rows), "unsure mark")
        case "add":
            return f'class "{last.name}"'
        case "rename":
            return f'renaming "{last.detail}" to "{last.name}"'
        case "merge":
            return f'merging "{last.detail}" into "{last.name}"'
        case "remove":
            return f'removing class "{last.name}"'
