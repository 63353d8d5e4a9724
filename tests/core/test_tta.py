import numpy as np
import pytest

from napari_cellclf.core.tta import mean_over_views, views_of

SQUARE = np.arange(2 * 3 * 3 * 2, dtype="float32").reshape(2, 3, 3, 2)
OBLONG = np.arange(2 * 3 * 4 * 1, dtype="float32").reshape(2, 3, 4, 1)


def distinct(views):
    return {view.tobytes() for view in views}


@pytest.mark.parametrize(("views", "count"), [("one", 1), ("flips", 4), ("all", 8)])
def test_square_images_have_so_many_different_views(views, count):
    found = list(views_of(SQUARE, views))
    assert len(found) == len(distinct(found)) == count
    np.testing.assert_array_equal(found[0], SQUARE)
    for view in found:
        # The same pixels, in other places, each with its channels.
        assert sorted(map(tuple, view.reshape(-1, 2))) == sorted(map(tuple, SQUARE.reshape(-1, 2)))


def test_oblong_images_keep_their_shape():
    found = list(views_of(OBLONG, "all"))
    assert {view.shape for view in found} == {OBLONG.shape}
    assert len(distinct(found)) == 4


def test_answers_are_averaged_over_views():
    def corner(batch):
        return batch[:, 0, 0]

    np.testing.assert_array_equal(mean_over_views(corner, SQUARE, "one"), corner(SQUARE))
    expected = SQUARE[:, [0, 0, 2, 2], [0, 2, 0, 2]].mean(axis=1)
    np.testing.assert_allclose(mean_over_views(corner, SQUARE, "flips"), expected)


def test_an_answer_that_counts_pixels_is_the_same_from_all_sides():
    def total(batch):
        return batch.sum(axis=(1, 2))

    np.testing.assert_allclose(mean_over_views(total, SQUARE, "all"), total(SQUARE))
