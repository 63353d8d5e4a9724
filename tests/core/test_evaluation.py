from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.evaluation import Evaluation, pooled
from napari_cellclf.core.metrics import top_k
from napari_cellclf.errors import InputError

CLASSES = ("a", "b", "c")


def certain(answers, n_classes=3, confidence=0.8):
    """Probabilities that answer these class numbers."""
    answers = np.asarray(answers)
    table = np.full((len(answers), n_classes), (1 - confidence) / (n_classes - 1))
    table[np.arange(len(answers)), answers] = confidence
    return table


def make(truth, answers, classes=CLASSES, **details):
    details.setdefault("ids", [f"{i}.png" for i in range(len(truth))])
    return Evaluation.from_probabilities(certain(answers, len(classes)), truth, classes, **details)


# a: 3 of 4 found; b: 1 of 2, answered 3 times; c: 1 of 1.
BY_HAND = make([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2, 2])


def test_figures_worked_out_by_hand():
    one = BY_HAND
    assert one.confusion.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert one.accuracy == pytest.approx(5 / 7)
    assert one.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert one.scores.precision.tolist() == [1, 0.5, 0.5]
    assert one.scores.recall.tolist() == [0.75, 0.5, 1]
    assert one.scores.f1 == pytest.approx([6 / 7, 1 / 2, 2 / 3])
    assert one.values["macro_f1"] == pytest.approx((6 / 7 + 1 / 2 + 2 / 3) / 3)
    assert one.scores.support.tolist() == [4, 2, 1]


def test_the_levels_beside_them():
    majority, level = BY_HAND.majority
    assert (majority.name, level) == ("a", 4 / 7)
    assert BY_HAND.chance == 1 / 3
    baselines = BY_HAND.metrics()["baselines"]
    assert baselines["majority_class"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert baselines["chance"]["top_k"] == {"1": 1 / 3}


def test_a_class_without_images_counts_in_no_mean():
    one = make([0, 0, 1], [0, 0, 2])
    assert one.balanced_accuracy == 0.5
    # b was never found and never answered, c was answered once and is not there.
    assert one.scores.precision.tolist() == [1, 0, 0]
    assert np.isnan(one.scores.recall[2])
    assert one.values["macro_precision"] == 0.5
    assert one.metrics()["per_class"][2]["recall"]["value"] is None
    assert any("Classes without an image are in no mean: c." in n for n in one.metrics()["notes"])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_the_figures_are_those_of_the_plain_functions(n, seed):
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(7), n).astype(np.float32)
    truth = rng.integers(0, 7, n)
    one = Evaluation.from_probabilities(
        table, truth, [str(i) for i in range(7)], ids=["x"] * n, top_k=(1, 2, 3, 6, 7, 9)
    )
    right = truth == table.argmax(axis=1)
    assert one.accuracy == pytest.approx(right.mean())
    recalls = [right[truth == number].mean() for number in np.unique(truth)]
    assert one.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert one.ranks == (1, 2, 3, 6)
    for k in one.ranks:
        assert one.values[f"top_{k}"] == pytest.approx(top_k(k).compute(one.outcomes))


def test_ordered_classes_have_an_error_in_their_unit():
    stages = [ClassSpec(name=f"m{m}", value=m, unit="minute") for m in (51, 60, 69)]
    one = make([0, 1, 2, 2], [0, 2, 2, 0], stages)
    assert one.values["mean_absolute_error"] == pytest.approx((9 + 18) / 4)
    assert one.values["within_one_class"] == 0.75
    assert one.metrics()["ordered"]["unit"] == "minute"
    assert "6.75 minute" in one.summary()
    assert BY_HAND.metrics()["ordered"] is None


def test_the_threshold_parts_sure_from_unsure():
    table = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45]])
    one = Evaluation.from_probabilities(
        table, [0, 1, 0, 1], ("a", "b"), ids=list("wxyz"), unsure_threshold=0.7
    )
    unsure = one.metrics()["unsure"]
    assert unsure["coverage"]["value"] == 0.5
    assert unsure["accuracy"]["value"] == 0.5
    assert unsure["curve"]["coverage"] == [0.25, 0.5, 0.75, 1]
    assert unsure["curve"]["accuracy"] == pytest.approx([1, 0.5, 2 / 3, 0.5], abs=1e-6)


def test_a_threshold_above_all_leaves_nothing_sure():
    one = make([0, 1], [0, 1], unsure_threshold=0.99)
    unsure = one.metrics()["unsure"]
    assert unsure["coverage"]["value"] == 0
    assert unsure["accuracy"]["value"] is None


def test_intervals_are_over_groups():
    truth = np.tile([0, 1, 2], 40)
    answers = truth.copy()
    answers[:30] = (answers[:30] + 1) % 3
    groups = [f"plate {i // 15}" for i in range(120)]
    alone, together = make(truth, answers), make(truth, answers, groups=groups)
    assert alone.metrics()["intervals"]["unit"] == "image"
    assert together.metrics()["intervals"] == {
        "level": 0.95,
        "method": "percentile bootstrap",
        "unit": "group",
        "n_units": 8,
        "replicates": 1000,
        "seed": 0,
    }
    for one in (alone, together):
        interval = one.intervals["accuracy"]
        assert interval.low < one.accuracy < interval.high
    width = [one.intervals["accuracy"].high - one.intervals["accuracy"].low
             for one in (alone, together)]  # fmt: skip
    assert width[1] > 2 * width[0]


