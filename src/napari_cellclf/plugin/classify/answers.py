"""Which answers there are, and which of them belong to what is looked at: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.results import Results


class AnswerBook:
    """The latest answers to each image, and to a folder."""

    def __init__(self) -> None:
        self.running: Results | None = None
        self.orphan: Results | None = None
        self._images: dict[frozenset[Hashable], Results] = {}
        self._folder: Results | None = None

    def begin(self, results: Results) -> None:
        """Take up the answers of a job that starts, in place of those to the same image."""
        self.running = results
        self.orphan = None
        if results.request.image is None:
            self._folder = results
        else:
            # The newest last, also where an image is classified again.
            self._images.pop(results.keys, None)
            self._images[results.keys] = results

    def end(self, *, removed: bool = False) -> Results | None:
        """Note that the job has ended."""
        results, self.running = self.running, None
        self.orphan = results if removed else None
        return results

    def fail(self) -> None:
        """Forget the answers of the job, which has failed."""
        results = self.end()
        if results is self._folder:
            self._folder = None
        elif results is not None:
            self._images.pop(results.keys, None)

    def forget_others(self, layers: Collection[Hashable]) -> None:
        """Forget answers to images of which no layer is among those given."""
        kept = frozenset(layers)
        self._images = {keys: one for keys, one in self._images.items() if keys & kept}

    def for_folder(self) -> Results | None:
        """Return the answers to the folder."""
        return self._folder

    def for_image(self, choice: ImageChoice | None) -> Results | None:
        """Return the newest answers to an image, or to one that it is a part of."""
        if self.orphan is not None or choice is None:
            return self.orphan
        fitting = [one for keys, one in self._images.items() if choice.keys <= keys]
        return fitting[-1] if fitting else None
