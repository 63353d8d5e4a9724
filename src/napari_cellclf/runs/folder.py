"""The files of a run, what its first one says, and the lock that one process at a time holds."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_cellclf.bundles.catalogue import RUN_MODEL
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.schema import NAME_PATTERN, seal_of
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import RunError, RunLockedError, UnsafeModelError
from napari_cellclf.io.regular_files import never_a_link, read_regular
from napari_cellclf.io.replacing import replacing
from napari_cellclf.models.training.config import Settled, TrainingConfig

#: Raised when a change would make older versions misread a run.
FORMAT_VERSION: Literal[1] = 1
#: Seconds.
_PATIENCE = 0.5
#: Of ``run.json``, in bytes.
_MOST_BYTES = 1 << 22
#: Names in a run's folder and two folders deep, at most, that are looked at.
_MOST_NAMES = 100_000


class RunSpec(BaseModel):
    """What a run was asked to do, the content of ``run.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Of this schema.
    format_version: Literal[1] = FORMAT_VERSION
    #: Of the run, and of the model it makes.
    name: str = Field(pattern=NAME_PATTERN)
    #: When, in ISO 8601.
    created: str
    #: Every choice of the training; from its first step on with nothing left open, as trained.
    config: TrainingConfig
    #: The choices as they were made.
    requested: TrainingConfig
    #: What a precision that was left open came to, from the first step on.
    precision: Settled | None = None
    #: The preset it came from.
    preset: str | None = None
    #: In the order of the network's outputs.
    classes: tuple[ClassSpec, ...]
    #: The folder that the paths in ``dataset.csv`` are relative to.
    root: str
    group_column: str | None = None
    group_reason: str = ""
    source: str = ""
    leakage_allowed: bool = False
    #: The naming scheme or pattern that the images were read by, if one was chosen.
    naming: str | None = None
    #: Hash of names, labels and splits of all images, as they were asked for.
    manifest_sha256: str
    #: Of the images without labels; empty if there are none.
    unlabelled_sha256: str = ""
    #: That of the data set once a continued model has moved images to the side where it had them.
    moved_sha256: str = ""
    #: Of the software that made the run.
    versions: dict[str, str] = {}
    #: Whether the run went on with settings or a table that somebody had changed.
    changes_accepted: bool = False
    #: Of everything else here, as a program wrote it.
    spec_sha256: str = ""

    def text(self) -> str:
        """Return the content of ``run.json`` with its checksum."""
        described = self.model_dump(mode="json") | {"spec_sha256": ""}
        described["spec_sha256"] = seal_of(described)
        return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Parameters
    ----------
    path : Path
        The folder.

    Examples
    --------
    >>> RunFolder(Path("runs/celltype")).log.name
    'progress.jsonl'
    """

    path: Path

    @property
    def spec_file(self) -> Path:
        """What the run was asked to do."""
        return self.path / "run.json"

    @property
    def dataset_file(self) -> Path:
        """Every image with its class and split."""
        return self.path / "dataset.csv"

    @property
    def unlabelled_file(self) -> Path:
        """Every image without a label, where some are learned from."""
        return self.path / "unlabelled.csv"

    @property
    def log(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / "progress.jsonl"

    @property
    def checkpoints(self) -> Path:
        """States to go on from."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Folder of the evaluation."""
        return self.path / "report"

    @property
    def bundle(self) -> Path:
        """The trained model."""
        return self.path / RUN_MODEL

    @property
    def stop_file(self) -> Path:
        """Whoever makes this file asks the run to stop; at once, if "now" stands in it."""
        return self.path / "stop"

    def ask_to_stop(self, *, now: bool = False) -> None:
        """Ask whatever process trains here to stop after its step, or to end at once."""
        try:
            with open(self.stop_file, "a", encoding="utf-8", opener=never_a_link) as file:
                file.write("now" if now else "")
        except OSError as error:
            raise RunError(
                f"{self.stop_file} cannot be made ({error.strerror or error}); make it by hand to "
                "stop the run"
            ) from error

    def stop_wish(self) -> Literal["", "soon", "now"]:
        """Read whether somebody asks the run to stop, after its step or at once."""
        try:
            size = self.stop_file.stat().st_size
            if not size:
                return "soon"
            text = read_regular(self.stop_file, _MOST_BYTES, follow=False)
        except FileNotFoundError:
            return ""
        except (OSError, UnsafeModelError):
            return "soon"
        return "now" if text.strip().startswith(b"now") else "soon"

    @property
    def lock_file(self) -> Path:
        """Held by the process that trains."""
        return self.path / "lock"

    def spec(self) -> RunSpec:
        """Read what the run was asked to do.

        Returns
        -------
        RunSpec
            Checked.

        Raises
        ------
        RunError
            If the folder is no run, or its description cannot be read.
        """
        self.check_links()
        try:
            return RunSpec.model_validate(self._described())
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} is not a training run (no run.json); give data and --out to start one"
            ) from error
        except ValidationError as error:
            raise RunError(
                f"{self.spec_file} cannot be used ({reason_of(error)}); was it made by another "
                "version?"
            ) from error
        except UnsafeModelError as error:
            raise RunError(f"{self.spec_file} cannot be read ({error}); start a new run") from error
        except OSError as error:
            reason = error.strerror or error
            raise RunError(
                f"{self.spec_file} cannot be read ({reason}); start a new run"
            ) from error

    def is_edited(self, spec: RunSpec) -> bool:
        """Whether ``run.json``, which was read as `spec`, is not as a program wrote it."""
        try:
            return seal_of(self._described()) != spec.spec_sha256
        except (OSError, UnsafeModelError, ValueError):
            return True

    def _described(self) -> dict[str, Any]:
        content = read_regular(self.spec_file, _MOST_BYTES, follow=False)
        described: dict[str, Any] = parse_json(content, self.spec_file.name)
        return described

    def check_links(self) -> None:
        """Refuse a folder with links in it: what is written or removed there would be elsewhere."""
        link = next(_links(self.path, 2, [_MOST_NAMES]), None)
        if link is not None:
            raise RunError(
                f"{link} is a link, and nothing in a run's folder may lead elsewhere; put a copy "
                "of what it leads to in its place, or start a new run"
            )

    def write_spec(self, spec: RunSpec) -> None:
        """Replace what the run was asked to do, whole or not at all."""
        remedy = "free some space, or make it writable, and start the run again"
        with replacing(self.spec_file, RunError, remedy) as beside:
            beside.write_text(spec.text(), encoding="utf-8")

    @property
    def is_run(self) -> bool:
        """Whether there is a run in the folder."""
        return self.spec_file.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether it has made its model."""
        return self.bundle.exists()


def _links(folder: Path, deep: int, left: list[int]) -> Iterator[Path]:
    """Find links, and hidden ways (junctions of Windows), in a folder and those in it."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    left[0] -= len(found)
    if left[0] < 0:
        raise RunError(f"{folder} holds more files than a run has; start a new run")
    for entry in found:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) or getattr(entry, "is_junction", bool)():
            yield Path(entry.path)
        elif deep and stat.S_ISDIR(status.st_mode):
            yield from _links(Path(entry.path), deep - 1, left)


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Hold a run's lock; the system lets go of it when the process ends, however it does."""
    # Without `thread_local`, the lock would not be this run's but this thread's. A moment of
    # patience, since whoever asks `is_locked` holds it for an instant.
    lock = FileLock(run.lock_file, timeout=_PATIENCE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunLockedError(
            f"another process is training in {run.path}; wait for it, or stop it by making a file "
            f"{run.stop_file}"
        ) from error
    except OSError as error:
        raise RunError(
            f"{run.path} cannot be written ({error.strerror or error}); make it writable to resume "
            "the run"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(run: RunFolder) -> bool:
    """Whether a process is training in a folder."""
    if not run.lock_file.exists():
        return False
    try:
        with locked(run):
            return False
    except RunLockedError:
        return True
