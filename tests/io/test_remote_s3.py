"""Buckets, through boto3 itself, from a server on this computer."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback import FAST, serving
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, DownloadError
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file

boto3 = pytest.importorskip("boto3", reason="S3 is an extra")
moto_server = pytest.importorskip("moto.server", reason="buckets for tests come from moto")

# Old ways of Python in botocore and moto.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

#: Making a client of boto3 takes some tenths of a second.
PATIENT = replace(FAST, stall_seconds=3.0)
BODY = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One public and one private object; no credentials are set when the test begins."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # Neither the files nor the network of the machine that tests.
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    owner = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    owner.create_bucket(Bucket="models")
    owner.put_object(Bucket="models", Key="open/m.cellclf", Body=BODY, ACL="public-read")
    owner.put_object(Bucket="models", Key="mine/m.cellclf", Body=BODY)
    return owner


@pytest.fixture
def credentials(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


def fetch(key: str, folder: Path, **options: Any) -> Path:
    checksum = Checksum("sha256", hashlib.sha256(BODY).hexdigest())
    wanted = {"checksum": checksum, "max_bytes": len(BODY), "rules": PATIENT} | options
    return fetch_file(f"s3://models/{key}", folder, **wanted)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix != ".lock"]


def test_a_public_object_needs_no_credentials(bucket: Any, tmp_path: Path) -> None:
    told: list[Progress] = []
    path = fetch("open/m.cellclf", tmp_path / "got", on_progress=told.append)
    assert path.read_bytes() == BODY
    assert (told[-1].done, told[-1].total) == (len(BODY), len(BODY))


@pytest.mark.usefixtures("credentials")
def test_a_private_object_is_asked_for_with_the_default_credentials(tmp_path: Path) -> None:
    assert fetch("mine/m.cellclf", tmp_path / "got").read_bytes() == BODY


def test_a_private_object_without_credentials_says_what_to_set_up(
    bucket: Any, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="no credentials for it were found; set up"):
        fetch("mine/m.cellclf", tmp_path / "got")
    assert left(tmp_path / "got") == []


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("uri", ["s3://models/open/gone", "s3://no-such-bucket/m"])
def test_what_is_not_there_is_said(tmp_path: Path, uri: str) -> None:
    checksum = Checksum("sha256", "0" * 64)
    with pytest.raises(DownloadError, match=r"does not exist .* check bucket and key"):
        fetch_file(uri, tmp_path / "got", checksum=checksum, max_bytes=9, rules=PATIENT)


def test_another_object_is_refused(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch("open/m.cellclf", tmp_path / "got", checksum=Checksum("sha256", "0" * 64))
    with pytest.raises(DownloadError, match="larger than the 9 bytes"):
        fetch("open/m.cellclf", tmp_path / "got", max_bytes=9)
    assert left(tmp_path / "got") == []


def test_a_cancel_leaves_nothing(bucket: Any, tmp_path: Path) -> None:
    asked = iter([False, False, False])
    with pytest.raises(CancelledError):
        fetch("open/m.cellclf", tmp_path / "got", should_stop=lambda: next(asked, True))
    assert left(tmp_path / "got") == []


def test_offline_asks_nobody(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="network must not be used"):
        fetch("open/m.cellclf", tmp_path / "got", offline=True)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("short", "broke|ended after"),
        ("500", "answers 500"),
        ("stall", "too slow"),
        ("403", "no credentials"),
    ],
)
def test_a_fault_of_the_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    with serving() as server:
        server.files["/models/open/m.cellclf"] = BODY
        server.fault = fault
        options = {"rules": FAST} if fault == "stall" else {}
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        with pytest.raises(DownloadError, match=reason):
            fetch("open/m.cellclf", tmp_path / "got", **options)
    assert left(tmp_path / "got") == []


@pytest.mark.usefixtures("bucket")
def test_a_broken_download_starts_again_or_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        server.files["/models/open/m.cellclf"] = BODY
        server.fault, server.faulty = "short", 1
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        assert fetch("open/m.cellclf", tmp_path / "got").read_bytes() == BODY
        assert server.ranges() == [None, f"bytes={len(BODY) // 2}-"]


@pytest.mark.usefixtures("bucket")
def test_a_store_without_encryption_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store.example.org")
    with pytest.raises(DownloadError, match="not an https address"):
        fetch("open/m.cellclf", tmp_path / "got")


def test_without_boto3_it_says_which_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(DownloadError, match=r"pip install 'napari-cellclf\[s3\]'"):
        fetch("open/m.cellclf", tmp_path / "got")
