"""A model on a server as a classifier here: images are prepared here, its network computes there.

What goes over the network are prepared pixels as float32, and the answers are the numbers that the
server's network gives; preprocessing, views and temperature are those of the bundle, computed here.
So the answers are the same as with the model on this computer.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from napari_cellclf.bundles.arrays import dump_array, parse_array
from napari_cellclf.bundles.bundle import UNLIKE, ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.errors import BundleError, ImageTooLargeError, InputError, ServerError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.engine import Computed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import Extra


_LOOPBACK = ("localhost", "127.0.0.1", "::1")

#: More than any card with its bundle.json takes, and any answer of probabilities.
_MAX_ANSWER_BYTES = 1 << 26

_MAX_ERROR_BYTES = 1 << 16

_SHORTEST_TOKEN = 16

_OCTETS = "application/octet-stream"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Address:
    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def connect(
    url: str,
    token: str | None = None,
    *,
    timeout: float = 60.0,
    certificates: str | Path | None = None,
    allow_plain: bool = False,
) -> Classifier:
    """Use the model of a server that ``cellclf serve`` runs.

    Parameters
    ----------
    url : str
        Of the server, such as ``"https://plates.example"``.
    token : str, optional
        The secret that it asks for.
    timeout : float
        Seconds to wait for each answer.
    certificates : path, optional
        A PEM file of the authorities that its certificate may come from, besides those that this
        computer trusts.
    allow_plain : bool
        Whether to send images and token without encryption to another computer.

    Returns
    -------
    Classifier
        Like one from `load_classifier`; its `bundle` says what the model says of itself, but has no
        files.

    Raises
    ------
    InputError
        If the URL cannot be used.
    ServerError
        If the server cannot be reached, refuses, or answers something else than it should.

    Examples
    --------
    >>> connect("ftp://plates.example")
    Traceback (most recent call last):
    napari_cellclf.errors.InputError: 'ftp://plates.example' is not the address of a server; ...
    """
    address = _parse(url, allow_plain)
    engine = RemoteEngine(address, token, timeout, certificates)
    return Classifier(engine.bundle, engine)


def read_token(path: Path) -> str:
    """Read the secret that clients must know."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {path} cannot be read ({error}); check it") from error
    if len(token) < _SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise InputError(
            f"the token in {path} must be one line of at least {_SHORTEST_TOKEN} characters "
            'without spaces; make one with python -c "import secrets; '
            'print(secrets.token_urlsafe())"'
        )
    return token


