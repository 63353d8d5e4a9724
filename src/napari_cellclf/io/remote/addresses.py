"""The kinds of addresses of files, parsed before anything is requested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.local_paths import expanded

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

# Two letters at least, so that a Windows drive is not taken for a scheme.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
_ZENODO = re.compile(r"10\.5281/zenodo\.(\d{1,12})(?:/(.+))?", re.IGNORECASE)
_HUB = re.compile(r"([\w.-]+)/([\w.-]+)@([^/]+)/(.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What some system takes for more than a letter of a name.
_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
_KINDS = "https://, s3://bucket/key, doi:10.5281/zenodo.N, hf:owner/name@commit/path, or a file"


@dataclass(frozen=True)
class WebAddress:
    """``https://``, or plain HTTP to this computer."""

    url: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    def __str__(self) -> str:
        # What follows the path may be a secret.
        return self.url.partition("?")[0].partition("#")[0]


@dataclass(frozen=True)
class ObjectAddress:
    """``s3://bucket/key``."""

    bucket: str
    key: str

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class ZenodoAddress:
    """``doi:10.5281/zenodo.N``, with the name of a file where the record holds several."""

    record: int
    file: str | None

    @property
    def name(self) -> str:
        """The file's name, empty where only the record knows it."""
        return self.file or ""

    def __str__(self) -> str:
        return f"doi:10.5281/zenodo.{self.record}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True)
class HubAddress:
    """``hf:owner/name@commit/path``: a file on Hugging Face that cannot change."""

    owner: str
    repository: str
    commit: str
    path: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"hf:{self.owner}/{self.repository}@{self.commit}/{self.path}"


@dataclass(frozen=True)
class FileAddress:
    """A file of this computer or of a share on the network."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def is_share(self) -> bool:
        """Whether it starts with the name of a server."""
        return str(self.path).startswith(("\\\\", "//"))

    def __str__(self) -> str:
        return str(self.path)


Address = WebAddress | ObjectAddress | ZenodoAddress | HubAddress | FileAddress


def parse_address(uri: str | Path) -> Address:
    """Parse an address of any kind.

    Examples
    --------
    >>> parse_address("s3://models/2026/embryo.cellclf")
    ObjectAddress(bucket='models', key='2026/embryo.cellclf')
    >>> parse_address("doi:10.5281/zenodo.42").record
    42
    """
    text = str(uri).strip()
    if not text or "\0" in text:
        raise DownloadError(f"no address was given; use {_KINDS}")
    scheme = _SCHEME.match(text)
    if scheme is None or isinstance(uri, Path):
        return FileAddress(expanded(text))
    kind = scheme.group(1).lower()
    if kind not in _PARSERS:
        raise DownloadError(f"{text!r} cannot be fetched; use {_KINDS}")
    return _PARSERS[kind](text)


def check_name(name: str, where: str) -> str:
    """Refuse a name that is not a plain file name."""
    if not name or name.startswith(".") or len(name) > 200 or _NOT_IN_NAMES.search(name):
        raise DownloadError(
            f"{where} gives {name[:80]!r} as the name of its file; give an address that ends in a "
            "plain file name"
        )
    return name


def check_web(url: str, *, first: str | None = None) -> None:
    """Refuse an address without encryption."""
    shown = str(WebAddress(url))
    try:
        parts = urlsplit(url)
        local = {parts.hostname, urlsplit(first or url).hostname} <= LOOPBACK
    except ValueError as error:
        raise DownloadError(f"{shown!r} is not a valid address; check it") from error
    if not (parts.scheme == "https" and parts.hostname) and not (parts.scheme == "http" and local):
        raise DownloadError(f"{shown} is not an https address; use one that is")
    if parts.username is not None:
        raise DownloadError(f"the address at {parts.hostname} contains a password; use one without")


def _web(text: str) -> Address:
    check_web(text)
    return WebAddress(text)


def _object(text: str) -> Address:
    bucket, _, key = text.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket) or not key or key.endswith("/"):
        raise DownloadError(f"{text!r} is not of the form s3://bucket/key; name one object")
    return ObjectAddress(bucket, key)


def _zenodo(text: str) -> Address:
    match = _ZENODO.fullmatch(text.partition(":")[2].lstrip("/"))
    if match is None:
        raise DownloadError(
            f"{text!r} is not a DOI of Zenodo, doi:10.5281/zenodo.N or with /FILE behind; for "
            "another archive give the https address of the file"
        )
    return ZenodoAddress(int(match.group(1)), match.group(2))


def _hub(text: str) -> Address:
    match = _HUB.fullmatch(text.partition(":")[2].lstrip("/"))
    if match is None or ".." in match.group(4).split("/"):
        raise DownloadError(f"{text!r} is not of the form hf:owner/name@commit/path; complete it")
    owner, repository, commit, path = match.groups()
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(
            f"{text!r} names {commit!r}, which can change; give the 40 hexadecimal digits of a "
            "commit, as its page under Files and versions shows"
        )
    return HubAddress(owner, repository, commit, path)


def _file(text: str) -> Address:
    parts = urlsplit(text)
    server = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
    return FileAddress(Path(server + url2pathname(parts.path)))


_PARSERS = {"https": _web, "http": _web, "s3": _object, "doi": _zenodo, "hf": _hub, "file": _file}
