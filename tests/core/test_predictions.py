from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_cellclf.core.predictions import Predictions, concatenate
from napari_cellclf.errors import InputError

CLASSES = ("HEPG2", "RPE", "U2OS")


def two() -> Predictions:
    return Predictions(
        np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], np.float32),
        CLASSES,
        ("a.png", "b.png"),
        ({"well": "B02", "label": "not to be overwritten"}, {"well": "B03"}),
        "demo",
    )


def one() -> Predictions:
    return Predictions(np.array([[0.4, 0.4, 0.2]], np.float32), CLASSES, ("a.png",))


def test_labels_and_confidences_of_each_image():
    assert two().labels == ("RPE", "HEPG2")
    np.testing.assert_allclose(two().confidences, [0.5, 0.7])
    assert len(two()) == 2


def test_label_and_confidence_of_the_only_image():
    assert (one().label, one().confidence) == ("HEPG2", pytest.approx(0.4))


@pytest.mark.parametrize("what", ["label", "confidence"])
def test_label_of_several_images_is_refused(what):
    with pytest.raises(InputError, match=f"{what} is for a single image, but these .* hold 2"):
        getattr(two(), what)


def test_top_k_is_sorted_and_cut():
    assert [name for name, _ in two().top_k(2, row=0)] == ["RPE", "U2OS"]
    assert len(one().top_k(99)) == 3


def test_equal_classes_keep_their_order():
    assert [name for name, _ in one().top_k(3)] == ["HEPG2", "RPE", "U2OS"]


def test_top_k_needs_a_row_and_a_number():
    with pytest.raises(InputError, match="single image"):
        two().top_k(2)
    with pytest.raises(InputError, match="at least 1"):
        one().top_k(0)


def test_the_table_has_the_agreed_columns():
    table = two().to_dataframe()
    assert list(table.columns) == [
        "image", "label", "confidence", "p_HEPG2", "p_RPE", "p_U2OS", "well",
    ]  # fmt: skip
    assert table["label"].tolist() == ["RPE", "HEPG2"]
    assert table["well"].tolist() == ["B02", "B03"]


def test_shapes_must_fit():
    with pytest.raises(InputError, match=r"shape \(1, 2\) do not fit 1 image and 3 classes"):
        Predictions(np.zeros((1, 2), np.float32), CLASSES, ("a",))


def test_concatenate_keeps_rows_and_metadata():
    joined = concatenate([two(), two()])
    assert len(joined) == 4
    assert joined.ids == ("a.png", "b.png") * 2
    assert joined.metadata[3] == {"well": "B03"}
    assert joined.model == "demo"


def _known() -> Predictions:
    scores = np.array([0.4, 1.2], np.float32)
    return replace(two(), unlike_scores=scores, remarks=((), ("constant channel: w3", "empty")))


def test_above_1_is_unlike_and_so_is_what_has_no_number():
    assert two().unlike is None
    scores = np.array([1.0, np.nan], np.float32)
    assert replace(two(), unlike_scores=scores).unlike.tolist() == [False, True]


def test_scores_and_remarks_are_columns_where_they_are_known():
    table = _known().to_dataframe()
    assert list(table)[:6] == [
        "image", "label", "confidence", "unlike", "unlike_score", "remarks",
    ]  # fmt: skip
    assert table["unlike"].tolist() == [False, True]
    np.testing.assert_allclose(table["unlike_score"], [0.4, 1.2], rtol=1e-6)
    assert table["remarks"].tolist() == ["", "constant channel: w3; empty"]


def test_concatenate_keeps_scores_that_all_have():
    nothing = Predictions(np.zeros((0, 3), np.float32), CLASSES, ())
    joined = concatenate([_known(), nothing, _known()])
    np.testing.assert_allclose(joined.unlike_scores, [0.4, 1.2] * 2, rtol=1e-6)
    assert joined.remarks == _known().remarks * 2
    mixed = concatenate([_known(), two()])
    assert mixed.unlike_scores is None
    assert mixed.remarks == (*_known().remarks, (), ())


def test_scores_and_remarks_must_fit():
    with pytest.raises(InputError, match=r"scores of shape \(1,\) do not fit 2 images"):
        replace(two(), unlike_scores=np.ones(1, np.float32))
    with pytest.raises(InputError, match="remarks of 1 image do not fit 2"):
        replace(two(), remarks=(("empty",),))


@given(arrays(np.float32, (1, 3), elements=st.floats(0, 1, width=32)), st.integers(1, 5))
def test_top_1_is_the_label(values, k):
    predictions = Predictions(values, CLASSES, ("a",))
    best = predictions.top_k(k)
    assert best[0] == (predictions.label, predictions.confidence)
    assert [p for _, p in best] == sorted((p for _, p in best), reverse=True)
