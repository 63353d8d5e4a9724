"""Take in the body of a request: bounded in bytes, in time, and in how many there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from napari_cellclf.io.headers import sniff
from napari_cellclf.io.memory import MemoryFile
from napari_cellclf.server.failures import ClientGoneError, RequestError, busy, one_line
from napari_cellclf.server.settings import Limits

_RAW = {"", "application/octet-stream", "image/jpeg", "image/jpg", "image/png", "image/tiff"}
_FORM = "multipart/form-data"
_LONGEST_NAME = 100
#: Fields of a form that are no files; none is known.
_MAX_FIELDS = 8
_DRAIN_SECONDS = 2.0


class Receiver:
    """Reads bodies, and knows how much of them is in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: Counter[str] = Counter()
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Body]:
        """Give a body to be read; what it takes is given back at the end of the block."""
        body = Body(self)
        try:
            yield body
        finally:
            self._held -= body.size

    @contextmanager
    def _turn(self, request: Request) -> Iterator[None]:
        peer = request.client.host if request.client else ""
        if self._peers[peer] >= self._limits.receiving_per_peer:
            raise busy("too many requests from this address are still sending")
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
                f"the Content-Type {one_line(kind)!r} is no image; send image/png, image/jpeg, "
                "image/tiff, or multipart/form-data for several files",
            )  # fmt: skip
        _check_files(files)
        return files

    async def raw(self, request: Request) -> bytes:
        """Read the body as it is.

        Returns maybe none.
        """
        return b"".join([chunk async for chunk in self._stream(request)])

    async def _form(self, request: Request) -> list[MemoryFile]:
        limits = self._limits
        parser = MultiPartParser(
            request.headers,
            self._stream(request),
            max_files=limits.files,
            max_fields=_MAX_FIELDS,
        )
        # Never on a disk: what was sent stays in memory, which is bounded already.
        parser.spool_max_size = limits.body_bytes + 1
        try:
            form = await parser.parse()
        except MultiPartException as error:
            status, code = (413, "too_many_files") if "Too many" in error.message else (400, "form")
            raise RequestError(status, code, f"the form cannot be read: {error.message}") from error
        except UnicodeError as error:
            raise RequestError(
                400, "form", "the form names a charset that nothing can be read with; send UTF-8"
            ) from error
        try:
            return [await _file(name, part) for name, part in form.multi_items()]
        finally:
            await form.close()

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Go over the pieces of a body, as far as it is allowed to go."""
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
            raise busy("the images being answered fill the memory set aside for them")

    def _too_large(self) -> RequestError:
        return RequestError(
            413, "body_too_large",
            f"the body is larger than {self._limits.body_bytes} bytes; send fewer images at a time",
            {"Connection": "close"},
        )  # fmt: skip


async def drain(request: Request) -> None:
    """Read on for a moment, so that a client that still sends comes to read the answer."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in request.stream():
                pass


def base_name(sent: str | None) -> str:
    r"""Keep of a name that a client made up what can be shown and compared.

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
            f"the field {one_line(field)[:100]!r} of the form is no file; parameters belong into "
            "the address",
        )  # fmt: skip
    return MemoryFile(base_name(part.filename), await part.read())


def _check_files(files: list[MemoryFile]) -> None:
    if not files or not any(file.size for file in files):
        raise RequestError(
            400, "no_image", "no image was sent; send the bytes of one as the body, or a form"
        )
    for file in files:
        if sniff(file.content[:512]) is None:
            raise RequestError(
                415, "unsupported_media_type",
                f"{file.name} is not a PNG, JPEG or TIFF image, whatever it is called; convert it",
            )  # fmt: skip
