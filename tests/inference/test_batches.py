"""Rows of one shape are computed together, and answered in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_cellclf.core.predictions import Predictions
from napari_cellclf.inference import batches as module
from napari_cellclf.inference.batches import Batches, FinishedImages, PlaneAnswer
from napari_cellclf.inference.prepare import BadImage, PreparedPlane

#: The side of an image; 0 is one that could not be read.
sides = st.lists(st.integers(0, 3), max_size=80)


def _rows(sides: list[int]) -> list[PreparedPlane | BadImage]:
    return [
        PreparedPlane(str(n), {"n": n}, np.full((side, side, 1), n, np.float32), 1)
        if side
        else BadImage(str(n), "bad")
        for n, side in enumerate(sides)
    ]


def _run(
    sides: list[int], batch_size: int
) -> tuple[list[list[PreparedPlane]], list[FinishedImages], int]:
    computed: list[list[PreparedPlane]] = []

    def compute(rows: list[PreparedPlane]) -> list[Any]:
        computed.append(rows)
        return [PlaneAnswer(np.full(2, row.pixels.mean()), row.pixels.mean()) for row in rows]

    batches = Batches(compute, batch_size, ("a", "b"), "model")
    found: list[FinishedImages] = []
    most = 0
    for number, row in enumerate(_rows(sides), start=1):
        found += batches.add(row)
        most = max(most, number - (found[-1].done if found else 0))
    return computed, found + list(batches.finish()), most


@settings(max_examples=150, deadline=None)
@given(sides, st.integers(1, 6))
@example([1] + [0] * 8, 2)
@example([1, 3] + [2] * 7, 2)
def test_every_row_is_answered_once_and_in_order(sides: list[int], batch_size: int) -> None:
    computed, found, most = _run(sides, batch_size)
    ids, means = [], []
    for delivered in found:
        answer = delivered.answer
        if isinstance(answer, Predictions):
            ids += list(answer.ids)
            means += answer.probabilities[:, 0].tolist()
            assert answer.unlike_scores is not None
            assert answer.unlike_scores.tolist() == answer.probabilities[:, 0].tolist()
            assert [row["n"] for row in answer.metadata] == list(map(int, answer.ids))
        else:
            ids.append(answer.id)
        assert delivered.done == len(ids)
    assert ids == list(map(str, range(len(sides))))
    assert means == [n for n, side in enumerate(sides) if side]
    assert all(len({row.pixels.shape for row in batch}) == 1 for batch in computed)
    assert all(len(batch) <= batch_size for batch in computed)
    assert most <= 4 * batch_size


def test_two_sizes_by_turns_are_still_full_batches() -> None:
    computed, _, _ = _run([1, 2] * 8, 4)
    assert [len(batch) for batch in computed] == [4, 4, 4, 4]


def test_a_rare_size_holds_the_others_up_for_four_batches_at_most() -> None:
    computed, found, most = _run([2] + [1] * 40, 4)
    assert [len(batch) for batch in computed][3] == 1
    assert found[0].answer.ids[0] == "0"
    assert most <= 16


def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 64)
    computed, _, most = _run([1, 2, 3] * 20, 100)
    assert max(sum(row.nbytes for row in batch) for batch in computed) <= 64
    # Without a limit all 60 would wait for a batch of 100.
    assert most < 30


def test_large_images_are_batched_up_to_128_mib() -> None:
    sizes: list[int] = []

    def compute(rows: list[PreparedPlane]) -> list[Any]:
        sizes.append(len(rows))
        return [PlaneAnswer(np.ones(1))] * len(rows)

    # 16 MiB each, that take no memory.
    pixels = np.broadcast_to(np.float32(0), (2048, 2048, 1))
    batches = Batches(compute, 100, ("a",), "model")
    for number in range(16):
        list(batches.add(PreparedPlane(str(number), {}, pixels, 1)))
    assert sizes == [8, 8]


def test_a_part_says_whether_it_ends_with_an_image() -> None:
    rows = [
        PreparedPlane(f"film[t={n}]", {}, np.ones((1, 1, 1), np.float32), int(n == 2))
        for n in range(3)
    ]
    batches = Batches(lambda rows: [PlaneAnswer(np.ones(1))] * len(rows), 2, ("a",), "model")
    found = [part for row in rows for part in batches.add(row)] + list(batches.finish())
    assert [(part.done, part.between, part.last) for part in found] == [
        (0, False, "film[t=1]"),
        (1, True, "film[t=2]"),
    ]
