"""Importing the package and asking for help loads nothing heavy."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from napari_cellclf.cli.app import build_parser

HEAVY = ("tensorflow", "keras", "torch", "jax", "napari", "qtpy", "PyQt6", "PySide6", "pandas")
#: Not needed to parse either, and slow enough to be felt.
SLOW = (*HEAVY, "skimage", "scipy", "dask", "tifffile", "matplotlib", "rich", "pydantic", "numpy")

HELPS = [
    [],
    ["predict"],
    ["data"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "fetch"],
    ["models", "import"],
    ["models", "add-backbone"],
    ["models", "share"],
    ["models", "export"],
    ["models", "remove"],
    ["train"],
    ["tune"],
    ["evaluate"],
    ["serve"],
    ["info"],
    ["demo"],
]


def _loaded_after(code: str, names: tuple[str, ...]) -> str:
    report = f"import sys; print('LOADED', *sorted(set({names!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()[-1]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded_after("import napari_cellclf", SLOW) == "LOADED"


def test_the_check_can_fail() -> None:
    assert _loaded_after("import numpy", SLOW) == "LOADED numpy"


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "from napari_cellclf.cli import main\n"
        f"code = main({[*command, '--help']!r})\n"
        "assert code == 0, code"
    )
    assert _loaded_after(code, SLOW) == "LOADED"


def test_version_and_usage_errors_load_nothing_heavy() -> None:
    code = "from napari_cellclf.cli import main\nmain(['--version'])\nmain(['no-such-command'])"
    assert _loaded_after(code, SLOW) == "LOADED"


def test_every_command_is_among_the_helps() -> None:
    assert sorted(_commands(build_parser())) == sorted(map(tuple, HELPS))


def _commands(
    parser: argparse.ArgumentParser, prefix: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    found = [prefix]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found += _commands(child, (*prefix, name))
    return found
