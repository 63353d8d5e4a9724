"""The data set: its parts, its splits, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, LeakageError

CLASSES = tuple(ClassSpec(name=name) for name in ("a", "b", "c"))


def make(
    n: int = 36, n_groups: int = 6, *, group: str | None = "plate", root: str = "/data"
) -> Dataset:
    """Every group holds every class."""
    numbers = np.arange(n)
    table = pd.DataFrame(
        {
            "path": [f"{root}/{number // 10}/{number}.png" for number in numbers],
            "label": [CLASSES[number % 3].name for number in numbers],
            "split": "",
            "plate": numbers // 3 % n_groups,
            "well": [f"B{number % 7:02d}" for number in numbers],
        }
    )
    return Dataset(table, CLASSES, group)


def test_numbers_and_parts() -> None:
    data = make().split()
    assert data.class_names == ("a", "b", "c")
    assert data.labels.tolist() == [0, 1, 2] * 12
    assert data.groups[:4].tolist() == ["0", "0", "0", "1"]
    assert len(data.train) + len(data.validation) + len(data.test) == len(data) == 36
    assert set(data.test.table["split"]) == {"test"}
    assert data.train.table.index.tolist() == list(range(len(data.train)))
    assert data.train.classes == CLASSES
    assert data.counts().sum(axis=0).to_dict() == {"train": 24, "validation": 6, "test": 6}
    assert make().counts().columns.tolist() == ["train", "validation", "test", "unsplit"]


def test_subset_takes_a_mask_or_numbers() -> None:
    data = make()
    assert data.subset(data.labels == 1).table["label"].unique().tolist() == ["b"]
    assert data.subset([5, 2]).paths == ("/data/0/5.png", "/data/0/2.png")
    assert len(data.subset([])) == 0


def test_ordered_classes_have_values() -> None:
    minutes = tuple(ClassSpec(name=name, value=float(name), unit="minute") for name in ("51", "60"))
    table = pd.DataFrame({"path": ["/x.png"], "label": ["60"], "split": [""]})
    assert Dataset(table, minutes).is_ordered
    assert not make().is_ordered


@settings(max_examples=30)
@given(st.integers(3, 9), st.integers(0, 5), st.sampled_from(["plate", "plate+well", "well"]))
def test_splits_keep_groups_whole(n_groups: int, seed: int, by: str) -> None:
    data = make(60, n_groups).split(by, seed=seed)
    assert data.group_column == by
    assert data.leaks() == ()
    assert (data.table["split"] != "").all()
    assert set(data.train.labels) == {0, 1, 2}
    assert data.sha256 == make(60, n_groups).split(by, seed=seed).sha256


def test_the_known_group_is_used_unless_another_is_named() -> None:
    assert make().split().group_column == "plate"
    other = make().split("well")
    assert other.group_column == "well"
    assert other.group_reason == "the group was chosen: well"


def test_without_a_group_the_split_is_random_and_stratified() -> None:
    counts = make(60, group=None).split(seed=3).counts()
    assert counts.to_numpy().tolist() == [[14, 3, 3]] * 3
    assert make(60, group=None).split(seed=3).leaks() == ()


def test_a_random_split_of_groups_is_refused_and_says_how_to_allow_it() -> None:
    with pytest.raises(
        LeakageError, match=r"6 groups \(plate: 0, 1, 2, 3, 4 and 1 more\)"
    ) as caught:
        make().split("random")
    assert "allow_leakage=True, --allow-leakage" in str(caught.value)
    allowed = make().split("random", allow_leakage=True)
    assert allowed.leakage_allowed
    assert allowed.leaks() == ("0", "1", "2", "3", "4", "5")
    allowed.check_leakage()


def test_a_given_split_is_kept_or_refused() -> None:
    data = make()
    with pytest.raises(DatasetError, match="without a given split"):
        data.split("given")
    given_split = np.where(data.table["plate"] == 2, "test", "train")
    kept = data.with_splits(given_split).split("given")
    assert kept.table["split"].tolist() == given_split.tolist()
    leaking = data.with_splits(np.where(data.table["well"] == "B02", "test", "train"))
    with pytest.raises(LeakageError, match="plate"):
        leaking.split("given")
    assert leaking.split("given", allow_leakage=True).leakage_allowed


def test_images_in_no_split_do_not_leak() -> None:
    data = make()
    splits = np.where(data.table["well"] == "B02", "", "train")
    assert data.with_splits(splits).leaks() == ()


def test_two_groups_train_and_test() -> None:
    data = make(n_groups=2).split()
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 0, 18)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match=r"all images are of one group \(plate: 0\)"):
        make(n_groups=1).split()
    with pytest.raises(DatasetError, match="cannot be left out"):
        make(n_groups=1).leave_one_group_out()


def test_classes_that_are_groups_cannot_be_split_by_them() -> None:
    data = make()
    confounded = Dataset(data.table.assign(plate=data.labels), CLASSES, "plate")
    with pytest.raises(DatasetError, match="would not be trained") as caught:
        confounded.split()
    assert "(a, b, c)" in str(caught.value)


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.3), (0.5, 0.2, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1)]
)
def test_fractions_that_are_none_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DatasetError, match="give three that sum to 1"):
        make().split(fractions=fractions)


def test_all_for_training_is_a_split_too() -> None:
    assert len(make().split(fractions=(1.0, 0.0, 0.0)).train) == 36


def test_leave_one_group_out() -> None:
    folds = make().leave_one_group_out()
    assert [name for name, _ in folds] == ["0", "1", "2", "3", "4", "5"]
    for name, data in folds:
        assert set(data.test.groups) == {name}
        assert len(data.train) == 30
        assert data.leaks() == ()


def test_leave_one_group_out_with_validation() -> None:
    for name, data in make().leave_one_group_out(validation=0.2, seed=1):
        assert set(data.test.groups) == {name}
        assert len(data.validation) == 6
        assert data.leaks() == ()


def test_plate_by_plate_across_experiments() -> None:
    rows = [
        (f"/{kind}/{plate}/{site}.png", kind, f"{kind}-01", plate)
        for kind in "abc"
        for plate in (1, 2, 3)
        for site in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "experiment", "plate"]).assign(split="")
    data = Dataset(table, CLASSES, "experiment+plate")
    folds = data.leave_one_group_out(by="plate")
    assert [(name, len(fold.train), len(fold.test)) for name, fold in folds] == [
        ("1", 12, 6), ("2", 12, 6), ("3", 12, 6),
    ]  # fmt: skip
    assert all(set(fold.test.labels) == {0, 1, 2} for _, fold in folds)


@pytest.mark.parametrize("group", ["plate", None])
def test_folds_hold_every_image_out_once(group: str | None) -> None:
    folds = make(group=group).k_fold(3, seed=2)
    held_out = [path for fold in folds for path in fold.test.paths]
    assert sorted(held_out) == sorted(make().paths)
    assert [len(fold.test) for fold in folds] == [12, 12, 12]
    assert all(fold.leaks() == () for fold in folds)
    assert [fold.test.counts()["test"].tolist() for fold in folds] == [[4, 4, 4]] * 3


def test_every_fold_tests_the_classes_that_are_in_enough_groups() -> None:
    # Class c is in two of six groups only.
    table = pd.DataFrame(
        [(f"/{g}{c}{n}.png", c, "", g) for g in range(6) for c in "abc" for n in range(2)],
        columns=["path", "label", "split", "plate"],
    )
    data = Dataset(table[(table["label"] != "c") | (table["plate"] > 3)], CLASSES, "plate")
    for seed in range(4):
        folds = data.k_fold(2, seed=seed)
        assert [fold.test.counts()["test"].tolist() for fold in folds] == [[6, 6, 2]] * 2


def test_folds_that_cannot_be_are_refused() -> None:
    with pytest.raises(DatasetError, match="7 folds cannot be made of 6 groups"):
        make().k_fold(7)
    with pytest.raises(DatasetError, match="choose between 2"):
        make(group=None).k_fold(1)
    with pytest.raises(LeakageError, match="random folds"):
        make().k_fold(3, "random")


def test_validation_is_taken_in_whole_groups() -> None:
    data = make().split(fractions=(0.8, 0, 0.2))
    carved = data.with_validation(0.25, seed=4)
    assert len(carved.validation) > 0
    assert carved.test.paths == data.test.paths
    assert carved.leaks() == ()
    # What validates already goes on to.
    assert carved.with_validation(0.5).sha256 == carved.sha256
    assert len(make(group=None).split(fractions=(1, 0, 0)).with_validation(0.25).validation) == 9
    with pytest.raises(DatasetError, match="between 0 and 1"):
        data.with_validation(1.0)


def test_equal_numbers_touches_training_only() -> None:
    data = make(60, group=None).split()
    rare = data.subset(
        ~((data.table["split"] == "train") & (data.labels == 1) & (np.arange(60) > 9))
    )
    even = rare.equal_numbers(seed=1)
    few = rare.counts()["train"].min()
    assert even.counts()["train"].tolist() == [few] * 3
    assert even.test.paths == rare.test.paths
    assert even.sha256 == rare.equal_numbers(seed=1).sha256
    assert even.sha256 != rare.equal_numbers(seed=2).sha256
    assert make(10).equal_numbers().counts()["unsplit"].tolist() == [3, 3, 3]


def test_the_hash_is_that_of_names_labels_and_splits() -> None:
    data = make()
    assert data.sha256 == make(root="/somewhere/else").sha256
    assert data.sha256 != data.split().sha256
    assert data.sha256 != data.subset(range(35)).sha256
    assert len(data.subset([]).sha256) == 64


def test_images_on_several_drives_have_a_hash_too() -> None:
    table = make(6).table.assign(path=["C:/a.png", "/b.png", "/c.png", "/d.png", "/e.png", "f"])
    assert len(Dataset(table, CLASSES).sha256) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "d"}, "'label' holds 'd', but only a, b, c are allowed"),
        ({"split": "valid"}, "'split' holds 'valid', but only train, validation, test are allowed"),
    ],
)
def test_unknown_values_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Dataset(make().table.assign(**changes), CLASSES)


def test_what_is_no_table_of_images_is_refused() -> None:
    with pytest.raises(DatasetError, match="lacks label, split"):
        Dataset(pd.DataFrame({"path": ["a"]}), CLASSES)
    with pytest.raises(DatasetError, match="two classes of the same name"):
        Dataset(make().table, (*CLASSES, CLASSES[0]))
    with pytest.raises(DatasetError, match="holds no images"):
        make().subset([]).split()
    with pytest.raises(DatasetError, match="name the column to keep together"):
        make(group=None).leave_one_group_out()
