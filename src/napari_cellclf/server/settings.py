"""How a server is run: where it listens, who may ask, and how much one request may take."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from napari_cellclf.errors import InputError
from napari_cellclf.inference.engine_choice import EngineChoice, Precision

_MIB = 2**20
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


@dataclass(frozen=True)
class Limits:
    """How much is taken from clients before they are refused.

    Parameters
    ----------
    body_bytes : int
        Of one request.
    pixel_bytes : int
        Of the decoded pixels of one image, of one file or several, as their headers declare them.
    plane_bytes : int
        Of one prepared image; a network that takes any size is busy with it for seconds.
    files, planes : int
        In one request, and in one file.
    requests : int
        Answered at a time; more are told to come again.
    waiting_bytes : int
        Of all bodies that are in memory together.
    receiving_per_peer : int
        Requests of one address that may be sending their bodies.
    idle_per_peer, idle : int
        Connections of one address, and of all, that ask for nothing; the oldest is closed to make
        room for a new one.
    header_seconds, body_seconds : float
        For sending the header, and the body.
    header_bytes : int
        Of the header of a request, and of what follows its body.
    write_seconds : float
        For a client to take what was sent.
    answer_seconds : float
        From the whole request to its answer.
    stop_seconds : float
        For finishing what has begun when the server is told to stop.
    batch : int
        Images that are computed together, at most.
    """

    body_bytes: int = 64 * _MIB
    pixel_bytes: int = 64 * _MIB
    plane_bytes: int = 64 * _MIB
    files: int = 64
    planes: int = 256
    requests: int = 64
    waiting_bytes: int = 512 * _MIB
    receiving_per_peer: int = 128
    idle_per_peer: int = 64
    idle: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    header_bytes: int = 64 * 1024
    write_seconds: float = 30.0
    answer_seconds: float = 30.0
    stop_seconds: float = 30.0
    batch: int = 16


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Parameters
    ----------
    host : str
        Address to listen at.
    port : int
        To listen at; 0 takes a free one.
    token : str, optional
        What clients must know; None only where nobody but this computer can ask.
    allowed_hosts : tuple of str
        Names by which clients call the server, besides addresses, ``localhost`` and `host`.
    allow_origins : tuple of str
        Web pages that may ask from a browser, such as ``"https://lab.example"``.
    certificate, key : Path, optional
        Of TLS, in PEM files.
    reload_seconds : float, optional
        How often the model is looked for on the disk again; None only when told (SIGHUP).
    decoders : int
        Threads that decode images.
    drain_seconds : float
        How long `/readyz` says 503 before the server stops listening.
    engine, precision : str
        What computes, and how exactly; as for `load_classifier`.
    limits : Limits
        How much is taken from clients.

    Raises
    ------
    InputError
        If others could ask without a token, or a setting is of no use.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    reload_seconds: float | None = None
    decoders: int = 2
    drain_seconds: float = 0.0
    engine: EngineChoice = "auto"
    precision: Precision = "auto"
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host} lets other computers ask, who must know a secret: give "
                "--token-file FILE, or leave --host out to answer this computer only"
            )
        if (self.certificate is None) != (self.key is None):
            raise InputError("TLS needs both --certificate and --key; give the other one, too")
        for origin in self.allow_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"--allow-origin {origin!r} is not of the form https://host or "
                    "http://host:port; give the origin of the page, without a path"
                )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this computer only.

    Parameters
    ----------
    host : str
        A name or an address.

    Returns
    -------
    bool
        True for ``localhost``, ``127.0.0.1`` and ``::1``; False for names that would have to be
        looked up.

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
