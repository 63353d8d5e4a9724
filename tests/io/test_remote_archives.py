"""Zenodo and Hugging Face, from servers on this computer that answer in their form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import FAST, Server, serving, zenodo_record
from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file

BODY = b"model" * 1000
OTHER = b"something else"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECORD = "/api/records/42"


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as running:
        monkeypatch.setenv("CELLCLF_ZENODO", running.url + "/")
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def publish(server: Server, files: dict[str, bytes], number: int = 42, **stated: str) -> None:
    sums = {name: md5(body) for name, body in files.items()} | stated
    server.files[RECORD] = zenodo_record(number, files, sums)
    for name, body in files.items():
        server.files[f"/api/records/{number}/files/{name.replace('/', '%2F')}/content"] = body


def fetch(uri: str, folder: Path, name: str | None = None) -> Path:
    checksum = Checksum("sha256", hashlib.sha256(BODY).hexdigest())
    return fetch_file(uri, folder, checksum=checksum, max_bytes=9999, name=name, rules=FAST)


def test_a_file_of_a_zenodo_record(server: Server, tmp_path: Path) -> None:
    publish(server, {"a.cellclf": BODY, "readme.txt": OTHER})
    path = fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path)
    assert path == tmp_path / "a.cellclf"
    assert path.read_bytes() == BODY
    assert [asked for asked, _ in server.requests] == [RECORD, f"{RECORD}/files/a.cellclf/content"]


def test_the_only_file_of_a_record_needs_no_name_there_but_one_here(
    server: Server, tmp_path: Path
) -> None:
    publish(server, {"a.cellclf": BODY})
    assert fetch("doi:10.5281/zenodo.42", tmp_path, name="mine.cellclf").read_bytes() == BODY


def test_the_doi_of_all_versions_leads_to_the_latest(server: Server, tmp_path: Path) -> None:
    publish(server, {"a.cellclf": BODY}, number=43)
    assert fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path).read_bytes() == BODY


def test_a_record_of_several_files_names_them(server: Server, tmp_path: Path) -> None:
    publish(server, {"a.cellclf": BODY, "readme.txt": OTHER})
    with pytest.raises(DownloadError, match=r"one after a slash: a\.cellclf, readme\.txt"):
        fetch("doi:10.5281/zenodo.42", tmp_path, name="a.cellclf")
    with pytest.raises(DownloadError, match=r"one after a slash: a\.cellclf, readme\.txt"):
        fetch("doi:10.5281/zenodo.42/b.cellclf", tmp_path)


def test_the_checksum_of_the_publisher_is_compared_as_well(server: Server, tmp_path: Path) -> None:
    publish(server, {"a.cellclf": BODY}, **{"a.cellclf": md5(OTHER)})
    with pytest.raises(DownloadError, match=r"stated by the publisher .its MD5 differs"):
        fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path)
    assert not (tmp_path / "a.cellclf").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"files": [{}]}',
        b'{"files": [{"key": 3}]}',
        b"[" * 100_000,
    ],
    ids=range(6),
)
def test_a_record_that_is_none_is_said(server: Server, tmp_path: Path, answer: bytes) -> None:
    server.files[RECORD] = answer
    with pytest.raises(DownloadError, match="leads to no record with files"):
        fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path)


def test_a_record_without_end_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files[RECORD] = b" " * (1 << 22) + b'{"files": []}'
    with pytest.raises(DownloadError, match="is longer than 4194304 bytes"):
        fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path)


def test_a_record_that_does_not_exist_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="records/42 answers 404"):
        fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path)


def test_a_name_in_a_record_leads_nowhere_else(server: Server, tmp_path: Path) -> None:
    publish(server, {"../../a.cellclf": BODY, "..": BODY})
    assert fetch("doi:10.5281/zenodo.42/../../a.cellclf", tmp_path, name="a").parent == tmp_path
    server.files[RECORD] = json.dumps({"id": "../x", "files": [{"key": ".."}]}).encode()
    with pytest.raises(DownloadError, match="name of its file"):
        fetch("doi:10.5281/zenodo.42", tmp_path, name="b")


def test_a_broken_download_goes_on_without_asking_the_record_again(
    server: Server, tmp_path: Path
) -> None:
    publish(server, {"a.cellclf": BODY})
    server.fault, server.faulty, server.faulty_end = "short", 1, "/content"
    assert fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path).read_bytes() == BODY
    assert server.ranges()[-1] == f"bytes={len(BODY) // 2}-"
    assert [asked for asked, _ in server.requests].count(RECORD) == 1


def test_a_record_that_is_cut_short_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    publish(server, {"a.cellclf": BODY})
    server.fault, server.faulty = "short", 1
    assert fetch("doi:10.5281/zenodo.42/a.cellclf", tmp_path).read_bytes() == BODY


def test_hugging_face_redirects_to_where_the_file_lies(server: Server, tmp_path: Path) -> None:
    server.files[f"/owner/name/resolve/{COMMIT}/sub/a%20b.cellclf"] = BODY
    server.fault = "elsewhere"
    path = fetch(f"hf:owner/name@{COMMIT}/sub/a b.cellclf", tmp_path)
    assert path == tmp_path / "a b.cellclf"
    assert path.read_bytes() == BODY
    assert len(server.requests) == 2


def test_hugging_face_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.files[f"/owner/name/resolve/{COMMIT}/a.cellclf"] = BODY
    server.fault, server.faulty = "short", 1
    fetch(f"hf:owner/name@{COMMIT}/a.cellclf", tmp_path)
    assert server.ranges()[-1] == f"bytes={len(BODY) // 2}-"


@pytest.mark.parametrize("variable", ["CELLCLF_ZENODO", "HF_ENDPOINT"])
def test_a_mirror_must_be_https(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://mirror.example.org")
    uri = "doi:10.5281/zenodo.42/a" if "ZENODO" in variable else f"hf:owner/name@{COMMIT}/a"
    with pytest.raises(DownloadError, match=r"mirror\.example\.org.* not an https address"):
        fetch(uri, tmp_path)
