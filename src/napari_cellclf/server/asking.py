"""What a request asks for beside its images: channels, and the form of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_cellclf.server.failures import RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

Mappings = Mapping[str, str | None]

_TEXT, _JSON = "text/plain", "application/json"


@dataclass(frozen=True)
class Asked:
    """What a request says beside its images."""

    #: The model's channels to those of the images.
    mapping: Mappings | None
    #: What each file shows.
    channels: tuple[str, ...]
    #: Whether the answer is lines of text.
    as_text: bool


def read_query(request: Request) -> Asked:
    """Read what the address and the header ask for."""
    unknown = set(request.query_params) - {"channel", "channels"}
    if unknown:
        raise RequestError(
            400, "unknown_parameter",
            f"there is no parameter {min(unknown)!r}; there are channels=MODEL=IMAGE,... and "
            "channel=NAME",
        )  # fmt: skip
    pairs = [
        pair
        for text in request.query_params.getlist("channels")
        for pair in text.split(",")
        if pair.strip()
    ]
    mapping: dict[str, str | None] = {}
    for pair in pairs:
        expected, equals, source = (part.strip() for part in pair.partition("="))
        if not (expected and equals) or expected in mapping:
            raise RequestError(
                400, "channels",
                f"channels={pair!r} is not of the form MODEL=IMAGE, or names a channel twice",
            )  # fmt: skip
        mapping[expected] = source or None
    accept = request.headers.get("accept", "")
    wants_text, wants_json = _TEXT in accept, _JSON in accept
    as_text = wants_text if request.method == "POST" else not wants_json
    channels = tuple(name.strip() for name in request.query_params.getlist("channel"))
    return Asked(mapping or None, channels, as_text and not (wants_text and wants_json))
