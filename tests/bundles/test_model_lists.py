"""Lists of models that can be fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback import Server, serving
from napari_cellclf.bundles import model_lists
from napari_cellclf.bundles.card import entry_card
from napari_cellclf.bundles.catalogue import is_here, note_origin, place_of
from napari_cellclf.bundles.foreign import ForeignNetwork
from napari_cellclf.bundles.model_lists import (
    REGISTRY_FILE,
    NetworkEntry,
    WeightsEntry,
    find_entry,
    parse_registry,
    read_registries,
    registry_places,
    settings_files,
    split_places,
)
from napari_cellclf.errors import RegistryError


def entry(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "bundle",
        "name": "ours",
        "title": "Our model",
        "uri": "https://models.example.org/ours.cellclf",
        "sha256": "0" * 64,
        "size_bytes": 1000,
        "licence": "CC BY 4.0",
        "classes": ["a", "b"],
        "channels": ["DNA"],
    } | fields


def document(*entries: Any, **fields: Any) -> bytes:
    return json.dumps({"format_version": 1, "title": "x", "entries": entries} | fields).encode()


@pytest.fixture(autouse=True)
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "registries.txt", tmp_path / "registries.napari.txt"
    monkeypatch.setattr(model_lists, "settings_files", lambda: files)
    monkeypatch.delenv("CELLCLF_REGISTRY", raising=False)
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_the_packages_list_is_valid_to_the_last_entry() -> None:
    registry = parse_registry(REGISTRY_FILE.read_bytes(), "registry.json")
    assert registry.problems == ()
    assert {entry.kind for entry in registry.entries} == {"network", "weights", "backbone"}
    assert all(place.startswith("https://") for e in registry.entries for place in e.places)
    assert REGISTRY_FILE.stat().st_size < 100_000


def test_the_published_classifier_is_what_its_authors_say() -> None:
    found = find_entry("saureus-cellcycle-dna")
    assert isinstance(found, NetworkEntry)
    assert found.class_names == ("Phase 1", "Phase 2", "Phase 3")
    assert found.channel_names == ("DNA",)
    assert (found.size_bytes, found.max_bytes) == (2048400, 2048400)
    assert found.licence.startswith("BSD-3-Clause")
    assert ForeignNetwork(
        name=found.name, classes=found.classes, preprocessing=found.preprocessing
    ).preprocessing.size == (100, 100)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sha256": None}, "give sha256, or md5"),
        ({"md5": "0" * 32, "md5_reason": "both"}, "give sha256, or md5"),
        ({"sha256": None, "md5": "0" * 32}, "md5 and md5_reason belong together"),
        ({"sha256": "xyz"}, "sha256 cannot be 'xyz'; give text of the form"),
        ({"uri": "http://models.example.org/x"}, "not an https address"),
        ({"mirrors": ["hf:owner/name@main/x"]}, "can change"),
        ({"uri": "/share/x.cellclf"}, "may not name a file"),
        ({"mirrors": ["file://server/share/x"]}, "may not name a file"),
        ({"name": "../x"}, "name cannot be '../x'; give text of the form"),
        ({"name": "-x"}, "name cannot be '-x'; give text of the form"),
        ({"size_bytes": 0}, "size_bytes cannot be 0; give a number"),
        ({"size_bytes": 1 << 40}, "; give a number of at most"),
        ({"licence": ""}, "licence cannot be ''; give text that is not empty"),
        ({"kind": "pickle"}, "kind cannot be 'pickle'; give one of"),
        ({"colour": "blue"}, "colour is not a setting"),
        ({"classes": ["one"]}, "classes cannot be ['one']; give a list of at least 2"),
    ],
)
def test_an_invalid_entry_is_named_and_the_others_stay(fields: dict[str, Any], reason: str) -> None:
    text = document(entry(name="first"), entry(**fields), entry(name="last"))
    registry = parse_registry(text, "https://a.org/m.json")
    assert [one.name for one in registry.entries] == ["first", "last"]
    (problem,) = registry.problems
    assert reason in problem
    assert "of https://a.org/m.json is left out" in problem
    assert "\n" not in problem


def test_entries_that_are_no_entries_are_counted() -> None:
    registry = parse_registry(document("x", 3, None, entry(), entry()), "list")
    assert [problem.partition(" of")[0] for problem in registry.problems] == [
        "entry 1",
        "entry 2",
        "entry 3",
        "entry 'ours'",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<html>", "no list of models"),
        (b"[]", "no list of models"),
        (b'{"entries": []}', "has format None"),
        (document(format_version=2), "upgrade it"),
        (document(surprise=1), "'surprise', which means nothing"),
        (b" " * (1 << 23), "longer than"),
        (b"[" * 10_000, "no list of models"),
        (b'{"format_version": 1, "format_version": 1, "entries": []}', "names a key twice"),
    ],
    ids=range(8),
)
def test_what_is_no_list_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(RegistryError, match=reason):
        parse_registry(text, "list")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_whatever_stands_in_a_list_is_an_entry_or_a_problem(raw: Any) -> None:
    registry = parse_registry(document(raw, {"name": raw}, entry(uri=raw)), "list")
    assert len(registry.entries) + len(registry.problems) == 3


def test_paths_in_a_list_are_relative_to_it(tmp_path: Path) -> None:
    text = document(entry(uri="sub/ours.cellclf", mirrors=["/other/ours.cellclf"]))
    (found,) = parse_registry(text, "list", folder=tmp_path).entries
    assert found.places == (str(tmp_path / "sub/ours.cellclf"), "/other/ours.cellclf")


def test_places_come_from_the_environment_and_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_REGISTRY", os.pathsep.join(["https://a.org:1/m.json", "/b.json"]))
    (tmp_path / "registries.txt").write_text("# ours\n\n/c.json\n/b.json\n")
    (tmp_path / "registries.napari.txt").write_text("/d.json\n")
    assert registry_places() == ("https://a.org:1/m.json", "/b.json", "/c.json", "/d.json")


@given(
    st.lists(
        st.sampled_from(
            ["/a.json", "b.json", "https://a.org/m", "https://a.org:8443/m", "http://[::1]:9/m"]
        ).filter(lambda place: os.pathsep != ":" or "[" not in place)
    )
)
def test_places_are_taken_apart_as_path_is(places: list[str]) -> None:
    assert split_places(os.pathsep.join(places)) == places


def test_the_settings_lie_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "napari-cellclf" in str(model_lists.settings_files()[0])
    assert settings_files()[0].name == "registries.txt"


def test_a_users_list_adds_and_does_not_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.json").write_bytes(document(entry(), entry(name="saureus-cellcycle-dna")))
    (tmp_path / "n.json").write_bytes(document(entry(title="another")))
    places = [str(tmp_path / name) for name in ("m.json", "n.json", "gone.json")]
    monkeypatch.setenv("CELLCLF_REGISTRY", os.pathsep.join(places))
    registry = read_registries()
    assert find_entry("ours").title == "Our model"
    assert isinstance(find_entry("saureus-cellcycle-dna"), NetworkEntry)
    first, second, third = registry.problems
    assert "'saureus-cellcycle-dna' of" in first
    assert "has that name already" in first
    assert "'ours' of" in second
    assert "gone.json cannot be read" in third


def test_a_list_on_the_network_is_asked_for_only_when_wanted_and_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/m.json"] = document(entry())
    monkeypatch.setenv("CELLCLF_REGISTRY", f"{server.url}/m.json")
    assert "is not here" in read_registries().problems[0]
    assert server.requests == []
    with pytest.raises(RegistryError, match="'ours' can be fetched"):
        find_entry("ours")
    assert find_entry("ours", refresh=True).title == "Our model"
    # From here on without a connection.
    server.fault = "500"
    assert find_entry("ours").title == "Our model"
    assert "as it was last time" in read_registries(refresh=True).problems[0]
    monkeypatch.setenv("CELLCLF_OFFLINE", "1")
    asked = len(server.requests)
    assert find_entry("ours", refresh=True).title == "Our model"
    assert read_registries(refresh=True).problems == ()
    assert len(server.requests) == asked


@pytest.mark.parametrize("body", [b"<html>", b" " * (1 << 23)], ids=["html", "long"])
def test_what_a_server_sends_instead_of_a_list_is_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: bytes
) -> None:
    server.files["/m.json"] = body
    monkeypatch.setenv("CELLCLF_REGISTRY", f"{server.url}/m.json")
    registry = read_registries(refresh=True)
    assert len(registry.problems) == 1
    assert "saureus-cellcycle-dna" in [one.name for one in registry.entries]
    assert not (tmp_path / "cache").exists()


def test_a_place_that_cannot_be_a_list_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_REGISTRY", "http://example.org/m.json")
    assert "not an https address" in read_registries().problems[0]


def test_a_pipe_in_the_place_of_a_list_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "list.json")
    monkeypatch.setenv("CELLCLF_REGISTRY", str(tmp_path / "list.json"))
    assert any("not a plain file" in problem for problem in read_registries().problems)


def test_what_is_here_is_known_by_the_file_it_was_made_of(tmp_path: Path) -> None:
    (found,) = parse_registry(document(entry()), "list").entries
    path = place_of(found)
    assert path == tmp_path / "models" / "ours.cellclf"
    path.mkdir(parents=True)
    assert not is_here(found)
    note_origin(path, found)
    assert is_here(found)
    assert not is_here(found.model_copy(update={"sha256": "1" * 64}))


def test_weights_lie_where_keras_looks(tmp_path: Path) -> None:
    found = find_entry("imagenet-resnet50")
    assert isinstance(found, WeightsEntry)
    assert place_of(found).parent == tmp_path / "keras" / "models"
    assert found.max_bytes > found.size_bytes


@pytest.mark.parametrize("name", ["saureus-cellcycle-dna", "imagenet-resnet50"])
def test_cards_tell_what_there_is_to_know(name: str) -> None:
    found = find_entry(name)
    card = entry_card(found)
    for part in (found.title, found.uri, found.checksum.digest, found.licence, "cellclf models"):
        assert part in card
    assert all(f"`{one}`" in card for one in found.class_names)


@pytest.mark.parametrize("name", ["rxrx1-celltype", "RxRx1-CellType"])
def test_the_name_of_a_bundled_model_cannot_be_taken(name: str) -> None:
    registry = parse_registry(document(entry(name=name), entry()), "list.json")
    assert [one.name for one in registry.entries] == ["ours"]
    assert "comes with this package has its name" in registry.problems[0]
