"""Bring in somebody else's network: as a model, or as a backbone."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.cli.options import Subparsers, add_overwrite, image_size
from napari_cellclf.cli.terminal import ProgressReporter, add_verbose, printable, stream_style
from napari_cellclf.core.counting import counted
from napari_cellclf.core.normalization_forms import FORMS
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.bundles.foreign import ForeignFile, ForeignNetwork
    from napari_cellclf.core.preprocessing import Preprocessing

_ABOUT = """\
Make a model of a .keras file that somebody else trained. The file is checked first, without Keras;
then a process of its own, with bounded memory and time, builds the network and tries it.

A .keras file does not say what its outputs mean nor what was done to the pixels, and a wrong guess
would give wrong classes with high confidence: say it here, from the publication or the code that
trained it.

normalisations (--preprocessing):
"""

#: Of a file with a preprocessing, in bytes.
_LONGEST = 1 << 20

_EPILOG = """
example:
  cellclf models import cellcycle.keras --classes "Phase 1,Phase 2,Phase 3" --channels DNA \\
      --preprocessing min_max --name cellcycle
"""


def add_arguments(actions: Subparsers) -> None:
    """Declare ``cellclf models import``."""
    forms = "".join(f"  {form}\n      {meaning}\n" for form, meaning in FORMS.items())
    parser = actions.add_parser(
        "import",
        help="make a model of a .keras file",
        description=f"{_ABOUT}{forms}  and the kinds that other packages have added\n",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a .keras file of Keras 3, or of Keras 2")
    parser.add_argument("--classes", metavar="A,B,C", help="in the order of the network's output")
    parser.add_argument("--channels", metavar="A,B", help="in the order it was trained with")
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="HxW|own",
        help="what images are resized to, where the network takes any; own keeps each image's own",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="WORD|FILE.json",
        help="a normalisation of those above, or a file with channels, size and normalization",
    )
    parser.add_argument("--name", help="what to call it; the file's name if left out")
    for field, meaning in (
        ("title", "one line for people"),
        ("description", "what it is for"),
        ("licence", "of its weights"),
        ("citation", "what to cite"),
        ("source", "where it comes from"),
    ):
        parser.add_argument(f"--{field}", default="", metavar="TEXT", help=meaning)
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        dest="limits",
        metavar="SENTENCE",
        help="something it cannot do; may be given several times",
    )
    parser.add_argument("--out", metavar="PATH", help="where to; your folder of models if left out")
    add_overwrite(parser, "replace a model of that name")
    parser.set_defaults(run_action=_import)
    add_verbose(parser)
    _add_backbone_arguments(actions)


def _add_backbone_arguments(actions: Subparsers) -> None:
    """Declare ``cellclf models add-backbone``."""
    parser = actions.add_parser(
        "add-backbone",
        help="keep an ONNX file as a frozen network that heads are trained on",
        description="Check an ONNX file, try it in a process of its own, and keep it under its "
        "SHA-256. Of a backbone in a list of models the list says what is left out here.",
    )
    parser.add_argument("file", metavar="FILE", help="an .onnx file with its weights inside")
    parser.add_argument("--name", required=True, help="what to call it, such as dinov2-vits14")
    parser.add_argument("--size", type=image_size, metavar="HxW", help="where it takes any")
    parser.add_argument("--output", default="", metavar="NAME", help="if not its first output")
    parser.add_argument("--one-channel", action="store_true", help="each channel by itself")
    parser.add_argument(
        "--photographs", metavar="FORM", help="how it wants photographs, such as imagenet:torch"
    )
    for field, meaning in (("title", "one line"), ("licence", "of it"), ("source", "where from")):
        parser.add_argument(f"--{field}", default="", metavar="TEXT", help=meaning)
    parser.set_defaults(run_action=_add_backbone)
    add_verbose(parser)


def _add_backbone(args: argparse.Namespace) -> None:
    from napari_cellclf.core.normalization import ImageNet, parse_normalization
    from napari_cellclf.models.backbones import add_backbone

    photographs = parse_normalization(args.photographs) if args.photographs else None
    if photographs is not None and not isinstance(photographs, ImageNet):
        raise InputError(f"--photographs {args.photographs} is not a form of imagenet")
    if isinstance(args.size, str):
        raise InputError(f"--size {args.size} is not a size of a backbone; give HxW")
    spec = add_backbone(
        args.file,
        args.name,
        size=args.size,
        output=args.output,
        one_channel=True if args.one_channel else None,
        photographs=photographs,
        title=args.title,
        licence=args.licence,
        source=args.source,
    )
    print(f"{spec.name}: {spec.n_features} features, SHA-256 {spec.sha256}")


def _import(args: argparse.Namespace) -> None:
    from napari_cellclf.bundles.foreign import look_at
    from napari_cellclf.models.importing import import_network

    found = look_at(args.file)
    described = describe(args, found)
    style = stream_style()
    with ProgressReporter(style, title="importing", unit=None) as progress:
        bundle = import_network(
            args.file,
            described,
            path=args.out,
            overwrite=args.overwrite,
            on_progress=progress,
        )
    print(f"{described.name}: {printable(str(bundle.path))}")


def describe(args: argparse.Namespace, found: ForeignFile) -> ForeignNetwork:
    """Put together what was said of a network; ask for what is missing, and guess nothing."""
    from pydantic import ValidationError

    from napari_cellclf.bundles.foreign import ForeignNetwork
    from napari_cellclf.core.validation import reason_of

    _ask_for_missing(args, found)
    fields = ("title", "description", "licence", "citation", "source")
    try:
        return ForeignNetwork(
            name=args.name or re.sub(r"[^A-Za-z0-9._-]+", "-", found.path.stem).strip("-._"),
            classes=[{"name": name} for name in _names(args.classes, "--classes")],
            preprocessing=_preprocessing(args, found),
            limits=tuple(args.limits),
            **{field: getattr(args, field) for field in fields},
        )
    except ValidationError as error:
        raise InputError(reason_of(error)) from error


def _ask_for_missing(args: argparse.Namespace, found: ForeignFile) -> None:
    missing = []
    if not args.classes:
        missing.append(f"--classes ({found.n_classes} names in the order of the output)")
    if not args.preprocessing:
        missing.append("--preprocessing (the normalisation it was trained with)")
    if not _is_file(args.preprocessing):
        if not args.channels:
            names = counted(found.n_channels, "name", "names in order")
            missing.append(f"--channels ({names})")
        if found.size is None and not args.size:
            missing.append("--size (HxW, or own)")
    if missing:
        raise InputError(
            f"{found}, {found.last_activation}; what it does not say must be given: "
            + ", ".join(missing)
        )


def _preprocessing(args: argparse.Namespace, found: ForeignFile) -> Preprocessing:
    from napari_cellclf.core.normalization import parse_normalization
    from napari_cellclf.core.preprocessing import Preprocessing

    if _is_file(args.preprocessing):
        if args.channels or args.size:
            raise InputError(
                f"{args.preprocessing} says channels and size already; leave --channels and --size "
                "out, or give --preprocessing a normalisation"
            )
        return _read_preprocessing(Path(args.preprocessing))
    return Preprocessing(
        channels=[{"name": name} for name in _names(args.channels, "--channels")],
        size=_size(args.size, found),
        normalization=parse_normalization(args.preprocessing),
    )


def _read_preprocessing(path: Path) -> Preprocessing:
    from pydantic import ValidationError

    from napari_cellclf.bundles.jsontext import parse_json
    from napari_cellclf.bundles.plainfile import open_plain
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.core.validation import reason_of

    with open_plain(path) as handle:
        text = handle.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise InputError(f"{path.name} has over {_LONGEST} bytes; give a preprocessing alone")
    try:
        return Preprocessing.model_validate(parse_json(text, path.name))
    except ValidationError as error:
        raise InputError(f"{path.name} is not a preprocessing: {reason_of(error)}") from error


def _size(given: str | tuple[int, int] | None, found: ForeignFile) -> tuple[int, int] | None:
    if given is None or given == "auto":
        return found.size
    return None if isinstance(given, str) else given


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{option} {text!r} has a name without letters; write A,B,C")
    return names


def _is_file(text: str | None) -> bool:
    return bool(text) and str(text).lower().endswith(".json")
