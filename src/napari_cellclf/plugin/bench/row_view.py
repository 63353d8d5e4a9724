"""Shows a row of a collection in the viewer: its image, its plane, its object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.plugin.classify.choices import list_choices
from napari_cellclf.plugin.classify.pixels import plane_place, positions

if TYPE_CHECKING:
    from napari_cellclf.core.collection import Row
    from napari_cellclf.plugin.bench.opening import Question
    from napari_cellclf.plugin.classify.choices import ImageChoice
    from napari_cellclf.plugin.classify.viewer_link import ViewerLink


def show_in_viewer(link: ViewerLink, row: Row, question: Question) -> str:
    """Open the file of a row, or go to its plane in the layers; returns why not, or nothing."""
    choice = question.choice
    if choice is None:
        link.open_image(Path(row.source), dict(row.plane), question.naming)
        opened, current = list_choices(link.layers(), link.selected())
        choice = opened[current] if 0 <= current < len(opened) else None
    elif len(link.intact(choice)) < len(choice.layers):
        return f"{choice.title} was removed or changed; open it again on the tab Images."
    else:
        _go_to(link, choice, row)
    return ""


def _go_to(link: ViewerLink, choice: ImageChoice, row: Row) -> None:
    wanted = row.source, dict(row.plane)
    for number, position in enumerate(positions(choice)):
        if plane_place(choice, number, position) == wanted:
            link.go_to(choice, position)
            return
