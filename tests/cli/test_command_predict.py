from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellclf.cli.terminal import stop_on_interrupt
from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.io.read import read_image

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def damaged(plate: Path, write_png: Callable[[Path, int], None]) -> Path:
    """A third site, of which one file is cut short."""
    write_png(plate / "HUVEC-01/Plate1/B04_s1_w1.png", 9)
    path = plate / "HUVEC-01/Plate1/B04_s1_w2.png"
    write_png(path, 9)
    path.write_bytes(path.read_bytes()[:40])
    return path


def test_a_table_has_a_row_for_each_site(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    result = cellclf("predict", bundle, plate, "--out", table)
    assert result.code == 0
    assert result.out == ""
    # The images are of one level each.
    said = re.escape(f", in {table}\ncellclf: 2 of 2 images have remarks\n")
    assert re.fullmatch(
        rf"cellclf: 2 images classified on keras \S+ with \w+, \S+{said}", result.err
    )
    first, second = read_table(table)
    assert list(first)[:5] == ["image", "label", "confidence", "p_nuclei", "p_reticulum"]
    assert {"experiment", "plate", "well", "site"} <= set(first)
    assert (first["label"], first["well"], first["plate"]) == ("nuclei", "B02", "1")
    assert (second["label"], second["well"]) == ("reticulum", "B03")
    assert float(first["confidence"]) == pytest.approx(float(first["p_nuclei"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "p.csv"]


def test_columns_are_the_union_over_all_inputs(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "listed.csv"
    site = plate / "HUVEC-01/Plate1/B02_s1_w1.png"
    listed.write_text(f"path,treatment\n{site},heat\n")
    table = tmp_path / "p.csv"
    assert cellclf("predict", bundle, listed, plate, "--out", table).code == 0
    rows = read_table(table)
    assert "treatment" in rows[0]
    assert [row["treatment"] for row in rows if row["treatment"]] == ["heat"]


def test_without_a_table_the_best_classes_are_shown(
    cellclf: Run, bundle: Path, plate: Path
) -> None:
    result = cellclf("predict", bundle, plate, "--top-k", "1")
    assert result.code == 0
    heading, first, second = result.lines
    assert heading.split() == ["image", "1."]
    assert "B02" in first
    assert "nuclei" in first
    assert "reticulum" not in first
    assert "reticulum" in second
    assert re.match(r"cellclf: 2 images classified on keras \S+ with \w+, \S+\n", result.err)


def test_json_is_one_document_a_line(cellclf: Run, bundle: Path, plate: Path) -> None:
    result = cellclf("predict", bundle, plate, "--json")
    first, second = map(json.loads, result.lines)
    assert first["label"] == "nuclei"
    assert second["top"][0]["label"] == "reticulum"
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["metadata"]["well"] == "B02"
    assert result.err == ""


def test_table_and_json_agree(cellclf: Run, bundle: Path, plate: Path, tmp_path: Path) -> None:
    result = cellclf("predict", bundle, plate, "--json", "--out", tmp_path / "p.csv")
    documents = [json.loads(line) for line in result.lines]
    for document, row in zip(documents, read_table(tmp_path / "p.csv"), strict=True):
        assert document["image"] == row["image"]
        for name, value in document["probabilities"].items():
            assert float(row[f"p_{name}"]) == pytest.approx(value, abs=1e-6)


def test_one_bad_file_is_reported_and_not_fatal(
    cellclf: Run, bundle: Path, plate: Path, damaged: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    result = cellclf("predict", bundle, plate, "--out", table)
    assert result.code == 3
    assert damaged.name in result.err
    assert "1 image could not be classified" in result.err
    assert "Traceback" not in result.err
    assert [row["label"] for row in read_table(table)] == ["nuclei", "reticulum"]
    assert "classified on keras " in result.err.splitlines()[-2]
    # The images are of one level each.
    assert result.err.splitlines()[-1] == "cellclf: 2 of 2 images have remarks"
    (bad,) = read_table(tmp_path / "p.bad_files.csv")
    assert "B04" in bad["image"]
    assert damaged.name in bad["reason"]


def test_a_bad_file_is_a_json_document_with_an_error(
    cellclf: Run, bundle: Path, plate: Path, damaged: Path
) -> None:
    result = cellclf("predict", bundle, plate, "--json")
    documents = [json.loads(line) for line in result.lines]
    (bad,) = [document for document in documents if "error" in document]
    assert result.code == 3
    assert damaged.name in bad["error"]
    assert "label" not in bad


def test_if_every_image_fails_nothing_could_be_done(
    cellclf: Run, bundle: Path, damaged: Path, tmp_path: Path
) -> None:
    result = cellclf("predict", bundle, damaged, "--out", tmp_path / "p.csv")
    assert result.code == 1
    assert "the only image could not be classified" in result.err
    assert [path.name for path in tmp_path.glob("p*.csv")] == ["p.bad_files.csv"]


def test_an_older_list_of_bad_files_goes_when_overwriting(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.bad_files.csv").write_text("image,reason\nx,y\n")
    (tmp_path / "p.csv").write_text("old")
    refused = cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv")
    assert (refused.code, (tmp_path / "p.csv").read_text()) == (1, "old")
    assert "add --overwrite" in refused.err
    done = cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv", "--overwrite")
    assert done.code == 0
    assert len(read_table(tmp_path / "p.csv")) == 2
    assert not (tmp_path / "p.bad_files.csv").exists()


@pytest.mark.parametrize("name", ["bad_files.csv", "p.bad_files.csv"])
def test_a_table_called_like_a_list_of_bad_files_stays(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path, name: str
) -> None:
    assert cellclf("predict", bundle, plate, "--out", tmp_path / name).code == 0
    assert len(read_table(tmp_path / name)) == 2


def test_two_tables_of_a_folder_have_lists_of_their_own(
    cellclf: Run, bundle: Path, plate: Path, damaged: Path, tmp_path: Path
) -> None:
    assert cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv").code == 3
    good = plate / "HUVEC-01/Plate1/B02_s1_w1.png"
    assert cellclf("predict", bundle, good, "--out", tmp_path / "q.csv").code == 0
    assert len(read_table(tmp_path / "p.bad_files.csv")) == 1


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("given", ["p.csv", "p.bad_files.csv", "p.partial.csv", "link.csv"])
def test_an_input_is_never_replaced(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path, given: str
) -> None:
    table = tmp_path / given
    target = tmp_path / "p.csv" if given == "link.csv" else table
    target.write_text(f"path\n{plate}/HUVEC-01/Plate1/B02_s1_w1.png\n")
    before = target.read_text()
    if given == "link.csv":
        table.symlink_to(target)
    result = cellclf("predict", bundle, table, "--out", tmp_path / "p.csv", "--overwrite")
    assert (result.code, target.read_text()) == (1, before)
    assert "would replace the input" in result.err


def test_a_column_that_the_table_has_itself_is_left_out_and_said(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "listed.csv"
    listed.write_text(f"path,label,truth\n{plate / 'HUVEC-01/Plate1/B02_s1_w1.png'},mine,theirs\n")
    result = cellclf("predict", bundle, listed, "--out", tmp_path / "p.csv")
    assert result.code == 0
    (row,) = read_table(tmp_path / "p.csv")
    assert (row["label"], row["truth"]) == ("nuclei", "theirs")
    assert "the table has its own column label; that of the inputs is left out" in result.err


def test_one_bad_row_of_a_table_is_reported_and_not_fatal(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "listed.csv"
    good = plate / "HUVEC-01/Plate1/B02_s1_w1.png"
    listed.write_text(f"path\nhttps://example.org/x.png\n{'x' * 300}/y.png\n{good}\n")
    result = cellclf("predict", bundle, listed, "--out", tmp_path / "p.csv")
    assert result.code == 3
    assert [row["label"] for row in read_table(tmp_path / "p.csv")] == ["nuclei"]
    bad = read_table(tmp_path / "p.bad_files.csv")
    assert ["URL" in bad[0]["reason"], "too long" in bad[1]["reason"]] == [True, True]


@pytest.fixture
def nameless(tmp_path: Path) -> list[Path]:
    """Stacks of three channels without names: the second is the brightest."""
    paths = [tmp_path / f"{letter}.tif" for letter in "abc"]
    for path in paths:
        pixels = np.stack([np.full((16, 16), level, np.uint8) for level in (50, 200, 0)])
        tifffile.imwrite(path, pixels, metadata={"axes": "CYX"}, photometric="minisblack")
    return paths


def test_channels_taken_in_order_are_said_once(
    cellclf: Run, bundle: Path, nameless: list[Path]
) -> None:
    result = cellclf("predict", bundle, *nameless, "--json")
    assert [json.loads(line)["label"] for line in result.lines] == ["reticulum"] * 3
    (line,) = result.err.splitlines()
    assert f"{nameless[0]} have no names and are taken as w1 Hoechst, w2 ConA, w5 Mito" in line


def test_channels_without_names_can_be_named_by_number(
    cellclf: Run, bundle: Path, nameless: list[Path]
) -> None:
    swapped = ["w1=2", "ConA=1", "w5 MitoTracker=3"]
    result = cellclf("predict", bundle, *nameless, "--json", "--channels", *swapped)
    assert [json.loads(line)["label"] for line in result.lines] == ["nuclei"] * 3
    assert result.err == ""


def test_a_reason_is_said_once_and_how_often(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    for letter in "abc":
        pixels = np.zeros((16, 16, 3), np.uint8)
        tifffile.imwrite(tmp_path / f"{letter}.tif", pixels, photometric="rgb")
    images = sorted(tmp_path.glob("*.tif"))
    result = cellclf("predict", bundle, *images, plate, "--out", tmp_path / "p.csv")
    first, more, *_ = result.err.splitlines()
    assert first.startswith(f"cellclf: {images[0]}: the image has no channel for w1 Hoechst")
    assert "it has grey;" in first
    assert more == f"cellclf: ... and 2 more images for the same reason as {images[0]}"
    assert len(read_table(tmp_path / "p.bad_files.csv")) == 3


def test_channels_can_be_named(cellclf: Run, bundle: Path, plate: Path) -> None:
    swapped = ["w1 Hoechst=w2 ConA", "w2 ConA = w1 Hoechst", "w5 MitoTracker="]
    result = cellclf("predict", bundle, plate, "--json", "--channels", *swapped)
    assert [json.loads(line)["label"] for line in result.lines] == ["reticulum", "nuclei"]


def test_an_unknown_channel_of_the_model_is_named(cellclf: Run, bundle: Path, plate: Path) -> None:
    result = cellclf("predict", bundle, plate, "--channels", "w9=DNA")
    assert result.code == 1
    assert "'w9'" in result.err
    assert "w1 Hoechst" in result.err


def test_a_channel_named_twice_is_refused(cellclf: Run, bundle: Path, plate: Path) -> None:
    result = cellclf("predict", bundle, plate, "--channels", "w1 Hoechst=a", "w1 Hoechst=b")
    assert (result.code, "twice" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "p.xlsx"], ".csv"),
        (["--top-k", "0"], "at least 1"),
        (["--top-k", "two"], "whole number"),
        (["--batch-size", "-1"], "whole number"),
        (["--channels", "DNA"], "MODEL=IMAGE"),
        (["--channels", "=DNA"], "MODEL=IMAGE"),
        (["--no-such-option"], "unrecognized"),
    ],
)
def test_a_wrong_command_line_is_two(cellclf: Run, arguments: list[str], says: str) -> None:
    result = cellclf("predict", "tiny", "folder", *arguments)
    assert result.code == 2
    assert says in result.err


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("napari_cellclf.inference.load.load_classifier", load)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("make", "out", "says"),
    [
        (lambda folder: (folder / "p.csv").touch(), "p.csv", "--overwrite"),
        (lambda folder: (folder / "p.bad_files.csv").touch(), "p.csv", "p.bad_files.csv exists"),
        (lambda folder: (folder / "p.csv").mkdir(), "p.csv", "is a folder"),
        (lambda folder: None, "missing/p.csv", "create"),
    ],
)
def test_what_is_wrong_with_the_table_is_said_before_the_work(
    cellclf: Run,
    bundle: Path,
    plate: Path,
    tmp_path: Path,
    make: Callable[[Path], Any],
    out: str,
    says: str,
) -> None:
    make(tmp_path)
    result = cellclf("predict", bundle, plate, "--out", tmp_path / out)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("cellclf: error: ")
    assert says in result.err
    assert result.err.count("\n") == 1


@pytest.mark.usefixtures("no_model")
def test_missing_inputs_and_models_are_said_before_the_work(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for model, source in (
        (bundle, tmp_path / "empty"),
        (bundle, tmp_path / "not here.png"),
        ("no-such-model", plate),
        ("https://example.org/a.cellclf", plate),
    ):
        result = cellclf("predict", model, source)
        assert result.code == 1
        assert result.err.startswith("cellclf: error: ")
        assert result.err.count("\n") == 1


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is pressed when the first row is written."""
    from napari_cellclf.io.tables import PredictionWriter

    write = PredictionWriter.write

    def press(self: PredictionWriter, record: dict[str, Any]) -> None:
        write(self, record)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PredictionWriter, "write", press)


@pytest.mark.usefixtures("interrupted")
def test_interrupted_the_rows_so_far_are_kept_and_marked(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    result = cellclf("predict", bundle, plate, "--out", table, "--batch-size", "1")
    assert result.code == 130
    assert "interrupted" in result.err
    assert "p.partial.csv" in result.err
    assert not table.exists()
    assert [row["label"] for row in read_table(tmp_path / "p.partial.csv")] == ["nuclei"]


def test_the_second_interrupt_is_not_held_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupted_while_loading_it_ends_without_a_traceback(
    cellclf: Run, bundle: Path, plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_cellclf.inference.load.load_classifier", load)
    result = cellclf("predict", bundle, plate)
    assert (result.code, result.err) == (130, "cellclf: interrupted\n")


def test_a_full_disk_is_one_line_and_the_rows_so_far_stay(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellclf.io.tables import PredictionWriter

    write = PredictionWriter.write
    written = []

    def fill(self: PredictionWriter, record: dict[str, Any]) -> None:
        if written:
            raise OSError(28, "No space left on device", "p.partial.csv")
        written.append(record)
        write(self, record)

    monkeypatch.setattr(PredictionWriter, "write", fill)
    result = cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv")
    assert result.code == 1
    assert "cellclf: error: p.partial.csv: No space left on device" in result.err
    assert len(read_table(tmp_path / "p.partial.csv")) == 1


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
def test_the_engine_and_its_precision_can_be_chosen(cellclf: Run, tmp_path: Path) -> None:
    site = tmp_path / "site.tif"
    planes = simulate_site("RPE", seed=0, size=64).data
    tifffile.imwrite(site, planes, metadata={"axes": "CYX"}, imagej=True)
    chosen = ("--engine", "openvino", "--precision", "float32")
    result = cellclf("predict", "rxrx1-celltype", site, *chosen)
    assert result.code == 0
    assert re.search(r"classified on openvino [\d.]+, CPU, float32\n", result.err)


def test_an_engine_for_a_model_without_a_graph_is_one_line(
    cellclf: Run, bundle: Path, plate: Path
) -> None:
    result = cellclf("predict", bundle, plate, "--engine", "openvino")
    assert result.code == 1
    assert "has no model.onnx for other engines; use the engine keras" in result.err


def test_messages_about_paths_are_true(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    """A file may have "::" in its name, and ``file://`` is nothing to download."""
    named = tmp_path / "plate1::B02.tif"
    site = read_image(plate / "HUVEC-01/Plate1/B02_s1_w1.png")
    tifffile.imwrite(
        named,
        site.to_cyx(),
        ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": list(site.channels)}},
    )
    result = cellclf("predict", bundle, named)
    assert result.code == 0, result.err
    assert "plate1::B02.tif  nuclei " in result.out
    for command in (("predict", bundle, f"file://{named}"), ("data", f"file://{tmp_path}")):
        result = cellclf(*command)
        assert result.code == 1
        assert "is the address of a file on this computer; give its path" in result.err
        assert "download" not in result.err
