"""Which predictions belong to what is looked at, without a window."""

from __future__ import annotations

from dataclasses import replace

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo
from napari_cellclf.plugin.classify.job import ImageResult
from napari_cellclf.plugin.classify.request import (
    ClassifyRequest,
    ModelChoice,
    folder_question,
    layers_question,
)
from napari_cellclf.plugin.classify.results import Results, ResultsBook, failure_message

MODEL = ModelChoice("m", "M", (ChannelSpec(name="A"),), ("x", "y"))


def choice(*keys: int) -> ImageChoice:
    """Make an image of layers."""
    layers = tuple(LayerInfo(key, f"l{key}", (4, 5)) for key in keys)
    return ImageChoice("t", layers, "YX", tuple(layer.name for layer in layers))


def answers_to(image: ImageChoice | None, model: ModelChoice = MODEL) -> Results:
    """Make predictions to an image, or to a folder."""
    if image is None:
        question = folder_question(model, "folder", None)
        return Results(ClassifyRequest(model, None, "folder", question=question))
    return Results(
        ClassifyRequest(model, image, None, (0,), question=layers_question(model, image, (0,)))
    )


def test_each_question_has_its_newest_book() -> None:
    book = ResultsBook()
    first, other, again = (answers_to(choice(*keys)) for keys in ((1, 2), (3,), (1, 2)))
    for results in (first, other, again):
        book.begin(results)
        assert book.end() is results
    assert book.find(layers_question(MODEL, choice(1, 2), (0,))) is again
    assert book.find(layers_question(MODEL, choice(3), (0,))) is other
    assert book.find(layers_question(MODEL, choice(2), (0,))) is None
    assert book.find(layers_question(MODEL, None, ())) is None
    assert book.find(folder_question(MODEL, "folder", None)) is None


def test_predictions_are_of_one_model_mapping_axis_and_pixels() -> None:
    image, book = choice(1, 2), ResultsBook()
    book.begin(answers_to(image))
    asked = layers_question(MODEL, image, (0,))
    assert book.find(asked) is not None
    retrained = replace(MODEL, fingerprint="other weights")
    changed = (image.layers[0], replace(image.layers[1], version=1))
    for other in (
        layers_question(retrained, image, (0,)),
        layers_question(MODEL, image, (1,)),
        layers_question(MODEL, replace(image, axes="XY"), (0,)),
        layers_question(MODEL, replace(image, layers=changed[::-1]), (0,)),
        layers_question(None, image, (0,)),
        folder_question(MODEL, "folder", None),
    ):
        assert book.find(other) is None
    # The order of the layers in napari's list matters for nothing else.
    swapped = replace(image, layers=image.layers[::-1])
    assert book.find(layers_question(MODEL, swapped, (1,))) is not None


def test_predictions_of_a_folder_are_of_its_path_and_naming() -> None:
    book = ResultsBook()
    book.begin(answers_to(None))
    assert book.find(folder_question(MODEL, " folder ", None)) is not None
    assert book.find(folder_question(MODEL, "other", None)) is None
    assert book.find(folder_question(MODEL, "folder", "{well}.tif")) is None
    assert book.find(folder_question(MODEL, "", None)) is None


def test_a_failed_job_keeps_what_it_predicted() -> None:
    book = ResultsBook()
    image, folder = answers_to(choice(1)), answers_to(None)
    book.begin(image)
    book.fail()
    assert book.find(image.request.question) is None
    folder.rows.append(ImageResult({"image": "a.png"}, (("x", 1.0),)))
    book.begin(folder)
    assert book.fail() is folder
    assert book.find(folder.request.question) is folder
    assert book.running is None
    text = failure_message(folder, "The process ended.", shown=True)
    assert (
        text
        == "The process ended. Before that, 1 image was classified; these predictions are kept."
    )
    assert failure_message(None, "No.", shown=True) == "No."


def test_answers_to_removed_layers_are_forgotten_or_kept_as_orphan() -> None:
    book = ResultsBook()
    results = answers_to(choice(1))
    book.begin(results)
    book.forget_others([2])
    assert book.find(results.request.question) is None
    book.end(removed=True)
    assert book.find(None) is results
    book.orphan = None
    assert book.find(None) is None
