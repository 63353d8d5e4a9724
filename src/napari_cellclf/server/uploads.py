"""The images of a request: its body read within limits, and each image as a model takes it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from napari_cellclf.core.channels import (
    is_one_of_several,
    missing_message,
    order_warning,
    taken_as,
    taken_in_order,
)
from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import GREY
from napari_cellclf.errors import ImageTooLargeError
from napari_cellclf.io.memory import MemoryFile
from napari_cellclf.io.raster import sniff
from napari_cellclf.server.request_errors import ClientGoneError, RequestError, busy, one_line
from napari_cellclf.server.settings import Limits

if TYPE_CHECKING:
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.io.sources import ImageSource

_RAW = {"", "application/octet-stream", "image/jpeg", "image/jpg", "image/png", "image/tiff"}
_FORM = "multipart/form-data"
_LONGEST_NAME = 100
#: Fields of a form that are no files; none is known.
_MAX_FIELDS = 8
_DRAIN_SECONDS = 2.0
_FLOAT_BYTES = 4


class Receiver:
    """Reads bodies, and counts how much of them is in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: Counter[str] = Counter()
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Body]:
        """Provide a body to read; its memory is released at the end of the block."""
        body = Body(self)
        try:
            yield body
        finally:
            self._held -= body.size

    @contextmanager
    def _turn(self, request: Request) -> Iterator[None]:
        peer = request.client.host if request.client else ""
        if self._peers[peer] >= self._limits.receiving_per_peer:
            raise busy("too many requests from this address are still being received")
        self._peers[peer] += 1
        try:
            yield
        finally:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]


class Body:
    """The body of one request."""

    def __init__(self, receiver: Receiver) -> None:
        self.size = 0
        self._receiver = receiver
        self._limits = receiver._limits

    async def files(self, request: Request, *, any_type: bool = False) -> list[MemoryFile]:
        """Read the images that a request brings."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == _FORM:
            files = await self._form(request)
        elif kind in _RAW or any_type:
            files = [MemoryFile("image", await self.raw(request))]
        else:
            raise RequestError(
                415, "unsupported_media_type",
                f"the Content-Type {one_line(kind)!r} is not an image; send image/png, image/jpeg, "
                "image/tiff, or multipart/form-data for several files",
            )  # fmt: skip
        _check_files(files)
        return files

    async def raw(self, request: Request) -> bytes:
        """Read the body as it is; it may be empty."""
        return b"".join([chunk async for chunk in self._stream(request)])

    async def _form(self, request: Request) -> list[MemoryFile]:
        limits = self._limits
        parser = MultiPartParser(
            request.headers,
            self._stream(request),
            max_files=limits.files,
            max_fields=_MAX_FIELDS,
        )
        # Never on a disk: uploads stay in memory, which is bounded already.
        parser.spool_max_size = limits.body_bytes + 1
        try:
            form = await parser.parse()
        except MultiPartException as error:
            status, code = (413, "too_many_files") if "Too many" in error.message else (400, "form")
            raise RequestError(status, code, f"the form cannot be read: {error.message}") from error
        except UnicodeError as error:
            raise RequestError(
                400, "form", "the charset of the form is not supported; send UTF-8"
            ) from error
        try:
            return [await _file(name, part) for name, part in form.multi_items()]
        finally:
            await form.close()

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Yield the body in chunks, within the limits."""
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding not in ("", "identity"):
            raise RequestError(
                415, "unsupported_encoding", "the body is compressed; send images as they are"
            )
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            # A client that asks first has not begun to send.
            if request.headers.get("expect", "").lower() != "100-continue":
                await drain(request)
            raise self._too_large()
        with self._receiver._turn(request):
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    async for chunk in request.stream():
                        self._count(len(chunk))
                        yield chunk
            except TimeoutError:
                raise RequestError(
                    408, "body_timeout",
                    f"the body did not arrive within {self._limits.body_seconds:g} s; send "
                    "smaller images, or use a faster connection",
                    {"Connection": "close"},
                ) from None  # fmt: skip
            except ClientDisconnect:
                raise ClientGoneError from None

    def _count(self, size: int) -> None:
        self.size += size
        self._receiver._held += size
        if self.size > self._limits.body_bytes:
            raise self._too_large()
        if self._receiver._held > self._limits.waiting_bytes:
            raise busy("the memory for images is full")

    def _too_large(self) -> RequestError:
        return RequestError(
            413, "body_too_large",
            f"the body is larger than {self._limits.body_bytes} bytes; send fewer images at a time",
            {"Connection": "close"},
        )  # fmt: skip


