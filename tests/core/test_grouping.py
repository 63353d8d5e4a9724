"""Which images belong together: guessed, and said why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_cellclf.core.grouping import columns_from_names, group_keys, guess_group
from napari_cellclf.errors import DatasetError


def screen(*rows: tuple[str, str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["label", "experiment", "plate", "well"])


def test_experiments_where_every_class_is_in_two() -> None:
    table = screen(
        ("A", "A-01", 1, "B02"), ("A", "A-02", 1, "B02"), ("B", "B-01", 1, "B02"),
        ("B", "B-02", 1, "B02"),
    )  # fmt: skip
    column, reason = guess_group(table)
    assert column == "experiment"
    assert "all images of one experiment stay together" in reason


def test_plates_of_each_experiment_where_classes_are_experiments() -> None:
    table = screen(
        ("A", "A-01", 1, "B02"), ("A", "A-01", 2, "B02"), ("B", "B-01", 1, "B02"),
        ("B", "B-01", 2, "B02"),
    )  # fmt: skip
    column, reason = guess_group(table)
    assert column == "experiment+plate"
    assert "some class occurs in one experiment only" in reason
    # Plate 1 of one experiment is not plate 1 of another.
    assert sorted(group_keys(table, column)) == ["A-01/1", "A-01/2", "B-01/1", "B-01/2"]


def test_wells_where_classes_are_plates() -> None:
    table = screen(
        ("A", "A-01", 1, "B02"), ("A", "A-01", 1, "B03"), ("B", "A-01", 2, "B02"),
        ("B", "A-01", 2, "B03"),
    )  # fmt: skip
    assert guess_group(table)[0] == "experiment+plate+well"


def test_a_column_called_group_goes_before_everything() -> None:
    table = screen(("A", "A-01", 1, "B02"), ("A", "A-02", 1, "B02")).assign(group=["x", "y"])
    assert guess_group(table) == ("group", "the group is the column 'group' of the table")
    assert guess_group(table.assign(group=""))[0] == "experiment"


def test_embryos_are_known_by_date_and_cycle_too() -> None:
    table = pd.DataFrame(
        {"label": ["060"], "date": ["20230811"], "cycle": [0], "embryo": [3], "rotation": [90]}
    )
    assert guess_group(table)[0] == "date+cycle+embryo"
    assert group_keys(table, "date+cycle+embryo").tolist() == ["20230811/0/3"]


def test_a_column_of_the_table_that_is_named_like_a_group() -> None:
    table = pd.DataFrame({"label": ["a", "b"] * 2, "donor": [1, 1, 2, 2], "age": [3, 3, 4, 4]})
    assert guess_group(table) == (
        "donor",
        "the group is guessed from the column 'donor' of the table: all images of one donor stay "
        "together",
    )


def test_what_holds_one_class_each_is_no_group() -> None:
    table = pd.DataFrame({"label": ["a", "a", "b", "b"], "donor": [1, 1, 2, 2]})
    assert guess_group(table)[0] is None


def test_without_a_group_the_reason_says_what_follows() -> None:
    column, reason = guess_group(pd.DataFrame({"label": ["a", "b"]}))
    assert column is None
    assert "the split is random" in reason
    assert "will be too good" in reason


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["x_plate1_B02.tif", "x_plate1_C11.tif", "x_plate2_B02.tif"],
         {"plate": ["1", "1", "2"], "well": ["B02", "C11", "B02"]}),
        (["Mouse 12/a.png", "Mouse 12/b.png", "Mouse 7/a.png"], {"animal": ["12", "12", "7"]}),
        (["plate1/embryo03-t1.png", "plate1/embryo03-t2.png", "plate1/embryo04-t1.png"],
         {"embryo": ["03", "03", "04"]}),
        (["run1_pos3.png", "run1_pos4.png", "run2_pos3.png"],
         {"experiment": ["1", "1", "2"], "position": ["3", "4", "3"]}),
        # Not every name says it, all say the same, or each says something else.
        (["plate1.png", "x.png", "plate1.png"], {}),
        (["plate1-a.png", "plate1-b.png"], {}),
        (["SNE_181343.jpg", "BNE_883125.jpg", "SNE_688907.jpg"], {}),
        (["Anaphase_300.tif", "Anaphase_420.tif"], {}),
        # Words that only end like one.
        (["template1.png", "template1b.png", "template2.png"], {}),
    ],
)  # fmt: skip
def test_what_names_say(names: list[str], found: dict[str, list[str]]) -> None:
    assert dict(columns_from_names(names)) == found


def test_images_of_which_nothing_is_known_stay_together() -> None:
    table = pd.DataFrame({"label": ["a"] * 4, "plate": [1.0, np.nan, 2.0, np.nan]})
    assert group_keys(table, "plate").tolist() == ["1", "(unknown)", "2", "(unknown)"]


def test_a_column_may_have_a_plus_in_its_name() -> None:
    table = pd.DataFrame({"label": ["a"], "GFP+": ["x"]})
    assert group_keys(table, "GFP+").tolist() == ["x"]


def test_an_unknown_column_is_refused_and_the_others_are_named() -> None:
    table = pd.DataFrame({"path": ["a"], "label": ["a"], "plate": [1]})
    with pytest.raises(DatasetError, match=r"no column 'well' .* choose of label, plate"):
        group_keys(table, "plate+well")
