"""What the tab *Label* learns with: features in the background, then a refit after every label."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Collection as Rows
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_cellclf.bundles.backbone_files import backbone_entries, list_backbones
from napari_cellclf.bundles.paths import SUFFIX
from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.core.progress import Progress
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.suggesting import (
    FEWEST_FOR_ESTIMATE,
    RANDOM_EVERY,
    Estimate,
    LabelCheck,
    Suggester,
    Suggestions,
)
from napari_cellclf.errors import CellclfError, InputError
from napari_cellclf.io.array_cache import damaged_in_words
from napari_cellclf.models.backbones import (
    CHILD,
    DEFAULT_BACKBONE,
    Backbone,
    RowFeatures,
    default_backbone,
    row_features,
    start_process,
)
from napari_cellclf.models.suggested_model import (
    describe_suggested_model,
    known_images,
    write_request,
)
from napari_cellclf.plugin.bench.label_page import LabelPage
from napari_cellclf.plugin.bench.label_tab import LabelTab
from napari_cellclf.plugin.gallery.gallery_model import DOUBTS
from napari_cellclf.plugin.shared.background import LatestTask, Ticket, run_command
from napari_cellclf.plugin.shared.messages import sentence
from napari_cellclf.plugin.train.own_model import images_kept_for_tests, keep_as_own
from napari_cellclf.runs.resolve import crop_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.inference.process_engine import ProcessEngine

#: A collection that is only passed through starts no network.
_SOON_MS = 1000
#: So long no key is pressed before what was learnt is judged, which would hold up a refit.
_PAUSE_MS = 400
#: Rows that are tried for one that can be read, and planes whose objects are measured.
_TRIES, _MEASURED = 20, 20
_PAUSE_SECONDS = 0.1
#: Suggestions on the screen are shown again where their temperature changes by more (a logarithm).
_CHANGED = 0.2
_LONGEST = 60
_NOT_YET = "Nothing has been learnt yet; wait until all images have been looked at."
_FEW = "Label images of at least two classes first; then what was learnt can be saved."
_WAITING = "Learning begins in a moment; label in the meantime."


@dataclass(frozen=True, eq=False)
class Learnable:
    """All that is known of the rows of a collection before any label."""

    backbone: Backbone
    rows: RowFeatures
    suggester: Suggester


@dataclass(frozen=True)
class Request:
    """What is to be learnt from."""

    labels: Mapping[int, int]
    n_classes: int
    random_rows: tuple[int, ...]
    skipped: tuple[int, ...]


@dataclass
class _Preparation:
    """The features that are being computed, which can be paused and stopped at once."""

    collection: Collection
    backbone: str
    paused: threading.Event = field(default_factory=threading.Event)
    engine: ProcessEngine | None = None
    ended: bool = False

    def __call__(self, ticket: Ticket) -> Learnable:
        """Compute the features, and all that does not depend on labels; in a thread."""
        backbone = choose_backbone(self.collection, self.backbone)
        found = row_features(
            self.collection,
            backbone,
            start=self._start,
            on_progress=ticket.on_progress,
            should_stop=partial(self._should_stop, ticket),
        )
        if len(found.bad) == len(self.collection):
            raise InputError(f"no image can be read; the first: {next(iter(found.bad.values()))}")
        suggester = Suggester(found.features, self.collection.groups)
        return Learnable(backbone, found, suggester)

    def end(self) -> None:
        """End the child process at once."""
        self.ended = True
        if self.engine is not None:
            self.engine.close()

    def _start(self, backbone: Backbone) -> ProcessEngine:
        self.engine = start_process(backbone)
        # Whoever ended this before that line found no process to end.
        if self.ended:
            self.engine.close()
        return self.engine

    def _should_stop(self, ticket: Ticket) -> bool:
        while self.paused.is_set() and not ticket.should_stop():
            ticket.stop.wait(_PAUSE_SECONDS)
        return ticket.should_stop()


class Learning(QObject):
    """Learns from the labels of the page that is shown, and tells it what was learnt."""

    #: What was learnt has become a model; carries its name among the user's own, and whether
    #: labels were given since it was asked for.
    model_saved = Signal(str, bool)

    def __init__(self, tab: LabelTab) -> None:
        super().__init__(tab)
        self._tab = tab
        self._page: LabelPage | None = None
        self.learnable: Learnable | None = None
        self._preparation: _Preparation | None = None
        #: The network that looks at images, and how those are got that are not here.
        self._backbone = DEFAULT_BACKBONE
        self._ways: dict[str, str] = {}
        #: What was asked last, and what is to be done after that which is being done.
        self.request: Request | None = None
        self._next: Request | None = None
        #: What was learnt last, and how much its probabilities are softened to mean what they say.
        self._found: Suggestions | None = None
        self._temperature = 1.0
        #: The last estimate, for a model that is made of the same labels.
        self._estimated: tuple[Request, Estimate | None] | None = None
        #: What a model is being made of.
        self._used: Request | None = None
        tasks = [LatestTask(self) for _ in range(4)]
        self._features, self._refit, self._estimate, self._saving = tasks
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_SOON_MS)
        self._soon.timeout.connect(self._begin)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._begin_estimate)
        self._features.done.connect(self._on_features)
        self._features.failed.connect(self._on_failed)
        self._features.progress.connect(self._on_progress)
        self._refit.done.connect(self._on_refit)
        self._refit.failed.connect(self._on_failed)
        self._estimate.done.connect(self._on_estimate)
        self._estimate.failed.connect(self._on_failed)
        self._saving.done.connect(self._on_saved)
        self._saving.failed.connect(self._on_not_saved)
        tab.use.clicked.connect(self._on_use)
        tab.backbone.activated.connect(self._on_backbone)
        tab.pause.clicked.connect(self._on_pause)
        tab.pause.setVisible(False)
        tab.page_changed.connect(self.show_page)

    @property
    def is_ready(self) -> bool:
        """Whether a result comes within a moment, since the features are there."""
        return self.learnable is not None

    def show_page(self, page: LabelPage | None) -> None:
        """Learn for another page, or for none."""
        # A model that is being saved needs nothing of the page.
        self._end_learning()
        self._page = page
        if page is not None:
            self._list_backbones()
            page.set_learner(self)
            page.tell(_WAITING)
            self._soon.start()

    def stop(self) -> None:
        """Stop at once; what was computed is kept on disk."""
        self._end_learning()
        self._saving.stop()

    def _end_learning(self) -> None:
        self._soon.stop()
        self._pause.stop()
        for task in (self._features, self._refit, self._estimate):
            task.stop()
        if self._preparation is not None:
            self._preparation.end()
        self._preparation = self.learnable = self.request = self._next = self._found = None
        self._temperature = 1.0
        self._show_working(False)

    def learn(
        self,
        labels: Mapping[int, int],
        n_classes: int,
        random_rows: Rows[int],
        skipped: Rows[int],
    ) -> None:
        """Learn from all labels; of requests that come meanwhile, only the last one counts."""
        self.request = Request(dict(labels), n_classes, tuple(random_rows), tuple(skipped))
        self._pause.stop()
        self._estimate.stop()
        if self.learnable is None:
            return
        if self._refit.running:
            self._next = self.request
        else:
            self._start_refit(self.request)

    def _list_backbones(self) -> None:
        """List the networks that can look at images, those to be got last."""
        here = [DEFAULT_BACKBONE, *(spec.name for spec in list_backbones())]
        if self._backbone not in here:
            self._backbone = DEFAULT_BACKBONE
        entries = backbone_entries()
        self._ways = {name: entry.way for name, entry in entries.items() if name not in here}
        box = self._tab.backbone
        box.clear()
        for name in here:
            box.addItem(f"Look at images with {name}", name)
        for name in self._ways:
            box.addItem(f"{name} (not here yet)", name)
        box.setCurrentIndex(box.findData(self._backbone))

    def _on_backbone(self) -> None:
        """Look at the images with another network, or say how to get it."""
        box = self._tab.backbone
        name = box.currentData()
        if name in self._ways:
            box.setCurrentIndex(box.findData(self._backbone))
            self._tab.refuse(f"{name} is not here: {self._ways[name]}")
        elif name != self._backbone:
            self._backbone = name
            self.show_page(self._page)

    def _begin(self) -> None:
        if self._page is not None:
            self._preparation = _Preparation(self._page.collection, self._backbone)
            self._show_working(True)
            self._features.start(self._preparation)

    def _on_features(self, found: Learnable) -> None:
        self.learnable, self._preparation = found, None
        self._show_working(False)
        bad = len(found.rows.bad)
        some = counted(bad, "image cannot be used, and is", "images cannot be used, and are")
        told = [f"{some} not offered."] if bad else []
        if found.rows.damaged:
            told.append(sentence(damaged_in_words(found.rows.damaged)))
        self._tell(" ".join(told))
        if self.request is not None:
            self._start_refit(self.request)

    def _start_refit(self, request: Request) -> None:
        if self.learnable is None:
            return
        suggester = self.learnable.suggester

        def work(ticket: Ticket) -> Suggestions:
            return suggester.refit(
                request.labels, request.n_classes, request.random_rows, request.skipped
            )

        self._refit.start(work)

    def _on_refit(self, found: Suggestions) -> None:
        following, self._next = self._next, None
        if following is not None:
            self._start_refit(following)
            return
        self._found = found
        self._suggest()
        self._pause.start()

    def judge_again(self) -> None:
        """Judge what was learnt once more: a model may have set images aside for its test."""
        self._pause.start()

    def _begin_estimate(self) -> None:
        """Judge what was learnt, once nobody presses a key."""
        request = self.request
        if request is None or self.learnable is None or self._refit.running:
            return
        suggester, hashes = self.learnable.suggester, self.learnable.rows.hashes

        def work(ticket: Ticket) -> tuple[Estimate | None, LabelCheck]:
            asked, stop = (request.labels, request.n_classes), ticket.should_stop
            estimate = suggester.estimate(*asked, request.random_rows, stop)
            check = suggester.check(*asked, stop)
            # A test that was cleaned by predictions would make models look better than they are.
            kept = images_kept_for_tests()
            for_tests = [not kept.isdisjoint(image) for image in hashes]
            if any(for_tests):
                check = replace(check, doubts=np.where(for_tests, np.nan, check.doubts))
            return estimate, check

        self._estimate.start(work)

    def _suggest(self) -> None:
        """Show what was learnt, softened by what is known of how sure it may be."""
        if self._page is not None and self._found is not None:
            self._page.suggest(self._found.softened(self._temperature))

    def _on_estimate(self, result: tuple[Estimate | None, LabelCheck]) -> None:
        found, check = result
        changed = abs(np.log(check.temperature / self._temperature)) > _CHANGED
        self._temperature = check.temperature
        if changed:
            self._suggest()
        if self._page is not None and self.request is not None:
            self._estimated = self.request, found
            column = self._page.collection.group_column
            left = len(self._page.collection) - len(self.request.labels)
            self._page.doubt(check.doubts)
            said = estimate_text(found, len(self.request.random_rows), column, left)
            self._tell(f"{said} {doubts_text(self._page.doubts)}".strip())

    def _on_progress(self, progress: Progress) -> None:
        self._tab.progress.setMaximum(max(1, progress.total))
        self._tab.progress.setValue(progress.done)
        if self._preparation is not None and not self._preparation.paused.is_set():
            collection = self._preparation.collection
            what = "objects" if collection.has_objects else "images"
            self._tell(f"Looking at the {what}: {progress.done:,} of {progress.total:,}.")

    def _on_pause(self) -> None:
        if self._preparation is None:
            return
        paused = self._preparation.paused
        if paused.is_set():
            paused.clear()
            self._tab.pause.setText("Pause")
        else:
            paused.set()
            self._tab.pause.setText("Resume")
            self._tell("Paused. Labels are kept; nothing is suggested until you resume.")

    def _on_use(self) -> None:
        """Make a model of what was learnt."""
        page, learnt, request = self._page, self.learnable, self.request
        if page is None or learnt is None or request is None:
            self._tab.refuse(_NOT_YET)
            return
        if len(set(request.labels.values())) < 2:
            self._tab.refuse(_FEW)
            return
        known = self._estimated
        estimate = known[1] if known is not None and known[0] is request else None
        self._used = request
        self._tab.use.setEnabled(False)
        self._tab.message.say("Saving a model; this takes about half a minute.")
        self._saving.start(
            partial(
                save_model,
                learnt,
                request,
                page.collection,
                page.book.classes,
                estimate,
            )
        )

    def _on_saved(self, name: str) -> None:
        self._tab.use.setEnabled(True)
        self._tab.message.say(f"Saved as {name}, among your models on the tab Results.")
        self.model_saved.emit(name, self.request is not self._used)

    def _on_not_saved(self, sentence: str) -> None:
        self._tab.use.setEnabled(True)
        self._tab.message.say(sentence, wrong=True)

    def _on_failed(self, sentence: str) -> None:
        self._show_working(False)
        self._tell(f"Nothing is suggested: {sentence}")

    def _tell(self, sentence: str) -> None:
        if self._page is not None:
            self._page.tell(sentence)

    def _show_working(self, working: bool) -> None:
        self._tab.progress.setVisible(working)
        self._tab.progress.setValue(0)
        self._tab.pause.setVisible(working)
        self._tab.pause.setText("Pause")


def save_model(
    learnt: Learnable,
    request: Request,
    collection: Collection,
    classes: Sequence[str],
    estimate: Estimate | None,
    ticket: Ticket,
) -> str:
    """Make a model of what was learnt; in a thread. Returns its name among the user's own."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", Path(collection.title).stem).strip("-")
    name = f"{words[:_LONGEST] or 'images'}-{len(request.labels)}-labels"
    described, head = describe_suggested_model(
        learnt.suggester,
        learnt.backbone,
        request.labels,
        classes,
        name=name,
        source=f"{collection.title}: {len(request.labels)} labelled images",
        group_column=collection.group_column,
        estimate=estimate,
    )
    with tempfile.TemporaryDirectory(prefix="cellclf-") as private:
        folder = Path(private)
        labelled = (learnt.rows.hashes[row] for row in request.labels)
        seen = SeenImages.of((one, "train") for image in labelled for one in image)
        write_request(folder, described, head, seen, _known(learnt, request, collection))
        place = folder / f"{name}{SUFFIX}"
        run_command(["save", private, str(place)], ticket, CHILD)
        return keep_as_own(place)


