"""Models that are fetched because a command was told to use them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_cellclf.cli.interrupt import stop_on_interrupt
from napari_cellclf.cli.progress import ProgressReporter, choose_style
from napari_cellclf.errors import InputError, ModelNotFoundError

if TYPE_CHECKING:
    from napari_cellclf.core.progress import ShouldStop

# Two letters at least: the drive of a Windows path is none.
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


def is_address(text: str) -> bool:
    """Whether a text names a file elsewhere, and no path or name.

    Examples
    --------
    >>> is_address("s3://models/embryo.cellclf"), is_address("C:/models/embryo.cellclf")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


def checked_sha256(model: str, sha256: str | None) -> str:
    """Return the SHA-256 that was given for an address."""
    if not sha256:
        raise InputError(
            f"the SHA-256 of {model} is needed to know the file again; give --sha256 as its "
            "publisher states it"
        )
    return sha256


def reference_of(model: str, sha256: str | None) -> str:
    """Return what `load_classifier` takes for a model, fetching it where it is not here."""
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.bundles.model_lists import read_registries
    from napari_cellclf.models.fetching import fetch_address_file, fetch_model

    if is_address(model):
        digest = checked_sha256(model, sha256)
        with fetching() as (progress, should_stop):
            file = fetch_address_file(
                model, sha256=digest, on_progress=progress, should_stop=should_stop
            )
        return str(file)
    if sha256:
        raise InputError(
            f"--sha256 is for an address, and {model!r} is none; leave it out, or give one"
        )
    try:
        find_model(model)
    except ModelNotFoundError:
        if model not in {entry.name for entry in read_registries().entries}:
            raise
        with fetching() as (progress, should_stop):
            fetch_model(model, on_progress=progress, should_stop=should_stop)
    return model


@contextmanager
def fetching() -> Iterator[tuple[ProgressReporter, ShouldStop]]:
    """Show progress, and let Ctrl-C stop it."""
    style = choose_style(
        stderr_is_terminal=sys.stderr.isatty(),
        stdout_is_terminal=sys.stdout.isatty(),
        json=False,
    )
    with (
        stop_on_interrupt() as should_stop,
        ProgressReporter(style, title="fetching", unit=None) as progress,
    ):
        yield progress, should_stop
