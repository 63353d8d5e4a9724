"""Export a bundle: written to a temporary folder, tested by the other program, then renamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.paths import refuse_urls
from napari_cellclf.bundles.write import exchange, folder_beside
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, ExportError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.models.export.bioimageio import write_package
from napari_cellclf.models.export.card_text import spdx_licence, written_authors
from napari_cellclf.models.export.export_options import FORMATS, Format, FormatName
from napari_cellclf.models.export.formats import (
    ExportSource,
    write_keras,
    write_onnx,
    write_openvino,
    write_saved_model,
)

_STEPS = 3


_WRITERS: dict[FormatName, Callable[[ExportSource, Path], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "savedmodel": write_saved_model,
    "keras": write_keras,
    "bioimageio": write_package,
}


def export_model(
    bundle_or_name: ModelBundle | str | Path,
    format: str,
    path: str | Path,
    *,
    overwrite: bool = False,
    licence: str | None = None,
    authors: Sequence[str] = (),
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Write a model in the format of other programs, and check that they predict the same.

    Parameters
    ----------
    bundle_or_name : ModelBundle, str or Path
        A bundle, its path, or the name of a model that `list_models` shows.
    format : {'onnx', 'openvino', 'savedmodel', 'keras', 'bioimageio'}
        Which.
    path : str or Path
        Where to: ``.onnx``, ``.xml`` (and a ``.bin`` beside it), a folder, ``.keras``, ``.zip``.
    overwrite : bool
        Whether an older export may be replaced.
    licence : str, optional
        SPDX identifier such as ``"CC-BY-4.0"``, for ``bioimageio``; by default read from what the
        bundle says.
    authors : sequence of str
        Each ``"Name, Affiliation"`` or a name; ``bioimageio`` needs at least one.
    on_progress : callable
        Told before loading, before writing and testing, before renaming, and at the end.
    should_stop : callable
        Asked between these steps.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ExportError
        If it cannot be written in that format, or another program predicts something else; what
        was at `path` is untouched then.
    ModelError
        If the model cannot be loaded.
    CancelledError
        If `should_stop` said so.

    Examples
    --------
    >>> export_model("rxrx1-celltype", "keras", "rxrx1-celltype.keras").name
    'rxrx1-celltype.keras'
    """
    name = _known(format)
    chosen = FORMATS[name]
    if format != "bioimageio" and (licence or authors):
        raise ExportError(
            f"licence and authors are written into bioimageio packages only, not into {format}; "
            "leave them out"
        )
    target = _target(path, chosen, overwrite)
    bundle = _bundle(bundle_or_name)
    if name == "bioimageio":
        # Refused before the seconds that loading takes.
        spdx_licence(bundle.spec.licence, licence)
        written_authors(tuple(authors))

    def step(done: int, message: str) -> None:
        if should_stop():
            raise CancelledError(
                f"the export of {bundle.spec.name} was stopped; nothing was written"
            )
        on_progress(Progress(done, _STEPS, message))

    step(0, f"loading {bundle.spec.name}")
    source = ExportSource(bundle, KerasEngine.load(bundle).network, licence, tuple(authors))
    step(1, f"writing and testing {target.name}")
    with folder_beside(target, ExportError) as folder:
        _WRITERS[name](source, folder / target.name)
        step(2, f"moving {target.name} into place")
        # A second file before the one that names the model.
        for part in sorted(folder.iterdir(), key=lambda part: part.name == target.name):
            exchange(part, target.with_name(part.name))
    on_progress(Progress(_STEPS, _STEPS, f"wrote {target}"))
    return target


def _known(format: str) -> FormatName:
    for name in FORMATS:
        if name == format:
            return name
    raise ExportError(f"there is no format {format!r}; give one of {', '.join(FORMATS)}")


def _target(path: str | Path, chosen: Format, overwrite: bool) -> Path:
    refuse_urls(path)
    target = expanded(path)
    if chosen.suffix and target.suffix.lower() != chosen.suffix:
        raise ExportError(f"{target.name!r} must end in {chosen.suffix} for {chosen.title}")
    places = [target, *([target.with_suffix(chosen.beside)] if chosen.beside else [])]
    taken = [place for place in places if place.exists()]
    if taken and not overwrite:
        raise ExportError(f"{taken[0]} exists already; choose another name, or overwrite it")
    wrong = [place for place in taken if not _may_replace(place, chosen)]
    if wrong:
        raise ExportError(f"{wrong[0]} is no {chosen.title}; choose another name")
    return target


def _may_replace(place: Path, chosen: Format) -> bool:
    if chosen.suffix:
        return place.is_file()
    # A folder of other things is never replaced.
    return (place / "saved_model.pb").is_file()


def _bundle(bundle_or_name: ModelBundle | str | Path) -> ModelBundle:
    if isinstance(bundle_or_name, ModelBundle):
        return bundle_or_name
    return ModelBundle.load(find_model(bundle_or_name))
