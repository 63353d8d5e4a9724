import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import DatasetError
from napari_cellclf.models.training.minibatches import Batches, Subset, soft_targets

EYE = np.eye(2, dtype="float32")


def numbered(count, size=8):
    """Images filled with their own number."""
    return [np.full((size, size, 1), number, "float32") for number in range(count)]


def seen(batch):
    return batch.inputs[:, 0, 0, 0].astype(int).tolist()


def test_an_epoch_shows_every_image():
    batches = Batches(numbered(7), np.array([0, 1] * 3 + [0]), EYE, 3, seed=1)
    shown = [number for batch in batches.epoch(0) for number in seen(batch)]
    assert batches.steps == 3
    assert len(shown) == 9
    assert set(shown) == set(range(7))


def test_targets_are_those_of_the_images():
    labels = np.array([0, 1, 1, 0, 1])
    for batch in Batches(numbered(5), labels, EYE, 2).epoch(3):
        np.testing.assert_array_equal(batch.targets, EYE[labels[seen(batch)]])


def test_an_epoch_can_begin_anywhere():
    batches = Batches(numbered(20, size=16), np.arange(20) % 2, EYE, 4, crop=8, seed=2)
    whole = list(batches.epoch(5))
    for start in range(len(whole)):
        rest = list(batches.epoch(5, start))
        assert [batch.step for batch in rest] == list(range(start, len(whole)))
        for again, batch in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(again.inputs, batch.inputs)


def test_seeds_and_epochs_differ():
    labels = np.arange(20) % 2
    first = [seen(b) for b in Batches(numbered(20), labels, EYE, 4, seed=1).epoch(0)]
    later = [seen(b) for b in Batches(numbered(20), labels, EYE, 4, seed=1).epoch(1)]
    other = [seen(b) for b in Batches(numbered(20), labels, EYE, 4, seed=2).epoch(0)]
    assert first != later
    assert first != other


def test_rare_classes_are_shown_as_often():
    labels = np.array([0] * 9 + [1])
    batches = Batches(numbered(10), labels, EYE, 6, balance="oversample", steps=3)
    shown = np.array([number for batch in batches.epoch(0) for number in seen(batch)])
    assert np.bincount(labels[shown]).tolist() == [9, 9]


def test_the_smallest_image_limits_the_crop():
    images = [np.zeros((100, 30, 1), "float32"), np.zeros((64, 64, 1), "float32")]
    batches = Batches(images, np.array([0, 1]), EYE, 2, crop=48)
    assert next(batches.epoch(0)).inputs.shape == (2, 30, 30, 1)
    assert batches.input_shape == (30, 30, 1)


def test_images_of_different_sizes_need_a_size_or_a_crop():
    images = [np.zeros((10, 30, 1), "float32"), np.zeros((64, 64, 1), "float32")]
    with pytest.raises(DatasetError, match=r"\(10, 30\) and \(64, 64\) pixels; set a size"):
        Batches(images, np.array([0, 1]), EYE, 2)


def test_feeds_exactly_the_prepared_pixels():
    raw = np.random.default_rng(2).integers(0, 255, (40, 40)).astype("uint8")
    prepared = Preprocessing(channels=({"name": "DNA"},))(Image(raw, "YX"))
    batch = next(Batches([prepared], np.array([0]), EYE, 2, crop=40).epoch(0))
    np.testing.assert_array_equal(batch.inputs[1], prepared)


def test_subset_renumbers():
    part = Subset(numbered(5), [3, 1])
    assert len(part) == 2
    assert part[0][0, 0, 0] == 3


def test_plain_truth_is_one_hot():
    np.testing.assert_array_equal(soft_targets(3), np.eye(3, dtype="float32"))


@given(
    st.integers(2, 20),
    st.floats(0, 0.9),
    st.floats(0, 5),
)
def test_targets_sum_to_one_and_are_largest_at_the_truth(n_classes, smoothing, bell):
    targets = soft_targets(n_classes, label_smoothing=smoothing, ordinal_smoothing=bell)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-5)
    assert (targets.max(axis=1) <= np.diag(targets) + 1e-6).all()


def test_a_target_falls_with_the_distance():
    row = soft_targets(5, ordinal_smoothing=1.0)[2]
    assert row[2] > row[1] > row[0] > 0
    assert row[1] == pytest.approx(row[3])
    # A normal distribution's density one deviation away.
    assert row[1] / row[2] == pytest.approx(np.exp(-0.5), rel=1e-5)


def test_class_weights_scale_the_targets():
    weights = np.array([0.5, 2.0], "float32")
    np.testing.assert_allclose(soft_targets(2, class_weights=weights).sum(axis=1), weights)
