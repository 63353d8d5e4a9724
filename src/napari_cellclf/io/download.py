"""Fetch a file over HTTPS and keep it only if it is the one that was expected."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.quiet import silenced

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_BLOCK = 65_536


@dataclass(frozen=True)
class Rules:
    """What a download may do.

    Parameters
    ----------
    max_bytes : int
        Size above which it is given up.
    stall_seconds : float
        Longest silence of the server.
    total_seconds : float
        Longest time for one file.
    max_redirects : int
        How often the server may point elsewhere.
    """

    max_bytes: int = 16 * 2**20
    stall_seconds: float = 20.0
    total_seconds: float = 300.0
    max_redirects: int = 3


def fetch_files(
    base_url: str, hashes: Mapping[str, str], names: list[str], folder: Path, rules: Rules
) -> list[Path]:
    """Fetch files that are not in a folder yet, or differ from what they should be.

    Parameters
    ----------
    base_url : str
        ``https://``, or plain HTTP to this computer itself.
    hashes : mapping of str to str
        Name below `base_url` to SHA-256.
    names : list of str
        Which of them.
    folder : Path
        Where they are kept, under the same names.
    rules : Rules
        Limits of each download.

    Returns
    -------
    list of Path
        The files, all of them checked.

    Raises
    ------
    DownloadError
        If one cannot be fetched, or is not the file expected; nothing of it is left then.
    """
    import pooch

    _check_url(base_url, base_url)
    kept = pooch.create(
        path=folder,
        base_url=base_url.rstrip("/") + "/",
        registry={name: f"sha256:{value}" for name, value in hashes.items()},
    )

    def download(url: str, output: str | IO[bytes], _: Any) -> None:
        _download(url, Path(str(output)), rules)

    paths = []
    for name in names:
        try:
            with silenced("pooch"):
                paths.append(Path(kept.fetch(name, downloader=download)))
        except ValueError as error:
            raise DownloadError(
                f"{base_url}/{name} is not the file that was expected (its SHA-256 differs); try "
                "again, or fetch it by another connection"
            ) from error
        except OSError as error:
            raise DownloadError(
                f"{name} cannot be kept in {folder} ({error.strerror or error}); set CELLCLF_CACHE "
                "to a folder that is writable and has space"
            ) from error
    return paths


def _download(url: str, output: Path, rules: Rules) -> None:
    opener = urllib.request.build_opener(_Redirects(url, rules.max_redirects))
    deadline = time.monotonic() + rules.total_seconds
    try:
        with opener.open(url, timeout=rules.stall_seconds) as answer, output.open("wb") as file:
            received = _copy(answer, file, url, rules.max_bytes, deadline)
            promised = answer.headers.get("Content-Length", "")
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(
            f"{url} answers {error.code} {error.reason}; try again later"
        ) from error
    except TimeoutError as error:
        raise _too_slow(url) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _too_slow(url) from error
        raise DownloadError(
            f"{url} cannot be reached ({reason}); check the connection to the internet"
        ) from error
    if promised.isdecimal() and received != int(promised):
        raise DownloadError(f"{url} ended after {received} of {promised} bytes; try again")


def _copy(
    answer: http.client.HTTPResponse, file: IO[bytes], url: str, max_bytes: int, deadline: float
) -> int:
    received = 0
    # read1 returns what has arrived: a server that trickles cannot hold a block open for hours.
    while block := answer.read1(_BLOCK):
        received += len(block)
        if received > max_bytes:
            raise DownloadError(
                f"{url} sends more than {max_bytes} bytes, which is not the file expected; tell "
                "the developers"
            )
        if time.monotonic() > deadline:
            raise _too_slow(url)
        file.write(block)
    return received


def _too_slow(url: str) -> DownloadError:
    return DownloadError(f"{url} is too slow to answer; try again on a better connection")


def _check_url(url: str, first: str) -> None:
    parts = urlsplit(url)
    # Only a download that began on this computer may stay without encryption.
    local = parts.hostname in _LOOPBACK and urlsplit(first).hostname in _LOOPBACK
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise DownloadError(f"{url} is not an https address; use one that is")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects, and none that leaves encryption."""

    def __init__(self, first: str, limit: int) -> None:
        self._first = first
        self._left = limit

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self._left -= 1
        if self._left < 0:
            fp.close()
            raise DownloadError(f"{self._first} is redirected again and again; try again later")
        try:
            _check_url(newurl, self._first)
        except DownloadError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)
