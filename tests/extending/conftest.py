"""Installs an example of ``docs/extending`` as a stranger would: a module and an entry point."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_cellclf.core import extensions

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "extending"

Install = Callable[[str, str, str], Path]


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
