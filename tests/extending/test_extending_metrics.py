"""Every metric does what its protocol promises, and a new one is shown everywhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from napari_cellclf.core.classes import ClassSpec, scale_of
from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.core.metrics import METRICS, Metric, Outcomes
from napari_cellclf.errors import InputError
from napari_cellclf.reports.report import write_report

STAGES = tuple(ClassSpec(name=f"stage {n}", value=n, unit="hour") for n in range(3))


def make_outcomes(n: int, *, skill: float, seed: int = 0) -> Outcomes:
    """Make predictions of three ordered classes; a skill of 0 is guessing."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 3)
    table = rng.dirichlet(np.ones(3), n) * (1 - skill) + np.eye(3)[truth] * skill
    return Outcomes(table, truth, scale_of(STAGES), 0.5)


def check_metric(metric: Metric) -> None:
    """Check what any metric must do."""
    some = make_outcomes(300, skill=0.3)
    assert metric.applies_to(some)
    value = metric.compute(some)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert metric.text(value) not in ("", "-")
    assert metric.text(float("nan")) == metric.text(None) == "-"
    if metric.is_fraction:
        assert 0 <= value <= 1

    # Better predictions are better, in its direction.
    worst, best = (metric.compute(make_outcomes(300, skill=skill)) for skill in (0.0, 1.0))
    assert best >= worst if metric.higher_is_better else best <= worst

    # An image that counts twice is the same as two images.
    times = np.random.default_rng(1).integers(0, 3, 300)
    rows = np.repeat(np.arange(300), times)
    repeated = Outcomes(some.probabilities[rows], some.truth[rows], some.scale, some.threshold)
    assert metric.compute(some.weighted(times.astype(float))) == pytest.approx(
        metric.compute(repeated)
    )

    # Guessing reaches the chance level.
    level = metric.chance_level(np.array([100, 100, 100]))
    if level is not None:
        guessed = make_outcomes(30_000, skill=0.0)
        if metric.higher_is_better:
            assert metric.compute(guessed) == pytest.approx(level, abs=0.02)
        else:
            flat = Outcomes(np.full((300, 3), 1 / 3), some.truth, some.scale, some.threshold)
            assert metric.compute(flat) == pytest.approx(level, abs=0.02)

    # A class that was not drawn, as happens in a bootstrap, is no error.
    one_class = Outcomes(np.eye(3)[[0, 0]], np.array([0, 0]), some.scale, some.threshold)
    assert isinstance(metric.compute(one_class), float)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_keeps_its_promises(name):
    check_metric(METRICS.get(name))


def evaluation() -> Evaluation:
    done = make_outcomes(60, skill=0.4)
    return Evaluation.from_probabilities(
        done.probabilities, done.truth, ("a", "b", "c"), ids=[f"{n}.png" for n in range(60)]
    )


@pytest.fixture
def matthews(install):
    install("metrics", "matthews", "matthews:MATTHEWS")


@pytest.mark.usefixtures("matthews")
def test_matthews_keeps_its_promises_and_is_the_correlation():
    metric = METRICS.get("matthews")
    check_metric(metric)
    some = make_outcomes(200, skill=0.2, seed=3)
    weights = np.random.default_rng(0).integers(0, 4, 200).astype(float)
    assert metric.compute(some.weighted(weights)) == pytest.approx(
        matthews_corrcoef(some.truth, some.predicted, sample_weight=weights)
    )


@pytest.mark.usefixtures("matthews")
def test_a_new_metric_is_in_summary_report_and_numbers(tmp_path):
    one = evaluation()
    text = one.text("matthews")
    between = one.interval_text("matthews")
    assert f"  Matthews' correlation    {text}  ({between})\n" in one.summary()
    write_report(tmp_path, [one], title="A model")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Matthews&#39; correlation" in page
    assert between in page
    found = json.loads((tmp_path / "metrics.json").read_text())["evaluations"][0]["metrics"]
    assert found["matthews"] == {
        "title": "Matthews' correlation",
        "value": one.values["matthews"],
        "low": one.intervals["matthews"].low,
        "high": one.intervals["matthews"].high,
        "chance": 0.0,
        "higher_is_better": True,
    }
    assert one.headline()["matthews"] == one.values["matthews"]


def test_without_it_nobody_knows_it():
    assert "matthews" not in evaluation().metrics()["metrics"]
    with pytest.raises(InputError, match=r"no metric named 'matthews' is installed; installed: a"):
        METRICS.get("matthews")


@pytest.mark.usefixtures("matthews")
def test_training_and_tuning_take_it():
    from napari_cellclf.cli.app import build_parser
    from napari_cellclf.models.training.config import TrainingConfig

    assert TrainingConfig(monitor="matthews").monitor == "matthews"
    command = ["tune", "images", "--out", "there", "--trials", "2", "--metric", "matthews"]
    assert build_parser().parse_args(command).metric == "matthews"


@pytest.mark.parametrize(
    ("monitor", "words"),
    [("matthews", "no metric named 'matthews' is installed"), ("coverage", "needs more than")],
)
def test_training_cannot_be_decided_by_what_is_not_there(monitor, words):
    from pydantic import ValidationError

    from napari_cellclf.models.training.config import TrainingConfig

    with pytest.raises(ValidationError, match=words):
        TrainingConfig(monitor=monitor)
