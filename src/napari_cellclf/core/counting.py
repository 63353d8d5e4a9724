"""Numbers of things in words."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """Say how many there are of something; `several`: its plural where more than an s is added.

    Examples
    --------
    >>> counted(1, "image"), counted(2139, "object"), counted(0, "class")
    ('1 image', '2,139 objects', '0 classes')
    >>> counted(2, "image is", "images are")
    '2 images are'
    """
    plural = several or one + ("es" if one.endswith("s") else "s")
    return f"{count:,} {one if count == 1 else plural}"