@dataclass
class UploadedImage:
    """An image that was sent, read as a model takes it: grey where it came as RGB."""

    #: What was sent.
    source: ImageSource
    #: The model's.
    preprocessing: Preprocessing
    #: Largest sizes.
    limits: Limits
    #: Channels that the request names.
    mapping: Mapping[str, str | None] | None
    #: What a lone grey image without a name is taken for; None refuses it.
    single_channel: str | None = None
    #: Filled by `read`.
    warnings: list[str] = field(default_factory=list)

    def read(self) -> Image:
        """Read it, check its size, and collect warnings."""
        expected = self.preprocessing.channels
        image = self.source.read()
        self._check_size(image)
        stem = PurePath(self.source.id).stem
        if image.channels in (("",), (GREY,)) and any(spec.matches(stem) for spec in expected):
            image = replace(image, channels=(stem,))
        elif (
            self.single_channel is not None
            and self.mapping is None
            and is_one_of_several(expected, image.channels)
        ):
            image = replace(image, channels=(self.single_channel,))
            self.warnings.append(taken_as(self.single_channel))
        self._note_channels(image)
        return image

    def _note_channels(self, image: Image) -> None:
        expected = self.preprocessing.channels
        if self.mapping is None and len(expected) > 1 and taken_in_order(expected, image.channels):
            self.warnings.append(order_warning(expected))
        missing = missing_message(expected, self.preprocessing.match(image, self.mapping))
        if missing:
            self.warnings.append(missing)

    def _check_size(self, image: Image) -> None:
        if image.n_planes > self.limits.planes:
            raise ImageTooLargeError(
                f"{self.source.id} has {counted(image.n_planes, 'plane')}; send at most "
                f"{self.limits.planes} at a time"
            )
        size = self.preprocessing.size or image.height_width
        if (
            math.prod(size) * len(self.preprocessing.channels) * _FLOAT_BYTES
            > self.limits.plane_bytes
        ):
            height, width = image.height_width
            raise ImageTooLargeError(
                f"{self.source.id} has {height} x {width} pixels, more than this server takes; "
                "send parts of it"
            )


async def drain(request: Request) -> None:
    """Read on for a moment, so that a client that is still sending gets to read the answer."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in request.stream():
                pass


def base_name(sent: str | None) -> str:
    r"""Reduce a file name from a client to what is safe to show and compare.

    Examples
    --------
    >>> base_name("../../etc/B02_s1_w1.png"), base_name("C:\\x\\y.tif"), base_name("..")
    ('B02_s1_w1.png', 'y.tif', 'image')
    """
    last = (sent or "").replace("\\", "/").rpartition("/")[2][-_LONGEST_NAME:]
    shown = "".join(letter if letter.isprintable() else "_" for letter in last)
    return shown if shown.strip(". ") else "image"


async def _file(field: str, part: UploadFile | str) -> MemoryFile:
    if isinstance(part, str):
        raise RequestError(
            400, "form",
            f"the field {one_line(field)[:100]!r} of the form is not a file; put parameters into "
            "the address",
        )  # fmt: skip
    return MemoryFile(base_name(part.filename), await part.read())


def _check_files(files: list[MemoryFile]) -> None:
    if not files or not any(file.size for file in files):
        raise RequestError(
            400, "no_image", "no image was sent; send its bytes as the body, or a form"
        )
    for file in files:
        if sniff(file.content[:512]) is None:
            raise RequestError(
                415, "unsupported_media_type",
                f"{file.name} is not a PNG, JPEG, TIFF or BMP image; convert it",
            )  # fmt: skip
