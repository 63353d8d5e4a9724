"""List the models that are here or can be fetched, or show the card of one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from napari_cellclf.cli.options import Subparsers
from napari_cellclf.cli.terminal import add_verbose, columns, printable, unescaped
from napari_cellclf.core.counting import counted
from napari_cellclf.errors import ModelNotFoundError


def add_arguments(actions: Subparsers) -> None:
    """Declare ``cellclf models list`` and ``cellclf models show``."""
    listing = actions.add_parser(
        "list",
        help="all models that can be named",
        description="List the models that can be used by name: yours, then the bundled ones.",
    )
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.add_argument(
        "--available",
        action="store_true",
        help="what can be fetched instead: size, licence, and whether it is here already",
    )
    listing.set_defaults(run_action=_list)
    showing = actions.add_parser(
        "show",
        help="the card of one model",
        description="Show what a model looks at, its classes, how well it does, its limits.",
    )
    showing.add_argument(
        "model", metavar="NAME", help="a model's name, the path of a bundle, or what can be fetched"
    )
    showing.add_argument("--json", action="store_true", help="print the whole of bundle.json")
    showing.set_defaults(run_action=_show)
    add_verbose(listing)
    add_verbose(showing)


def _list(args: argparse.Namespace) -> None:
    if args.available:
        _list_available(args)
        return
    from napari_cellclf.bundles.catalogue import list_models, models_folder

    with _left_out_on_stderr():
        models = list_models()
    if args.json:
        documents = [{**dataclasses.asdict(model), "path": str(model.path)} for model in models]
        print(json.dumps(documents, indent=2))
    elif models:
        rows = [
            (
                model.name,
                counted(model.n_classes, "class"),
                counted(len(model.channels), "channel"),
                f"{model.size_bytes / 1e6:.1f} MB",
                model.where,
                model.title,
            )
            for model in models
        ]
        print(columns([tuple(map(printable, row)) for row in rows]))
    else:
        print(f"no models; bundles in {models_folder()} are listed here")


def _list_available(args: argparse.Namespace) -> None:
    from napari_cellclf.bundles.card import size_in_words
    from napari_cellclf.bundles.catalogue import is_here
    from napari_cellclf.bundles.model_lists import read_registries

    registry = read_registries(refresh=True)
    for problem in registry.problems:
        print(f"cellclf: {printable(problem)}", file=sys.stderr)
    if args.json:
        documents = [
            entry.model_dump(mode="json") | {"here": is_here(entry)} for entry in registry.entries
        ]
        print(json.dumps(documents, indent=2))
        return
    rows = [
        (
            entry.name,
            counted(len(entry.class_names), "class") if entry.class_names else entry.kind,
            size_in_words(entry),
            "here" if is_here(entry) else "",
            _short(entry.licence),
            entry.title,
        )
        for entry in registry.entries
    ]
    print(columns([tuple(map(printable, row)) for row in rows]))


def _short(licence: str) -> str:
    """Cut a licence to what a column has room for; the card has all of it."""
    return textwrap.shorten(licence, 28, placeholder=" ...")


@contextmanager
def _left_out_on_stderr() -> Iterator[None]:
    """Say which bundles are not listed; the catalogue only logs it."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"cellclf: {printable(record.getMessage())}", file=sys.stderr)

    catalogue, lines = logging.getLogger("napari_cellclf.bundles.catalogue"), Lines(logging.WARNING)
    catalogue.addHandler(lines)
    try:
        yield
    finally:
        catalogue.removeHandler(lines)


def _show(args: argparse.Namespace) -> None:
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.card import model_card
    from napari_cellclf.bundles.catalogue import find_model

    try:
        path = find_model(args.model)
    except ModelNotFoundError as error:
        _show_entry(args, error)
        return
    spec = ModelBundle.load(path).spec
    if args.json:
        print(json.dumps(spec.model_dump(mode="json"), indent=2))
        return
    _print_card(model_card(spec))
    print(f"\nPath: {printable(str(path))}")


def _show_entry(args: argparse.Namespace, not_here: ModelNotFoundError) -> None:
    """Show what a list says of what is not here; no network is asked for it."""
    from napari_cellclf.bundles.card import entry_card
    from napari_cellclf.bundles.model_lists import read_registries

    found = [entry for entry in read_registries().entries if entry.name == args.model]
    if not found:
        raise not_here
    if args.json:
        print(json.dumps(found[0].model_dump(mode="json"), indent=2))
    else:
        _print_card(entry_card(found[0]))


def _print_card(markdown: str) -> None:
    # It may come from somebody else: nothing in it may steer the terminal.
    card = "\n".join(map(printable, markdown.splitlines()))
    if sys.stdout.isatty():
        _render(card)
    else:
        print(card)


def _render(markdown: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    Console(file=unescaped(sys.stdout)).print(Markdown(markdown, hyperlinks=False))
