"""Bring in somebody else's `.keras` network as a bundle of our own.

The file is checked statically here, without Keras. Then a child process with bounded memory and
time builds the network, tries it, and writes the bundle; this process never runs any of it, and
does not import Keras.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellclf import errors
from napari_cellclf.bundles.bundle import OPTIONAL, REQUIRED, ModelBundle, copy_and_hash
from napari_cellclf.bundles.catalogue import models_folder
from napari_cellclf.bundles.foreign import (
    ForeignFile,
    ForeignNetwork,
    check_description,
    look_at,
)
from napari_cellclf.bundles.paths import SUFFIX
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import BundleError, CancelledError, CellclfError, ModelError
from napari_cellclf.io.local_paths import expanded

#: What lies in the folder that is shared with the child process.
REQUEST, ANSWER, MADE = "request.json", "answer.jsonl", f"made{SUFFIX}"
COPY = "network.keras"

#: Importing Keras and building a network of the size that the gate lets pass.
_SECONDS = 300.0
_MEMORY = 3 << 30
_STEPS = 5
_POLL = 0.1
_CHILD = "napari_cellclf.models.import_child"


@dataclass(frozen=True)
class Limits:
    """What the child process may take."""

    #: Bytes.
    memory: int
    #: By the clock.
    seconds: float

    @classmethod
    def for_network(cls, found: ForeignFile) -> Limits:
        """Return the limits for a network: Keras itself, and some copies of the weights."""
        return cls(_MEMORY + 32 * found.n_parameters, _SECONDS)


def import_network(
    file: str | Path,
    described: ForeignNetwork,
    *,
    path: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> ModelBundle:
    """Make a bundle of a network that somebody else trained.

    Parameters
    ----------
    file : str or Path
        A `.keras` file.
    described : ForeignNetwork
        What the file does not say.
    path : str or Path, optional
        Where to write the bundle; the user's models folder by default.
    overwrite : bool
        Whether an older bundle may be replaced.
    on_progress : callable
        Told after every step.
    should_stop : callable
        Asked ten times a second.

    Returns
    -------
    ModelBundle
        In its place, tested.

    Raises
    ------
    InputError
        If `described` does not fit the network.
    UnsafeModelError
        If the file holds anything that is not a plain network with its weights.
    BundleError
        If it is not complete, no classifier, or the bundle cannot be written.
    ModelError
        If the network needs more memory or time than it may take.
    CancelledError
        If `should_stop` said so; nothing is left behind.
    """
    target = expanded(path) if path is not None else models_folder() / f"{described.name}{SUFFIX}"
    if target.suffix != SUFFIX:
        raise BundleError(f"{target.name!r} must end in {SUFFIX} to be known as a model")
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists already; give it another name, or add --overwrite")
    with tempfile.TemporaryDirectory(prefix="cellclf-") as private:
        folder = Path(private)
        copy = folder / COPY
        on_progress(Progress(0, _STEPS, f"checking {Path(file).name}"))
        # What the user named is looked at first, for messages that name it.
        source = expanded(file)
        check_description(look_at(source), described)
        _copy(source, copy)
        found = look_at(copy)
        check_description(found, described)
        _ask(folder, Path(file).name, described)
        _run(folder, Limits.for_network(found), on_progress, should_stop)
        bundle = _take(folder / MADE, target, overwrite)
    on_progress(Progress(_STEPS, _STEPS, f"imported {described.name}"))
    return bundle


def _copy(source: Path, target: Path) -> None:
    with open_plain(source) as handle, target.open("wb") as copy:
        copy_and_hash(Span.whole(handle, source.name), copy)


def _ask(folder: Path, name: str, described: ForeignNetwork) -> None:
    # Bytes of a name that are no text could not be written into the bundle.
    name = name.encode("utf-8", "backslashreplace").decode()
    request = {"name": name, "described": described.model_dump(mode="json")}
    (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")


def _run(folder: Path, limits: Limits, on_progress: OnProgress, should_stop: ShouldStop) -> None:
    # -P keeps modules that happen to lie in the current folder out of the child.
    command = [sys.executable, "-P", "-m", _CHILD, str(folder), str(limits.memory)]
    # On the processor: a graphics card's memory cannot be bounded from here.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command,
            # Which ends when this process does, however it does.
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            _watch(process, folder, limits, on_progress, should_stop)
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    limits: Limits,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> None:
    began, told = time.monotonic(), 0
    while True:
        ended = process.poll() is not None
        answers = _answers(folder / ANSWER)
        for answer in answers[told:]:
            if "error" in answer:
                raise _error(answer)
            on_progress(Progress(answer["done"], _STEPS, answer["message"]))
        told = len(answers)
        if ended:
            break
        if should_stop():
            raise CancelledError("the import was stopped as asked; start it again to finish")
        if time.monotonic() - began > limits.seconds:
            raise ModelError(
                f"the network was not built and tried within {limits.seconds:.0f} seconds; use a "
                "smaller one, or a faster computer"
            )
        _check_memory(process.pid, limits)
        time.sleep(_POLL)
    if process.returncode != 0 or not (folder / MADE).exists():
        raise ModelError(
            f"the process that builds the network ended by itself (exit code {process.returncode}),"
            f" perhaps for lack of memory (it may take {limits.memory >> 20} MB); use a smaller one"
        )


def _answers(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")
    # The last piece is a line that is being written, or nothing.
    return [json.loads(line) for line in lines[:-1]]


def _check_memory(pid: int, limits: Limits) -> None:
    """Look how much memory the child has, where the system tells (Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return
    if pages * os.sysconf("SC_PAGE_SIZE") > limits.memory:
        raise ModelError(
            f"the network takes more than {limits.memory >> 20} MB of memory to be built and "
            "tried; use a smaller one"
        )


def _error(answer: dict[str, Any]) -> CellclfError:
    kind = getattr(errors, str(answer["kind"]), None)
    if isinstance(kind, type) and issubclass(kind, CellclfError):
        return kind(answer["error"])
    return ModelError(answer["error"])


def _take(made: Path, target: Path, overwrite: bool) -> ModelBundle:
    """Write the child's bundle again in its place, having looked at it as at any other."""
    bundle = ModelBundle.load(made)
    bundle.layers()
    bundle.weights()
    if bundle.has_graph:
        bundle.graph()
    members = [name for name in (*REQUIRED, *OPTIONAL) if name in bundle.spec.files]
    files: dict[str, bytes | Path] = {member: made / member for member in members}
    return write_bundle(target, bundle.spec, files, overwrite=overwrite)
