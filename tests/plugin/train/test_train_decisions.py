"""What the widget decides, without a window."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from napari_cellclf.cli.app import build_parser
from napari_cellclf.errors import InputError
from napari_cellclf.models.training.presets import find_preset, load_preset
from napari_cellclf.plugin.shared.background import Ticket
from napari_cellclf.plugin.shared.messages import Refusal
from napari_cellclf.plugin.train.data import DataQuestion, FoundData, ask, find, inspect
from napari_cellclf.plugin.train.request import (
    GIVEN,
    RANDOM,
    ModelEntries,
    ModelSettings,
    SplitChoice,
    TrainRequest,
    divide,
    plan,
    settle,
    suggest_folder,
    usual,
)


def settled(**entries: Any) -> ModelSettings:
    """Settings that can be."""
    settings = settle(ModelEntries("fluorescence", **entries))
    assert isinstance(settings, ModelSettings)
    return settings


def planned(found: FoundData, choice: SplitChoice, settings: ModelSettings) -> TrainRequest:
    """A training that can begin."""
    request = plan(found, divide(found.dataset, choice), settings, "/somewhere/a run")
    assert isinstance(request, TrainRequest)
    return request


def test_questions(tmp_path: Path, images: Path) -> None:
    assert isinstance(ask("  "), Refusal)
    missing = ask(str(tmp_path / "nowhere"))
    assert isinstance(missing, Refusal)
    assert "nowhere does not exist" in missing.message
    assert isinstance(ask(str(images), minutes=(60, 50)), Refusal)
    assert ask(f" {images} ") == DataQuestion(str(images))


def test_finds_classes_groups_and_files(found: FoundData) -> None:
    assert found.summary == "24 images, 2 classes"
    assert not found.has_minutes
    assert found.groups[0] == "embryo"
    assert not found.given
    assert found.labels == ()
    report, text = inspect(found.dataset, Ticket())
    assert report.n_images == 24
    assert not report.unreadable
    assert "embryo" in text


def test_only_classes_that_are_minutes_are_chosen_by_minute(images: Path, tmp_path: Path) -> None:
    assert not find(DataQuestion(str(images))).has_minutes
    embryo = tmp_path / "e" / "Stage(060)-20230811-Cycle00-embryo03-3.tif"
    embryo.parent.mkdir()
    embryo.write_bytes(b"")
    assert find(DataQuestion(str(embryo.parent))).has_minutes


def test_a_table_offers_its_columns(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.rglob("*.png"))
    table = pd.DataFrame(
        {
            "path": [str(path) for path in paths],
            "label": [path.parent.name for path in paths],
            "embryo_of": [path.name.split("_")[0] for path in paths],
            "split": ["train" if "embryo1" in path.name else "test" for path in paths],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    found = find(DataQuestion(str(tmp_path / "t.csv")))
    assert found.labels == ("label", "embryo_of")
    assert found.given
    assert "embryo_of" in found.groups
    other = find(DataQuestion(str(tmp_path / "t.csv"), label="embryo_of"))
    assert other.dataset.class_names == ("embryo1", "embryo2", "embryo3", "embryo4")
    table.drop(columns="label").to_csv(tmp_path / "u.csv", index=False)
    # Something to begin with, so that the form can offer what there is.
    assert find(DataQuestion(str(tmp_path / "u.csv"))).question.label == "embryo_of"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_tables_are_read_as_spreadsheets_save_them(
    images: Path, tmp_path: Path, encoding: str
) -> None:
    paths = sorted(images.rglob("*.*"))
    codes = ["1.1", "1.10", "0_1"]
    rows = [f"{path};größe {n % 2};{codes[n % 3]}" for n, path in enumerate(paths)]
    table = tmp_path / "t.csv"
    table.write_bytes("\r\n".join(["sep=;", "image;label;donor", *rows]).encode(encoding))
    found = find(DataQuestion(str(table)))
    assert found.labels == ("label", "donor")
    assert found.dataset.class_names == ("größe 0", "größe 1")
    assert found.dataset.group_column == "donor"
    assert sorted(set(found.dataset.groups)) == sorted(codes)


def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\n1.png,a\nplate 1, day 2/2.png,b\n")
    with pytest.raises(InputError, match="line 3 has 3"):
        find(DataQuestion(str(table)))


def test_split_by_group(found: FoundData) -> None:
    answer = divide(found.dataset, SplitChoice("embryo"))
    assert answer.dataset is not None
    assert answer.totals == (12, 6, 6)
    assert answer.summary == "12 train, 6 validation, 6 test"
    assert [name for name, _ in answer.counts] == ["dark", "light"]
    assert not answer.leaks


def test_leakage_is_refused_until_it_is_allowed(found: FoundData) -> None:
    refused = divide(found.dataset, SplitChoice(RANDOM))
    assert refused.dataset is None
    assert refused.leaks
    assert "embryo" in refused.problem
    assert refused.problem.endswith("allow it below.")
    assert "--allow" not in refused.problem
    allowed = divide(found.dataset, SplitChoice(RANDOM, allow_leakage=True))
    assert allowed.dataset is not None
    assert allowed.leaks
    assert not divide(found.dataset, SplitChoice("embryo", allow_leakage=True)).leaks


def test_splits_that_cannot_be(found: FoundData) -> None:
    assert "no column 'plate'" in divide(found.dataset, SplitChoice("plate")).problem
    assert "given split" in divide(found.dataset, SplitChoice(GIVEN)).problem
    assert "fractions" in divide(found.dataset, SplitChoice("embryo", 60, 50)).problem


def test_settings_are_those_of_the_preset_unless_entered() -> None:
    assert settled().config == load_preset("fluorescence", {"seed": 0})
    assert not settled().changed
    changed = settled(
        epochs="3",
        batch_size=" 4 ",
        learning_rate="0.01",
        advanced=(("augmentation.flips", "false"), ("size", "[64, 64]")),
    )
    assert changed.changed
    assert changed.config.epochs == 3
    assert changed.config.batch_size == 4
    assert changed.config.learning_rate == 0.01
    assert changed.config.augmentation.flips is False
    assert changed.config.size == (64, 64)


def test_the_command_has_the_numbers_as_they_were_understood() -> None:
    arguments = settled(epochs="5.0", batch_size="1_0", learning_rate="1e-2").arguments
    expected = ("--epochs", "5", "--batch-size", "10", "--learning-rate", "0.01")
    assert arguments[2:] == expected


def test_epochs_of_a_preset_that_trains_a_head_only() -> None:
    known = usual(find_preset("drosophila-seed"))
    assert known.epochs == "30"
    assert known.architecture == "resnet50"
    settings = settle(ModelEntries("drosophila-seed", epochs="2", learning_rate="0.5"))
    assert isinstance(settings, ModelSettings)
    assert settings.config.head_epochs == 2
    assert settings.config.head_learning_rate == 0.5
    assert settings.config.epochs == 0


def test_another_architecture_leaves_the_parameters_of_the_first() -> None:
    assert settled(architecture="seed-cnn").config.parameters == {}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"epochs": "many"}, "Epochs cannot be 'many'"),
        ({"epochs": "0"}, "train for at least one epoch"),
        ({"learning_rate": "-1"}, "learning_rate"),
        ({"architecture": "resnet-fifty"}, "resnet"),
        ({"advanced": (("augmentation.flps", "1"),)}, "augmentation.flps is not a setting"),
        ({"advanced": (("warmup", "just words"),)}, "Warmup cannot be 'just words'"),
    ],
)
def test_wrong_settings_are_one_sentence(entries: dict[str, Any], words: str) -> None:
    refused = settle(ModelEntries("fluorescence", **entries))
    assert isinstance(refused, Refusal)
    assert words in refused.message
    assert "\n" not in refused.message


def test_what_is_missing_is_said(found: FoundData) -> None:
    good = divide(found.dataset, SplitChoice("embryo"))
    bad = divide(found.dataset, SplitChoice(RANDOM))
    settings = settled()
    for arguments, words in (
        ((None, None, settings, "/x"), "Choose labelled images"),
        ((found, None, settings, "/x"), "being split"),
        ((found, bad, settings, "/x"), "Split above"),
        ((found, good, Refusal("no"), "/x"), "Model above"),
        ((found, good, settings, " "), "output folder"),
    ):
        refused = plan(*arguments)
        assert isinstance(refused, Refusal)
        assert words in refused.message


def test_run_is_written_down(found: FoundData, tmp_path: Path) -> None:
    request = plan(
        found, divide(found.dataset, SplitChoice("embryo")), settled(), str(tmp_path / "r")
    )
    assert isinstance(request, TrainRequest)
    run = request.write_down()
    assert run.is_run
    assert run.spec().preset == "fluorescence"
    assert run.spec().group_column == "embryo"


def test_command_line_says_the_same(found: FoundData) -> None:
    settings = settled(epochs="3", advanced=(("augmentation.rotation", "0.1"),))
    request = planned(found, SplitChoice("embryo", seed=4), settings)
    words = shlex.split(request.command)
    assert words[:2] == ["cellclf", "train"]
    args = build_parser().parse_args(words[1:])
    assert args.data == found.question.path
    assert args.out == Path("/somewhere/a run")
    assert args.epochs == 3
    assert args.split == "group"
    assert args.seed == 4
    assert args.set == [("augmentation.rotation", 0.1)]


def test_command_line_and_form_make_the_same_settings(found: FoundData) -> None:
    from napari_cellclf.cli.options import chosen_settings

    advanced = (("augmentation.rotation", "0.1"), ("normalization", '{"kind" = "percentile"}'))
    entries = ModelEntries("fluorescence", "seed-cnn", "3", "4", "0.01", "", advanced)
    settings = settle(entries, 5)
    assert isinstance(settings, ModelSettings)
    request = planned(found, SplitChoice("embryo", seed=5), settings)
    args = build_parser().parse_args(shlex.split(request.command)[1:])
    assert chosen_settings(args).config == settings.config


def test_command_line_of_other_splits(found: FoundData) -> None:
    leaky = planned(found, SplitChoice(RANDOM, allow_leakage=True), settled()).command
    assert leaky.endswith("--split random --allow-leakage")
    other = planned(found, SplitChoice("embryo", 20, 10), settled()).command
    assert "--fractions 0.7,0.2,0.1" in other


def test_folders_are_new(found: FoundData, tmp_path: Path) -> None:
    first = suggest_folder(found, "fluorescence", tmp_path)
    assert first == tmp_path / "cells-fluorescence"
    first.mkdir()
    assert suggest_folder(found, "fluorescence", tmp_path) == tmp_path / "cells-fluorescence-2"
