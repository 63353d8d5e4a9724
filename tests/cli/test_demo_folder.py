from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_cellclf.cli.demo.demo_folder import MARKER, claim_folder
from napari_cellclf.errors import InputError

NAMES = ["plate/a.png", "table.csv"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def content(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_is_made_and_marked(tmp_path):
    folder = tmp_path / "new" / "demo"
    claim_folder(folder, NAMES)
    assert json.loads((folder / MARKER).read_text())["files"] == NAMES


def test_an_empty_folder_is_taken(tmp_path):
    claim_folder(tmp_path, NAMES)
    assert content(tmp_path) == {MARKER}


def test_an_earlier_demo_is_replaced_whole_or_interrupted(tmp_path):
    claim_folder(tmp_path, [*NAMES, "old.png", "never-written.png"])
    write(tmp_path, *NAMES, "old.png")
    claim_folder(tmp_path, NAMES)
    assert content(tmp_path) == {MARKER}


def test_files_that_others_put_into_an_earlier_demo_stay(tmp_path):
    claim_folder(tmp_path, NAMES)
    write(tmp_path, *NAMES, "plate/mine.png", "notes.txt")
    claim_folder(tmp_path, NAMES)
    assert content(tmp_path) == {MARKER, "plate/mine.png", "notes.txt"}


def test_a_folder_of_other_files_is_refused(tmp_path):
    write(tmp_path, "thesis.tex")
    with pytest.raises(InputError, match="holds files that the demo did not write"):
        claim_folder(tmp_path, NAMES)
    assert content(tmp_path) == {"thesis.tex"}


def test_a_foreign_file_in_the_way_is_refused_before_anything_changes(tmp_path):
    claim_folder(tmp_path, ["plate/a.png"])
    write(tmp_path, *NAMES)
    with pytest.raises(InputError, match=r"table\.csv was not written by the demo"):
        claim_folder(tmp_path, NAMES)
    assert content(tmp_path) == {MARKER, *NAMES}


@pytest.mark.parametrize(
    "marker",
    [
        "no json",
        "[]",
        '{"files": []}',
        '{"made_by": "cellclf demo"}',
        '{"made_by": "cellclf demo", "files": ["../victim.txt"]}',
        '{"made_by": "cellclf demo", "files": ["plate/../../victim.txt"]}',
        '{"made_by": "cellclf demo", "files": [1]}',
    ],
)
def test_a_false_marker_makes_nobody_remove_files(tmp_path, marker):
    write(tmp_path, "victim.txt")
    folder = tmp_path / "demo"
    write(folder, "plate/a.png")
    (folder / MARKER).write_text(marker)
    with pytest.raises(InputError, match="did not write"):
        claim_folder(folder, NAMES)
    assert content(tmp_path) == {"victim.txt", "demo/plate/a.png", f"demo/{MARKER}"}


def test_a_marker_with_an_absolute_path_is_false(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("x")
    folder = tmp_path / "demo"
    folder.mkdir()
    marker = {"made_by": "cellclf demo", "files": [str(victim)]}
    (folder / MARKER).write_text(json.dumps(marker))
    with pytest.raises(InputError, match="did not write"):
        claim_folder(folder, NAMES)
    assert victim.exists()


def test_a_folder_that_leads_elsewhere_is_not_followed(tmp_path):
    write(tmp_path, "elsewhere/a.png")
    folder = tmp_path / "demo"
    claim_folder(folder, NAMES)
    (folder / "plate").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="did not write"):
        claim_folder(folder, NAMES)
    assert (tmp_path / "elsewhere/a.png").exists()


def test_a_file_in_the_folder_s_place_is_refused(tmp_path):
    write(tmp_path, "demo")
    with pytest.raises(InputError, match="is a file"):
        claim_folder(tmp_path / "demo", NAMES)
