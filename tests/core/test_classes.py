"""Classes from labels: natural order, and scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.classes import ClassSpec, make_classes, natural_key, scale_of
from napari_cellclf.errors import DatasetError


@pytest.mark.parametrize(
    ("labels", "values", "unit"),
    [
        (["stage 00", "stage 01", "stage 10"], [0, 1, 10], "stage"),
        (["Stage(060)", "Stage(051)"], [51, 60], "Stage"),
        (["day_2.5", "day_10"], [2.5, 10], "day"),
        (["9", "10", "2"], [2, 9, 10], None),
    ],
)
def test_numbered_labels_lie_on_a_scale(
    labels: list[str], values: list[float], unit: str | None
) -> None:
    classes = make_classes(labels)
    assert [spec.value for spec in classes] == values
    assert {spec.unit for spec in classes} == {unit}


@pytest.mark.parametrize(
    "labels",
    [
        ["G1", "G2", "S_phase"],
        ["HUVEC", "RPE"],
        ["stage 1", "stage 01"],
        ["stage 1", "phase 2"],
        ["stage 1"],
    ],
)
def test_other_labels_are_only_names(labels: list[str]) -> None:
    assert all(spec.value is None and spec.unit is None for spec in make_classes(labels))


def test_names_are_sorted_as_people_do() -> None:
    names = [spec.name for spec in make_classes(["well 10", "well 9", "Well 1"])]
    assert names == ["Well 1", "well 9", "well 10"]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True))
def test_every_label_becomes_one_class_whatever_the_order(labels: list[str]) -> None:
    names = [spec.name for spec in make_classes(labels)]
    assert sorted(names) == sorted(labels)
    assert names == [spec.name for spec in make_classes(reversed(labels))]


@given(st.text(max_size=8), st.text(max_size=8))
def test_different_texts_have_different_keys(one: str, other: str) -> None:
    assert (natural_key(one) == natural_key(other)) == (one == other)


@pytest.mark.parametrize("label", ["", "x" * 201])
def test_names_that_no_class_can_have_are_refused(label: str) -> None:
    with pytest.raises(DatasetError, match="give every image a label of 1 to 200"):
        make_classes(["a", label])


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
