from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.core.image import Image
from napari_cellclf.errors import InputError, UnreadableImageError
from napari_cellclf.reports.page import MOST_MISTAKES, _below, _common_folder, thumbnail
from napari_cellclf.reports.report import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">',
    "$x_{",
    "a\nb\x00c",
    "\udcff\u202e=1+1",
    "{{ 7*7 }}{% raw %}",
    "</svg></style><marquee>",
)
#: Of HTML and SVG, what could fetch something.
ADDRESSES = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")


class Page(HTMLParser):
    """What is in a page: elements with their attributes, and the text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def having(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def make(n=30, classes=("RPE", "U2OS", "HUVEC"), seed=0, **details):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes), n)
    table = rng.dirichlet(np.ones(len(classes)), n)
    table[np.arange(n), truth] += 0.5
    table /= table.sum(axis=1, keepdims=True)
    details.setdefault("ids", [f"/data/plates/p{i % 4}/{i}.png" for i in range(n)])
    details.setdefault("groups", [f"p{i % 4}" for i in range(n)])
    return Evaluation.from_probabilities(table, truth, classes, **details)


def scene(name="", channels=3):
    return Image(np.random.default_rng(len(name)).integers(0, 9, (channels, 40, 60)), "CYX")


@pytest.fixture
def no_plots(monkeypatch):
    """Leave out what takes the time."""
    for name in ("confusion", "coverage", "curves", "history", "reliability"):
        monkeypatch.setattr(f"napari_cellclf.reports.page.{name}_svg", lambda *_: "")


def read_page(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with everything in it."""
    return write_report(
        tmp_path_factory.mktemp("run") / "report",
        [make(unsure_threshold=0.5, temperature=1.25, name="plate 4"), make(20, seed=1)],
        title="A title",
        read=scene,
        history=[
            {"stage": "head", "epoch": 1, "loss": 1.5, "accuracy": 0.5, "validation_loss": None},
            {"stage": "network", "epoch": 1, "loss": float("nan"), "accuracy": 0.6},
        ],
        dataset_counts=pd.DataFrame({"train": [3, 4], "test": [0, 2]}, index=["RPE", "U2OS"]),
        warnings=[("error", "The split leaked."), ("warning", "Few plates."), ("note", "Hello.")],
        facts={"architecture": "compact-cnn"},
    )


def test_there_are_three_files_and_no_leavings(report):
    names = sorted(path.name for path in report.parent.iterdir())
    assert names == ["metrics.json", "predictions.csv", "report.html"]
    assert report.name == "report.html"


def test_nothing_is_fetched_and_nothing_runs(report):
    page = read_page(report)
    for tag, attrs in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ADDRESSES:
            assert attrs.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    style = report.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [attrs for _, attrs in page.elements if "http-equiv" in attrs]
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_says_what_it_is_in_utf_8(report):
    text = report.read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">')
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_banners_are_coloured_by_level(report):
    page = read_page(report)
    kinds = [a["class"] for _, a in page.elements if a.get("class", "").startswith("banner ")]
    assert kinds == ["banner error", "banner warning", "banner note"]
    assert "Do not trust these metrics The split leaked." in page.words


def test_the_page_shows_what_is_known(report):
    words = read_page(report).words
    for text in (
        "A title", "plate 4", "balanced accuracy", "always", "chance: 33.3 %", "RPE", "compact-cnn",
        "4 groups resampled", "temperature is 1.25", "with a confidence below 0.5",
        "Worst mistakes", "/data/plates", "All evaluations",
    ):  # fmt: skip
        assert text in words


def test_the_confusion_matrix_has_true_rows(report):
    page = report.read_text(encoding="utf-8")
    one = make(unsure_threshold=0.5)
    for true, row in enumerate(one.confusion):
        for answered, count in enumerate(row):
            title = (
                f'title="{count} of {row.sum()}: true {one.class_names[true]}, '
                f'predicted {one.class_names[answered]}"'
            )
            assert title in page


