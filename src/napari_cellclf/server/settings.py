"""Settings of a server: where it listens, who may connect, and its limits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from napari_cellclf.errors import InputError
from napari_cellclf.inference.engine import EngineChoice, Precision

_MIB = 2**20
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


@dataclass(frozen=True)
class Limits:
    """Limits of what clients can send."""

    #: Of one request.
    body_bytes: int = 64 * _MIB
    #: Of the decoded pixels of one image, of one file or several, as their headers declare them.
    pixel_bytes: int = 64 * _MIB
    #: Of one prepared image; a network for any size would compute it for seconds.
    plane_bytes: int = 64 * _MIB
    files: int = 64
    planes: int = 256
    #: Answered at a time; further ones get 503.
    requests: int = 64
    #: Of all bodies that are in memory together.
    waiting_bytes: int = 512 * _MIB
    #: Requests of one address that may be sending their bodies.
    receiving_per_peer: int = 128
    idle_per_peer: int = 64
    idle: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    #: Of the header of a request, and of the trailer after its body.
    header_bytes: int = 64 * 1024
    #: For a client to read its answer.
    write_seconds: float = 30.0
    #: From the complete request to its answer.
    answer_seconds: float = 30.0
    #: For finishing requests when the server shuts down.
    stop_seconds: float = 30.0
    #: Images that are computed together, at most.
    batch: int = 16


@dataclass(frozen=True)
class Settings:
    """Settings of a server."""

    #: Address to listen on.
    host: str = "127.0.0.1"
    #: To listen on; 0 takes a free one.
    port: int = 8080
    #: Clients must send it; None only where nobody but this computer can connect.
    token: str | None = field(default=None, repr=False)
    #: Names by which clients call the server, besides addresses, ``localhost`` and `host`.
    allowed_hosts: tuple[str, ...] = ()
    #: Web pages that may ask from a browser, such as ``"https://lab.example"``.
    allow_origins: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    #: How often to look for a new model on the disk; None: only on SIGHUP.
    reload_seconds: float | None = None
    #: Threads that decode images.
    decoders: int = 2
    #: How long `/readyz` says 503 before the server stops listening.
    drain_seconds: float = 0.0
    engine: EngineChoice = "auto"
    precision: Precision = "auto"
    #: What a lone grey image without a name shows; None: what the model says, if it says it.
    single_channel: str | None = None
    #: Of what clients can send.
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host} allows other computers to connect, which requires a token: "
                "give --token-file FILE, or leave out --host to serve this computer only"
            )
        if (self.certificate is None) != (self.key is None):
            raise InputError("TLS needs both --certificate and --key; give the other one as well")
        for origin in self.allow_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"--allow-origin {origin!r} is not of the form https://host or "
                    "http://host:port; give the origin of the page, without a path"
                )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this computer only.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "::1", "0.0.0.0", "plates.example")]
    [True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
