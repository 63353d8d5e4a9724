"""Errors for clients: a status, a code, and one line without paths of the server."""

from __future__ import annotations

from napari_cellclf.errors import (
    ChannelMismatchError,
    ImageTooLargeError,
    InputError,
    UnreadableImageError,
)
from napari_cellclf.io.decoding import LIMIT_VARIABLE

#: Status and code of errors about images; the first that matches.
_CODES: tuple[tuple[type[InputError], int, str], ...] = (
    (ImageTooLargeError, 413, "image_too_large"),
    (UnreadableImageError, 422, "unreadable_image"),
    (ChannelMismatchError, 422, "channel_mismatch"),
    (InputError, 422, "unusable_image"),
)
_LONGEST = 500
# In the place of what Python and the command line would be told.
_REMEDY = "; say which to use with mapping="
_CHANNELS = (
    "; send all files of a site together, or say ?channels=MODEL=IMAGE, "
    "or ?channel=NAME for one grey file each"
)


class RequestError(Exception):
    """A request that cannot be answered."""

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = one_line(detail)
        self.headers = headers or {}


class ClientGoneError(Exception):
    """The client has disconnected."""


def busy(why: str, seconds: int = 1) -> RequestError:
    """Make the error for a busy server."""
    detail = f"{why}; try again after {seconds} s"
    return RequestError(503, "busy", detail, {"Retry-After": str(seconds)})


def of_image(error: InputError) -> RequestError:
    """Turn an error about an image into one for clients."""
    status, code = next((status, code) for kind, status, code in _CODES if isinstance(error, kind))
    # Clients cannot set an environment variable of the server.
    detail = str(error).partition(f", set {LIMIT_VARIABLE}")[0]
    if code == "channel_mismatch":
        detail = detail.partition(_REMEDY)[0] + _CHANNELS
    return RequestError(status, code, detail)


def one_line(text: str) -> str:
    r"""Make text that may come from a client safe for one line of an answer or a log.

    Examples
    --------
    >>> one_line("a" + chr(10) + "b" + chr(27))
    'a b\\x1b'
    """
    flat = " ".join(text.split())
    if not flat.isprintable():
        flat = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"
