"""Installs an example of ``docs/extending`` as a stranger would: a module and an entry point."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from napari_cellclf.core import extensions

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "extending"

Install = Callable[[str, str, str], Path]


def pytest_collection_modifyitems() -> None:
    """Refuse to test the doors where the metadata of the installation is older than the code."""
    declared = tomllib.loads((EXAMPLES.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    for group, ours in declared["project"]["entry-points"].items():
        installed = {point.name for point in entry_points(group=group)}
        missing = sorted(set(ours) - installed)
        if missing:
            raise pytest.UsageError(
                f"{group} lacks {', '.join(missing)}: install the package again (pip install -e .)"
            )


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install ``<module>.py`` under the entry point ``<group> <name> = <module>:<object>``.

    The folder that is returned works as ``PYTHONPATH`` of another process, too.
    """
    site = tmp_path / "site"

    def _install(group: str, name: str, value: str) -> Path:
        module = value.partition(":")[0]
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(EXAMPLES / f"{module}.py", site)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[napari_cellclf.{group}]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(site)
        extensions._declared.cache_clear()
        return site

    yield _install
    for path in site.glob("*.py"):
        sys.modules.pop(path.stem, None)
    extensions._declared.cache_clear()
    extensions._loaded.cache_clear()
