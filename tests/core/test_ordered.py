from __future__ import annotations

import numpy as np
import pytest

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.ordered import scale_of


def stages(*minutes, unit="minute"):
    return [ClassSpec(name=f"m{m}", value=m, unit=unit) for m in minutes]


def test_errors_are_in_the_unit_and_steps_in_classes():
    scale = scale_of(stages(51, 60, 90))
    truth, answers = np.array([0, 0, 2, 1]), np.array([0, 2, 1, 0])
    assert scale.errors(truth, answers).tolist() == [0, 39, 30, 9]
    assert scale.steps(truth, answers).tolist() == [0, 2, 1, 1]
    assert scale.unit == "minute"


def test_neighbours_are_by_value_and_not_by_number():
    scale = scale_of(stages(90, 51, 60))
    assert scale.ranks.tolist() == [2, 0, 1]
    assert scale.steps(np.array([0]), np.array([1])).tolist() == [2]


@pytest.mark.parametrize(
    "classes",
    [
        [ClassSpec(name="a"), ClassSpec(name="b", value=1)],
        [ClassSpec(name="a", value=1, unit="hour"), ClassSpec(name="b", value=2, unit="day")],
        stages(5, 5),
        [],
    ],
    ids=["one without value", "two units", "one value", "no class"],
)
def test_not_every_set_of_classes_is_ordered(classes):
    assert scale_of(classes) is None


def test_a_scale_may_have_no_unit():
    assert scale_of(stages(1, 2, unit=None)).unit == ""
