"""What may be given to Keras, and a hundred files that may not."""

from __future__ import annotations

import io
import json
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile import CONFIG, METADATA, config_with, layer, weights, write
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles import hdf5, keras_file
from napari_cellclf.bundles.hdf5 import check_hdf5
from napari_cellclf.bundles.keras_file import read_keras_file
from napari_cellclf.bundles.plainfile import Span
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError

Make = Callable[[Path], Path]


def _raw(content: bytes, name: str = "model.keras") -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def _config(config: object) -> Make:
    return lambda folder: write(folder / "model.keras", config=config)


def _layer(class_name: str, module: str | None = "keras.layers", **config: object) -> Make:
    return _config(config_with(layer(class_name, module, **config)))


def _weights(spoil: Callable[[h5py.File], None]) -> Make:
    return lambda folder: write(folder / "model.keras", h5=weights(spoil))


def _extra(name: str, content: bytes = b"x", mode: int = 0) -> Make:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return lambda folder: write(folder / "model.keras", extra=((info, content),))


def _link_instead_of_weights(folder: Path) -> Path:
    info = zipfile.ZipInfo("model.weights.h5")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = folder / "model.keras"
    return write(path, leave_out="model.weights.h5", extra=((info, b"/etc/passwd"),))


def _duplicate(folder: Path) -> Path:
    path = folder / "model.keras"
    with pytest.warns(UserWarning, match="Duplicate name"):
        return write(path, extra=(("config.json", b"{}"),))


def _without(member: str) -> Make:
    return lambda folder: write(folder / "model.keras", leave_out=member)


def _deflated(folder: Path) -> Path:
    return write(folder / "model.keras", compression=zipfile.ZIP_DEFLATED)


def _huge_config(folder: Path) -> Path:
    spaces = b" " * (1 << 20)
    return write(folder / "model.keras", config=spaces * 17 + json.dumps(CONFIG).encode())


def _encrypted(folder: Path) -> Path:
    path = write(folder / "model.keras")
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, start + 8, 1)
    path.write_bytes(content)
    return path


def _flipped(member: bytes) -> Make:
    """Flip a byte of a member's data, so that its CRC no longer fits."""

    def make(folder: Path) -> Path:
        path = write(folder / "model.keras")
        content = bytearray(path.read_bytes())
        content[content.index(member) + len(member) + 40] ^= 0x10
        path.write_bytes(content)
        return path

    return make


def _declares_too_much(folder: Path) -> Path:
    """Let the weights' central directory entry claim a gigabyte."""
    path = write(folder / "model.keras")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, 1 << 30, 1 << 30)
    path.write_bytes(content)
    return path


def _truncated(folder: Path) -> Path:
    path = write(folder / "model.keras")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _saved_model(folder: Path) -> Path:
    path = folder / "saved_model"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"")
    return path