def test_intervals_hold_95_percent_of_the_replicates():
    truth = np.tile([0, 1, 2], 20)
    answers = truth.copy()
    answers[:20] = (answers[:20] + 1) % 3
    drawn = np.random.default_rng(0).integers(0, 60, (1000, 60))
    low, high = np.percentile((truth == answers)[drawn].mean(axis=1), [2.5, 97.5])
    interval = make(truth, answers).intervals["accuracy"]
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_without_a_mistake_the_bootstrap_is_silent_and_the_note_is_not():
    one = make([0, 1, 2] * 8, [0, 1, 2] * 8)
    assert one.metrics()["accuracy"] == {"value": 1, "low": None, "high": None}
    assert any("85.8 %" in note for note in one.metrics()["notes"])


def test_the_worst_mistakes_come_first():
    table = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])
    one = Evaluation.from_probabilities(table, [1, 0, 1, 0], ("a", "b"), ids=list("wxyz"))
    assert one.mistakes() == [2, 1, 0]
    assert one.mistakes(1) == [2]


def test_metrics_are_strict_json_with_the_same_keys_throughout():
    small = make([0], [0], role="validation", failed=(("x.png", "damaged"),), notes=("Hm.",))
    text = json.dumps(small.metrics(), allow_nan=False)
    found = json.loads(text)
    assert found.keys() == BY_HAND.metrics().keys()
    assert found["per_class"][0].keys() == BY_HAND.metrics()["per_class"][0].keys()
    assert found["n_failed"] == 1
    assert found["noun"] == "image"
    assert found["failed"] == [{"image": "x.png", "reason": "damaged"}]
    assert found["notes"][:2] == [
        "The settings of the model were chosen on these images, so that it looks a little better "
        "than it is.",
        "Hm.",
    ]
    assert sum(one["count"] for one in found["calibration"]["reliability"]) == 1


def test_the_areas_are_in_the_document():
    table = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]])
    one = Evaluation.from_probabilities(table, [0, 1, 0, 1], ("a", "b"), ids=list("wxyz"))
    # Of the four pairs of a true a and another one is a tie, and two are ordered rightly.
    assert one.metrics()["per_class"][0]["roc_auc"] == pytest.approx(0.625)
    assert one.metrics()["macro_roc_auc"] == pytest.approx(0.625)


def test_the_headline_is_for_a_model_card():
    headline = BY_HAND.headline()
    assert headline["accuracy"] == pytest.approx(5 / 7)
    assert set(headline) == {
        "accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "loss",
        "expected_calibration_error",
    }  # fmt: skip


def test_the_summary_tells_levels_and_intervals():
    text = make([0, 1, 2, 0] * 10, [0, 1, 2, 1] * 10, name="plate 4").summary()
    assert text.startswith("plate 4: 40 images, 3 classes (test)\n")
    assert "accuracy                 75.0 %  (" in text
    assert "always a                 50.0 %" in text
    assert "by chance                33.3 %" in text


def test_folds_are_put_together():
    first = make([0, 1], [0, 1], groups=["p1", "p1"], temperature=2.0, unsure_threshold=0.5)
    second = make([2], [0], temperature=3.0, unsure_threshold=0.5, failed=(("x", "y"),))
    whole = pooled([first, second], name="all plates")
    assert len(whole) == 3
    assert whole.accuracy == pytest.approx(2 / 3)
    assert whole.groups == ("p1", "p1", "")
    assert (whole.temperature, whole.unsure_threshold) == (1.0, 0.5)
    assert (whole.name, whole.role) == ("all plates", "leave-one-group-out")
    assert whole.failed == (("x", "y"),)


def test_folds_of_other_classes_are_not_put_together():
    with pytest.raises(InputError, match="2 evaluations cannot be put together"):
        pooled([make([0], [0]), make([0], [0], ("a", "b"))])
    with pytest.raises(InputError, match="0 evaluations"):
        pooled([])


@pytest.mark.parametrize(
    ("table", "truth", "ids", "groups", "words"),
    [
        (np.ones((2, 3)) / 3, [0], ["a", "b"], None, "1 true class, 2 ids"),
        (np.ones((2, 2)) / 2, [0, 1], ["a", "b"], None, r"shape \(2, 2\)"),
        (np.ones((0, 3)), [], [], None, "at least one image"),
        (np.ones((1, 3)) / 3, [0], ["a"], ["x", "y"], "2 groups were given for 1 image"),
        (np.array([[np.nan, 0, 1]]), [0], ["a"], None, "finite"),
        (np.array([[-0.5, 0.5, 1]]), [0], ["a"], None, "not negative"),
        (np.ones((1, 3)) / 3, [3], ["a"], None, r"\[3\] are not among the 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(table, truth, ids, groups, words):
    with pytest.raises(InputError, match=words):
        Evaluation.from_probabilities(table, truth, CLASSES, ids=ids, groups=groups)


def test_many_classes_have_no_curves_and_no_intervals_of_their_own():
    n = 120
    one = make(np.arange(n), np.arange(n), [str(i) for i in range(n)])
    assert "recall/0" not in one.values
    row = one.metrics()["per_class"][0]
    assert row["roc_curve"] is None
    assert row["roc_auc"] == 1
    assert row["recall"]["value"] == 1
