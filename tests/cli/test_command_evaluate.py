from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]


@pytest.fixture
def screen(plate: Path, write_png: Callable[[Path, int], None]) -> Path:
    """A table of four labelled sites on two plates; one of them is labelled wrongly."""
    for well, levels in (("B02", (210, 60)), ("B03", (60, 210))):
        for channel, level in enumerate(levels, start=1):
            write_png(plate / f"HUVEC-01/Plate2/{well}_s1_w{channel}.png", level)
    table = plate / "labels.csv"
    table.write_text(
        "path,label,split,label2\n"
        "HUVEC-01/Plate1/B02_s1_w1.png,nuclei,train,nuclei\n"
        "HUVEC-01/Plate1/B03_s1_w1.png,reticulum,train,other\n"
        "HUVEC-01/Plate2/B02_s1_w1.png,nuclei,test,nuclei\n"
        "HUVEC-01/Plate2/B03_s1_w1.png,nuclei,test,nuclei\n"
    )
    return table


def metrics(folder: Path) -> dict[str, Any]:
    (found,) = json.loads((folder / "metrics.json").read_text())["evaluations"]
    return found


def test_the_test_part_is_evaluated(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = cellclf("evaluate", bundle, screen, "--out", out)
    assert result.code == 0
    assert result.lines[0] == "labels.csv, its test part: 2 images, 2 classes (test)"
    assert "accuracy                 50.0 %" in result.out
    assert "evaluating on its test part: 2 images" in result.err
    assert result.err.endswith(f"cellclf: report in {out / 'report.html'}\n")
    found = metrics(out)
    assert found["confusion_matrix"]["counts"] == [[1, 1], [0, 0]]
    assert found["role"] == "test"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Bright nuclei or bright reticulum" in page
    # The wrong one has its picture, and a map of what speaks for the predicted class.
    assert page.count("data:image/jpeg;base64,") == 2
    assert 'alt="evidence for ' in page
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["nuclei", "reticulum"]


def test_all_images_and_intervals_over_a_column(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    arguments = ("--split", "all", "--group-by", "experiment+plate+well", "--top-k", "1")
    result = cellclf("evaluate", bundle, screen, "--out", out, *arguments)
    assert result.code == 0
    found = metrics(out)
    assert found["n"] == 4
    assert found["intervals"]["unit"] == "group"
    assert found["intervals"]["n_units"] == 4
    assert list(found["top_k"]) == ["1"]


def test_training_images_are_told_in_red(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = cellclf("evaluate", bundle, screen, "--out", out, "--split", "train")
    assert result.code == 0
    assert "The model was trained on these images" in result.out
    assert 'class="banner error"' in (out / "report.html").read_text(encoding="utf-8")


def test_a_group_on_both_sides_is_told_in_red(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = cellclf("evaluate", bundle, screen, "--out", out, "--group-by", "well")
    assert result.code == 0
    assert "warning: Images of 2 groups (well: B02, B03) are on both sides" in result.err
    assert 'class="banner error"' in (out / "report.html").read_text(encoding="utf-8")


def test_classes_that_the_model_does_not_know(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    arguments = ("--label", "label2", "--split", "all", "--out", tmp_path / "report")
    result = cellclf("evaluate", bundle, screen, *arguments)
    assert result.code == 1
    assert "1 of 4 images are of classes that tiny does not know (other;" in result.err
    assert not (tmp_path / "report").exists()
    assert cellclf("evaluate", bundle, screen, *arguments, "--ignore-unknown").code == 0
    assert metrics(tmp_path / "report")["n"] == 3


def test_a_bad_image_is_told_and_the_others_count(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    (screen.parent / "HUVEC-01/Plate2/B02_s1_w2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = cellclf("evaluate", bundle, screen, "--out", tmp_path / "report")
    assert result.code == 3
    assert "B02_s1_w2.png" in result.err
    assert metrics(tmp_path / "report")["n_failed"] == 1


def test_json_is_what_the_file_holds(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    result = cellclf("evaluate", bundle, screen, "--out", tmp_path / "report", "--json")
    assert json.loads(result.out) == metrics(tmp_path / "report")


def test_a_report_is_replaced_only_if_asked(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    result = cellclf("evaluate", bundle, screen, "--out", tmp_path)
    assert result.code == 1
    assert "metrics.json exists; add --overwrite" in result.err
    assert (tmp_path / "metrics.json").read_text() == "mine"
    assert cellclf("evaluate", bundle, screen, "--out", tmp_path, "--overwrite").code == 0
    assert metrics(tmp_path)["n"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--split", "validation"], 1, "have no validation part (they have train, test)"),
        (["--group-by", "nonsense"], 1, "nonsense"),
        (["--label", "nonsense"], 1, "nonsense"),
        (["--top-k", "0"], 2, "not a list of numbers"),
        (["--split", "some"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path, arguments: list[str], code: int,
    words: str,
) -> None:  # fmt: skip
    result = cellclf("evaluate", bundle, screen, "--out", tmp_path / "report", *arguments)
    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "report").exists()


def test_a_file_is_no_folder(cellclf: Run, bundle: Path, screen: Path) -> None:
    result = cellclf("evaluate", bundle, screen, "--out", screen)
    assert result.code == 1
    assert "is a file; give the name of a folder" in result.err


@pytest.fixture
def run_folder(screen: Path, bundle: Path, tmp_path: Path) -> Path:
    """A finished run, as if the model had been trained on the first plate of the table."""
    import shutil

    from napari_cellclf.io.datasets import read_dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.create import create_run

    dataset = read_dataset(screen, group="experiment+plate")
    run = create_run(dataset, TrainingConfig(), tmp_path / "run")
    copy = shutil.copytree if bundle.is_dir() else shutil.copyfile
    copy(bundle, run.bundle)
    return run.path


def test_a_run_is_a_model_and_its_images(cellclf: Run, run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = cellclf("evaluate", run_folder, run_folder, "--out", out)
    assert result.code == 0
    assert metrics(out)["n"] == 2
    assert "banner error" not in (out / "report.html").read_text().partition("</style>")[2]


def test_images_that_were_trained_on_are_recognised_as_copies_elsewhere(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    """In another folder, under another name, as one TIFF in place of files of channels."""
    import tifffile

    from napari_cellclf.bundles.bundle import SEEN_IMAGES, ModelBundle
    from napari_cellclf.bundles.write import write_bundle
    from napari_cellclf.core.seen_images import SeenImages, pixel_hashes
    from napari_cellclf.io.datasets import read_dataset
    from napari_cellclf.io.read import read_image

    images = [read_image(path) for path in read_dataset(screen).paths]
    seen = SeenImages.of(
        (one, split)
        for image, split in ((images[0], "train"), (images[2], "test"))
        for one in pixel_hashes(image)
    )
    files = {
        path.name: path for path in bundle.iterdir() if path.suffix in (".npy", ".safetensors")
    }
    files[SEEN_IMAGES] = tmp_path / SEEN_IMAGES
    np.save(files[SEEN_IMAGES], seen.to_array())
    model = tmp_path / "seen.cellclf"
    write_bundle(model, ModelBundle.load(bundle).spec, files)
    rows = ["path,label"]
    for number, image in enumerate(images):
        name = f"copy{number}.ome.tif"
        channels = {"axes": "CYX", "Channel": {"Name": list(image.channels)}}
        # The same values in a wider type.
        tifffile.imwrite(tmp_path / name, image.to_cyx().astype("u2"), metadata=channels)
        rows.append(f"{name},{'nuclei' if number != 1 else 'reticulum'}")
    (tmp_path / "copies.csv").write_text("\n".join(rows))
    for data, table in ((screen, "labels"), (tmp_path / "copies.csv", "copies")):
        out = tmp_path / f"report of {table}"
        result = cellclf("evaluate", model, data, "--split", "all", "--out", out)
        assert result.code == 0, result.err
        # Of the other three one is labelled wrongly.
        expected = (
            "The model was trained on 1 of these 4 images, so its accuracy is too high; on the "
            "other 3 it is 66.7 %."
        )
        assert expected in result.out
        assert expected in metrics(out)["notes"]
        assert expected in (out / "report.html").read_text(encoding="utf-8")
    piped = cellclf(
        "evaluate", model, screen, "--split", "all", "--out", out, "--overwrite", "--json"
    )
    assert f"warning: {expected}" in piped.err


def test_a_run_without_a_model_is_told(
    cellclf: Run, run_folder: Path, screen: Path, tmp_path: Path
) -> None:
    import shutil

    made = run_folder / "model.cellclf"
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    result = cellclf("evaluate", run_folder, screen, "--out", tmp_path / "report")
    assert result.code == 1
    assert "has made no model yet" in result.err
    result = cellclf("evaluate", "x", run_folder, "--label", "y", "--out", tmp_path / "report")
    assert result.code == 1
