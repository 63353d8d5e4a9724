"""`cellclf models fetch, share, remove` and what can be fetched."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import Server, serving
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.write import share_model
from napari_cellclf.cli.models.actions import reference_of
from napari_cellclf.errors import CellclfError, DownloadError

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


@pytest.fixture
def server(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has the tests' model, and a list that names it."""
    for variable, folder in (("MODELS", "models"), ("CACHE", "cache")):
        monkeypatch.setenv(f"CELLCLF_{variable}", str(tmp_path / folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("CELLCLF_REGISTRY", str(tmp_path / "list.json"))
    body = share_model(bundle, tmp_path / "tiny.zip").path.read_bytes()
    with serving() as running:
        running.files = {"/tiny.cellclf": body, "/net.keras": b"a network"}
        entry = {
            "kind": "bundle",
            "name": "lab-tiny",
            "title": "The lab's model",
            "uri": f"{running.url}/tiny.cellclf",
            "sha256": hashlib.sha256(body).hexdigest(),
            "size_bytes": len(body),
            "licence": "CC0-1.0",
            "classes": ["nuclei", "reticulum"],
            "channels": ["w1 Hoechst", "w2 ConA", "w5 MitoTracker"],
        }
        document = {"format_version": 1, "title": "Ours", "entries": [entry, {"name": "broken"}]}
        (tmp_path / "list.json").write_text(json.dumps(document))
        yield running


def test_what_can_be_fetched_is_listed_with_size_and_licence(cellclf: Run, server: Server) -> None:
    result = cellclf("models", "list", "--available")
    assert result.code == 0
    line = next(line for line in result.lines if line.startswith("lab-tiny"))
    for part in ("2 classes", "MB", "CC0-1.0", "The lab's model"):
        assert part in line
    assert "imagenet-resnet50" in result.out
    assert "about 94.4 MB" in result.out
    assert result.err.startswith("cellclf: entry 'broken' of ")
    assert server.requests == []


def test_what_can_be_fetched_as_json(cellclf: Run, server: Server) -> None:
    documents = json.loads(cellclf("models", "list", "--available", "--json").out)
    found = {document["name"]: document for document in documents}
    assert found["lab-tiny"]["here"] is False
    assert found["lab-tiny"]["sha256"]


@pytest.mark.parametrize("name", ["lab-tiny", "saureus-cellcycle-dna", "imagenet-resnet50"])
def test_the_card_of_what_is_not_here(cellclf: Run, server: Server, name: str) -> None:
    result = cellclf("models", "show", name)
    assert result.code == 0
    assert f"not yet: cellclf models fetch {name}" in result.out
    assert json.loads(cellclf("models", "show", name, "--json").out)["name"] == name


def test_fetch_show_share_remove(cellclf: Run, server: Server, tmp_path: Path) -> None:
    fetched = cellclf("models", "fetch", "lab-tiny")
    assert fetched.code == 0, fetched.err
    assert fetched.lines == [
        f"model: {tmp_path / 'models' / 'lab-tiny.cellclf'}",
        f"cache: {tmp_path / 'cache'}",
    ]
    again = cellclf("models", "fetch", "lab-tiny", "--offline")
    assert again.lines == fetched.lines
    assert len(server.requests) == 1
    assert "  here  " in cellclf("models", "list", "--available").out
    assert "Bright nuclei" in cellclf("models", "show", "lab-tiny").out
    shared = cellclf("models", "share", "lab-tiny", tmp_path / "out.zip")
    assert shared.code == 0
    assert "licence: CC0-1.0" in shared.out
    assert cellclf("models", "share", "lab-tiny", tmp_path / "out.zip").code == 1
    assert cellclf("models", "share", "lab-tiny", tmp_path / "out.zip", "--overwrite").code == 0
    assert cellclf("models", "remove", "lab-tiny", "--yes").code == 0
    assert list((tmp_path / "models").iterdir()) == []


def test_without_anybody_to_ask_nothing_is_removed(
    cellclf: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path))
    share_model(bundle, tmp_path / "mine.cellclf")
    result = cellclf("models", "remove", "mine")
    assert result.code == 1
    assert "say yes, or give --yes" in result.err
    assert "comes with the package" in cellclf("models", "remove", "rxrx1-celltype").err
    assert "you have no model 'other'" in cellclf("models", "remove", "other").err
    for answer, code in (("n", 1), ("y", 0)):
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert cellclf("models", "remove", "mine").code == code
    assert not (tmp_path / "mine.cellclf").exists()


def test_the_bundled_model_stays(cellclf: Run, server: Server) -> None:
    result = cellclf("models", "remove", "rxrx1-celltype", "--yes")
    assert result.code == 1
    assert "comes with the package" in result.err


def test_a_network_by_its_address_says_what_comes_next(
    cellclf: Run, server: Server, tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"a network").hexdigest()
    result = cellclf("models", "fetch", f"{server.url}/net.keras", "--sha256", digest)
    assert result.code == 0
    assert result.lines[0].startswith(f"file: {tmp_path / 'cache'}")
    assert "cellclf models import" in result.lines[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("https://a.org/m.cellclf",), "give --sha256"),
        (("https://a.org/m.cellclf", "--sha256", "12"), "not a SHA-256"),
        (("lab-tiny", "--sha256", "12"), "leave --sha256 and --name out"),
        (("nothing",), "cellclf models list --available"),
        (("lab-tiny", "--offline"), "fetch it once"),
    ],
)
def test_a_refusal_is_one_line(
    cellclf: Run, server: Server, arguments: tuple[str, ...], reason: str
) -> None:
    result = cellclf("models", "fetch", *arguments)
    assert (result.code, result.out) == (1, "")
    assert reason in result.err
    assert result.err.count("\n") == 1


