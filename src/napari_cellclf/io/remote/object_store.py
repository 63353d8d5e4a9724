"""Fetch from S3 and compatible stores with boto3 (the extra ``s3``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.addresses import ObjectAddress, check_web
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.source import OpenFile, PassingFault, Rules, too_slow

_CHANGED = (412, 416)


class ObjectSource:
    """One object of a bucket, requested without a signature first, then with one."""

    def __init__(self, address: ObjectAddress, rules: Rules) -> None:
        self.address = address
        self.rules = rules
        self._signed = False

    @contextmanager
    def open(self, start: int, tag: str | None) -> Iterator[OpenFile]:
        """Request the object, or its rest if `tag` still identifies it."""
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise DownloadError(
                f"{self.address} needs boto3; install it with pip install 'napari-cellclf[s3]'"
            ) from error
        part = {"Range": f"bytes={start}-", "IfMatch": tag} if start and tag else {}
        try:
            found = self._get(part)
            with found["Body"] as body:
                yield _describe(found, body, start)
        except ClientError as error:
            raise self._refused(error.response) from error
        except (BotoCoreError, ValueError) as error:
            raise self._explained(error) from error

    def published(self) -> Checksum | None:
        """Return None: an ETag is no checksum of an object that came in several parts."""
        return None

    def _get(self, part: dict[str, str]) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        if not self._signed:
            try:
                return self._ask(part, signed=False)
            except ClientError as error:
                if _status(error.response) not in (401, 403):
                    raise
        # Not public, but perhaps readable with credentials.
        found = self._ask(part, signed=True)
        self._signed = True
        return found

    def _ask(self, part: dict[str, str], *, signed: bool) -> dict[str, Any]:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        settings: dict[str, Any] = {} if signed else {"signature_version": UNSIGNED}
        client = boto3.session.Session().client(
            "s3",
            # boto3 brings certificates of its own, and knows only its own variable for others.
            verify=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or None,
            config=Config(
                connect_timeout=self.rules.stall_seconds,
                read_timeout=self.rules.stall_seconds,
                retries={"total_max_attempts": 1},
                **settings,
            ),
        )
        check_web(client.meta.endpoint_url)
        found: dict[str, Any] = client.get_object(
            Bucket=self.address.bucket, Key=self.address.key, **part
        )
        return found

    def _explained(self, error: Exception) -> Exception:
        from botocore import exceptions as faults

        if isinstance(error, (faults.NoCredentialsError, faults.PartialCredentialsError)):
            return DownloadError(
                f"{self.address} is not public, or not there, and no credentials for it were "
                "found; set up those that may read it (aws configure, or AWS_PROFILE)"
            )
        if isinstance(error, (faults.ConnectTimeoutError, faults.ReadTimeoutError)):
            return PassingFault(too_slow(str(self.address)))
        if isinstance(error, (faults.HTTPClientError, faults.IncompleteReadError)):
            return PassingFault(
                DownloadError(f"the connection to {self.address} broke ({error}); try again")
            )
        return DownloadError(
            f"{self.address} cannot be reached ({error}); check the connection to the internet "
            "and the settings of AWS"
        )

    def _refused(self, response: dict[str, Any]) -> Exception:
        status, reason = _status(response), response.get("Error", {}).get("Message", "")
        if status in (401, 403):
            return DownloadError(
                f"{self.address} may not be read with these credentials ({reason}); they need "
                "s3:GetObject on it"
            )
        if status == 404:
            return DownloadError(f"{self.address} does not exist ({reason}); check bucket and key")
        told = DownloadError(f"{self.address} answers {status} ({reason}); try again later")
        if status in _CHANGED:
            return PassingFault(told, from_start=True)
        return PassingFault(told) if status == 429 or status >= 500 else told


def _status(response: dict[str, Any]) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _describe(found: dict[str, Any], body: Any, asked: int) -> OpenFile:
    part = re.fullmatch(r"bytes (\d+)-\d+/\d+", found.get("ContentRange", ""))
    start = 0 if part is None else int(part.group(1))
    if start not in (0, asked):
        told = DownloadError("the store sent another part than requested; try again")
        raise PassingFault(told, from_start=True)
    return OpenFile(body.read, start, start + int(found["ContentLength"]), found.get("ETag"))