def test_ids_of_elements_are_used_once(report):
    ids = [attrs["id"] for _, attrs in read_page(report).elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert any(name.startswith("e1r-") for name in ids)


def test_plots_take_the_colour_of_the_page(report):
    text = report.read_text(encoding="utf-8")
    assert "currentColor" in text
    assert "#010203" not in text
    assert "<metadata" not in text


def test_metrics_hold_everything_as_numbers(report):
    found = json.loads((report.parent / "metrics.json").read_text())
    assert list(found) == [
        "schema_version", "title", "facts", "settings", "warnings", "dataset", "history",
        "evaluations",
    ]  # fmt: skip
    assert found["warnings"][0] == {"level": "error", "message": "The split leaked."}
    assert found["dataset"] == {"RPE": {"train": 3, "test": 0}, "U2OS": {"train": 4, "test": 2}}
    assert found["history"][1]["loss"] is None
    assert found["evaluations"][0]["name"] == "plate 4"
    assert found["evaluations"][0]["calibration"]["temperature"] == 1.25
    assert len(found["evaluations"]) == 2


def test_predictions_hold_every_answer(report):
    with (report.parent / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    one = make()
    assert len(rows) == 50
    assert list(rows[0]) == [
        "evaluation", "role", "image", "group", "truth", "label", "confidence",
        "p_RPE", "p_U2OS", "p_HUVEC", "label_doubt",
    ]  # fmt: skip
    for row, image in zip(rows, one.ids, strict=False):
        assert row["image"] == image
        assert float(row["confidence"]) == max(float(row[f"p_{c}"]) for c in one.class_names)
        assert float(row[f"p_{row['label']}"]) == float(row["confidence"])
    assert (rows[0]["evaluation"], rows[-1]["evaluation"]) == ("plate 4", "")
    right = sum(row["truth"] == row["label"] for row in rows[:30])
    assert right / 30 == pytest.approx(one.accuracy)


def test_mistakes_have_pictures_of_the_right_images(tmp_path, no_plots):
    asked = []

    def read(name):
        asked.append(name)
        return scene(name)

    one = make(200)
    page = read_page(write_report(tmp_path, [one], title="t", read=read))
    expected = [one.ids[row] for row in one.mistakes(MOST_MISTAKES)]
    assert len(one.mistakes()) > MOST_MISTAKES
    assert asked == expected
    assert [attrs["alt"] for attrs in page.having("img")] == [
        name.removeprefix("/data/plates/") for name in expected
    ]
    assert f"{len(one.mistakes())} wrong predictions, {MOST_MISTAKES} of them" in page.words


def test_mistakes_have_maps_of_what_was_predicted(tmp_path, no_plots):
    def explain(name, class_name):
        asked[name] = class_name
        heat = np.full((40, 60), np.nan, np.float32)
        heat[10:30] = np.linspace(-2, 2, 60)
        return None if name == without else heat

    asked: dict[str, str] = {}
    one = make(n=200, role="test")
    shown = one.mistakes(MOST_MISTAKES)
    without = one.ids[shown[1]]
    image = Image(np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8), "YX")
    page = read_page(
        write_report(tmp_path, [one], title="t", read=lambda name: image, explain=explain)
    )
    assert asked == {one.ids[row]: one.class_names[one.predicted[row]] for row in shown}
    maps = [attrs for attrs in page.having("img") if attrs["alt"].startswith("evidence for ")]
    assert len(maps) == len(shown) - 1
    raw = base64.b64decode(maps[0]["src"].partition(",")[2])
    left, right = np.array(Pillow.open(io.BytesIO(raw)).convert("RGB"))[20, [1, -2]].astype(int)
    assert left[2] > left[0] + 50
    assert right[0] > right[2] + 50
    assert "orange speaks for it" in page.words
    # Other models predicted these.
    asked.clear()
    others = make(n=200, role="leave-one-group-out")
    write_report(tmp_path, [others], title="t", read=lambda name: image, explain=explain)
    assert not asked


def test_an_image_that_cannot_be_read_leaves_a_word(tmp_path, no_plots):
    def read(name):
        raise UnreadableImageError("the file is <damaged>")

    page = read_page(write_report(tmp_path, [make()], title="t", read=read))
    assert not page.having("img")
    assert "no picture: the file is <damaged>" in page.words


def test_without_a_mistake_there_is_nothing_to_show(tmp_path, no_plots):
    one = Evaluation.from_probabilities(
        np.eye(2)[[0, 1, 0]], [0, 1, 0], ("a", "b"), ids=list("xyz")
    )
    page = read_page(write_report(tmp_path, [one], title="t", read=scene))
    assert "None: every prediction is right." in page.words


def test_labels_to_check_are_listed_where_all_images_are_trained_on(tmp_path, no_plots):
    predicted = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9], [0.2, 0.8]])
    truth, ids = [0, 0, 1, 1, 1], [f"/data/{name}.png" for name in "abcde"]
    folds, test = (
        Evaluation.from_probabilities(predicted, truth, ("round", "long"), ids=ids, role=role)
        for role in ("k-fold", "test")
    )
    page = read_page(write_report(tmp_path, [folds], title="t", read=scene))
    assert "1 of the labels is likely wrong" in page.words
    assert "c.png long round 95" in " ".join(page.words.split())
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as file:
        doubts = [float(row["label_doubt"]) for row in csv.DictReader(file)]
    assert doubts == pytest.approx([0, 0, 0.9, 0, 0])
    page = read_page(write_report(tmp_path, [test], title="t", read=scene))
    assert "likely wrong" not in page.words