def test_ctrl_c_leaves_nothing_half(cellclf: Run, server: Server, tmp_path: Path) -> None:
    server.fault = "hold"
    handle = server.finish_request

    def interrupt(request: Any, client: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        handle(request, client)

    server.finish_request = interrupt  # type: ignore[method-assign]
    result = cellclf("models", "fetch", "lab-tiny")
    assert (result.code, result.out) == (130, "")
    assert not (tmp_path / "models").exists()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix != ".lock"] == []


class TestServingFromElsewhere:
    """What `cellclf serve` loads, for names and addresses that are not here yet."""

    def test_an_address_is_fetched_once(self, server: Server) -> None:
        url = f"{server.url}/tiny.cellclf"
        digest = hashlib.sha256(server.files["/tiny.cellclf"]).hexdigest()
        file = reference_of(url, digest)
        assert ModelBundle.load(find_model(file)).spec.class_names == ("nuclei", "reticulum")
        assert len(server.requests) == 1
        assert reference_of(url, digest) == file
        assert len(server.requests) == 1

    def test_an_entry_of_a_list_is_fetched_by_its_name(self, server: Server) -> None:
        assert reference_of("lab-tiny", None) == "lab-tiny"
        assert ModelBundle.load(find_model("lab-tiny")).spec.class_names[0] == "nuclei"

    def test_what_is_here_asks_nothing(self, server: Server, bundle: Path) -> None:
        assert reference_of(str(bundle), None) == str(bundle)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("model", "sha256", "error"),
        [
            ("s3://models/embryo.cellclf", None, "the SHA-256 of s3://models/embryo.cellclf"),
            ("lab-tiny", "0" * 64, "--sha256 is for an address"),
            ("no-such-model", None, "no-such-model"),
        ],
    )
    def test_what_cannot_be_known(
        self, server: Server, model: str, sha256: str | None, error: str
    ) -> None:
        with pytest.raises(CellclfError, match=error):
            reference_of(model, sha256)

    def test_another_file_is_refused(self, server: Server) -> None:
        with pytest.raises(DownloadError, match="is not the file that was expected"):
            reference_of(f"{server.url}/tiny.cellclf", "0" * 64)
