"""What goes wrong, as clients are told: a status, a code, and one line without paths."""

from __future__ import annotations

from napari_cellclf.errors import (
    ChannelMismatchError,
    ImageTooLargeError,
    InputError,
    UnreadableImageError,
)
from napari_cellclf.io.limits import LIMIT_VARIABLE

#: Codes of what is wrong with an image; the first that fits.
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
    """Nobody waits for the answer any more."""


def busy(why: str, seconds: int = 1) -> RequestError:
    """Make the answer to a request that came when there was too much to do."""
    detail = f"{why}; try again after {seconds} s"
    return RequestError(503, "busy", detail, {"Retry-After": str(seconds)})


def of_image(error: InputError) -> RequestError:
    """Say what is wrong with an image."""
    status, code = next((status, code) for kind, status, code in _CODES if isinstance(error, kind))
    # A variable of the server's environment is no remedy for its clients.
    detail = str(error).partition(f", set {LIMIT_VARIABLE}")[0]
    if code == "channel_mismatch":
        detail = detail.partition(_REMEDY)[0] + _CHANNELS
    return RequestError(status, code, detail)


def one_line(text: str) -> str:
    r"""Make text that a client may have had a hand in fit for one line of an answer or a log.

    Examples
    --------
    >>> one_line("a" + chr(10) + "b" + chr(27))
    'a b\\x1b'
    """
    flat = " ".join(text.split())
    if not flat.isprintable():
        flat = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat)
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"
