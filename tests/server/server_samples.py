"""Images as clients send them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

TOKEN = "a-secret-of-the-tests"


def png(level: int | np.ndarray, size: int = 16) -> bytes:
    """Encode a grey image: of one level, or of given pixels."""
    pixels = np.full((size, size), level, np.uint8) if isinstance(level, int) else level
    return encoded(pixels, "PNG")


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