def _external(file: h5py.File) -> None:
    file.create_dataset("e", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("v", layout)


def _chunked(file: h5py.File) -> None:
    file.create_dataset("c", (1 << 20, 1 << 12), "f4", chunks=(1024, 1024))


def _compressed(file: h5py.File) -> None:
    file.create_dataset("z", data=np.zeros(1 << 20, "f4"), compression="gzip")


def _never_written(file: h5py.File) -> None:
    file.create_dataset("w", (1 << 32,), "f4")


def _deep_groups(file: h5py.File) -> None:
    file.create_group("/".join("g" * 60))


def _endless(file: h5py.File) -> None:
    file.create_dataset("h", (1 << 40,), "f4", maxshape=(None,), chunks=(1 << 29,))


def _filtered(file: h5py.File) -> None:
    """Ask for a filter that HDF5 would load as a plugin."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"p", h5py.h5t.IEEE_F32LE, space, properties)


def _arrays_of_arrays(file: h5py.File) -> None:
    file.create_dataset("a", (2,), np.dtype(("f4", (1 << 14,))))


def _long_doubles(file: h5py.File) -> None:
    file["l"] = np.zeros(4, np.longdouble)


def _around(before: bytes = b"", after: bytes = b"") -> Make:
    def make(folder: Path) -> Path:
        path = write(folder / "model.keras")
        path.write_bytes(before + path.read_bytes() + after)
        return path

    return make


def _comment(folder: Path) -> Path:
    path = write(folder / "model.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK"
    return path


def _same_bytes_twice(folder: Path) -> Path:
    """Let the metadata be where the configuration is, as zip bombs do."""
    path = write(folder / "model.keras", metadata=CONFIG)
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    return path


def _keras2(config: object) -> Make:
    """Write an HDF5 file of Keras 2 under the name .keras."""

    def make(folder: Path) -> Path:
        text = config if isinstance(config, str) else json.dumps(config)

        def describe(file: h5py.File) -> None:
            # Too long for the header of an object.
            file.attrs.create("model_config", text, dtype=h5py.string_dtype())

        path = folder / "model.keras"
        path.write_bytes(weights(describe))
        return path

    return make


def _old(class_name: str, **config: object) -> dict[str, object]:
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 4, 4, 1], "name": "in"},
        },
        {"class_name": class_name, "config": {"name": "evil", **config}},
    ]
    return {"class_name": "Sequential", "config": {"layers": layers}}


def _deep_json() -> bytes:
    return b'{"a":' * 80 + b"1" + b"}" * 80


def _with(key: str, value: object) -> dict[str, object]:
    return {**CONFIG, key: value}


TRUNCATED = r"not a complete model file \(truncated download\?\)"
PLAIN = "not on the list of plain layers"

HOSTILE: dict[str, tuple[Make, type[ModelError], str]] = {
    # what is not a Keras file at all
    "empty": (_raw(b""), BundleError, TRUNCATED),
    "html": (_raw(b"<!DOCTYPE html><html>Not found</html>"), BundleError, TRUNCATED),
    "git-lfs": (_raw(b"version https://git-lfs.github.com/spec/v1"), BundleError, TRUNCATED),
    "truncated": (_truncated, BundleError, TRUNCATED),
    "only-a-header": (_raw(b"PK\x03\x04"), BundleError, TRUNCATED),
    "pickle-inside": (_raw(b"\x80\x04K\x01."), UnsafeModelError, "pickle"),
    "pickle-name": (_raw(b"x", "model.pkl"), UnsafeModelError, "pickle"),
    "torch-name": (_raw(b"x", "model.pt"), UnsafeModelError, "pickle"),
    "h5-name": (_raw(b"x", "model.h5"), UnsafeModelError, "older Keras"),
    "h5-inside": (_raw(weights()), BundleError, "weights without a network"),
    "other-name": (_raw(b"x", "model.tflite"), UnsafeModelError, "not a .keras file"),
    "saved-model": (_saved_model, UnsafeModelError, "SavedModel"),
    # the zip
    "no-config": (_without("config.json"), BundleError, "lacks config.json"),
    "no-metadata": (_without("metadata.json"), BundleError, "lacks metadata.json"),
    "no-weights": (_without("model.weights.h5"), BundleError, "lacks model.weights.h5"),
    "duplicate": (_duplicate, UnsafeModelError, "same name"),
    "assets": (_extra("assets/vocabulary.txt"), UnsafeModelError, "does not belong"),
    "parent": (_extra("../evil.py"), UnsafeModelError, "does not belong"),
    "absolute": (_extra("/etc/cron.d/evil"), UnsafeModelError, "does not belong"),
    "npz-weights": (_extra("model.weights.npz"), UnsafeModelError, "does not belong"),
    "symlink": (_link_instead_of_weights, UnsafeModelError, "link"),
    "encrypted": (_encrypted, UnsafeModelError, "encrypted"),
    "deflated": (_deflated, UnsafeModelError, "compressed"),
    "config-too-large": (_huge_config, UnsafeModelError, "limit 4194304"),
    "declares-too-much": (_declares_too_much, UnsafeModelError, "something else"),
    "crc-of-weights": (_flipped(b"model.weights.h5"), BundleError, "damaged"),
    "crc-of-config": (_flipped(b"config.json"), BundleError, "damaged"),
    "dotted": (_extra("./config.json"), UnsafeModelError, "does not belong"),
    "backslashes": (_extra("..\\evil.py"), UnsafeModelError, "does not belong"),
    "a-folder": (_extra("model.weights.h5/"), UnsafeModelError, "does not belong"),
    "a-device": (_extra("evil", mode=stat.S_IFCHR), UnsafeModelError, "does not belong"),
    "bytes-before": (_around(before=b"PK\x03\x04"), UnsafeModelError, "declares more|begin"),
    "bytes-behind": (_around(after=b"#!/bin/sh"), BundleError, TRUNCATED),
    "comment": (_comment, BundleError, TRUNCATED),
    "same-bytes-twice": (_same_bytes_twice, UnsafeModelError, "does not begin"),
    # the JSON
    "deep": (_config(_deep_json()), UnsafeModelError, "nested deeper"),
    "no-json": (_config(b"{"), UnsafeModelError, "not readable JSON"),
    "not-utf8": (_config(b'{"a": "\xff\xfe"}'), UnsafeModelError, "not readable JSON"),
    "list": (_config([]), UnsafeModelError, "does not describe"),
    "twice": (_config(b'{"class_name": 1, "class_name": 2}'), UnsafeModelError, "a key twice"),
    "nan": (_config(b'{"a": NaN}'), UnsafeModelError, "NaN"),
    "infinity": (_config(b'{"a": -Infinity}'), UnsafeModelError, "-Infinity"),
    "utf-16": (_config(json.dumps(CONFIG).encode("utf-16")), UnsafeModelError, "not readable"),
    "byte-order-mark": (_config(b"\xef\xbb\xbf{}"), UnsafeModelError, "not readable"),
    "half-a-character": (_config(b'{"a": "\\ud800"}'), UnsafeModelError, "not readable"),
    "a-number-of-5000-digits": (
        _config(b'{"a": 1' + b"0" * 5000 + b"}"),
        UnsafeModelError,
        "not readable",
    ),
    "a-large-float": (_config(b'{"a": 1e999}'), UnsafeModelError, "1e999"),
    "twice-inside": (_config(b'{"a": [{"b": 1, "b": 2}]}'), UnsafeModelError, "a key twice"),
    "two-million-brackets": (_config(b"[" * (1 << 21)), UnsafeModelError, "holds more"),
    # the configuration
    "wrapped-lambda": (
        _layer("TimeDistributed", layer=layer("Lambda", function="x")),
        UnsafeModelError,
        PLAIN,
    ),
    "functional-elsewhere": (
        _config(config_with({**CONFIG, "class_name": "Functional", "module": "evil"})),
        UnsafeModelError,
        "only Functional",
    ),
    "names-by-number": (_layer("Flatten", name=7), UnsafeModelError, "a short text"),
    "keras-2-lambda": (_keras2(_old("Lambda", function="x")), UnsafeModelError, PLAIN),
    "keras-2-unknown": (_keras2(_old("os.system", command="x")), UnsafeModelError, PLAIN),
    "keras-2-nested": (_keras2(_old("Sequential", layers=[])), UnsafeModelError, "inside another"),
    "keras-2-no-json": (_keras2("{"), UnsafeModelError, "not readable JSON"),
    "keras-2-deep": (_keras2(_deep_json().decode()), UnsafeModelError, "nested deeper"),
    "keras-2-huge": (_keras2(" " * (5 << 20)), BundleError, "without a network"),
    "lambda": (_layer("Lambda", function="x"), UnsafeModelError, PLAIN),
    "python-lambda": (_layer("__lambda__", None, value="x"), UnsafeModelError, PLAIN),
    "tfsm": (_layer("TFSMLayer", filepath="/tmp/x"), UnsafeModelError, PLAIN),
    "vocabulary": (_layer("StringLookup", vocabulary="/etc/passwd"), UnsafeModelError, PLAIN),
    "text": (_layer("TextVectorization"), UnsafeModelError, PLAIN),
    "os": (_layer("system", "os"), UnsafeModelError, "'os.system'"),
    "keras-tool": (_layer("get_file", "keras.utils"), UnsafeModelError, PLAIN),
    "function": (_layer("function", "builtins"), UnsafeModelError, PLAIN),
    "typespec": (_layer("__typespec__", "tensorflow"), UnsafeModelError, PLAIN),
    "legacy-layer": (_layer("Dense", None), UnsafeModelError, PLAIN),
    "module-is-a-list": (
        _config(config_with({"class_name": "Dense", "module": ["keras"]})),
        UnsafeModelError,
        PLAIN,
    ),
    "class-is-a-list": (_config(config_with({"class_name": ["Dense"]})), UnsafeModelError, PLAIN),
    "registered": (
        _config(config_with(layer("Dense") | {"registered_name": "evil>Dense"})),
        UnsafeModelError,
        "custom object",
    ),
    "hidden-in-an-argument": (
        _layer("Dense", kernel_initializer={"a": [layer("Lambda")]}),
        UnsafeModelError,
        "allowed is a plain initializer",
    ),
    "compiled-layer": (
        _config(config_with(layer("Dense") | {"compile_config": {"loss": "mse"}})),
        UnsafeModelError,
        "compiled",
    ),
    "subclassed": (_config(_with("class_name", "MyModel")), UnsafeModelError, "only Functional"),
    "units": (_layer("Dense", units=1 << 40), UnsafeModelError, "units"),
    "filters": (_layer("Conv2D", filters=1 << 17), UnsafeModelError, "filters"),
    "kernel": (_layer("Conv2D", kernel_size=[3, 1 << 20]), UnsafeModelError, "kernel_size"),
    "upsampling": (_layer("UpSampling2D", size=[1000, 1]), UnsafeModelError, "size"),
    # the weights
    "h5-is-html": (lambda f: write(f / "m.keras", h5=b"<html>"), BundleError, "damaged"),
    "h5-truncated": (lambda f: write(f / "m.keras", h5=weights()[:900]), BundleError, "damaged"),
    "soft-link": (_weights(lambda f: _set(f, h5py.SoftLink("/layers"))), UnsafeModelError, "link"),
    "external-link": (
        _weights(lambda f: _set(f, h5py.ExternalLink("/etc/passwd", "/"))),
        UnsafeModelError,
        "link",
    ),
    "external-data": (_weights(_external), UnsafeModelError, "another file"),
    "virtual-data": (_weights(_virtual), UnsafeModelError, "another file"),
    "chunked": (_weights(_chunked), UnsafeModelError, "not stored plainly"),
    "endless": (_weights(_endless), UnsafeModelError, "not stored plainly"),
    "filter-of-a-plugin": (_weights(_filtered), UnsafeModelError, "not stored plainly"),
    "arrays-of-arrays": (_weights(_arrays_of_arrays), UnsafeModelError, "instead of numbers"),
    "long-doubles": (_weights(_long_doubles), UnsafeModelError, "instead of numbers"),
    "gzip": (_weights(_compressed), UnsafeModelError, "not stored plainly"),
    "never-written": (_weights(_never_written), UnsafeModelError, "does not hold"),
    "strings": (
        _weights(lambda f: _set(f, np.array([b"a", b"b"], dtype=object), h5py.string_dtype())),
        UnsafeModelError,
        "instead of numbers",
    ),
    "references": (
        _weights(lambda f: _set(f, np.array([f["layers"].ref], dtype=h5py.ref_dtype))),
        UnsafeModelError,
        "instead of numbers",
    ),
    "compound": (
        _weights(lambda f: _set(f, np.zeros(2, [("a", "f4"), ("b", "i4")]))),
        UnsafeModelError,
        "instead of numbers",
    ),
    "named-type": (
        _weights(lambda f: _set(f, np.dtype("f4"))),
        UnsafeModelError,
        "more than groups and arrays",
    ),
    "no-space": (_weights(lambda f: _set(f, h5py.Empty("f4"))), UnsafeModelError, "not stored"),
    "nan-weights": (_weights(lambda f: _spoil(f, np.nan)), BundleError, "NaN or infinity"),
    "inf-weights": (_weights(lambda f: _spoil(f, -np.inf)), BundleError, "NaN or infinity"),
    "cyclic-groups": (
        _weights(lambda f: f.__setitem__("layers/again", f["/"])),
        UnsafeModelError,
        "twice",
    ),
    "an-array-twice": (
        _weights(lambda f: f.__setitem__("again", f["layers/dense/vars/0"])),
        UnsafeModelError,
        "twice",
    ),
    "deep-groups": (_weights(_deep_groups), UnsafeModelError, "nested"),
}


def _set(file: h5py.File, value: object, dtype: object = None) -> None:
    if dtype is None:
        file["evil"] = value
    else:
        file.create_dataset("evil", data=value, dtype=dtype)


def _spoil(file: h5py.File, value: float) -> None:
    file["layers/dense/vars/0"][3, 1] = value


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into HDF5 in this process, as the process that is started for it does."""
    monkeypatch.setattr(keras_file, "look_into", lambda span, path: check_hdf5(span))


@pytest.mark.usefixtures("here")
def test_a_plain_network_passes(tmp_path: Path) -> None:
    file = read_keras_file(write(tmp_path / "model.keras"))
    assert file.parts.config == {key: CONFIG[key] for key in CONFIG if key != "build_config"}
    assert (file.kind, file.n_weights) == ("Keras 3", 34)
    assert file.keras_version == METADATA["keras_version"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind: str, tmp_path: Path) -> None:
    make, error, message = HOSTILE[kind]
    path = make(tmp_path)
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(error, match=message) as caught:
            read_keras_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5
    assert peak < 200e6
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kind", ["external-data", "gzip", "nan-weights", "cyclic-groups"])
def test_a_process_of_its_own_says_the_same(kind: str, tmp_path: Path) -> None:
    make, error, message = HOSTILE[kind]
    with pytest.raises(error, match=message):
        read_keras_file(make(tmp_path))


def test_a_process_that_ends_badly_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "model.keras")
    monkeypatch.setattr(hdf5, "_SECONDS", 0.01)
    with pytest.raises(UnsafeModelError, match="take too long to be read"):
        read_keras_file(path)
    monkeypatch.setattr(hdf5.sys, "executable", "false")
    monkeypatch.setattr(hdf5, "_SECONDS", 9.0)
    with pytest.raises(UnsafeModelError, match="could not be read within bounds"):
        read_keras_file(path)


@pytest.mark.usefixtures("here")
def test_too_many_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def many(file: h5py.File) -> None:
        for number in range(100):
            file.create_group(f"g{number}")

    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 50)
    with pytest.raises(UnsafeModelError, match="over 50 objects"):
        read_keras_file(write(tmp_path / "model.keras", h5=weights(many)))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(weights()) - 1), value=st.binary(min_size=1, max_size=8))
def test_bent_weights_are_told_or_plain(place: int, value: bytes) -> None:
    content = weights()
    content = content[:place] + value + content[place + len(value) :]
    try:
        found = check_hdf5(Span.whole(io.BytesIO(content), "model.keras"))
    except ModelError:
        return
    assert found.n_numbers * 4 <= len(content)


@pytest.mark.usefixtures("here")
def test_what_an_optimizer_left_is_not_read(tmp_path: Path) -> None:
    config = config_with(compile_config={"optimizer": {"class_name": "Adam", "module": "x"}})
    path = write(tmp_path / "model.keras", config=config)
    assert "compile_config" not in read_keras_file(path).parts.config
