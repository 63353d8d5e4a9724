"""Naming schemes that a user types: ``{plate}/{well}_s{site}_w{channel}.tif``."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

from napari_cellclf.errors import NameParseError
from napari_cellclf.io.local_paths import IMAGE_SUFFIXES
from napari_cellclf.io.naming import CHANNEL, Fields, NamingScheme

_BRACES = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)(?::([1-9]\d?))?\s*")
#: Columns that tables of images have in any case, and what readers say of a site.
_TAKEN = ("path", "split", "missing_channels")
_SUFFIX = f"(?:{'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})"
_EXAMPLE = "{plate}/{well}_s{site}_w{channel}.tif"
_EXAMPLES = {"well": "B02", "plate": "plate1", "label": "control", "group": "g1"}
#: In how many ways a name may be cut at the text between the fields before it is given up.
_MOST_WAYS = 10**6
_MOST_DIGITS = 18


class NamePattern(NamingScheme):
    """Names with fields in braces, and everything else as it stands.

    ``{channel}`` tells the files of one image apart, ``{label}`` is its class, and images of one
    ``{group}`` are kept together in a split. Other fields are columns of tables. ``{well:3}`` is
    three characters long. What stands before a slash is a folder. Without a suffix, any suffix of
    an image will do.

    Examples
    --------
    >>> pattern = NamePattern("{plate}/{well}_s{site}_w{channel}.tif")
    >>> pattern.parse(PurePath("plate1/B02_s1_w3.tif"))
    {'plate': 'plate1', 'well': 'B02', 'site': 1, 'channel': 3}
    """

    def __init__(self, text: str) -> None:
        self.name = text
        plain = _composed(text).replace("\\", "/").strip("/")
        self._parts = [_tokens(part, text) for part in plain.split("/")]
        last = self._parts[-1]
        self._any_suffix = not (last and isinstance(last[-1], str) and _ends_in_suffix(last[-1]))
        tokens = [token for part in self._parts for token in part]
        fields = [token.name for token in tokens if isinstance(token, _Field)]
        if not any(isinstance(token, _Field) for token in last):
            raise _unusable(text, "has no field in the name of the file")
        above = [token for part in self._parts[:-1] for token in part]
        if any(isinstance(token, _Field) and token.name == CHANNEL for token in above):
            raise _unusable(text, "has {channel} in a folder, but files of one image lie together")
        # Where less of the path is known, such as in an upload, the rest is read.
        self._expressions = [self._compiled(first) for first in range(len(self._parts))]
        self._texts = [token for token in tokens if isinstance(token, str)]
        self.example = "/".join(map(_example, self._parts))
        if self._any_suffix:
            self.example += ".tif"
        self.globs = ("".join("*" if isinstance(t, _Field) else t for t in last),)
        self.label = "label" if "label" in fields else None
        self.groups = ("group",) if "group" in fields else ()

    def __repr__(self) -> str:
        return f"NamePattern({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamePattern) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[type[NamePattern], tuple[str]]:
        return NamePattern, (self.name,)

    def parse(self, path: PurePath) -> Fields | None:
        """Read the fields; numbers without leading zeros become numbers."""
        names = path.parts[-len(self._parts) :]
        text = _composed("/".join(names))
        if not names or _takes_too_long(self._texts, text):
            return None
        match = self._expressions[len(self._parts) - len(names)].fullmatch(text)
        if match is None:
            return None
        return {field: _value(found) for field, found in match.groupdict().items()}

    def is_folder(self, name: str) -> bool:
        """Whether one of the pattern's folders may be called so."""
        plain = _composed(name)
        return any(
            re.fullmatch(_expression(part, set()), plain, re.IGNORECASE)
            for part in self._parts[:-1]
            if not _takes_too_long(part, plain)
        )

    def _compiled(self, first: int) -> re.Pattern[str]:
        seen: set[str] = set()
        text = "/".join(_expression(part, seen) for part in self._parts[first:])
        return re.compile(text + (_SUFFIX if self._any_suffix else ""), re.IGNORECASE)


@dataclass(frozen=True)
class _Field:
    name: str
    #: In characters; None for any.
    length: int | None = None


_Token: TypeAlias = str | _Field


def _takes_too_long(tokens: Sequence[_Token], name: str) -> bool:
    """Whether a name can be cut in too many ways at the text between the fields."""
    ways = (max(1, name.count(one)) for one in tokens if isinstance(one, str))
    return math.prod(ways) > _MOST_WAYS


def _tokens(part: str, pattern: str) -> list[_Token]:
    """Take the name of a folder or a file in a pattern apart."""
    pieces = _BRACES.split(part)
    if any("{" in text or "}" in text for text in pieces[::2]):
        raise _unusable(pattern, "has a brace without its partner")
    found: list[_Token] = []
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            found += [piece] if piece else []
            continue
        match = _FIELD.fullmatch(piece)
        if match is None or match[1] in _TAKEN:
            raise _unusable(
                pattern, f"has the field {{{piece}}}, which cannot be a field's name or length"
            )
        field = _Field(match[1], int(match[2]) if match[2] else None)
        before = found[-1] if found else ""
        if isinstance(before, _Field) and before.length is None and field.length is None:
            raise _unusable(
                pattern,
                f"has no text between {{{before.name}}} and {{{field.name}}}, and no length such "
                f"as {{{before.name}:3}}",
            )
        found.append(field)
    if not found:
        raise _unusable(pattern, "has a folder or a file without a name")
    return found


def _expression(tokens: Sequence[_Token], seen: set[str]) -> str:
    """Write tokens as a regular expression; a field that was `seen` is to be the same again."""
    text = ""
    for token in tokens:
        if isinstance(token, str):
            text += re.escape(token)
        elif token.name in seen:
            text += f"(?P={token.name})"
        else:
            seen.add(token.name)
            count = f"{{{token.length}}}" if token.length else "+?"
            text += f"(?P<{token.name}>[^/]{count})"
    return text


def _example(tokens: Sequence[_Token]) -> str:
    text = ""
    for token in tokens:
        if isinstance(token, str):
            text += token
        else:
            value = _EXAMPLES.get(token.name, "1")
            text += value if token.length is None else (value * token.length)[: token.length]
    return text


def _ends_in_suffix(text: str) -> bool:
    return bool(re.search(_SUFFIX + "$", text, re.IGNORECASE))


def _composed(text: str) -> str:
    """Write an accented letter as one character: some file systems keep it as two."""
    return unicodedata.normalize("NFC", text)


def _value(text: str) -> str | int:
    # 007 is a code, and so are digits that no 64-bit column holds.
    number = len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if number and str(int(text)) == text else text


def _unusable(pattern: str, why: str) -> NameParseError:
    return NameParseError(
        f"the naming pattern {pattern!r} {why}; write what varies in braces and what stays as it "
        f"is, such as {_EXAMPLE}"
    )