def test_hostile_names_stay_text(tmp_path):
    classes = [ClassSpec(name=name) for name in HOSTILE if name.isascii()]
    one = make(
        40,
        classes,
        ids=[f"/data/{HOSTILE[i % len(HOSTILE)]}/{i}.png" for i in range(40)],
        name=HOSTILE[0],
        failed=((HOSTILE[1], HOSTILE[0]),),
        notes=(HOSTILE[0],),
    )
    path = write_report(
        tmp_path,
        [one, make(5, classes, groups=None)],
        title=HOSTILE[0],
        read=scene,
        warnings=[("error", HOSTILE[1]), (HOSTILE[1], HOSTILE[0])],
        facts={HOSTILE[1]: HOSTILE[0]},
        dataset_counts={HOSTILE[0]: {HOSTILE[1]: 1}},
        history=[{"stage": HOSTILE[0], "loss": 1.0}, {"stage": HOSTILE[1], "loss": 2.0}],
    )
    page = read_page(path)
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("src", "data:").startswith("data:")
    assert not page.having("script")
    assert not page.having("marquee")
    assert page.words.count(HOSTILE[0]) > 5
    assert "{{ 7*7 }}" in page.words
    json.loads((tmp_path / "metrics.json").read_text())
    cells = list(csv.reader(io.StringIO((tmp_path / "predictions.csv").read_text("utf-8"))))
    assert not [cell for row in cells for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_names_that_are_no_text_are_written_as_escapes(tmp_path, no_plots):
    one = make(3, ids=["/data/\udcff.png", "/data/b.png", "/data/c.png"], groups=None)
    write_report(tmp_path, [one], title="\udcff")
    assert "\\udcff" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "\\udcff" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")


def test_of_many_folds_some_are_in_the_table_only(tmp_path, no_plots):
    folds = [make(9, seed=i, name=f"fold {i}") for i in range(6)]
    page = read_page(write_report(tmp_path, folds, title="t"))
    assert "fold 5" in page.words
    # The table of all, four in full, the facts.
    assert len(page.having("h2")) == 1 + 4 + 1
    assert "The last 2 are not shown in full" in page.words
    assert len(json.loads((tmp_path / "metrics.json").read_text())["evaluations"]) == 6


def test_the_confusion_matrix_of_many_classes_is_a_plot(tmp_path):
    names = tuple(f"gene {i}" for i in range(26))
    page = read_page(write_report(tmp_path, [make(60, names)], title="t"))
    assert "e0m-figure_1" in [attrs.get("id") for _, attrs in page.elements]
    assert not [1 for attrs in page.having("table") if attrs.get("class") == "confusion"]


def test_a_single_image_makes_a_report(tmp_path):
    one = Evaluation.from_probabilities(np.array([[0.3, 0.7]]), [0], ("a", "b"), ids=["x"])
    words = read_page(write_report(tmp_path, [one], title="t")).words
    assert "1 image, too few to say" in words
    assert "1 wrong prediction." in words


def test_a_second_report_replaces_the_first(tmp_path, no_plots):
    write_report(tmp_path, [make()], title="first")
    assert "second" in read_page(write_report(tmp_path, [make()], title="second")).words
    assert len(list(tmp_path.iterdir())) == 3


def test_a_report_needs_something_to_tell(tmp_path):
    with pytest.raises(InputError, match="at least one evaluation"):
        write_report(tmp_path, [], title="t")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path, no_plots):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file", [make()], title="t")


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.zeros((6, 900, 300), np.uint16), "CYX"),
        (np.full((5, 7), np.nan), "YX"),
        (np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8), "YXS"),
        (np.ones((1, 1), np.float32), "YX"),
    ],
)
def test_thumbnails_are_small_jpegs(array, axes):
    kind, _, data = thumbnail(Image(array, axes)).partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Pillow.open(io.BytesIO(base64.b64decode(data)))
    assert max(picture.size) <= 240
    assert picture.mode == "RGB"


def test_image_names_are_shown_below_their_folder():
    assert _common_folder(["/a/b/1.png", "/a/c/2.png"]) == "/a"
    assert _common_folder(["/a/b/1.png", "image[3]"]) == ""
    assert _below("/a/b/1.png", "/a") == "b/1.png"
    assert _below("image[3]", "") == "image[3]"
