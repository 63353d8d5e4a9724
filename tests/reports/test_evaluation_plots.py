from __future__ import annotations

import sys
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.reports.evaluation_plots import (
    confusion_svg,
    coverage_svg,
    curves_svg,
    history_svg,
    reliability_svg,
)


def make(classes=("RPE", "U2OS", "HUVEC"), n=40, **details):
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(len(classes)), n)
    truth = np.where(rng.random(n) < 0.6, table.argmax(axis=1), rng.integers(0, len(classes), n))
    return Evaluation.from_probabilities(table, truth, classes, ids=["x"] * n, **details)


PLOTS = {
    "roc": lambda one: curves_svg(one, "roc", "k"),
    "precision": lambda one: curves_svg(one, "precision-recall", "k"),
    "reliability": lambda one: reliability_svg(one, "k"),
    "coverage": lambda one: coverage_svg(one, "k"),
    "confusion": lambda one: confusion_svg(one, "k"),
}


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_a_plot_is_one_svg_element_with_a_box_and_no_size(plot):
    root = ElementTree.fromstring(plot(make()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"viewBox"} <= set(root.attrib)
    assert not {"width", "height"} & set(root.attrib)


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_the_same_answers_make_the_same_plot(plot):
    assert plot(make()) == plot(make())


def test_names_and_areas_are_in_the_legend():
    one = make()
    text = curves_svg(one, "roc", "k")
    for row in one.metrics()["per_class"]:
        assert f"{row['class']}  {row['roc_auc']:.3f}" in text.replace("&#160;", " ")


def test_of_many_classes_the_mean_is_drawn():
    text = curves_svg(make([f"gene {i}" for i in range(12)], 200), "precision-recall", "k")
    assert "mean" in text
    assert "gene" not in text


@pytest.mark.parametrize(
    "name", ["$x_{", "_hidden", "<b>&amp;", "a\nb\x00", "\u7d30\u80de", "x" * 200]
)
def test_any_name_can_be_drawn(name):
    one = make((name, "U2OS", "HUVEC"))
    for plot in PLOTS.values():
        ElementTree.fromstring(plot(one))
    # All three classes are in the legend.
    assert len([area for area in curves_svg(one, "roc", "k").split(">") if "  0." in area]) == 3


def test_a_class_that_all_are_of_has_no_roc():
    one = Evaluation.from_probabilities(np.eye(2)[[0, 0]], [0, 0], ("a", "b"), ids=["x", "y"])
    assert curves_svg(one, "roc", "k") == ""
    assert "<svg" in curves_svg(one, "precision-recall", "k")


def test_the_threshold_is_marked():
    assert "threshold 0.6" in coverage_svg(make(unsure_threshold=0.6), "k")
    assert "threshold" not in coverage_svg(make(), "k")
    assert "nothing" in coverage_svg(make(unsure_threshold=1.0), "k")


def test_training_curves_show_what_there_is():
    records = [{"stage": "head", "loss": 1.0, "accuracy": 0.5, "validation_loss": None}] * 3
    text = history_svg(records, "k")
    assert "training" in text
    assert "validation" not in text
    assert "validation" in history_svg([{"validation_accuracy": 0.5}], "k")
    assert "<svg" in history_svg([{"epoch": 1}, {"epoch": 2, "stage": "network"}], "k")
    assert history_svg([], "k") == ""


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    reliability_svg(make(), "k")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
