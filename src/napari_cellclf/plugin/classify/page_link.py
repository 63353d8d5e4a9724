"""Shows the predictions of a folder, or of the bench's rows, on the page of results."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from qtpy.QtCore import QObject, Signal

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.plugin.classify.request import ClassifyRequest
from napari_cellclf.plugin.classify.results import Results, predictions_of
from napari_cellclf.plugin.classify.results_view import ResultsView
from napari_cellclf.plugin.gallery.results_page import ResultsPage
from napari_cellclf.plugin.shared.background import LatestTask, Ticket


class PageLink(QObject):
    """Puts the page of results in the place of the plain table, once all rows are there."""

    #: A folder could not be looked through; carries one sentence.
    failed = Signal(str)
    #: The page is shown.
    shown = Signal()

    def __init__(self, page: ResultsPage, view: ResultsView) -> None:
        super().__init__(page)
        self._page, self._view = page, view
        self._results: Results | None = None
        #: The labels of the bench's rows.
        self.book: LabelBook | None = None
        self._task = LatestTask(self)
        self._task.done.connect(self._on_opened)
        self._task.failed.connect(self.failed)
        self._set_visible(False)

    def show(self, results: Results | None, running: bool) -> None:
        """Show results on the page, unless they are of layers or still to come."""
        fits = results is not None and results.request.image is None and bool(results.records)
        wanted = results if fits and not running else None
        if wanted is self._results:
            return
        self._task.stop()
        self._results = wanted
        if wanted is not None and wanted.request.collection is not None:
            wanted.collection = wanted.request.collection
        self._set_visible(wanted is not None and wanted.collection is not None)
        if wanted is None:
            self._page.show_results(None, None)
        elif wanted.collection is not None:
            self._fill(wanted, wanted.collection)
        elif wanted.request.folder is not None:
            self._task.start(partial(_open, wanted.request))

    def close(self) -> None:
        """Stop working."""
        self._task.stop()
        self._page.shut_down()

    def _on_opened(self, collection: Collection) -> None:
        results = self._results
        if results is not None:
            results.collection = collection
            self._set_visible(True)
            self._fill(results, collection)

    def _fill(self, results: Results, collection: Collection) -> None:
        rows = [row for row in results.rows if not row.error]
        found = predictions_of(results, rows)
        failures = {str(row.record["image"]): row.error for row in results.rows if row.error}
        if results.request.folder is not None:
            # As the collection calls them, however the folder was typed.
            found = replace(found, ids=tuple(map(os.path.abspath, found.ids)))
            failures = dict(zip(map(os.path.abspath, failures), failures.values(), strict=True))
        of_bench = results.request.collection is not None and self.book is not None
        self._page.show_results(
            collection,
            found,
            unsure=[row.is_unsure for row in rows],
            book=self.book if of_bench else results.book,
            failures=failures,
        )
        self.shown.emit()

    def _set_visible(self, page: bool) -> None:
        self._page.setVisible(page)
        self._page.overview.setVisible(page)
        self._view.give_way(page)


def _open(request: ClassifyRequest, ticket: Ticket) -> Collection:
    from napari_cellclf.io.collections import open_collection

    return open_collection(
        [str(request.folder)],
        request.naming,
        objects=request.model.object_crop is not None,
        masks=request.masks,
        should_stop=ticket.should_stop,
    )
