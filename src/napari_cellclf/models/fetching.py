"""Fetch a model by its name in a list, or by its address, and put it where it can be used.

Nothing here imports Keras: a bundle is tried, and a network built, in a process of its own.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from napari_cellclf.bundles.backbone_files import file_of
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import is_here, models_folder, note_origin, place_of
from napari_cellclf.bundles.foreign import ForeignNetwork
from napari_cellclf.bundles.model_lists import (
    BackboneEntry,
    BundleEntry,
    NetworkEntry,
    RegistryEntry,
    WeightsEntry,
    find_entry,
)
from napari_cellclf.bundles.paths import SUFFIX
from napari_cellclf.bundles.schema import NAME_PATTERN
from napari_cellclf.bundles.write import copy_bundle
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import BundleError, CancelledError, RegistryError
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.io.cache import fetched_folder
from napari_cellclf.io.remote.addresses import FileAddress, check_name, parse_address
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file
from napari_cellclf.io.remote.source import Rules
from napari_cellclf.models.backbones import add_backbone
from napari_cellclf.models.importing import import_network

#: Largest file that is fetched from an address that no list describes.
MAX_BYTES = 1 << 33

_POLL = 0.1


def fetch_model(
    name: str,
    *,
    overwrite: bool = False,
    offline: bool = False,
    rules: Rules | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> ModelBundle | Path:
    """Fetch what a list of models calls by a name.

    Parameters
    ----------
    name : str
        Of an entry; `read_registries` gives all.
    overwrite : bool
        Whether another model of that name may be replaced, and what is here already made again.
    offline : bool
        Use no network, but the cache; ``CELLCLF_OFFLINE=1`` says so for everything.
    rules : Rules, optional
        How patient to be.
    on_progress : callable
        Told bytes while the file is fetched, then steps.
    should_stop : callable
        Asked all the while; a stop is noticed within a tenth of a second.

    Returns
    -------
    ModelBundle or Path
        A model in the user's folder of models, checked and tried; for weights of a backbone, the
        file where Keras looks for it; for a backbone, its file, checked and tried.

    Raises
    ------
    RegistryError
        If no list has that name.
    DownloadError
        If the file cannot be fetched, or is not the one expected.
    ModelError
        If it does not pass the checks of every model, or another model has its name.
    CancelledError
        If `should_stop` says so; nothing is left behind.
    """
    entry = find_entry(name, refresh=True, offline=offline)
    target = place_of(entry)
    if isinstance(entry, WeightsEntry):
        return fetch_entry_file(
            entry, offline=offline, rules=rules, on_progress=on_progress, should_stop=should_stop
        )
    if isinstance(entry, BackboneEntry):
        if entry.sha256 is None:
            raise RegistryError(f"no file of {name} is published with a checksum; {entry.way}")
        file = fetch_entry_file(
            entry, offline=offline, rules=rules, on_progress=on_progress, should_stop=should_stop
        )
        return file_of(add_backbone(file, name, should_stop=should_stop))
    if is_here(entry) and not overwrite:
        return ModelBundle.load(target)
    if target.exists() and not overwrite:
        raise BundleError(
            f"you have another model {name!r} at {target}; rename it, or say to replace it"
        )
    file = fetch_entry_file(
        entry, offline=offline, rules=rules, on_progress=on_progress, should_stop=should_stop
    )
    if isinstance(entry, NetworkEntry):
        bundle = import_network(
            file,
            _described(entry),
            path=target,
            overwrite=overwrite,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    else:
        bundle = _install(file, target, entry, overwrite, on_progress, should_stop)
    note_origin(target, entry)
    return bundle


def fetch_entry_file(
    entry: RegistryEntry,
    *,
    offline: bool = False,
    rules: Rules | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Fetch the file of an entry, and nothing more."""
    if isinstance(entry, WeightsEntry):
        folder, name = place_of(entry).parent, entry.file_name
    else:
        suffix = {"network": ".keras", "backbone": ".onnx"}.get(entry.kind, SUFFIX)
        folder, name = _kept(entry.checksum), f"{entry.name}{suffix}"
    return fetch_file(
        entry.uri,
        folder,
        checksum=entry.checksum,
        max_bytes=entry.max_bytes,
        mirrors=entry.mirrors,
        name=name,
        offline=offline,
        rules=rules,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def fetch_address(
    uri: str,
    *,
    sha256: str,
    name: str | None = None,
    overwrite: bool = False,
    offline: bool = False,
    rules: Rules | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> ModelBundle | Path:
    """Fetch a model that no list describes.

    Parameters
    ----------
    uri : str
        Any address that `fetch_file` takes.
    sha256 : str
        Of the file, in hexadecimal, from whoever published it.
    name : str, optional
        What the model will be called; the file's name if left out.
    overwrite, offline, rules, on_progress, should_stop
        As for `fetch_model`.

    Returns
    -------
    ModelBundle or Path
        A bundle in the user's folder of models; any other file in the cache, where it waits for
        what only people can say of it (``cellclf models import``).

    Raises
    ------
    InputError
        If `sha256` is no SHA-256.
    DownloadError
        If the file cannot be fetched, or is not the one expected.
    ModelError
        If it does not pass the checks of every model, or another model has its name.
    CancelledError
        If `should_stop` says so.
    """
    address = parse_address(uri)
    given = check_name(address.name or (f"{name}{SUFFIX}" if name else ""), uri)
    called = name or Path(given).stem
    if not re.match(NAME_PATTERN, called):
        raise BundleError(f"{called!r} cannot be the name of a model; give one of plain letters")
    target = models_folder() / f"{called}{SUFFIX}"
    is_bundle = Path(given).suffix.lower() in (SUFFIX, ".zip")
    if is_bundle and target.exists() and not overwrite:
        raise BundleError(f"you have a model at {target}; give another name, or say to replace it")
    file = fetch_address_file(
        uri,
        sha256=sha256,
        name=given,
        offline=offline,
        rules=rules,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    if not is_bundle:
        return file
    return _install(file, target, None, overwrite, on_progress, should_stop)


def fetch_address_file(
    uri: str,
    *,
    sha256: str,
    name: str | None = None,
    offline: bool = False,
    rules: Rules | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Fetch a file that no list describes, and nothing more."""
    checksum = Checksum("sha256", sha256)
    return fetch_file(
        uri,
        _kept(checksum),
        checksum=checksum,
        max_bytes=MAX_BYTES,
        name=name,
        offline=offline,
        rules=rules,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def _kept(checksum: Checksum) -> Path:
    """Return a folder of its own for a file, so that two of one name do not meet."""
    return fetched_folder() / checksum.digest[:16]


def _described(entry: NetworkEntry) -> ForeignNetwork:
    address = parse_address(entry.uri)
    # A path says nothing to those whom the model is passed on to, and more than they should know.
    origin = address.name if isinstance(address, FileAddress) else str(address)
    return ForeignNetwork(
        name=entry.name,
        classes=entry.classes,
        preprocessing=entry.preprocessing,
        title=entry.title,
        description=entry.description,
        licence=entry.licence,
        citation=entry.citation,
        source=f"{origin} ({entry.checksum})",
        limits=entry.limits,
    )


def _install(
    file: Path,
    target: Path,
    entry: BundleEntry | None,
    overwrite: bool,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> ModelBundle:
    """Try a bundle and put a copy in its place."""
    on_progress(Progress(0, 1, f"trying {target.stem}"))
    bundle = copy_bundle(
        file, target, overwrite=overwrite, verify=lambda path: _try(path, entry, should_stop)
    )
    on_progress(Progress(1, 1, f"trying {target.stem}"))
    return bundle


def _try(path: Path, entry: BundleEntry | None, should_stop: ShouldStop) -> None:
    """Check a model, and let a process of its own load it and answer its test image."""
    bundle = ModelBundle.load(path)
    if entry is not None and bundle.spec.class_names != entry.class_names:
        raise BundleError(
            f"the model {entry.name} has other classes ({', '.join(bundle.spec.class_names)[:200]})"
            " than the list of models says; tell whoever keeps the list"
        )
    bundle.weights()
    if bundle.spec.backbone is None:
        # Whatever computes it now, Keras may some day.
        bundle.layers()
    engine = ProcessEngine(str(path))
    try:
        with ThreadPoolExecutor(1) as pool:
            ready = pool.submit(engine.wait_until_ready)
            while not wait([ready], timeout=_POLL).done:
                if should_stop():
                    engine.close()
                    raise CancelledError(f"stopped while {path.name} was being tried")
            ready.result()
    finally:
        engine.close()
