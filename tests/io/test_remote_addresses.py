from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.addresses import (
    FileAddress,
    HubAddress,
    ObjectAddress,
    WebAddress,
    ZenodoAddress,
    check_name,
    check_web,
    parse_address,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("https://a.org/x/m%20n.cellclf?k=1", WebAddress, "m n.cellclf"),
        ("http://127.0.0.1:8000/m.cellclf", WebAddress, "m.cellclf"),
        ("s3://bucket/a/b/m.cellclf", ObjectAddress, "m.cellclf"),
        ("doi:10.5281/zenodo.123", ZenodoAddress, ""),
        ("doi:10.5281/zenodo.123/m.cellclf", ZenodoAddress, "m.cellclf"),
        (f"hf:owner/name@{COMMIT}/sub/m.cellclf", HubAddress, "m.cellclf"),
        ("file:///data/m%20n.cellclf", FileAddress, "m n.cellclf"),
        ("relative/m.cellclf", FileAddress, "m.cellclf"),
    ],
)
def test_addresses_are_told_apart(text: str, address: type, name: str) -> None:
    found = parse_address(text)
    assert isinstance(found, address)
    assert found.name == name


def test_a_share_is_the_name_of_a_server_and_a_path() -> None:
    assert parse_address("file://server/share/m.cellclf") == FileAddress(
        Path("//server/share/m.cellclf")
    )
    assert FileAddress(Path("//server/share/m.cellclf")).is_share
    assert not FileAddress(Path("/share/m.cellclf")).is_share


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no address"),
        ("http://example.org/m.cellclf", "not an https address"),
        ("https:///m.cellclf", "not an https address"),
        ("https://[::1/m.cellclf", "not a valid address"),
        ("https://me:secret@example.org/m.cellclf", "contains a password"),
        ("ftp://example.org/m.cellclf", "cannot be fetched; use"),
        ("javascript:alert(1)", "cannot be fetched; use"),
        ("s3://bucket", "s3://bucket/key"),
        ("s3://Bucket/key", "s3://bucket/key"),
        ("doi:10.1234/other.5", "not a DOI of Zenodo"),
        ("hf:owner/name@main/m.cellclf", "'main', which can change"),
        ("hf:owner/name/m.cellclf", "hf:owner/name@commit/path"),
        (f"hf:owner/name@{COMMIT}/../m.cellclf", "hf:owner/name@commit/path"),
    ],
)
def test_others_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(DownloadError, match=reason) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_messages_do_not_repeat_what_may_be_a_secret() -> None:
    assert str(parse_address("https://a.org/m?X-Amz-Signature=abc#x")) == "https://a.org/m"


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(DownloadError):
        assert "/" not in parse_address(text).name


@given(st.text(max_size=60))
def test_names_never_lead_elsewhere(name: str) -> None:
    try:
        check_name(name, "a server")
    except DownloadError:
        return
    assert (Path("folder") / name).parent == Path("folder")
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "C:x", "a\nb", "a" * 201]
)
def test_names_that_are_more_than_a_name_are_refused(name: str) -> None:
    with pytest.raises(DownloadError, match="name of its file"):
        check_name(name, "a server")


def test_a_chain_that_began_elsewhere_may_not_end_on_this_computer() -> None:
    check_web("http://127.0.0.1/x", first="http://localhost/x")
    with pytest.raises(DownloadError, match="not an https address"):
        check_web("http://127.0.0.1/x", first="https://example.org/x")
