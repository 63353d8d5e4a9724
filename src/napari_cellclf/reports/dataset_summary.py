"""What is known of a data set before training: in words, and as a plot of its classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset_report import DatasetReport
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.errors import InputError
from napari_cellclf.reports.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_cellclf.core.dataset import Dataset

_SPLITS = ("train", "validation", "test", "unsplit")
_MOST_CLASSES, _MOST_GROUPS, _MOST_LISTED, _MOST_SIZES = 60, 24, 10, 6
_COLOURS = {
    "train": "#3b5b92",
    "validation": "#d98e04",
    "test": "#1b7f4b",
    "unsplit": "#3b5b92",
}
_MOST_WRITTEN = 40
_WIDEST = 30.0


def dataset_text(report: DatasetReport) -> str:
    """Write a report as lines of text."""
    parts = [
        [_printable(report.source)],
        list(_class_lines(report)),
        list(_group_lines(report)),
        list(_file_lines(report)),
        list(_duplicate_lines(report)),
        list(_warning_lines(report)),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _class_lines(report: DatasetReport) -> Iterator[str]:
    used = [
        split for split in _SPLITS if any(counts.get(split) for counts in report.counts.values())
    ]
    # Without a split there is only one number for each class.
    shown = [] if used == ["unsplit"] else used
    rows = [["class", f"{report.noun}s", *shown]]
    sizes = report.per_class
    for name, counts in list(report.counts.items())[:_MOST_CLASSES]:
        rows.append([name, str(sizes[name]), *(str(counts.get(split, 0)) for split in shown)])
    totals = [sum(counts.get(split, 0) for counts in report.counts.values()) for split in shown]
    rows.append(["all", str(report.n_images), *map(str, totals)])
    hidden = len(report.counts) - _MOST_CLASSES
    if hidden > 0:
        rows.insert(-1, [f"... {hidden} more", *[""] * (len(rows[0]) - 1)])
    yield from _columns(rows)


def _group_lines(report: DatasetReport) -> Iterator[str]:
    if report.group_column is None:
        yield "kept together by: nothing"
        return
    n_groups = len(report.groups)
    yield f"kept together by: {report.group_column} ({counted(n_groups, 'group')})"
    yield f"  {_printable(report.group_reason)}"
    rows = [["group", "split", f"{report.noun}s", "classes"]]
    for name, counts in list(report.groups.items())[:_MOST_GROUPS]:
        classes = next(iter(counts)) if len(counts) == 1 else str(len(counts))
        rows.append([name, report.group_splits[name], str(sum(counts.values())), classes])
    left = 2
    if set(report.group_splits.values()) == {"unsplit"}:
        rows, left = [[name, *rest] for name, _, *rest in rows], 1
    yield from ("  " + line for line in _columns(rows, left))
    if n_groups > _MOST_GROUPS:
        yield f"  ... {n_groups - _MOST_GROUPS} more"


def _file_lines(report: DatasetReport) -> Iterator[str]:
    files = report.files
    rows = [("sizes", files.shapes), ("types", files.dtypes), ("channels", files.channels)]
    for title, counts in rows:
        if counts:
            yield f"{title + ':':<10}{_tally(counts)}"
    if files.unreadable:
        yield f"cannot be used: {len(files.unreadable)}"
        yield from _listed([reason for _, reason in files.unreadable])
    if files.multi_plane:
        yield f"several planes in one file: {len(files.multi_plane)}"
        yield from _listed([f"{path} ({axes})" for path, axes in files.multi_plane.items()])


def _duplicate_lines(report: DatasetReport) -> Iterator[str]:
    if not report.duplicates:
        return
    yield f"copies of one image: {len(report.duplicates)}"
    lines = []
    for one in report.duplicates:
        labels = f" labelled {' and '.join(sorted(set(one.labels)))}:" if one.contradictory else ""
        sides = f" in {' and '.join(sorted(set(one.splits)))}:" if one.leaks else ""
        lines.append(f"{(labels + sides).strip()} {', '.join(one.paths)}".strip())
    yield from _listed(lines)


def _warning_lines(report: DatasetReport) -> Iterator[str]:
    if not report.warnings:
        yield "nothing odd was found"
        return
    yield "look at:"
    yield from (f"  - {_printable(sentence)}" for sentence in report.warnings)


def _listed(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {_printable(line)}" for line in lines[:_MOST_LISTED])
    if len(lines) > _MOST_LISTED:
        yield f"  ... {len(lines) - _MOST_LISTED} more"


def _tally(counts: Mapping[str, int]) -> str:
    words = [f"{name} ({number})" for name, number in list(counts.items())[:_MOST_SIZES]]
    hidden = len(counts) - _MOST_SIZES
    return ", ".join(words) + (f", {hidden} more" if hidden > 0 else "")


def _columns(rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """Set rows in columns: the first `left` ones to the left, numbers to the right."""
    printed = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
    for row in printed:
        cells = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _printable(text: str) -> str:
    """Escape what a terminal would act on."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def plot_class_counts(
    data: Dataset | DatasetReport, path: str | Path, *, copies: int = 1, title: str = ""
) -> Path:
    """Draw how many images each class has, a bar a class, its splits on top of each other."""
    if copies < 1:
        raise InputError(f"{copies} copies of each image cannot be drawn; give at least 1")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = augmented_counts(data, copies)
    figure = Figure(figsize=(min(_WIDEST, 3 + 0.45 * len(counts)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw(axes, counts)
    axes.set(ylabel="images", title=title)
    return save_figure(figure, path)


def augmented_counts(data: Dataset | DatasetReport, copies: int) -> dict[str, dict[str, int]]:
    """Count the images that there are after augmentation."""
    return {
        name: {
            split: number * (copies if split in ("train", "unsplit") else 1)
            for split, number in splits.items()
        }
        for name, splits in _counts(data).items()
    }


def _counts(data: Dataset | DatasetReport) -> Mapping[str, Mapping[str, int]]:
    if isinstance(data, DatasetReport):
        return data.counts
    return {
        str(name): {str(split): int(number) for split, number in row.items()}
        for name, row in data.counts().iterrows()
    }


def _draw(axes: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    names = list(counts)
    bottom = [0] * len(names)
    for split in (*SPLITS, "unsplit"):
        numbers = [counts[name].get(split, 0) for name in names]
        if any(numbers):
            axes.bar(range(len(names)), numbers, bottom=bottom, color=_COLOURS[split], label=split)
        bottom = [below + number for below, number in zip(bottom, numbers, strict=True)]
    many = len(names) > _MOST_WRITTEN
    for place, total in enumerate([] if many else bottom):
        axes.text(place, total, str(total), ha="center", va="bottom", fontsize=8)
    step = -(-len(names) // _MOST_WRITTEN) if many else 1
    shown = range(0, len(names), step)
    slanted = sum(len(names[place]) for place in shown) > 8 * len(names) or len(names) > 10
    axes.set_xticks(list(shown), [names[place] for place in shown], fontsize=8)
    if slanted:
        axes.tick_params(axis="x", labelrotation=90)
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.containers) > 1:
        # Beside the bars, none of which it hides there.
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