class RemoteEngine:
    """Computes with the network of a server; made by `connect`.

    Probabilities come over the network, and where they are asked for features; no feature map.
    """

    def __init__(
        self,
        address: _Address,
        token: str | None,
        timeout: float,
        certificates: str | Path | None,
    ) -> None:
        self._address = address
        self._token = _checked_token(token)
        self._timeout = timeout
        self._tls = _tls(certificates) if address.scheme == "https" else None
        answer = self._json(self._ask("GET", "/api/model"))
        try:
            spec = BundleSpec.model_validate(answer["spec"])
            self._sha256, self._most = str(answer["sha256"]), int(answer["limits"]["batch"])
            self._most_bytes = int(answer["limits"]["body_bytes"])
            if self._most < 1 or not _SHA256.fullmatch(self._sha256):
                raise ValueError("not what a server says")
            self.gives: frozenset[Extra] = frozenset(
                {"features"} if answer.get("gives_features") is True else ()
            )
            self.device = f"{_shown(answer['device'])} of {address.host}"
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServerError(
                f"{address} describes its model in a way that this napari-cellclf does not "
                "understand; use the same version on both sides"
            ) from error
        self.bundle = _ServedBundle(Path(f"{spec.name}.cellclf"), spec, self._unlike_file)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute probabilities ``(N, K)`` of a batch ``(N, Y, X, C)``; see `Engine`."""
        return self.compute(batch).probabilities

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute; see `Engine`."""
        features = features and "features" in self.gives
        batch = np.ascontiguousarray(batch, np.float32)
        # Room for the header of the array's file.
        fitting = (self._most_bytes - 1024) // max(1, batch[:1].nbytes)
        if fitting < 1:
            raise ImageTooLargeError(
                f"an image of {batch.shape[1]} x {batch.shape[2]} pixels is more than "
                f"{self._address} takes; give a smaller one"
            )
        step = min(self._most, fitting)
        parts = [self._compute(batch[i : i + step], features) for i in range(0, len(batch), step)]
        answer = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not features:
            return Computed(answer)
        n_classes = len(self.bundle.spec.classes)
        return Computed(*map(np.ascontiguousarray, (answer[:, :n_classes], answer[:, n_classes:])))

    def _unlike_file(self) -> bytes:
        return self._ask("GET", "/api/unlike", headers={"If-Match": f'"{self._sha256}"'})

    def _compute(self, batch: NDArray[np.float32], features: bool) -> NDArray[np.float32]:
        headers = {"Content-Type": _OCTETS, "If-Match": f'"{self._sha256}"'}
        path = "/api/compute?features=true" if features else "/api/compute"
        content = self._ask("POST", path, dump_array(batch), headers)
        try:
            answer = parse_array(content, "the answer")
        except BundleError as error:
            raise ServerError(f"{self._address}: {error}") from error
        n_classes = len(self.bundle.spec.classes)
        fits = answer.ndim == 2 and (
            answer.shape[1] > n_classes if features else answer.shape[1] == n_classes
        )
        if not fits or len(answer) != len(batch) or answer.dtype != np.float32:
            raise ServerError(
                f"{self._address} answers {len(batch)} images with an array {answer.dtype} "
                f"{answer.shape}; it is not a server for this model, connect again"
            )
        return answer

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        sent = dict(headers or {})
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, self._address.path + path, body, sent)
            answer = connection.getresponse()
            most = _MAX_ANSWER_BYTES if answer.status == 200 else _MAX_ERROR_BYTES
            content = answer.read(most + 1)
        except ssl.SSLCertVerificationError as error:
            raise ServerError(
                f"{self._address} shows a certificate that is not trusted "
                f"({error.verify_message}); check the address, or give the authority's file as "
                "certificates, or in the variable SSL_CERT_FILE"
            ) from error
        except TimeoutError as error:
            raise ServerError(
                f"{self._address} did not answer within {self._timeout:g} s; try again, or give a "
                "longer timeout"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ServerError(
                f"{self._address} cannot be reached ({reason}); check that the server runs and can "
                "be reached from here"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise self._refusal(answer.status, content)
        if len(content) > most:
            raise ServerError(f"{self._address} sends more than expected; check the address")
        return content

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)

    def _refusal(self, status: int, content: bytes) -> ServerError:
        if status == 401:
            return ServerError(f"{self._address} requires another token; give the right one")
        if status == 412:
            return ServerError(f"{self._address} has another model now; connect again")
        try:
            said = json.loads(content)["detail"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ServerError(
                f"{self._address} answers with status {status}, which cellclf serve does not; "
                "check the address, and what stands between"
            )
        return ServerError(f"{self._address} refuses: {_shown(said)}")

    def _json(self, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ServerError(
                f"{self._address} does not answer as cellclf serve does; check the address"
            )
        return answer


@dataclass(frozen=True)
class _ServedBundle(ModelBundle):
    """What a server says of its model; of the files, only that of `unlikeness` is fetched."""

    fetch_unlike: Callable[[], bytes]

    def unlike_file(self) -> bytes:
        """Fetch the file that `unlikeness` is in, and compare it with its hash."""
        content = self.fetch_unlike()
        if hashlib.sha256(content).hexdigest() != self.spec.files[UNLIKE]:
            raise ServerError(
                f"the server sends another {UNLIKE} than {self.spec.name} was written with; "
                "connect again"
            )
        return content


def _parse(url: str, allow_plain: bool) -> _Address:
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
        parts.path.encode("ascii")
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    unwanted = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in ("http", "https") or not host or unwanted:
        raise InputError(
            f"{url!r} is not the address of a server; give one like https://plates.example or "
            "http://localhost:8080"
        )
    if parts.scheme == "http" and host not in _LOOPBACK and not allow_plain:
        raise InputError(
            f"{url!r} would send images and token readable to everyone on the way; use https, or "
            "give allow_plain=True in a network that you trust"
        )
    standard = 80 if parts.scheme == "http" else 443
    return _Address(parts.scheme, host, port or standard, parts.path.rstrip("/"))


def _shown(said: object) -> str:
    return "".join(letter for letter in str(said)[:500] if letter.isprintable())


def _checked_token(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise InputError("the token holds characters that no token has; give it as it was given")
    return None if token is None else token.strip()


def _tls(certificates: str | Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if certificates is not None:
        try:
            context.load_verify_locations(certificates)
        except OSError as error:
            raise InputError(
                f"{certificates} holds no certificates ({error.strerror or error}); give a PEM file"
            ) from error
    return context
