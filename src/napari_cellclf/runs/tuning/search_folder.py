"""A search as a folder: its files, what its first one says, and how it begins."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.errors import DatasetError, RunError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.regular_files import read_regular
from napari_cellclf.io.replacing import replacing
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.tuning.space import Range, search_space

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig

#: Raised when a change would make older versions misread a search.
FORMAT_VERSION: Literal[1] = 1
#: Of ``tuning.json``.
_MOST_BYTES = 1 << 22


class TuningSpec(BaseModel):
    """What is searched and how it is judged, the content of ``tuning.json``.

    Images and configuration that the search began with are in the run ``base``, which is not
    trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Of this schema.
    format_version: Literal[1] = FORMAT_VERSION
    #: Name of the search in its storage, which no other search has.
    study: str
    #: Whether the trials are kept in ``trials.db`` and not in a database elsewhere.
    own_storage: bool
    #: Of the validation images; an installed metric.
    metric: str
    #: What is searched.
    ranges: tuple[Range, ...]
    #: What the preset keeps of the images, handed on to the best preset.
    data: dict[str, Any] = {}

    @property
    def larger_is_better(self) -> bool:
        """What "best" means."""
        return METRICS.get(self.metric).higher_is_better


@dataclass(frozen=True)
class TuningFolder:
    """A search on disk.

    Examples
    --------
    >>> TuningFolder(Path("tuning")).trial(7).path.as_posix()
    'tuning/trials/0007'
    """

    #: The folder.
    path: Path

    @property
    def spec_file(self) -> Path:
        """What is searched."""
        return self.path / "tuning.json"

    @property
    def base(self) -> RunFolder:
        """Images and configuration that the search began with."""
        return RunFolder(self.path / "base")

    @property
    def database(self) -> Path:
        """Every trial, as Optuna writes it down."""
        return self.path / "trials.db"

    @property
    def table(self) -> Path:
        """Every trial, to be read."""
        return self.path / "trials.csv"

    @property
    def best_file(self) -> Path:
        """The best trial so far."""
        return self.path / "best.json"

    @property
    def best_preset(self) -> Path:
        """Its configuration, as a preset."""
        return self.path / "best.toml"

    @property
    def best(self) -> RunFolder:
        """The run with the best configuration that was evaluated on the test images."""
        return RunFolder(self.path / "best")

    @property
    def workers(self) -> Path:
        """Folder of what processes of the search had to say."""
        return self.path / "workers"

    @property
    def stop_file(self) -> Path:
        """Whoever makes this file asks all processes of the search to stop."""
        return self.path / "stop"

    @property
    def is_search(self) -> bool:
        """Whether there is a search in the folder."""
        return self.spec_file.is_file()

    def trial(self, number: int) -> RunFolder:
        """Return the run of a trial."""
        return RunFolder(self.path / "trials" / f"{number:04d}")

    def spec(self) -> TuningSpec:
        """Read what is searched."""
        try:
            return TuningSpec.model_validate_json(read_regular(self.spec_file, _MOST_BYTES))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} holds no search for settings (no tuning.json); start one there"
            ) from error
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{self.spec_file} cannot be read ({type(error).__name__}); was it made by another "
                "version? start a new search"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of the search from changing it for a moment."""
        with FileLock(self.path / "lock", poll_interval=0.02):
            yield

    def write(self, path: Path, text: str) -> None:
        """Write a file of the search, whole or not at all."""
        remedy = "free some space, and start the same search again"
        with replacing(path, RunError, remedy) as beside:
            beside.write_text(text, encoding="utf-8", newline="")


def is_half_made(run: RunFolder) -> bool:
    """Whether a folder holds nothing but what `create_run` had written when it was killed."""
    if run.is_run or not run.path.is_dir():
        return False
    names = [path.name for path in run.path.iterdir()]
    return all(name == run.dataset_file.name or name.startswith(".") for name in names)


def create_search(
    dataset: Dataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    metric: str | None = None,
    search: Iterable[str] = (),
    preset: str | None = None,
    data: Mapping[str, Any] | None = None,
    storage: str | None = None,
) -> TuningFolder:
    """Write down what is to be searched."""
    if not len(dataset.validation):
        raise DatasetError(
            "there are no validation images to judge settings by; split the images so that there "
            "are, with more groups or --split random"
        )
    if metric is not None:
        METRICS.get(metric)
        config = config.changed(monitor=metric)
    ranges = search_space(config, search, len(dataset.train))
    made = TuningFolder(expanded(folder).absolute())
    try:
        made.path.mkdir(parents=True, exist_ok=True)
        with made.locked():
            if made.is_search:
                _check_same(made, dataset, config, ranges, storage)
            else:
                _begin(made, dataset, config, ranges, preset, data or {}, storage)
    except OSError as error:
        raise RunError(
            f"{made.path} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return made


def _begin(
    made: TuningFolder,
    dataset: Dataset,
    config: TrainingConfig,
    ranges: tuple[Range, ...],
    preset: str | None,
    data: Mapping[str, Any],
    storage: str | None,
) -> None:
    from napari_cellclf.runs.tuning.study import create_study

    strange = sorted(path.name for path in made.path.iterdir() if not _is_leftover(made, path))
    if strange:
        raise RunError(f"{made.path} holds files already ({strange[0]}); choose a new folder")
    shutil.rmtree(made.base.path, ignore_errors=True)
    for path in _database_files(made):
        path.unlink(missing_ok=True)
    create_run(dataset, config, made.base.path, preset=preset)
    spec = TuningSpec(
        study=f"{made.path.name}-{uuid.uuid4().hex[:8]}",
        own_storage=storage is None,
        metric=config.monitor,
        ranges=ranges,
        data=dict(data),
    )
    create_study(made, spec, storage)
    # Last, since it makes the folder a search.
    made.write(made.spec_file, spec.model_dump_json(indent=1) + "\n")


def _database_files(made: TuningFolder) -> list[Path]:
    name = made.database.name
    return [made.database.with_name(f"{name}{end}") for end in ("", "-journal", "-wal", "-shm")]


def _is_leftover(made: TuningFolder, path: Path) -> bool:
    """Whether a process that was killed while it began a search left a file, and nobody else."""
    if path == made.base.path:
        return is_half_made(made.base) or made.base.is_run
    known = {"lock", *(path.name for path in _database_files(made))}
    return path.name in known or (path.name.startswith(".") and path.suffix == ".partial")


def _check_same(
    made: TuningFolder,
    dataset: Dataset,
    config: TrainingConfig,
    ranges: tuple[Range, ...],
    storage: str | None,
) -> None:
    spec, base = made.spec(), made.base.spec()
    other = None
    if base.manifest_sha256 != dataset.sha256:
        other = "other images or another split"
    elif spec.metric != config.monitor:
        other = f"the metric {spec.metric}, not {config.monitor}"
    elif base.config != config:
        names = [
            n for n in type(config).model_fields if getattr(base.config, n) != getattr(config, n)
        ]
        other = f"other settings ({', '.join(names)})"
    elif spec.ranges != ranges:
        other = f"a search of {', '.join(one.name for one in spec.ranges)}"
    elif spec.own_storage != (storage is None):
        other = "trials in its own folder" if spec.own_storage else "trials in a database"
    if other is not None:
        raise RunError(
            f"the search in {made.path} was begun with {other}; give the same again to go on with "
            "it, or choose a new folder"
        )
