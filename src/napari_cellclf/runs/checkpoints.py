"""States of a training on disk: written aside, checked, renamed; the last two and the best kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.errors import CheckpointError, ModelError, RunError
from napari_cellclf.io.regular_files import open_regular, read_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT = 2
_STAGES = ("head", "network")
_STATE, _ARRAYS = "state.json", "arrays.npz"
#: What reading a file that is cut off, emptied or changed may raise.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    ModelError,
    zipfile.BadZipFile,
)
#: Of ``state.json``, in bytes, and of all arrays, which are written without compression.
_MOST_STATE = 1 << 26
_HEADERS = 1 << 20
#: Left free on the disk, for the model and the report.
_SPARE_BYTES = 50 * 2**20


class DiskKeeper:
    """Keeps states in a folder, so that they outlive their process.

    ``000012`` is the twelfth state that was written, ``best-network-000004`` the weights that were
    best after the fourth epoch of that stage. Each is a folder that appears whole, with the hash of
    its arrays.
    """

    def __init__(
        self,
        folder: Path,
        note: Callable[[str], None],
        on_saved: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._folder = folder
        self._note = note
        self._on_saved = on_saved
        self._damaged: set[str] = set()

    def save(
        self,
        state: dict[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        best: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """Write a state; what was written before it stays if that fails."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room(arrays, best or {})
            if best is not None:
                self._write(_best_name(state["stage"], state["best_epoch"]), state, best)
            self._write(f"{self._last_number() + 1:06d}", state, arrays)
        except OSError as error:
            raise RunError(
                f"the state of the training could not be written to {self._folder} "
                f"({error.strerror or error}); free some space and start the run again, it "
                "resumes from its last checkpoint"
            ) from error
        self._prune()
        if self._on_saved is not None:
            self._on_saved(state)

    def load(self, stage: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return the newest state of a stage that is whole."""
        others = False
        states = [path for path in self._states() if path.name not in self._damaged]
        for path in reversed(states):
            try:
                found = _read_state(path)
                if found["stage"] != stage:
                    others = True
                    continue
                return found, _read_arrays(path, found.pop("arrays_sha256"))
            except _DAMAGE as error:
                self._damaged.add(path.name)
                self._note(f"checkpoint {path.name} is damaged ({error}); using an older one")
        if self._damaged and not others:
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read (damaged: "
                f"{', '.join(sorted(self._damaged))}); delete that folder to train from the start"
            )
        return None

    def load_best(self, stage: str, epoch: int) -> dict[str, NDArray[Any]] | None:
        """Return the best weights of a stage."""
        path = self._folder / _best_name(stage, epoch)
        try:
            return _read_arrays(path, _read_state(path)["arrays_sha256"])
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            self._note(
                f"the best weights, {path.name}, are damaged ({error}); the run resumes with later "
                "ones"
            )
            return None

    def _write(self, name: str, state: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=self._folder) as beside:
            made = Path(beside, name)
            made.mkdir()
            digest = _write_arrays(made / _ARRAYS, arrays)
            _write_bytes(made / _STATE, _sealed(state | {"arrays_sha256": digest}))
            target = self._folder / name
            if target.exists():
                # The same epoch again, after going back to an older state.
                target.rename(Path(beside, "before"))
            made.rename(target)
        _sync(self._folder)

    def _states(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if path.name.isdecimal())

    def _last_number(self) -> int:
        return max((int(path.name) for path in self._states()), default=0)

    def _check_room(self, *arrays: Mapping[str, NDArray[Any]]) -> None:
        needed = sum(array.nbytes for part in arrays for array in part.values()) + _SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise RunError(
                f"a checkpoint needs {needed / 2**20:.0f} MiB in {self._folder}, where "
                f"{free / 2**20:.0f} MiB are free; free some space and start the run again"
            )

    def _prune(self) -> None:
        """Keep the last two states, the last of each stage, and the best weights they name."""
        kept: set[str] = set()
        stages: dict[str, int] = {}
        for path in reversed(self._states()):
            try:
                state = _read_state(path)
            except _DAMAGE:
                self._damaged.add(path.name)
            if path.name in self._damaged:
                shutil.rmtree(path, ignore_errors=True)
                continue
            stage = state["stage"]
            stages[stage] = stages.get(stage, 0) + 1
            # Of a stage that is over, one is enough.
            if stages[stage] > (_KEPT if len(stages) == 1 else 1):
                shutil.rmtree(path, ignore_errors=True)
            elif state["best_epoch"] is not None:
                kept.add(_best_name(stage, state["best_epoch"]))
        for path in self._folder.glob("best-*"):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed left half-written."""
    if folder.is_dir():
        for path in folder.glob(".*.partial"):
            shutil.rmtree(path, ignore_errors=True)


def _best_name(stage: str, epoch: int) -> str:
    return f"best-{stage}-{epoch:06d}"


def _sealed(state: dict[str, Any]) -> bytes:
    """Write a state as JSON that tells if a bit of it changes."""
    text = json.dumps(state)
    return json.dumps({"sha256": _digest(text), "state": text}).encode()


def _read_state(path: Path) -> dict[str, Any]:
    sealed = parse_json(read_regular(path / _STATE, _MOST_STATE, follow=False), _STATE)
    if not isinstance(sealed, dict) or _digest(str(sealed.get("state"))) != sealed.get("sha256"):
        raise ValueError("its state is not the one that was written")
    found = parse_json(str(sealed["state"]).encode(), _STATE)
    best = found["best_epoch"]
    # They become names of folders.
    if found["stage"] not in _STAGES or not (best is None or (type(best) is int and best >= 0)):
        raise ValueError("its state is not one of a training")
    return dict(found)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_arrays(path: Path, expected: str) -> dict[str, NDArray[Any]]:
    file = path / _ARRAYS
    # One file for all that follows: nobody can exchange it meanwhile.
    with open_regular(file, follow=False) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
            raise ValueError("its arrays are not those that were written")
        with zipfile.ZipFile(stream) as archive:
            declared = sum(member.file_size for member in archive.infolist())
            if declared > os.fstat(stream.fileno()).st_size + _HEADERS:
                raise ValueError("its arrays would be larger than their file")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    with file.open("wb") as stream:
        # By name, never as a pickle.
        np.savez(stream, allow_pickle=False, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_bytes(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    # Windows cannot open a folder, and writes names down by itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
