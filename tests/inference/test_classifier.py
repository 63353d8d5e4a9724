"""What a classifier answers, however the images are handed over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.calibration import apply_temperature
from napari_cellclf.core.image import Image
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import Progress, part_done
from napari_cellclf.errors import (
    AxesError,
    CancelledError,
    ChannelMismatchError,
    ImageError,
    ImageTooLargeError,
    InputError,
    NoImagesError,
    UnreadableImageError,
)
from napari_cellclf.inference import batches
from napari_cellclf.inference.classifier import Classifier, image_from_array
from napari_cellclf.inference.prepare import BadImage, UnreadImage, distinct
from napari_cellclf.io.sources import ImageSource

MakeImage = Callable[..., Image]


@dataclass
class _Source:
    """Stands for what `collect_sources` gives."""

    id: str
    image: Image | Exception
    metadata: dict[str, Any] = field(default_factory=dict)
    planes: dict[Any, Any] = field(default_factory=dict)

    def read(self) -> Image:
        if isinstance(self.image, Exception):
            raise self.image
        return self.image


@dataclass
class _Engine:
    """Answers without a network, and keeps count."""

    answer: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
    batches: list[tuple[int, ...]] = field(default_factory=list)
    device: str = "cpu:0"

    def __call__(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.batches.append(batch.shape)
        return self.answer(batch)


def _thirds(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.full((len(batch), 3), 1 / 3, np.float32)


def _direct(network: Any, classifier: Classifier, image: Image) -> Any:
    pixels = classifier.preprocessing(image)[np.newaxis]
    return np.asarray(network(pixels, training=False))[0]


def test_the_numbers_are_the_networks(
    network: Any, classifier: Classifier, make_image: MakeImage
) -> None:
    images = [make_image(seed) for seed in range(5)]
    found = classifier.predict(images)
    wanted = np.stack([_direct(network, classifier, image) for image in images])
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
    assert found.classes == ("a", "b", "c")
    assert found.model == "tiny"
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)
    # the images differ, and so do the answers: the test would see rows exchanged
    assert len(np.unique(found.probabilities[:, 0])) == 5


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.sampled_from([(8, 8), (9, 12), (20, 24)]), min_size=1, max_size=9),
    batch_size=st.integers(1, 10),
)
def test_an_answer_does_not_depend_on_the_batch(
    classifier: Classifier,
    make_image: MakeImage,
    sizes: list[tuple[int, int]],
    batch_size: int,
) -> None:
    images = [make_image(seed, size) for seed, size in enumerate(sizes)]
    together = classifier.predict(images, batch_size=batch_size).probabilities
    alone = np.concatenate([classifier.predict(image).probabilities for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_every_plane_is_a_row(network: Any, classifier: Classifier, make_image: MakeImage) -> None:
    planes = [make_image(seed) for seed in range(6)]
    data = np.stack([plane.data for plane in planes]).reshape(2, 3, 2, 20, 24)
    stack = Image(data, "TZCYX", planes[0].channels, source="film.tif")
    found = classifier.predict(stack, batch_size=4)
    assert found.ids[0] == "film.tif[t=0,z=0]"
    assert found.ids[-1] == "film.tif[t=1,z=2]"
    wanted = np.stack([_direct(network, classifier, plane) for plane in planes])
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)


def test_a_lazy_stack_is_read_plane_by_plane(
    classifier: Classifier, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.array as da

    monkeypatch.setattr("napari_cellclf.inference.prepare.default_threads", lambda: 1)
    most = 0
    alive = 0

    def load(seed: int) -> np.ndarray[Any, Any]:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return np.asarray(make_image(seed).data)[np.newaxis]

    class _Counting(_Engine):
        def __call__(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            nonlocal alive
            alive = 0
            return super().__call__(batch)

    blocks = [
        da.from_delayed(_delayed(load, seed), (1, 2, 20, 24), dtype="uint16") for seed in range(9)
    ]
    stack = Image(da.concatenate(blocks), "PCYX", ("DNA", "actin"), source="plate")
    counting = Classifier(classifier.bundle, _Counting(_thirds))
    assert len(counting.predict(stack, batch_size=2)) == 9
    # A batch, and what one thread prepares ahead meanwhile.
    assert most <= 5


def _delayed(load: Callable[[int], Any], seed: int) -> Any:
    from dask import delayed

    return delayed(load)(seed)


def test_what_is_known_of_each_plane_goes_into_its_row(classifier: Classifier) -> None:
    sites = [{"well": "B02", "site": 1, "files": ["a"]}, {"well": "B02", "site": 2}]
    stack = Image(
        np.random.default_rng(0).normal(size=(2, 2, 8, 8)),
        "PCYX",
        ("DNA", "actin"),
        metadata={"sites": sites, "plate": 3},
    )
    assert classifier.predict(stack).metadata == (
        {"plate": 3, "well": "B02", "site": 1},
        {"plate": 3, "well": "B02", "site": 2},
    )


def test_arrays_are_taken_where_they_mean_one_thing(
    classifier: Classifier, make_image: MakeImage
) -> None:
    image = make_image(1)
    wanted = classifier.predict(image).probabilities
    found = classifier.predict(image.data)
    assert found.ids == ("image",)
    np.testing.assert_array_equal(found.probabilities, wanted)
    both = classifier.predict([image.data, make_image(2).data])
    assert both.ids == ("image[0]", "image[1]")


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((8, 8), "stack the channels as (2, Y, X)"),
        ((3, 8, 8), "axes='CYX', channels=[its 3 names])"),
        ((8, 8, 2), "axes='YXC', channels=['DNA', 'actin'])"),
        ((8, 8, 3), "axes='YXS')"),
        ((2, 2, 8, 8), "axes='TCYX', channels=['DNA', 'actin'])"),
        ((2, 5, 8, 8), "axes='CTYX', channels=['DNA', 'actin'])"),
        ((3, 5, 2, 8, 8), "axes='TZCYX', channels=['DNA', 'actin'])"),
        ((8,), "give an array (2, Y, X)"),
    ],
)
def test_arrays_that_could_mean_something_else_are_refused(
    classifier: Classifier, shape: tuple[int, ...], remedy: str
) -> None:
    with pytest.raises(AxesError) as raised:
        classifier.predict(np.ones(shape))
    assert remedy in str(raised.value)


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=3, max_size=6).map(tuple), count=st.integers(1, 5)
)
def test_the_axes_that_a_remedy_names_fit_the_array(shape: tuple[int, ...], count: int) -> None:
    prepare = Preprocessing(channels=tuple({"name": f"c{i}"} for i in range(count)))
    try:
        image_from_array(np.ones(shape), prepare)
    except AxesError as error:
        axes = str(error).partition("axes='")[2].partition("'")[0]
        assert Image(np.ones(shape), axes).shape == shape


def test_things_of_one_name_get_names_of_their_own() -> None:
    names = ["a", "b", "a", "a (2)", "a"]
    items = distinct([UnreadImage(name, lambda: Image(np.ones((2, 2)), "YX")) for name in names])
    assert [item.id for item in items] == ["a", "b", "a (3)", "a (2)", "a (4)"]


def test_arrays_of_one_channel_and_of_colours() -> None:
    one = Preprocessing(channels=({"name": "DNA"},))
    assert image_from_array(np.ones((8, 9)), one).axes == "YX"
    assert image_from_array(np.ones((1, 8, 9)), one).axes == "CYX"
    colours = Preprocessing(channels=tuple({"name": n} for n in ("red", "green", "blue")))
    assert image_from_array(np.ones((8, 9, 3)), colours).axes == "YXS"
    assert image_from_array(np.ones((3, 8, 9)), colours).axes == "CYX"
    with pytest.raises(AxesError, match="does not say where"):
        image_from_array(np.ones((3, 8, 3)), colours)


def test_channels_are_matched_by_name_and_by_the_user(
    classifier: Classifier, make_image: MakeImage
) -> None:
    image = make_image(3)
    wanted = classifier.predict(image).probabilities
    turned = Image(image.data[::-1], "CYX", ("actin", "DNA"))
    np.testing.assert_array_equal(classifier.predict(turned).probabilities, wanted)
    odd = Image(image.data[::-1], "CYX", ("red", "blue"))
    with pytest.raises(ChannelMismatchError, match="no channel for DNA, actin"):
        classifier.predict(odd)
    mapped = classifier.predict(odd, mapping={"DNA": "blue", "actin": "red"})
    np.testing.assert_array_equal(mapped.probabilities, wanted)


def test_too_small_an_image_is_told_what_size_it_needs(
    classifier: Classifier, make_image: MakeImage
) -> None:
    assert len(classifier.predict(make_image(0, (4, 4)))) == 1
    with pytest.raises(ImageError, match="3 x 9 pixels is too small for tiny; it needs at least 4"):
        classifier.predict(make_image(0, (3, 9)))


def test_the_temperature_is_applied_once(
    save: Callable[..., ModelBundle], tmp_path: Path, classifier: Classifier, make_image: MakeImage
) -> None:
    bundle = save(tmp_path / "warm.cellclf", temperature=2.5)
    np.testing.assert_allclose(bundle.test_output, classifier.bundle.test_output, atol=1e-6)
    warm = Classifier(bundle, classifier.engine)
    image = make_image(4)
    cold = classifier.predict(image).probabilities
    np.testing.assert_allclose(
        warm.predict(image).probabilities, apply_temperature(cold, 2.5), atol=1e-6
    )


def test_class_offsets_are_applied(
    save: Callable[..., ModelBundle], tmp_path: Path, classifier: Classifier, make_image: MakeImage
) -> None:
    offsets = np.linspace(-1, 1, len(classifier.classes)).tolist()
    bundle = save(tmp_path / "offset.cellclf", class_offsets=offsets)
    image = make_image(4)
    np.testing.assert_allclose(
        Classifier(bundle, classifier.engine).predict(image).probabilities,
        apply_temperature(classifier.predict(image).probabilities, 1.0, offsets),
        atol=1e-6,
    )


@pytest.mark.parametrize("nothing", [[], ()])
def test_nothing_to_classify(classifier: Classifier, nothing: Any) -> None:
    with pytest.raises(NoImagesError, match="no image was given"):
        classifier.predict(nothing)


def test_other_things_are_refused(classifier: Classifier, make_image: MakeImage) -> None:
    with pytest.raises(InputError, match="a dict cannot be classified"):
        classifier.predict({})
    for wrong in (0, "3"):
        with pytest.raises(InputError, match=f"batch_size={wrong!r}"):
            classifier.predict(make_image(0), batch_size=wrong)


def test_images_of_one_source_get_ids_of_their_own(
    classifier: Classifier, make_image: MakeImage
) -> None:
    images = [replace(make_image(seed), source="simulated") for seed in (0, 1)]
    assert classifier.predict(images).ids == ("simulated", "simulated (2)")


def test_the_bad_one_of_several_is_named(classifier: Classifier, make_image: MakeImage) -> None:
    bad = Image(np.full((2, 8, 8), np.nan), "CYX", ("DNA", "actin"), source="bad.tif")
    with pytest.raises(ImageError, match=r"bad\.tif"):
        classifier.predict([make_image(0), bad])
    with pytest.raises(ChannelMismatchError, match=r"image\[1\]: the image has no channel"):
        classifier.predict([make_image(0), Image(np.ones((2, 8, 8)), "CYX", ("x", "y"))])


def test_progress_counts_planes_to_the_end(classifier: Classifier, make_image: MakeImage) -> None:
    told: list[Progress] = []
    stack = Image(np.stack([make_image(0).data] * 5), "TCYX", ("DNA", "actin"))
    classifier.predict([stack, make_image(1)], batch_size=2, on_progress=told.append)
    assert [(p.done, p.total) for p in told] == [(2, 6), (4, 6), (6, 6)]


def test_a_stop_is_honoured_within_a_batch(classifier: Classifier, make_image: MakeImage) -> None:
    engine = _Engine(_thirds)
    stopping = Classifier(classifier.bundle, engine)
    stack = Image(np.stack([make_image(0).data] * 50), "TCYX", ("DNA", "actin"))
    with pytest.raises(CancelledError, match="stopped as asked"):
        stopping.predict(stack, batch_size=2, should_stop=lambda: len(engine.batches) == 3)
    assert len(engine.batches) == 3


def test_a_stream_goes_on_past_bad_images(
    network: Any, classifier: Classifier, make_image: MakeImage
) -> None:
    told: list[Progress] = []
    sources = [
        _Source("0", make_image(0), {"well": "B02"}),
        _Source("1", make_image(1)),
        _Source("missing", FileNotFoundError(2, "No such file or directory", "x")),
        _Source("2", make_image(2)),
        _Source("broken", UnreadableImageError("broken is cut short; copy it again")),
        _Source("odd", Image(np.ones((2, 8, 8)), "CYX", ("x", "y"))),
        _Source("3", make_image(3, (9, 9))),
        _Source("4", make_image(4)),
    ]
    found = list(classifier.predict_sources(sources, batch_size=2, on_progress=told.append))
    assert [part.ids if isinstance(part, Predictions) else part.id for part in found] == [
        ("0", "1"),
        "missing",
        ("2",),
        "broken",
        "odd",
        ("3", "4"),
    ]
    bad = [part for part in found if isinstance(part, BadImage)]
    assert bad[0].reason == "missing cannot be read (No such file or directory); check the file"
    assert bad[1] == BadImage("broken", "broken is cut short; copy it again")
    assert "no channel for DNA" in bad[2].reason
    assert isinstance(found[0], Predictions)
    assert found[0].metadata == ({"well": "B02"}, {})
    np.testing.assert_allclose(
        found[0].probabilities[1], _direct(network, classifier, make_image(1)), atol=1e-6
    )
    assert [p.done for p in told] == [2, 3, 4, 5, 6, 8]
    assert {p.total for p in told} == {8}


def test_a_bad_plane_does_not_lose_the_others(
    classifier: Classifier, make_image: MakeImage
) -> None:
    data = np.stack([make_image(0).data] * 3).astype(np.float32)
    data[1, 0, 0, 0] = np.nan
    stack = _Source("film", Image(data, "TCYX", ("DNA", "actin")))
    told: list[Progress] = []
    found = list(classifier.predict_sources([stack], on_progress=told.append))
    assert [part.ids if isinstance(part, Predictions) else part.id for part in found] == [
        ("film[t=0]",),
        "film[t=1]",
        ("film[t=2]",),
    ]
    assert told[-1] == Progress(1, 1, "classified film[t=2]")


def test_a_stream_stops_when_asked(classifier: Classifier, make_image: MakeImage) -> None:
    engine = _Engine(_thirds)
    stopping = Classifier(classifier.bundle, engine)
    sources = [_Source(str(i), make_image(i)) for i in range(20)]
    stream = stopping.predict_sources(
        sources, batch_size=4, should_stop=lambda: len(engine.batches) >= 2
    )
    assert sum(len(part) for part in stream if isinstance(part, Predictions)) == 8


def test_an_answer_that_is_no_number_is_a_bad_image(
    classifier: Classifier, make_image: MakeImage
) -> None:
    def spoil(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        answer = _thirds(batch)
        answer[1] = np.nan
        return answer

    spoiled = Classifier(classifier.bundle, _Engine(spoil))
    sources = [_Source(str(i), make_image(i)) for i in range(3)]
    first, bad, last = spoiled.predict_sources(sources)
    assert isinstance(first, Predictions)
    assert isinstance(last, Predictions)
    assert (first.ids, last.ids) == (("0",), ("2",))
    assert bad == BadImage("1", "tiny predicts NaN for 1; check its pixels")


def test_large_images_make_small_batches(
    classifier: Classifier, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Engine(_thirds)
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 3 * 20 * 24 * 2 * 4)
    Classifier(classifier.bundle, engine).predict([make_image(i) for i in range(7)])
    assert [shape[0] for shape in engine.batches] == [3, 3, 1]


def test_paths_are_read(classifier: Classifier, make_image: MakeImage, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("napari_cellclf.io.read")
    image = make_image(8)
    file = tmp_path / "site.tif"
    tifffile.imwrite(
        file,
        image.data,
        photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["DNA", "actin"]}},
        ome=True,
    )
    found = classifier.predict([file, str(file)])
    assert found.ids == (str(file), f"{file} (2)")
    wanted = classifier.predict(image).probabilities
    np.testing.assert_allclose(found.probabilities, np.repeat(wanted, 2, axis=0), atol=1e-6)


@pytest.mark.parametrize("error", [MemoryError, ImageTooLargeError])
def test_one_image_too_large_for_the_memory_does_not_lose_the_others(
    classifier: Classifier, make_image: MakeImage, error: type[Exception]
) -> None:
    def answer(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(batch) > 1:
            raise error("no more")
        return _thirds(batch)

    engine = _Engine(answer)
    small = Classifier(classifier.bundle, engine)
    images = [make_image(seed) for seed in range(3)]
    answers = list(small.predict_sources([_Source(f"i{n}", m) for n, m in enumerate(images)]))
    assert [part.ids for part in answers] == [("i0", "i1", "i2")]
    assert engine.batches == [(3, 20, 24, 2), *[(1, 20, 24, 2)] * 3]

    engine.answer = _refuse(error)
    bad = list(small.predict_sources([_Source("i0", images[0]), _Source("i1", images[1])]))
    assert [(type(part), part.id) for part in bad] == [(BadImage, "i0"), (BadImage, "i1")]
    assert bad[0].reason.startswith("i0 (20 x 24 pixels) needs more memory than is free; give")
    with pytest.raises(ImageTooLargeError, match="needs more memory"):
        small.predict(images[0])


def _refuse(error: type[Exception]) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    def answer(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise error("no more")

    return answer


def test_an_image_that_does_not_fit_while_it_is_read_is_a_bad_image(
    classifier: Classifier, make_image: MakeImage
) -> None:
    sources = [_Source("large", MemoryError()), _Source("good", make_image())]
    bad, good = classifier.predict_sources(sources)
    assert isinstance(bad, BadImage)
    assert bad.reason.startswith("large needs more memory than is free")
    assert isinstance(bad.error, ImageTooLargeError)
    assert isinstance(good, Predictions)
    assert good.ids == ("good",)


def test_axes_are_not_guessed_from_arrays_that_name_them(
    classifier: Classifier, make_image: Callable[..., Image]
) -> None:
    xarray = pytest.importorskip("xarray")
    pixels = np.asarray(make_image(0).data)
    expected = classifier.predict(pixels)
    named = xarray.DataArray(pixels[::-1], dims=("c", "y", "x"), coords={"c": ["actin", "DNA"]})
    np.testing.assert_array_equal(classifier.predict(named).probabilities, expected.probabilities)
    # As many depths as the model has channels are still depths.
    depths = xarray.DataArray(pixels, dims=("z", "y", "x"))
    with pytest.raises(ChannelMismatchError, match="if the 2 planes along Z are its channels"):
        classifier.predict(depths)
    with pytest.raises(ImageError, match="masked"):
        classifier.predict(np.ma.masked_array(pixels, pixels > 9))


def test_tensors_are_classified_as_their_pixels(
    classifier: Classifier, make_image: Callable[..., Image]
) -> None:
    tf = pytest.importorskip("tensorflow")
    pixels = np.asarray(make_image(0).data)
    np.testing.assert_array_equal(
        classifier.predict(tf.constant(pixels)).probabilities,
        classifier.predict(pixels).probabilities,
    )


def test_a_large_image_is_stopped_at_once(classifier: Classifier) -> None:
    stop = threading.Event()
    told: list[Progress] = []

    def read() -> Image:
        return Image(np.zeros((2, 4000, 4000), np.uint8), "CYX", ("DNA", "actin"))

    def endless() -> Image:
        while True:
            part_done("reading", 0.5)
            time.sleep(0.01)

    def on_progress(progress: Progress) -> None:
        told.append(progress)
        if progress.part:
            stop.set()

    sources = [ImageSource("a.tif", read=endless), ImageSource("b.tif", read=read)]
    found = list(
        classifier.predict_sources(sources, on_progress=on_progress, should_stop=stop.is_set)
    )
    assert found == []
    assert (told[-1].done, told[-1].total, told[-1].part) == (0, 2, 0.25)
    assert told[-1].message == "reading a.tif: 50%"
