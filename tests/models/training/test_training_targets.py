import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.models.training.batches import soft_targets


def test_plain_truth_is_one_hot():
    np.testing.assert_array_equal(soft_targets(3), np.eye(3, dtype="float32"))


@given(
    st.integers(2, 20),
    st.floats(0, 0.9),
    st.floats(0, 5),
)
def test_rows_sum_to_one_and_are_largest_at_the_truth(n_classes, smoothing, bell):
    targets = soft_targets(n_classes, label_smoothing=smoothing, ordinal_smoothing=bell)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-5)
    assert (targets.max(axis=1) <= np.diag(targets) + 1e-6).all()


def test_bell_falls_with_the_distance():
    row = soft_targets(5, ordinal_smoothing=1.0)[2]
    assert row[2] > row[1] > row[0] > 0
    assert row[1] == pytest.approx(row[3])
    # A normal distribution's density one deviation away.
    assert row[1] / row[2] == pytest.approx(np.exp(-0.5), rel=1e-5)


def test_weights_scale_rows():
    weights = np.array([0.5, 2.0], "float32")
    np.testing.assert_allclose(soft_targets(2, class_weights=weights).sum(axis=1), weights)
