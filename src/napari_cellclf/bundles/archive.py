"""Open zip files that somebody else may have made: nothing is trusted that the file declares."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from typing import IO

from napari_cellclf.errors import BundleError, UnsafeModelError

TRUNCATED = "is not a complete model file (truncated download?); get it again"

#: What `zipfile` raises over a member that is not as its headers say.
_DAMAGES = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError)
_CHUNK = 1 << 20


def open_archive(handle: IO[bytes], name: str, limits: Mapping[str, int]) -> zipfile.ZipFile:
    """Open a zip whose members are stored, known by name and bounded.

    Only stored (uncompressed) members are taken, which is how bundles and Keras files are
    written: no member can then grow beyond the size of the file.

    Parameters
    ----------
    handle : file
        Opened for reading in binary, seekable.
    name : str
        What to call the file in messages.
    limits : mapping of str to int
        The allowed members, each with its largest size in bytes.

    Returns
    -------
    ZipFile
        To read members from; `read_member` checks their CRC.

    Raises
    ------
    BundleError
        If it is no zip, or an incomplete one.
    UnsafeModelError
        If a member is not allowed, stands there twice, is a link, encrypted, compressed or
        larger than allowed.
    """
    try:
        archive = zipfile.ZipFile(handle)
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError) as error:
        raise BundleError(f"{name} {TRUNCATED}") from error
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise UnsafeModelError(f"{name} holds two members of the same name; it is not one to trust")
    for member in members:
        _check_member(member, name, limits)
    size = handle.seek(0, 2)
    if sum(member.file_size for member in members) > size:
        raise UnsafeModelError(f"{name} declares more data than its {size} bytes can hold")
    return archive


def read_member(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    """Read a member whole; `zipfile` compares its CRC on the way.

    Parameters
    ----------
    archive : ZipFile
        From `open_archive`.
    member : str
        Its name.
    name : str
        What to call the file in messages.

    Returns
    -------
    bytes
        Its content.
    """
    content = io.BytesIO()
    copy_member(archive, member, name, content)
    return content.getvalue()


def copy_member(archive: zipfile.ZipFile, member: str, name: str, target: IO[bytes]) -> None:
    """Copy a member in pieces into a file; `zipfile` compares its CRC on the way.

    Parameters
    ----------
    archive : ZipFile
        From `open_archive`.
    member : str
        Its name.
    name : str
        What to call the file in messages.
    target : file
        Opened for writing in binary.
    """
    try:
        with archive.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                target.write(chunk)
    except KeyError as error:
        raise BundleError(f"{name} lacks {member}: it {TRUNCATED}") from error
    except _DAMAGES as error:
        raise BundleError(f"{member} in {name} is damaged; get the file again") from error


def _check_member(member: zipfile.ZipInfo, name: str, limits: Mapping[str, int]) -> None:
    what = f"member {member.filename[:80]!r}"
    if member.filename not in limits:
        raise UnsafeModelError(
            f"{name} holds {what}, which does not belong in such a file; it may only hold "
            f"{', '.join(sorted(limits))}"
        )
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UnsafeModelError(f"{what} of {name} is not a plain file but a link or device")
    if member.flag_bits & 0x1:
        raise UnsafeModelError(f"{what} of {name} is encrypted; save it without a password")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise UnsafeModelError(
            f"{what} of {name} is compressed; save it again with Keras or cellclf, which store "
            "members as they are"
        )
    if member.file_size > limits[member.filename]:
        raise UnsafeModelError(
            f"{what} of {name} has {member.file_size} bytes; limit {limits[member.filename]}"
        )
