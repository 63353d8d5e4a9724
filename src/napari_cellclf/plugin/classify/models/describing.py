"""From what stands in the import form to the description of a network: no Qt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_cellclf.bundles.foreign import ForeignNetwork, check_description
from napari_cellclf.core.normalization import parse_normalization
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import InputError
from napari_cellclf.plugin.shared.explain import sentence

if TYPE_CHECKING:
    from napari_cellclf.bundles.foreign import ForeignFile

_SIZE = re.compile(r"(\d{1,5}) ?[x×] ?(\d{1,5})")  # noqa: RUF001 - the sign, as people type it


@dataclass(frozen=True)
class Answers:
    """What stands in the form."""

    name: str
    classes: str
    channels: str
    size: str
    normalization: str
    licence: str = ""


def describe(found: ForeignFile, answers: Answers) -> ForeignNetwork | str:
    """Put the answers together, guessing nothing."""
    missing = [
        what
        for what, text in (
            ("a name", answers.name),
            (f"the {found.n_classes} classes", answers.classes),
            ("the channels", answers.channels),
            ("the size (height x width, or own)", answers.size),
            ("how pixels were scaled", answers.normalization),
        )
        if not text.strip()
    ]
    if missing:
        return f"Still missing: {', '.join(missing)}."
    classes = _names(answers.classes)
    if len(classes) != found.n_classes:
        return (
            f"The network tells {found.n_classes} classes apart, and {len(classes)} were named; "
            "name each, in the order of its outputs, with commas between."
        )
    try:
        described = ForeignNetwork(
            name=answers.name.strip(),
            classes=[{"name": name} for name in classes],
            preprocessing=Preprocessing(
                channels=[{"name": name} for name in _names(answers.channels)],
                size=_size(answers.size),
                normalization=parse_normalization(answers.normalization),
            ),
            licence=answers.licence.strip(),
        )
        check_description(found, described)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in problem["loc"]) or "the whole"
        return sentence(f"{where}: {problem['msg']}")
    except InputError as error:
        return sentence(str(error))
    return described


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _size(text: str) -> tuple[int, int] | None:
    if text.strip() == "own":
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"the size {text!r} is not of the form 100x100, nor own")
    return int(match[1]), int(match[2])
