"""Fetch from Zenodo and Hugging Face: from what is cited to an https address."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from napari_cellclf.errors import DownloadError, InputError
from napari_cellclf.io.remote.addresses import HubAddress, ZenodoAddress, check_name
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.rules import Rules
from napari_cellclf.io.remote.sources import Answer
from napari_cellclf.io.remote.web import WebSource, read_text

#: Environment variables that name an institute's mirror; the second is Hugging Face's own.
ZENODO_VARIABLE, HUB_VARIABLE = "CELLCLF_ZENODO", "HF_ENDPOINT"

_LARGEST_RECORD = 1 << 22


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


class ZenodoSource:
    """A file of a record of Zenodo."""

    def __init__(self, address: ZenodoAddress, rules: Rules) -> None:
        self.address = address
        self.rules = rules
        self._found: WebSource | None = None
        self._published: Checksum | None = None

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[Answer]:
        """Ask the record where the file is, once, and then for the file."""
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
        self._published = _checksum(file.get("checksum"))
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
                f"{self.address} does not say which file of the record; write it behind a slash, "
                f"one of: {names}"
            )
        check_name(wanted.rpartition("/")[2], str(self.address))
        return dict(files[wanted])

    def _strange(self) -> DownloadError:
        return DownloadError(
            f"{self.address} leads to no record with files; check the number, and "
            f"{ZENODO_VARIABLE} where it is set"
        )


def _checksum(stated: Any) -> Checksum | None:
    algorithm, _, digest = str(stated or "").partition(":")
    if algorithm not in ("md5", "sha256"):
        return None
    try:
        return Checksum("md5" if algorithm == "md5" else "sha256", digest)
    except InputError:
        return None
