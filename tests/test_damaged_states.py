"""States that a program wrote for itself, with anything in them: never an error of Python's own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from napari_cellclf.bundles.backbone_files import _described
from napari_cellclf.bundles.bundle import read_spec
from napari_cellclf.bundles.catalogue import _read_origin, origin_note
from napari_cellclf.bundles.model_lists import parse_registry
from napari_cellclf.cli.demo.demo_folder import MARKER, claim_folder
from napari_cellclf.cli.prediction_table import Earlier, Journal, _line
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.array_cache import ArrayCache
from napari_cellclf.io.remote.checksum import Checksum, note_path, was_checked
from napari_cellclf.io.remote.download import PartialFile
from napari_cellclf.models.devices import _configured
from napari_cellclf.models.training import measured_precision
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.runs.api import RunResult
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.tuning.search_folder import TuningFolder

#: Numbers that JSON can say and Python cannot compute with, and things of another type.
WRONG = ("1e400", "-1", "NaN", "[]", "{}", '"x"', "null", "1" * 400, "[[[1]]]", '"a\\u0000b"')
WHOLE = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 10_000,
    b"null",
    b"[1, 2]",
    b'"text"',
]


def _spoiled(state: dict[str, Any]) -> list[bytes]:
    """Put something else in the place of each value, one after the other."""
    found = []
    for key in state:
        for wrong in WRONG:
            text = json.dumps({**state, key: "HERE"}).replace('"HERE"', wrong)
            found.append(text.encode())
    return found


def _put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _nothing(found: object) -> None:
    assert not found


def _checked(folder: Path, content: bytes) -> None:
    path = _put(folder / "m.keras", b"weights")
    _put(note_path(path), content)
    _nothing(was_checked(path, Checksum("md5", "0" * 32)))


def _download(folder: Path, content: bytes) -> None:
    partial = PartialFile(folder / "m.keras")
    _put(folder / ".m.keras.cellclf-partial.json", content)
    _put(partial.path, b"half")
    start, tag = partial.resume_at("https://example.org/m")
    assert start == 0 or (tag is not None and tag.isprintable())


def _demo(folder: Path, content: bytes) -> None:
    _put(folder / "demo" / MARKER, content)
    kept = _put(folder / "mine.png", b"mine")
    claim_folder(folder / "demo", ["a.png"])
    assert kept.read_bytes() == b"mine"


def _arrays(folder: Path, content: bytes) -> None:
    _put(folder / "group-1.json", content)
    _put(folder / "group-1.f32", bytes(16))
    cache = ArrayCache(folder, "group", 1 << 20)
    assert cache.find(["a"]).missing in ([0], [])


def _progress(folder: Path, content: bytes) -> None:
    lines = content.replace(b"\n", b" ") + b"\n"
    for record in read_progress(_put(folder / "progress.jsonl", lines))[0]:
        for name in ("epoch", "done"):
            int(record.get(name) or 0)
        assert float(record.get("loss") or 0) >= -1 or record["loss"] != record["loss"]


def _journal(folder: Path, content: bytes) -> None:
    """Say it as if it had been written so."""
    path = folder / "t.partial.jsonl"
    journal = Journal(path, "work")
    journal.begin(Earlier())
    journal.close()
    with suppress(ValueError, RecursionError):
        said = json.loads(content)
        content = _line(said | {"sum": zlib.crc32(_line(said))} if isinstance(said, dict) else said)
    path.write_bytes(path.read_bytes() + content + b"\n")
    earlier = journal.earlier([7] * 10, 10)
    assert 0 <= earlier.done <= 10
    assert all(isinstance(one, str) for pair in earlier.bad for one in pair)


def _metrics(folder: Path, content: bytes) -> None:
    run = RunFolder(folder)
    _put(run.report / "metrics.json", content)
    assert isinstance(RunResult(run).metrics, dict | None)


def _spec(folder: Path, content: bytes) -> None:
    RunFolder(folder).spec() if _put(folder / "run.json", content) else None


STATES: dict[str, tuple[Callable[[Path, bytes], object], dict[str, Any]]] = {
    "a checked file": (_checked, {"checksum": "md5:0", "size": 7, "mtime_ns": 5}),
    "a download": (_download, {"origin": "https://example.org/m", "tag": "t"}),
    "an origin": (
        lambda f, c: isinstance(_read_origin(_put(origin_note(f / "m"), c) and f / "m"), str),
        {"checksum": "x", "uri": "u"},
    ),
    "a backbone": (lambda f, c: _nothing(_described(_put(f / "b.json", c))), {"name": "b"}),
    "the demo": (_demo, {"made_by": "cellclf demo", "files": ["a.png"]}),
    "arrays": (
        _arrays,
        {"format": 4, "keys": ["a"], "shapes": [[2, 2]], "notes": [""], "sums": [0]},
    ),
    "a journal": (
        _journal,
        {"done": 1, "rows": 1, "bad": [["a.png", "damaged"]], "table": 7},
    ),
    "measured precision": (
        lambda f, c: measured_precision._read(_put(f / "m.json", c)),
        {way: {"seconds": [1.0], "losses": [1.0, 0.5]} for way in ("float32", "bfloat16")},
    ),
    "Keras": (lambda f, c: _configured({"KERAS_HOME": str(_put(f / "keras.json", c).parent)}), {}),
    "progress": (
        _progress,
        {"event": "epoch", "stage": "network", "epoch": 1, "done": 1, "loss": 0.5},
    ),
    "metrics": (_metrics, {"evaluations": [{"accuracy": {"value": 1.0}}]}),
    "a run": (_spec, {"name": "a", "config": {}, "classes": [], "format_version": 1}),
    "a search": (
        lambda f, c: TuningFolder(_put(f / "tuning.json", c).parent).spec(),
        {"format_version": 1, "study": "s", "ranges": []},
    ),
    "a bundle": (
        lambda f, c: read_spec(_put(f / "m.cellclf" / "bundle.json", c).parent),
        {"format_version": 1, "name": "m", "input": {}, "classes": []},
    ),
    "a list of models": (
        lambda f, c: parse_registry(c, "it"),
        {"format_version": 1, "models": [{"name": "m"}]},
    ),
    "settings": (lambda f, c: load_preset(str(_put(f / "p.toml", c))), {"config": {}}),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_any_content_are_left_out_or_refused_in_one_sentence(
    name: str, tmp_path: Path
) -> None:
    read, state = STATES[name]
    for number, content in enumerate([*WHOLE, *_spoiled(state)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            read(folder, content)
        except CellclfError as told:
            words = str(told)
        else:
            words = ""
        assert "\n" not in words, content[:80]
