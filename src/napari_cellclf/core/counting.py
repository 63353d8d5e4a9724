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


def marks_in_words(unlike: int, remarked: int, total: int, noun: str) -> str:
    """Say how many of some images are unlike anything in training, and how many have remarks.

    Empty where none is either.

    Examples
    --------
    >>> marks_in_words(3, 2, 24, "image")
    '3 of 24 images are unlike anything in training, 2 have remarks'
    >>> marks_in_words(0, 1, 1, "object"), marks_in_words(0, 0, 24, "image")
    ('1 of 1 object has remarks', '')
    """
    said = [
        (unlike, "is unlike anything in training", "are unlike anything in training"),
        (remarked, "has remarks", "have remarks"),
    ]
    parts = [(n, one if n == 1 else several) for n, one, several in said if n]
    of_all = f" of {counted(total, noun)}"
    return ", ".join(f"{n:,}{'' if at else of_all} {words}" for at, (n, words) in enumerate(parts))


def time_left(seconds: float | None, *, of_stage: bool = False) -> str:
    """Say how long something takes; `of_stage`: where that is known of a part of the work only.

    Examples
    --------
    >>> time_left(80), time_left(4000), time_left(3)
    ('about 1 min 20 s left', 'about 1 h 7 min left', 'a few seconds left')
    >>> time_left(1800, of_stage=True)
    'about 30 min left for this part'
    """
    if seconds is None:
        return ""
    more = " for this part" if of_stage else ""
    whole = round(seconds)
    if whole < 10:
        return f"a few seconds left{more}"
    if whole < 60:
        return f"about {round(whole, -1)} s left{more}"
    if whole < 600:
        return f"about {whole // 60} min {whole % 60 // 10 * 10} s left{more}"
    if whole < 3600:
        return f"about {round(whole / 60)} min left{more}"
    return f"about {whole // 3600} h {round(whole % 3600 / 60)} min left{more}"
