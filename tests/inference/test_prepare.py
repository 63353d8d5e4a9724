"""Images are prepared ahead in threads, in order, and not too far ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import part_done
from napari_cellclf.errors import CancelledError, ImageError, UnreadableImageError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.prepare import (
    BadImage,
    PreparedPlane,
    UnreadImage,
    default_threads,
    in_order,
    prepared_ahead,
    prepared_rows,
)


@dataclass(frozen=True)
class _Result:
    number: int
    nbytes: int


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    most=st.integers(1, 9),
    most_bytes=st.integers(1, 200),
)
def test_results_come_in_order_and_few_are_under_way(
    pool: ThreadPoolExecutor, sizes: list[int], most: int, most_bytes: int
) -> None:
    begun = taken = 0

    def tasks() -> Iterator[partial[_Result]]:
        nonlocal begun
        for number, size in enumerate(sizes):
            begun += 1
            # One is being handed over besides those that lie ready.
            assert begun - taken <= most + 1
            yield partial(_Result, number, size)

    found = []
    for result in in_order(pool, tasks(), most, most_bytes):
        taken += 1
        found.append(result.number)
    assert found == list(range(len(sizes)))


def test_large_results_are_not_made_many_at_a_time(pool: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def make(number: int) -> _Result:
        begun.append(number)
        return _Result(number, 100)

    results = in_order(pool, (partial(make, number) for number in range(20)), 10, 250)
    assert next(results).number == 0
    assert next(results).number == 1
    assert len(begun) <= 4


def test_up_to_128_mib_are_under_way(pool: ThreadPoolExecutor) -> None:
    begun = 0

    def tasks() -> Iterator[partial[_Result]]:
        nonlocal begun
        for number in range(40):
            begun += 1
            yield partial(_Result, number, 16 << 20)

    results = in_order(pool, tasks(), 100)
    for number in range(20):
        assert next(results).number == number
    # Eight that are ready or being made, besides the one that was handed over.
    assert 20 + 7 <= begun <= 20 + 8


def test_several_threads_work_at_once(bundle: ModelBundle) -> None:
    # Both must be in `read` at the same time for either to end.
    together = threading.Barrier(2, timeout=60)

    def read(wait: bool) -> Image:
        if wait:
            together.wait()
        return Image(np.ones((2, 8, 8), np.uint8), "CYX", ("DNA", "actin"))

    items = [UnreadImage(str(number), partial(read, number > 0)) for number in range(3)]
    rows = list(prepared_ahead(items, bundle.spec, None, batch_size=4, threads=2))
    assert [row.id for row in rows] == ["0", "1", "2"]


@given(
    kinds=st.lists(st.sampled_from(["one", "stack", "bad", "odd"]), max_size=12),
    threads=st.integers(1, 4),
    most=st.integers(1, 5),
)
@settings(max_examples=30, deadline=None)
def test_threads_change_nothing(
    bundle: ModelBundle, kinds: list[str], threads: int, most: int
) -> None:
    items = [UnreadImage(f"{n} {kind}", partial(_read, kind, n)) for n, kind in enumerate(kinds)]
    wanted = [row for item in items for row in prepared_rows(item, bundle.spec, None)]
    found = list(prepared_ahead(items, bundle.spec, None, batch_size=most, threads=threads))
    assert [(row.id, row.finishes) for row in found] == [(row.id, row.finishes) for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        if isinstance(one, BadImage):
            assert one == other
        else:
            np.testing.assert_array_equal(one.pixels, other.pixels)


def _read(kind: str, seed: int) -> Image:
    random = np.random.default_rng(seed)
    if kind == "bad":
        raise UnreadableImageError("it is cut short; copy it again")
    if kind == "odd":
        return Image(random.random((8, 8)), "YX", ("neither",))
    shape, axes = ((3, 2, 8, 9), "TCYX") if kind == "stack" else ((2, 8, 9), "CYX")
    return Image(random.integers(0, 255, shape, np.uint8), axes, ("DNA", "actin"))


def test_closing_ends_the_threads(bundle: ModelBundle) -> None:
    items = (UnreadImage(str(number), partial(_read, "one", number)) for number in range(100))
    rows = prepared_ahead(items, bundle.spec, None, batch_size=4, threads=2)
    next(rows)
    rows.close()
    deadline = time.monotonic() + 30
    while [t for t in threading.enumerate() if t.name.startswith("cellclf-prepare")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert int(next(items).id) < 10


def test_a_stop_does_not_wait_for_what_is_being_decoded(bundle: ModelBundle) -> None:
    goes_on = threading.Event()

    def read() -> Image:
        # A decoder that cannot be interrupted.
        assert goes_on.wait(60)
        raise ImageError("too late")

    def on_wait(doing: str, part: float) -> None:
        raise CancelledError("stop")

    begun = time.monotonic()
    try:
        with pytest.raises(CancelledError):
            list(
                prepared_ahead(
                    [UnreadImage("x", read)], bundle.spec, None, batch_size=4, on_wait=on_wait
                )
            )
        assert time.monotonic() - begun < 20
    finally:
        goes_on.set()


def test_whoever_waits_is_told_what_is_being_done(bundle: ModelBundle) -> None:
    goes_on, told = threading.Event(), []

    def read() -> Image:
        part_done("reading", 0.25)
        assert goes_on.wait(60)
        raise ImageError("nothing in it")

    def on_wait(doing: str, part: float) -> None:
        told.append((doing, part))
        goes_on.set()

    items = [UnreadImage("big.tif", read)]
    (row,) = prepared_ahead(items, bundle.spec, None, batch_size=4, on_wait=on_wait)
    assert isinstance(row, BadImage)
    assert told[0] in [("", 0.0), ("reading big.tif: 25%", 0.125)]


def test_work_on_an_image_ends_between_two_of_its_parts(bundle: ModelBundle) -> None:
    begun, ended = threading.Event(), threading.Event()

    def read() -> Image:
        begun.set()
        try:
            while True:
                part_done("reading", 0.5)
                time.sleep(0.01)
        finally:
            ended.set()

    def on_wait(doing: str, part: float) -> None:
        assert begun.wait(60)
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        list(
            prepared_ahead(
                [UnreadImage("x", read)], bundle.spec, None, batch_size=4, on_wait=on_wait
            )
        )
    assert ended.wait(60)


def test_a_mistake_of_ours_is_not_taken_for_a_bad_image(bundle: ModelBundle) -> None:
    def read() -> Image:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(prepared_ahead([UnreadImage("x", read)], bundle.spec, None, batch_size=4))


def test_there_is_a_thread_for_each_processor() -> None:
    assert 1 <= default_threads() <= 16


@pytest.mark.parametrize(("name", "source"), [("", "1"), ("grey", "grey")])
def test_a_lone_grey_image_must_be_named_and_the_reason_says_how(name: str, source: str) -> None:
    channels = [{"name": stain, "required": False} for stain in ("w1 Hoechst", "w2 ConA")]
    spec = BundleSpec.model_validate(
        {
            "name": "any",
            "input": {"preprocessing": {"channels": channels}, "single_channel": "w2 ConA"},
            "classes": [{"name": "a"}, {"name": "b"}],
            "architecture": {"name": "compact-cnn"},
            "test_image": {"axes": "YX", "channels": [""]},
        }
    )
    image = Image(np.eye(8, dtype=np.uint8), "YX", [name])
    item = UnreadImage("one.png", lambda: image)
    (refused,) = prepared_rows(item, spec, None)
    assert isinstance(refused, BadImage)
    assert refused.reason.endswith(
        f'if it shows w2 ConA, say so with --channels "w2 ConA={source}"'
    )
    (taken,) = prepared_rows(item, spec, {"w2 ConA": source})
    assert isinstance(taken, PreparedPlane)
    assert taken.remarks == ("the image is one channel without a name, taken as w2 ConA",)
    assert taken.pixels[..., 1].any()
    assert not taken.pixels[..., 0].any()


def test_what_checks_of_the_pixels_find_comes_with_each_plane(classifier: Classifier) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (3, 2, 8, 9), np.uint8)
    pixels[1, 1] = 7
    pixels[2, 1] = pixels[2, 0]
    stack = Image(pixels, "TCYX", ("DNA", "actin"), source="a.tif")
    found = classifier.predict([stack, Image(np.zeros((2, 8, 9)), "CYX", ("DNA", "actin"))])
    assert found.remarks == (
        (), ("constant channel: actin",), ("same pixels: DNA and actin",), ("empty image",),
    )  # fmt: skip


def test_a_lazy_plane_is_read_once(bundle: ModelBundle) -> None:
    array = pytest.importorskip("dask.array")
    reads = []

    def block() -> np.ndarray:
        reads.append(1)
        return np.random.default_rng(0).random((2, 8, 9))

    delayed = pytest.importorskip("dask").delayed(block)()
    lazy = Image(array.from_delayed(delayed, (2, 8, 9), float), "CYX", ("DNA", "actin"))
    (row,) = prepared_rows(UnreadImage("x", lambda: lazy), bundle.spec, None)
    assert not isinstance(row, BadImage)
    assert reads == [1]


def test_another_pixel_size_than_in_training_is_a_remark(bundle: ModelBundle) -> None:
    training = bundle.spec.training.model_copy(update={"pixel_size": 0.65})
    spec = bundle.spec.model_copy(update={"training": training})
    pixels = np.random.default_rng(0).random((2, 8, 9))
    remarks = []
    for size in (None, (0.65, 0.65), (1.3, 1.3)):
        image = Image(pixels, "CYX", ("DNA", "actin"), pixel_size=size)
        (row,) = prepared_rows(UnreadImage("x", partial(replace, image)), spec, None)
        assert isinstance(row, PreparedPlane)
        remarks.append(row.remarks)
    assert remarks == [(), (), ("pixel size: 1.3 µm, in training 0.65 µm",)]