def _known(learnt: Learnable, request: Request, collection: Collection) -> Unlikeness | None:
    rows = [row for row in request.labels if row not in learnt.rows.bad]
    groups = collection.groups
    named = None if groups is None else [str(groups[row]) for row in rows]
    return known_images(learnt.rows.features[rows], named)


def choose_backbone(collection: Collection, name: str = DEFAULT_BACKBONE) -> Backbone:
    """Choose how rows are looked at, by the first image that can be read."""
    crop = None
    if collection.has_objects:
        planes: dict[tuple[object, object], list[int]] = {}
        for number, row in enumerate(collection.rows):
            planes.setdefault((row.source, row.plane), []).append(number)
        some = list(planes.values())[:_MEASURED]
        found = [[collection.rows[number].object for number in plane] for plane in some]
        crop = crop_around([[one for one in plane if one is not None] for plane in found])
    reason = "there are none"
    for number in range(min(_TRIES, len(collection))):
        try:
            return default_backbone(collection.read(number), crop, name)
        except CellclfError as error:
            reason = str(error)
    raise InputError(f"the first images cannot be read ({reason}); open others")


def doubts_text(doubts: NDArray[np.floating]) -> str:
    """Say how many labels the others speak against; nothing if there are none."""
    count = int(np.count_nonzero(np.nan_to_num(doubts)))
    if not count:
        return ""
    return f"{counted(count, 'label looks', 'labels look')} wrong; sort by “{DOUBTS}” to check."


def estimate_text(found: Estimate | None, n_random: int, group: str | None, n_left: int) -> str:
    """Say how good the suggestions are, or what is missing to know it.

    `n_left`: rows that have no label yet.
    """
    if found is None:
        more = FEWEST_FOR_ESTIMATE - n_random
        if more <= 0:
            return "Too few groups have labels for an estimate of the accuracy."
        if more > ceil(n_left / RANDOM_EVERY):
            return "There are too few images for an estimate of the accuracy."
        have = "has a label" if more == 1 else "have labels"
        return (
            f"The accuracy is estimated once {counted(more, 'more image')} drawn at random {have}; "
            f"every {RANDOM_EVERY}th one is."
        )
    low, high = round(100 * found.low), round(100 * found.high)
    without = "from the other labels"
    if found.n_groups:
        without = f"without its {group or 'image'} ({found.n_groups} of them)"
    return (
        f"About {100 * found.accuracy:.0f} % of new images would be predicted right (95 % interval "
        f"{low} to {high} %): of {counted(found.n_images, 'labelled image')} drawn at random, each "
        f"predicted {without}. Label more, or press Save as a model."
    )
