"""Which predictions belong to what is looked at, without a window."""

from __future__ import annotations

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo
from napari_cellclf.plugin.classify.request import ClassifyRequest, ModelChoice
from napari_cellclf.plugin.classify.results import Results, ResultsBook

MODEL = ModelChoice("m", "M", (ChannelSpec(name="A"),), ("x", "y"))


def choice(*keys: int) -> ImageChoice:
    """Make an image of layers."""
    layers = tuple(LayerInfo(key, f"l{key}", (4, 5)) for key in keys)
    return ImageChoice("t", layers, "YX", tuple(layer.name for layer in layers))


def answers_to(image: ImageChoice | None) -> Results:
    """Make predictions to an image, or to a folder."""
    folder = "folder" if image is None else None
    return Results(ClassifyRequest(MODEL, image, folder, (0,)))


def test_each_image_has_its_newest_book() -> None:
    book = ResultsBook()
    first, other, again = (answers_to(choice(*keys)) for keys in ((1, 2), (3,), (1, 2)))
    for results in (first, other, again):
        book.begin(results)
        assert book.end() is results
    assert book.for_image(choice(1, 2)) is again
    assert book.for_image(choice(2)) is again
    assert book.for_image(choice(3)) is other
    assert book.for_image(choice(2, 3)) is None
    assert book.for_image(None) is None
    assert book.for_folder() is None


def test_a_failed_job_leaves_no_book() -> None:
    book = ResultsBook()
    book.begin(answers_to(choice(1)))
    book.fail()
    book.begin(answers_to(None))
    assert book.for_folder() is not None
    book.fail()
    assert book.for_image(choice(1)) is None
    assert book.for_folder() is None
    assert book.running is None


def test_answers_to_removed_layers_are_forgotten_or_kept_as_orphan() -> None:
    book = ResultsBook()
    results = answers_to(choice(1))
    book.begin(results)
    book.forget_others([2])
    assert book.for_image(choice(1)) is None
    book.end(removed=True)
    assert book.for_image(None) is results
    book.orphan = None
    assert book.for_image(None) is None
