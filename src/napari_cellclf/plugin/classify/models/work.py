"""What the buttons of the part *Models* do; no Qt, and in threads but for the list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_cellclf.models.export.export_options import ExportOptions
from napari_cellclf.plugin.classify.models.shelf import ShelfEntry
from napari_cellclf.plugin.classify.request import ModelChoice
from napari_cellclf.plugin.shared.background import Ticket, run_command

if TYPE_CHECKING:
    from napari_cellclf.bundles.catalogue import ModelInfo
    from napari_cellclf.bundles.foreign import ForeignFile, ForeignNetwork
    from napari_cellclf.bundles.model_lists import RegistryEntry


@dataclass(frozen=True)
class Arrived:
    """What was fetched or imported."""

    #: Its name.
    name: str
    #: One sentence of where it is now.
    words: str
    #: Whether one can classify with it; weights are for training.
    usable: bool = True


def list_shelf() -> list[ShelfEntry]:
    """List what is here and what can be fetched, using no network."""
    from napari_cellclf.bundles.catalogue import is_here, list_models
    from napari_cellclf.bundles.model_lists import read_registries

    entries = [_of_model(model) for model in list_models()]
    known = {entry.name for entry in entries}
    registry = read_registries()
    return entries + [
        _of_registry(entry)
        for entry in registry.entries
        if entry.name not in known and not is_here(entry) and _can_be_fetched(entry)
    ]


def fetch(entry: ShelfEntry, ticket: Ticket) -> Arrived:
    """Fetch a model or weights."""
    from napari_cellclf.models.fetching import fetch_model

    got = fetch_model(entry.name, on_progress=ticket.on_progress, should_stop=ticket.should_stop)
    if isinstance(got, Path):
        words = f"{entry.title} are here now; a training that starts from them needs no network."
        return Arrived(entry.name, words, usable=False)
    return Arrived(entry.name, f"{entry.title} was fetched to {got.path}.")


def bring_in(file: Path, described: ForeignNetwork, ticket: Ticket) -> Arrived:
    """Import somebody else's network."""
    from napari_cellclf.models.importing import import_network

    bundle = import_network(
        file, described, on_progress=ticket.on_progress, should_stop=ticket.should_stop
    )
    return Arrived(described.name, f"{described.name} was imported to {bundle.path}.")


def look_at(path: str) -> ForeignFile:
    """Look at a network's file statically."""
    from napari_cellclf.bundles import foreign

    return foreign.look_at(path)


def ask_server(address: str, token: str) -> ModelChoice:
    """Ask a server for its model."""
    from napari_cellclf.inference.remote import connect

    given = token.strip() or None
    spec = connect(address.strip(), given).bundle.spec
    return ModelChoice(
        reference=address.strip(),
        title=f"{spec.title or spec.name} on {urlsplit(address.strip()).netloc}",
        channels=spec.input.preprocessing.channels,
        classes=spec.class_names,
        is_remote=True,
        token=given,
        fingerprint=spec.fingerprint,
        single_channel=spec.input.single_channel,
    )


def share(entry: ShelfEntry, target: Path) -> Path:
    """Pack a model into one file."""
    from napari_cellclf.bundles.write import share_model

    return share_model(_reference(entry), target, overwrite=True).path


def export(entry: ShelfEntry, options: ExportOptions, target: Path, ticket: Ticket) -> Path:
    """Write a model for another program."""
    arguments = ["models", "export", str(_reference(entry)), "--format", options.format]
    # The dialog has asked about replacing.
    arguments += ["--out", str(target), "--overwrite"]
    if options.licence.strip():
        arguments += ["--licence", options.licence.strip()]
    for author in options.author_list:
        arguments += ["--author", author]
    run_command(arguments, ticket)
    return target


def remove(entry: ShelfEntry) -> None:
    """Delete one of the user's own models."""
    from napari_cellclf.bundles.write import remove_model

    remove_model(entry.name)


def card(entry: ShelfEntry) -> str:
    """Write down all that is known of a model."""
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.bundles.card import entry_card, model_card
    from napari_cellclf.bundles.model_lists import find_entry

    if entry.path is not None:
        return model_card(read_spec(entry.path))
    return entry_card(find_entry(entry.name))


def _reference(entry: ShelfEntry) -> Path | str:
    return entry.name if entry.path is None else entry.path


def _of_model(model: ModelInfo) -> ShelfEntry:
    return ShelfEntry(
        name=model.name,
        title=model.title,
        place=model.where,
        path=model.path,
        classes=model.classes,
        channels=model.channels,
        licence=model.licence,
        size_bytes=model.size_bytes,
        about=_first_sentence(model.description),
    )


def _can_be_fetched(entry: RegistryEntry) -> bool:
    """Whether there is a file of it; of some backbones everybody makes their own."""
    return entry.sha256 is not None or entry.md5 is not None


def _of_registry(entry: RegistryEntry) -> ShelfEntry:
    return ShelfEntry(
        name=entry.name,
        title=entry.title,
        place="weights" if entry.kind in ("weights", "backbone") else "fetch",
        classes=entry.class_names,
        channels=entry.channel_names,
        licence=entry.licence,
        size_bytes=entry.size_bytes,
        about=_first_sentence(entry.description),
    )


def _first_sentence(text: str) -> str:
    """Return what a model is for; the card has the rest."""
    first, dot, _ = text.partition(". ")
    return f"{first}." if dot else text
