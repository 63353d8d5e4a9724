"""Fetch over HTTPS, also from Zenodo and Hugging Face: with the system's certificates and proxies.

The standard library's client is used, since it honours ``SSL_CERT_FILE`` and the system's own
certificates, on which institutes put theirs, and ``HTTPS_PROXY`` and its like.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from napari_cellclf.errors import DownloadError, InputError
from napari_cellclf.io.remote.addresses import (
    LOOPBACK,
    HubAddress,
    WebAddress,
    ZenodoAddress,
    check_name,
    check_web,
)
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.source import OpenFile, PassingFault, Rules, too_slow

# What servers say when they are busy (RFC 9110, RFC 6585).
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_SATISFIABLE = 416
_PARTIAL = 206
_LONGEST_WAIT = 30.0
_BLOCK = 1 << 16
# Bytes as they are: a packed body would be counted and compared wrongly.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "napari-cellclf"}
#: Environment variables that name an institute's mirror; the second is Hugging Face's own.
ZENODO_VARIABLE, HUB_VARIABLE = "CELLCLF_ZENODO", "HF_ENDPOINT"
_LARGEST_RECORD = 1 << 22


@dataclass(frozen=True)
class WebSource:
    """A file behind an https address."""

    url: str
    rules: Rules

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[OpenFile]:
        """Request the file, or its rest if `tag` still identifies it."""
        headers = dict(_HEADERS)
        if start and tag:
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        with opened(self.url, headers, self.rules) as answer:
            yield _describe(answer, start)

    def published(self) -> Checksum | None:
        """Return None: an address states no checksum."""
        return None


class ZenodoSource:
    """A file of a record of Zenodo."""

    def __init__(self, address: ZenodoAddress, rules: Rules) -> None:
        self.address = address
        self.rules = rules
        self._found: WebSource | None = None
        self._published: Checksum | None = None

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[OpenFile]:
        """Request the record once to find the file, then the file."""
        if self._found is None:
            self._found = self._resolve()
        with self._found.open(start, tag) as answer:
            yield answer

    def published(self) -> Checksum | None:
        """Return the MD5 that the record states."""
        return self._published

    def _resolve(self) -> WebSource:
        base = os.environ.get(ZENODO_VARIABLE, "").rstrip("/") or "https://zenodo.org"
        record = self._record(f"{base}/api/records/{self.address.record}")
        file = self._choose(record)
        self._published = _stated_checksum(file.get("checksum"))
        # The DOI of all versions of a record leads to its latest, which has another number. Its
        # own links are not followed: they lead away from a mirror.
        number = record.get("id", self.address.record)
        url = (
            f"{base}/api/records/{quote(str(number), safe='')}/files/{quote(file['key'], safe='')}"
        )
        return WebSource(f"{url}/content", self.rules)

    def _record(self, url: str) -> dict[str, Any]:
        text = read_text(url, _LARGEST_RECORD, self.rules)
        try:
            record = json.loads(text)
            if all(isinstance(file["key"], str) for file in record["files"]):
                return dict(record)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._strange() from error
        raise self._strange()

    def _choose(self, record: dict[str, Any]) -> dict[str, Any]:
        files = {file["key"]: file for file in record["files"]}
        wanted = self.address.file
        if wanted is None and len(files) == 1:
            wanted = next(iter(files))
        if wanted is None or wanted not in files:
            names = ", ".join(sorted(files)[:10]) or "none"
            raise DownloadError(
                f"{self.address} does not name a file of the record; add one after a slash: {names}"
            )
        check_name(wanted.rpartition("/")[2], str(self.address))
        return dict(files[wanted])

    def _strange(self) -> DownloadError:
        return DownloadError(
            f"{self.address} leads to no record with files; check the number, and "
            f"{ZENODO_VARIABLE} where it is set"
        )


def hub_url(address: HubAddress) -> str:
    """Return where Hugging Face gives a file at a commit.

    Examples
    --------
    >>> hub_url(HubAddress("me", "cells", "0" * 40, "a b.cellclf"))[-20:]
    '000000/a%20b.cellclf'
    """
    base = os.environ.get(HUB_VARIABLE, "").rstrip("/") or "https://huggingface.co"
    where = f"{address.owner}/{address.repository}/resolve/{address.commit}"
    return f"{base}/{where}/{quote(address.path)}"


@contextmanager
def opened(url: str, headers: dict[str, str], rules: Rules) -> Iterator[http.client.HTTPResponse]:
    """Open an address, and explain errors, also while it is read."""
    check_web(url)
    shown = str(WebAddress(url))
    try:
        request = urllib.request.Request(url, headers=headers)
        with _opener(url, rules.max_redirects).open(request, timeout=rules.stall_seconds) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(shown, error) from error
    except TimeoutError as error:
        raise PassingFault(too_slow(shown)) from error
    except urllib.error.URLError as error:
        raise _unreachable(shown, error.reason) from error
    except ValueError as error:
        raise DownloadError(f"{shown} is not a valid address ({error}); check it") from error
    except (http.client.HTTPException, OSError) as error:
        raise PassingFault(
            DownloadError(f"the connection to {shown} broke ({error}); try again")
        ) from error


def read_text(url: str, max_bytes: int, rules: Rules) -> bytes:
    """Read a short text, such as the description of a record."""
    shown, text = str(WebAddress(url)), b""
    deadline = time.monotonic() + rules.total_seconds
    with opened(url, _HEADERS, rules) as answer:
        promised = answer.headers.get("Content-Length", "")
        while block := answer.read1(_BLOCK):
            text += block
            if len(text) > max_bytes:
                raise DownloadError(f"{shown} is longer than {max_bytes} bytes; check the address")
            if time.monotonic() > deadline:
                raise PassingFault(too_slow(shown))
    if promised.isdecimal() and len(text) < int(promised):
        raise PassingFault(
            DownloadError(f"{shown} ended after {len(text)} of {promised} bytes; try again")
        )
    return text


def _refused(shown: str, error: urllib.error.HTTPError) -> Exception:
    told = DownloadError(f"{shown} answers {error.code} {error.reason}; {_advice(error.code)}")
    if error.code == _NOT_SATISFIABLE:
        return PassingFault(told, from_start=True)
    if error.code in _BUSY:
        asked = error.headers.get("Retry-After", "")
        return PassingFault(told, min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else 0.0)
    return told


def _advice(code: int) -> str:
    if code in (401, 403):
        return "it is not public; ask its owner, or use another address"
    return "check the address" if code in (404, 410) else "try again later"


def _unreachable(shown: str, reason: Any) -> Exception:
    if isinstance(reason, TimeoutError):
        return PassingFault(too_slow(shown))
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"this computer does not trust the certificate of {shown} ({reason.verify_message}); "
            "if your institute has its own, name its file in SSL_CERT_FILE"
        )
    # A name that is not known and a door that is shut stay so for longer than one would wait.
    return DownloadError(
        f"{shown} cannot be reached ({reason}); check the connection to the internet"
    )


def _describe(answer: http.client.HTTPResponse, asked: int) -> OpenFile:
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    start = 0
    if answer.status == _PARTIAL:
        match = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip()
        )
        if match is None or int(match.group(1)) != asked:
            raise PassingFault(
                DownloadError("the server sent another part than requested; try again"),
                from_start=True,
            )
        start = asked
    total = None if size is None else start + size
    tag = answer.headers.get("ETag", "")
    # A weak tag names what looks alike, not what is the same byte for byte (RFC 9110, 8.8.3).
    strong = tag if tag.startswith('"') else None
    # read1 returns what has arrived, so that progress is seen and a trickle is noticed.
    return OpenFile(answer.read1, start, total, strong)


def _opener(url: str, max_redirects: int) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_Redirects(url, max_redirects)]
    if urlsplit(url).hostname in LOOPBACK:
        # Through a proxy it would leave this computer.
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects, and only encrypted ones."""

    # Our own limit is told in better words.
    max_repeats = max_redirections = 1_000

    def __init__(self, first: str, limit: int) -> None:
        self._first = first
        self._left = limit

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self._left -= 1
        try:
            if self._left < 0:
                raise DownloadError(
                    f"{WebAddress(self._first)} redirects too often; try again later"
                )
            check_web(newurl, first=self._first)
        except DownloadError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stated_checksum(stated: Any) -> Checksum | None:
    algorithm, _, digest = str(stated or "").partition(":")
    if algorithm not in ("md5", "sha256"):
        return None
    try:
        return Checksum("md5" if algorithm == "md5" else "sha256", digest)
    except InputError:
        return None
