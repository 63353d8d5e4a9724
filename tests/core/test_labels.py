"""Classes from labels: natural order, and scales."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.labels import make_classes, natural_key
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
