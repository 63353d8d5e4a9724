"""Arguments that several commands take, and the settings they make."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_cellclf.errors import InputError
from napari_cellclf.inference.engine import ENGINE_CHOICES, PRECISIONS

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig


#: What ``add_subparsers`` returns; argparse has no public name for it.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

Mappings = Mapping[str, str | None]

#: As `read_dataset` has them, which is not imported before it is needed.
_KINDS = ("table", "names", "splits", "folders")

#: What commands that load a model do without ``--naming``.
NAMING_OF_MODEL = (
    "by default the one that the model was trained with, if it fits any of the names, else any "
    "installed scheme"
)


def add_channels(parser: argparse.ArgumentParser) -> None:
    """Declare ``--channels``."""
    parser.add_argument(
        "--channels",
        type=_channel,
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL=IMAGE",
        help='which channel of the images feeds which of the model, such as "w1 Hoechst=DNA" or '
        "w1=DNA; channels without names are 1, 2, ...; nothing after the = leaves that channel out",
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Declare ``--batch-size``."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=16,
        metavar="N",
        help="images at a time (default 16); fewer need less memory",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Declare ``--engine`` and ``--precision``."""
    parser.add_argument(
        "--engine",
        choices=ENGINE_CHOICES,
        default="auto",
        help="what computes the network on this computer (default auto: the fastest one installed)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="float32: exact; fast: lowest precision of the processor; auto: lower precision only "
        "if the model tolerates it (default auto)",
    )


def add_naming(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Declare ``--naming``; `default` says what is done without it."""
    parser.add_argument(
        "--naming",
        metavar="PATTERN",
        help="how files are named: a pattern such as {plate}/{well}_s{site}_w{channel}.tif, where "
        "{channel} tells the files of one image apart, or the name of an installed scheme; "
        f"{default}",
    )


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare ``--overwrite``, which people also know as ``--force``; `what` it does here."""
    parser.add_argument("--overwrite", "--force", action="store_true", help=what)


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """Declare ``--every`` and ``--minutes``."""
    parser.add_argument(
        "--every",
        type=positive,
        default=1,
        metavar="N",
        help="of embryo images, keep every n-th minute (default 1)",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        metavar="A-B",
        help="of embryo images, keep those of these minutes (default 51-204)",
    )


def add_excel(parser: argparse.ArgumentParser) -> None:
    """Declare ``--excel``."""
    parser.add_argument(
        "--excel",
        action="store_true",
        help="begin CSV files with a byte order mark, which tells Excel that they are UTF-8",
    )


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Declare ``--kind``."""
    parser.add_argument(
        "--kind",
        choices=_KINDS,
        help="where the class of an image is given: in a table, in file names, in folders of "
        "classes within the folders of a split, or in folders of classes; detected by default",
    )


def channel_mapping(pairs: Sequence[tuple[str, str | None]]) -> Mappings | None:
    """Put the pairs of ``--channels`` together.

    Examples
    --------
    >>> channel_mapping([("w1", "DNA"), ("w6", None)])
    {'w1': 'DNA', 'w6': None}
    """
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise InputError("--channels names a channel of the model twice; say once what feeds it")
    return mapping or None


def chosen_naming(asked: str | None, model: Path, inputs: Sequence[str]) -> str | None:
    """Return how names are read: as asked, else as in training, if that fits any of them."""
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.io.named_images import fitting_naming

    if asked is not None:
        return asked
    return fitting_naming(read_spec(model).training.naming, map(Path, inputs))


def image_size(text: str) -> str | tuple[int, int]:
    """Read ``HxW`` in pixels; ``auto`` and ``own`` stay words.

    Examples
    --------
    >>> image_size("96x128"), image_size("own")
    ((96, 128), 'own')
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None and text not in ("auto", "own"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form HxW, such as 100x100, nor own"
        )
    return text if match is None else (int(match[1]), int(match[2]))


def _minutes(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 51-204")
    return int(match[1]), int(match[2])


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _channel(text: str) -> tuple[str, str | None]:
    expected, equals, source = (part.strip() for part in text.partition("="))
    if not (expected and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form MODEL=IMAGE")
    return expected, source or None


_DIRECT = ("batch_size", "continue_from", "semi_supervised", "size", "unlabelled")


@dataclass(frozen=True)
class Settings:
    """A preset with the changes that the command line asks for."""

    #: Its name.
    preset: str
    #: Every choice.
    config: TrainingConfig


def chosen_settings(args: argparse.Namespace) -> Settings:
    """Put preset and changes together, and tell the reader of data what the preset keeps."""
    from napari_cellclf.io.dataset_tables import names_objects
    from napari_cellclf.models.training.presets import choose_preset, make_config

    objects = names_objects(Path(args.data))
    preset = choose_preset(args.preset, args.architecture, objects=objects)
    fields = preset.fields_for(args.architecture)
    overrides: dict[str, Any] = {"seed": args.seed}
    if args.weights is not None:
        overrides["weights"] = None if args.weights == "none" else args.weights
    for name in _DIRECT:
        if getattr(args, name) is not None:
            overrides[name] = getattr(args, name)
    # Of a preset that only trains a head, these mean the head.
    prefix = "" if fields.get("epochs", 1) else "head_"
    for name in ("epochs", "learning_rate"):
        if getattr(args, name) is not None:
            overrides[prefix + name] = getattr(args, name)
    overrides |= dict(args.set)
    args.every = args.every or preset.data.get("every", 1)
    # Without a range of the preset's, the naming scheme has one.
    args.minutes = args.minutes or (tuple(preset.data.get("minutes", ())) or None)
    return Settings(preset.name, make_config(fields, overrides))


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value``, the value as TOML where it is, else as text.

    Examples
    --------
    >>> parse_setting("augmentation.rotation=0.1"), parse_setting("architecture=resnet50")
    (('augmentation.rotation', 0.1), ('architecture', 'resnet50'))
    """
    from napari_cellclf.models.training.config import parse_value

    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, parse_value(value)
