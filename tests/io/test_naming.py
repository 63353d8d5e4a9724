"""What every naming scheme must do, ours and those of other packages."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

import pytest

import napari_cellclf
from napari_cellclf.io.drosophila import DROSOPHILA
from napari_cellclf.io.naming import CHANNEL, NAMING, NamingScheme
from napari_cellclf.io.rxrx1 import RXRX1


@pytest.mark.parametrize("name", NAMING.names())
def test_every_naming_scheme(name: str) -> None:
    scheme = NAMING.get(name)
    assert isinstance(scheme, NamingScheme)
    assert scheme.name == name
    fields = scheme.parse(PurePath(scheme.example))
    assert fields, "its example follows it"
    assert all(isinstance(key, str) and key.isidentifier() for key in fields)
    assert all(isinstance(value, str | int) for value in fields.values())
    # The folder may be elsewhere, and other names are not taken for its own.
    assert scheme.parse(PurePath("elsewhere", scheme.example)) == fields
    for other in ("notes.txt", "image.tif", ".hidden.tif", "x" * 300, ""):
        assert scheme.parse(PurePath(other)) is None
    if scheme.globs:
        # As npe2 compares them: the pattern in lower case, the name as it stands.
        name = PurePath(scheme.example).name
        assert any(fnmatchcase(name, glob.lower()) for glob in scheme.globs)
    if scheme.groups:
        assert all(field in fields for group in scheme.groups for field in group.split("+"))
    if CHANNEL in fields:
        assert scheme.channel_name(fields[CHANNEL]).strip()


def test_the_manifest_offers_our_reader_the_names_that_come_with_us() -> None:
    manifest = Path(napari_cellclf.__file__).with_name("napari.yaml").read_text(encoding="utf-8")
    globs = {glob for scheme in (RXRX1, DROSOPHILA) for glob in scheme.globs}
    assert globs == set(re.findall(r'^        - "(.*)"$', manifest, re.MULTILINE))
