"""Open zip files that somebody else may have made: nothing is trusted that the file declares."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from napari_cellclf.bundles.plainfile import TRUNCATED, Span
from napari_cellclf.errors import BundleError, UnsafeModelError

#: Entries of the list of members that are looked at; no file of ours has more than ten.
MAX_MEMBERS = 32
MAX_DIRECTORY = 1 << 14
_PIECE = 1 << 22

_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_MEMBER = b"PK\x03\x04"
_ZIP64_END = b"PK\x06\x07"
_ZIP64_EXTRA = 1
_IN_FULL = 0xFFFFFFFF
_UTF8_NAME = 0x800


@dataclass(frozen=True)
class Archive:
    """A zip whose members are stored plainly, one after the other."""

    #: What to call the file in messages.
    name: str
    #: Where each member lies.
    members: Mapping[str, Span]
    #: The CRC-32 that each declares.
    crcs: Mapping[str, int]

    def span(self, member: str) -> Span:
        """Return where a member lies; its CRC has not been compared."""
        if member not in self.members:
            raise BundleError(f"{self.name} lacks {member}: it {TRUNCATED}")
        return self.members[member]

    def read(self, member: str) -> bytes:
        """Read a member whole and compare its CRC.

        Returns its content, within the limit it was opened with.
        """
        span = self.span(member)
        content = span.read(0, span.size)
        self._check_crc(member, zlib.crc32(content))
        return content

    def check_whole(self, member: str) -> None:
        """Read a member through and compare its CRC."""
        span, crc = self.span(member), 0
        for place in range(0, span.size, _PIECE):
            crc = zlib.crc32(span.read(place, min(_PIECE, span.size - place)), crc)
        self._check_crc(member, crc)

    def _check_crc(self, member: str, found: int) -> None:
        if found != self.crcs[member]:
            raise BundleError(f"{member} in {self.name} is damaged; get the file again")


def open_archive(handle: IO[bytes], name: str, limits: Mapping[str, int]) -> Archive:
    """Open a zip whose members are stored, known by name and bounded.

    Only stored (uncompressed) members are taken, which is how bundles and Keras files are
    written: no member can then grow beyond the size of the file. They must fill the file from its
    first byte, each once and in one piece, and say the same before their data as in the list at
    the end, so that every reader finds the same content under a name.

    `limits`: the allowed members, each with its largest size in bytes.
    """
    whole = Span.whole(handle, name)
    directory = _directory_start(whole)
    try:
        with zipfile.ZipFile(handle) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError) as error:
        raise BundleError(f"{name} {TRUNCATED}") from error
    names = [member.filename for member in listed]
    if len(set(names)) != len(names):
        raise UnsafeModelError(f"{name} holds two members of the same name; it is not one to trust")
    for member in listed:
        _check_member(member, name, limits)
    members, end = {}, 0
    for member in sorted(listed, key=lambda member: member.header_offset):
        span = _data(member, whole, end)
        members[member.filename] = span
        end = span.start + span.size
    if end != directory:
        raise UnsafeModelError(
            f"{name} holds bytes that belong to none of its members; save it again with Keras or "
            "cellclf"
        )
    return Archive(name, members, {member.filename: member.CRC for member in listed})


def _directory_start(whole: Span) -> int:
    """Find the list of members without reading it: how long it is decides whether it is read."""
    if whole.size < _END.size or whole.read(0, 4) != _MEMBER:
        raise BundleError(f"{whole.name} {TRUNCATED}")
    place = whole.size - _END.size
    signature, disk, first, here, count, size, start, comment = _END.unpack(
        whole.read(place, _END.size)
    )
    if signature != b"PK\x05\x06" or comment or disk or first or here != count:
        raise BundleError(f"{whole.name} {TRUNCATED}")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise UnsafeModelError(
            f"{whole.name} lists {count} members in {size} bytes; limit {MAX_MEMBERS} members"
        )
    if place >= 20 and whole.read(place - 20, 4) == _ZIP64_END:
        raise UnsafeModelError(f"{whole.name} is a zip of over 2 GB; smaller models can be loaded")
    if start + size != place:
        raise UnsafeModelError(f"{whole.name} declares more data than its {whole.size} bytes hold")
    return int(start)


def _check_member(member: zipfile.ZipInfo, name: str, limits: Mapping[str, int]) -> None:
    what = f"member {member.orig_filename[:80]!r}"
    if member.filename.endswith(".pkl"):
        raise UnsafeModelError(
            f"{name} holds a pickle, as PyTorch's files do, which runs code when it is opened; "
            "build the same network in Keras 3 with its weights and save that as .keras"
        )
    # zipfile cuts a name at its first NUL; what it was before must be the same.
    if member.filename not in limits or member.orig_filename != member.filename:
        raise UnsafeModelError(
            f"{name} holds {what}, which does not belong in such a file; it may only hold "
            f"{', '.join(sorted(limits))}"
        )
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UnsafeModelError(f"{what} of {name} is not a plain file but a link or device")
    if member.flag_bits & 0x1:
        raise UnsafeModelError(f"{what} of {name} is encrypted; save it without a password")
    if member.flag_bits & ~_UTF8_NAME:
        raise UnsafeModelError(f"{what} of {name} is stored in an unusual way; save it again")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise UnsafeModelError(
            f"{what} of {name} is compressed; save it again with Keras or cellclf, which store "
            "members as they are"
        )
    if member.file_size > limits[member.filename]:
        raise UnsafeModelError(
            f"{what} of {name} has {member.file_size} bytes; limit {limits[member.filename]}"
        )


def _data(member: zipfile.ZipInfo, whole: Span, expected: int) -> Span:
    """Find a member's data, having compared what stands before it with the list at the end."""
    what = f"member {member.filename!r} of {whole.name}"
    if member.header_offset != expected:
        raise UnsafeModelError(f"{what} does not begin where the one before it ends")
    header = _LOCAL.unpack(whole.read(expected, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, n_name, n_extra = header
    after = whole.read(expected + _LOCAL.size, n_name + n_extra)
    if _IN_FULL in (packed, size):
        size, packed = _large_sizes(after[n_name:])
    said = (signature, flags, method, crc, packed, size, after[:n_name])
    sizes = (member.CRC, member.compress_size, member.file_size)
    meant = (_MEMBER, member.flag_bits, member.compress_type, *sizes, member.filename.encode())
    if said != meant:
        raise UnsafeModelError(f"{what} is listed as something else than what stands there")
    start = expected + _LOCAL.size + n_name + n_extra
    if start + member.file_size > whole.size:
        raise UnsafeModelError(f"{what} declares more data than the file's {whole.size} bytes hold")
    return Span(whole.handle, what, start, member.file_size)


def _large_sizes(extra: bytes) -> tuple[int, int] | tuple[None, None]:
    """Read the sizes from the extra field that has room for large ones (zip64)."""
    if len(extra) >= 20 and struct.unpack_from("<HH", extra) == (_ZIP64_EXTRA, 16):
        size, packed = struct.unpack_from("<QQ", extra, 4)
        return size, packed
    return None, None
