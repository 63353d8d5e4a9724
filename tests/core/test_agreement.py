"""Two annotators compared."""

from __future__ import annotations

import numpy as np

from napari_cellclf.core.agreement import compare_labels


def test_kappa_is_that_of_the_textbook() -> None:
    """Cohen's own kind of table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no gives 0.4."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    mine = {str(number): pair[0] for number, pair in enumerate(pairs)}
    theirs = {str(number): pair[1] for number, pair in enumerate(pairs)}
    result = compare_labels(mine | {"mine": "yes"}, theirs | {"a": "no", "b": "no"})
    assert result.kappa is not None
    assert np.isclose(result.kappa, 0.4)
    assert (result.both, result.only_mine, result.only_theirs) == (50, 1, 2)
    assert result.rows == {str(number) for number in range(20, 35)}
    assert result.sentence() == "50 images have two labels: 15 differ. Cohen's kappa: 0.40."


def test_one_class_and_no_common_row_have_no_kappa() -> None:
    same = compare_labels({"a": "x"}, {"a": "x"})
    assert same.kappa is None
    assert "1 image has two labels: all are the same" in same.sentence()
    none = compare_labels({"a": "x"}, {"b": "x"})
    assert none.kappa is None
    assert none.sentence().startswith("No image has a label in both files")
