"""The boundary to the decoders: whatever they raise becomes one sentence."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import ImageError, UnreadableImageError

if TYPE_CHECKING:
    from napari_cellclf.io.memory import AnyFile

#: What tifffile, imagecodecs and the libraries behind them raise on damaged files, as seen by
#: feeding them truncated and altered ones. Codecs' own errors derive from RuntimeError, tifffile's
#: from ValueError, those of XML from SyntaxError.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)


@contextmanager
def decoding(path: AnyFile) -> Iterator[None]:
    """Turn what a decoder raises into an `UnreadableImageError` that names the file."""
    try:
        # Damaged numbers in headers divide by zero; what matters of them is checked afterwards.
        with np.errstate(all="ignore"):
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError(
            f"{path}: there is not enough memory to decode it; use a smaller image"
        ) from error
    except PermissionError as error:
        raise UnreadableImageError(
            f"{path}: reading it is not permitted; change its permissions"
        ) from error
    except DECODER_ERRORS as error:
        raise UnreadableImageError(
            f"{path}: cannot be decoded ({_reason(error)}); it is damaged, incomplete or of an "
            "unsupported kind, copy it again or convert it"
        ) from error


def _reason(error: BaseException) -> str:
    # Object reprs that tifffile writes in front ("<tifffile.TiffPage 0 @8>") mean nothing to users.
    text = " ".join(str(error).split())
    start = text.find("> ") + 2 if text.startswith("<tifffile.") and "> " in text else 0
    return text[start : start + 160] or type(error).__name__
