"""A preset's file as a page for people: what is set, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator


def preset_page(toml: str) -> str:
    r"""Write a preset as Markdown: each setting with the comment that stands above it.

    Examples
    --------
    >>> print(preset_page('title = "Cells"\n[config]\n# Nuclei stay visible.\nsize = [64, 64]'))
    # Cells
    <BLANKLINE>
    - **size**: [64, 64]. Nuclei stay visible.
    """
    return "\n".join(_lines(toml))


def _lines(toml: str) -> Iterator[str]:
    head = tomllib.loads(toml)
    yield f"# {head.get('title', '')}"
    if head.get("description"):
        yield from ("", str(head["description"]))
    why: list[str] = []
    heading = ""
    for line in map(str.strip, _logical_lines(toml)):
        if line.startswith("#"):
            why.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            heading = line.strip("[]").rpartition(".")[2].replace("_", " ").capitalize()
            yield from ("",) if heading == "Config" else ("", f"## {heading}", "")
            if why:
                yield from (" ".join(why), "")
        elif "=" in line and heading:
            name, _, value = (part.strip() for part in line.partition("="))
            reason = f". {' '.join(why)}" if why else ""
            yield f"- **{name.replace('_', ' ')}**: {value.strip(chr(34))}{reason}"
        why = []


def _logical_lines(toml: str) -> Iterator[str]:
    """Join a value that goes over several lines."""
    waiting = ""
    for line in toml.splitlines():
        waiting = f"{waiting} {line.strip()}" if waiting else line
        opened = waiting.count("[") - waiting.count("]")
        if waiting.lstrip().startswith("#") or opened <= 0:
            yield waiting
            waiting = ""
    if waiting:
        yield waiting
