"""Engines that compute ``model.onnx``: the same answers as Keras, without Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.bundle import REQUIRED, ModelBundle, members_of, read_all
from napari_cellclf.bundles.schema import RoundingSpec
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.errors import (
    BundleError,
    EngineError,
    InputError,
    IntegrityError,
    SelfTestError,
    UnsafeModelError,
)
from napari_cellclf.inference import engine_library as engine_library_module
from napari_cellclf.inference import load, onnx_engines
from napari_cellclf.inference.engine_library import engine_library, openvino_core
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.onnx_engines import choose_providers
from telling import tells_nobody

Save = Callable[..., ModelBundle]
MODEL = "rxrx1-celltype"

needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> str:
    if not find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("shape", [(1, 20, 24), (5, 20, 24), (2, 4, 4), (3, 61, 33)])
def test_any_number_of_images_of_any_size(
    engine: str, shape: tuple[int, ...], bundle: ModelBundle, network: Any
) -> None:
    pixels = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    expected = np.asarray(network(pixels))
    exact = load_classifier(bundle.path, engine=engine, precision="float32")
    np.testing.assert_allclose(exact.engine(pixels), expected, atol=1e-4)
    fast = load_classifier(bundle.path, engine=engine, precision="fast")
    found = fast.engine(pixels)
    assert (found.dtype, found.shape) == (np.dtype(np.float32), expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_neither_company_nor_order_changes_an_answer(engine: str, bundle: ModelBundle) -> None:
    compute = load_classifier(bundle.path, engine=engine, precision="fast").engine
    pixels = np.random.default_rng(1).normal(size=(7, 20, 24, 2)).astype(np.float32)
    together = compute(pixels)
    alone = np.concatenate([compute(pixels[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    # A view from the other side is not contiguous.
    np.testing.assert_allclose(compute(pixels[::-1]), together[::-1], atol=1e-6)


def test_threads_do_not_mix_their_answers(engine: str, bundle: ModelBundle) -> None:
    compute = load_classifier(bundle.path, engine=engine).engine
    batches = np.random.default_rng(2).normal(size=(40, 2, 20, 24, 2)).astype(np.float32)
    expected = [compute(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compute, batches))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_device_says_what_computes_and_how(engine: str, bundle: ModelBundle) -> None:
    version = engine_library(engine).__version__.split("-")[0]
    exact = load_classifier(bundle.path, engine=engine, precision="float32")
    assert exact.device == f"{engine} {version}, CPU, float32"
    assert load_classifier(bundle.path, engine=engine).device.startswith(f"{engine} {version}, ")


@needs_openvino
def test_the_second_time_it_is_compiled_already(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[ModelBundle] = []
    read = ModelBundle.graph

    def counted(self: ModelBundle) -> bytes:
        reads.append(self)
        return read(self)

    monkeypatch.setattr(ModelBundle, "graph", counted)
    pixels = np.random.default_rng(3).normal(size=(5, 20, 24, 2)).astype(np.float32)
    answers, counts = [], []
    for _ in range(2):
        compute = load_classifier(bundle.path, engine="openvino", precision="fast").engine
        answers.append(np.concatenate([compute(pixels), compute(pixels[:1])]))
        counts.append(len(reads))
    # For one image, and for parts of batches.
    assert counts == [2, 2]
    np.testing.assert_array_equal(*answers)
    load_classifier(bundle.path, engine="openvino", precision="float32")
    assert len(reads) == 3


@needs_openvino
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_batches_of_any_size_give_what_single_images_give(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(onnx_engines, "usable_cores", lambda: cores)
    compute = load_classifier(bundle.path, engine="openvino", precision="float32").engine
    random = np.random.default_rng(4)
    # More shapes than are compiled for.
    for side in (20, 21, 22, 23, 24, 25, 20):
        pixels = random.normal(size=(9, side, 24, 2)).astype(np.float32)
        alone = np.concatenate([compute(one[None]) for one in pixels])
        for count in (2, 3, 4, 9):
            np.testing.assert_allclose(compute(pixels[:count]), alone[:count], atol=1e-5)
        # What was computed before stays as it was.
        kept = compute(pixels)
        copy = kept.copy()
        compute(pixels[::-1])
        np.testing.assert_array_equal(kept, copy)


@needs_openvino
def test_what_is_compiled_need_not_be_kept(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "file"))
    compute = load_classifier(bundle.path, engine="openvino").engine
    assert compute(np.ones((5, 20, 24, 2), np.float32)).shape == (5, 3)


@needs_openvino
def test_a_signal_is_heard_after_engines_have_come_and_gone(bundle: ModelBundle) -> None:
    code = f"""
import gc, signal
from napari_cellclf.inference.load import load_classifier
one, other = (load_classifier({str(bundle.path)!r}, engine="openvino") for _ in range(2))
del one
gc.collect()
del other
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")


@needs_openvino
def test_where_rounding_costs_too_much_float32_computes(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bfloat16")
    monkeypatch.setattr(load, "ROUNDED_TOLERANCE", -1.0)
    with caplog.at_level("INFO"):
        classifier = load_classifier(bundle.path, engine="openvino", precision="fast")
    assert classifier.device.endswith("float32")
    assert "answers too differently in bfloat16; float32 is used" in caplog.text


@pytest.mark.parametrize(
    ("largest", "precision", "told"),
    [
        (None, "auto", "float32"),
        (0.004, "auto", "fast"),
        (0.02, "auto", "float32"),
        (0.004, "float32", "float32"),
        (0.02, "fast", "fast"),
        (None, "fast", "fast"),
    ],
)
def test_what_rounds_is_taken_where_the_model_was_shown_to_bear_it(
    largest: float | None, precision: Any, told: str, engine: str, bundle: ModelBundle,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    rounding = None if largest is None else RoundingSpec(n=5, largest=largest)
    members = {name: read_all(members_of(bundle.path), name) for name in (*REQUIRED, "model.onnx")}
    spec = bundle.spec.model_copy(update={"rounding": rounding})
    path = write_bundle(tmp_path / "t.cellclf", spec, members).path
    real, heard = load.load_graph_engine, []

    def listening(name: Any, graph: Any, precision: Any) -> Any:
        heard.append(precision)
        return real(name, graph, precision)

    monkeypatch.setattr(load, "load_graph_engine", listening)
    load_classifier(path, engine=engine, precision=precision)
    assert heard == [told]


def test_a_wrong_answer_is_noticed(engine: str, bundle: ModelBundle, tmp_path: Path) -> None:
    files: dict[str, Any] = {
        member: read_all(members_of(bundle.path), member) for member in (*REQUIRED, "model.onnx")
    }
    files["test_output.npy"] = dump_array(np.roll(bundle.test_output, 1, axis=1))
    wrong = write_bundle(tmp_path / "wrong.cellclf", bundle.spec, files)
    with pytest.raises(SelfTestError, match="away from the stored answer"):
        load_classifier(wrong.path, engine=engine)
    assert load_classifier(wrong.path, engine=engine, self_test=False).classes == ("a", "b", "c")


def test_a_bundle_without_a_graph_is_computed_by_keras(
    engine: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cellclf.models.save.write_graph", lambda *arguments: None)
    bundle = save(tmp_path / "t.cellclf")
    assert not bundle.has_graph
    assert load_classifier(bundle.path).device.startswith("keras ")
    with pytest.raises(BundleError, match=r"has no model\.onnx"):
        load_classifier(bundle.path, engine=engine)


def test_a_library_that_is_not_here(
    engine: str, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(EngineError, match=rf'pip install "napari-cellclf\[{engine}\]"'):
        load_classifier(bundle.path, engine=engine)
    monkeypatch.setattr(load, "choose_engine", lambda *arguments: engine)
    classifier = load_classifier(bundle.path)
    assert classifier.device.startswith("keras ")
    assert "Keras computes instead" in caplog.text


@pytest.mark.parametrize("kind", [UnsafeModelError, IntegrityError, BundleError])
def test_what_the_gate_refuses_is_not_tried_with_keras(
    kind: type[Exception], bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: ModelBundle) -> bytes:
        raise kind("holds something else")

    monkeypatch.setattr(ModelBundle, "graph", refuse)
    monkeypatch.setattr(load, "choose_engine", lambda *arguments: "openvino")
    with pytest.raises(kind, match="something else"):
        load_classifier(bundle.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"engine": "tensorrt"}, "no engine"), ({"precision": "int8"}, "no precision 'int8'")],
)
def test_what_cannot_be_chosen(options: dict[str, Any], message: str, bundle: ModelBundle) -> None:
    with pytest.raises(InputError, match=message):
        load_classifier(bundle.path, **options)


def test_a_graph_that_an_engine_cannot_read(
    engine: str, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelBundle, "graph", lambda self: b"not a graph")
    with pytest.raises(EngineError, match=r"cannot (compile|load) the network") as caught:
        load_classifier(bundle.path, engine=engine)
    assert "\n" not in str(caught.value)


def test_too_large_an_image_is_one_sentence(engine: str, bundle: ModelBundle) -> None:
    """A child has little memory left, and goes on afterwards."""
    pytest.importorskip("resource", reason="this system cannot limit memory")
    code = f"""
import resource, sys
import numpy as np
from napari_cellclf.errors import ImageTooLargeError
from napari_cellclf.inference.load import load_classifier
compute = load_classifier({str(bundle.path)!r}, engine={engine!r}).engine
large = np.zeros((1, 6000, 6000, 2), np.float32)
limit = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize() + 2**28
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    compute(large)
except ImageTooLargeError as error:
    print(error)
print(compute(large[:, :20, :20]).shape)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux holds a process to this limit")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, shape = done.stdout.splitlines()
    assert said.startswith("1 x 6000 x 6000 pixels need more memory than the CPU has free")
    assert shape == "(1, 3)"


def test_images_that_the_network_does_not_take_are_one_sentence(
    engine: str, bundle: ModelBundle
) -> None:
    compute = load_classifier(bundle.path, engine=engine).engine
    for count in (1, 3):
        with pytest.raises(
            EngineError, match=r"cannot compute images of shape .*20, 5\)"
        ) as caught:
            compute(np.zeros((count, 20, 20, 5), np.float32))
        assert "\n" not in str(caught.value)
    assert compute(np.zeros((1, 20, 20, 2), np.float32)).shape == (1, 3)


def test_a_graph_that_does_not_take_its_test_image(
    engine: str, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    import keras

    from napari_cellclf.models.export.onnx.convert import to_onnx

    inputs = keras.Input((6, 6, 2))
    tensor = keras.layers.Flatten()(inputs)
    other = to_onnx(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(tensor)))
    monkeypatch.setattr(ModelBundle, "graph", lambda self: other)
    with pytest.raises(EngineError, match="cannot compute images of shape"):
        load_classifier(bundle.path, engine=engine)
    monkeypatch.setattr(load, "choose_engine", lambda *arguments: engine)
    assert load_classifier(bundle.path).device.startswith("keras ")
    assert "Keras computes instead" in caplog.text


@pytest.mark.parametrize("engine", [pytest.param("openvino", marks=needs_openvino), "keras"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_does_not_wait_for_ever(bundle: ModelBundle, engine: str) -> None:
    code = f"""
import os, signal
import numpy as np
from napari_cellclf.errors import EngineError
from napari_cellclf.inference.load import load_classifier
pixels = np.zeros((2, 20, 24, 2), np.float32)
compute = load_classifier({str(bundle.path)!r}, engine={engine!r}).engine
compute(pixels)
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(30)
def load_again():
    load_classifier({str(bundle.path)!r}, engine={engine!r})
for attempt in (lambda: compute(pixels), load_again):
    try:
        attempt()
    except EngineError as error:
        print(error, flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, again = done.stdout.splitlines()
    assert first == again
    assert "forked" in first
    assert "'spawn'" in first


def test_threads_share_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Core:
        def __init__(self) -> None:
            time.sleep(0.05)
            made.append(self)

        def set_property(self, *_: Any) -> None:
            pass

    library = SimpleNamespace(Core=Core)
    monkeypatch.setattr(engine_library_module, "engine_library", lambda name: library)
    monkeypatch.setattr(
        engine_library_module, "_core", cache(engine_library_module._core.__wrapped__)
    )
    with ThreadPoolExecutor(4) as threads:
        cores = [one.result() for one in [threads.submit(openvino_core) for _ in range(4)]]
    assert len(made) == len(set(map(id, cores))) == 1


@needs_openvino
def test_images_of_many_sizes_leave_little_behind(bundle: ModelBundle) -> None:
    pytest.importorskip("resource", reason="this system does not tell how much memory is used")
    code = f"""
import resource
import numpy as np
from napari_cellclf.inference.load import load_classifier
compute = load_classifier({str(bundle.path)!r}, engine="openvino", precision="float32").engine
def used():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
def go(first, last):
    for height in range(first, last):
        for width in range(20, 80):
            compute(np.zeros((1, height, width, 2), np.float32))
go(20, 30)
before = used()
go(30, 60)
print(used() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells how much memory is used in this way")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40


@pytest.mark.parametrize(
    ("available", "precision", "expected"),
    [
        (["CPUExecutionProvider"], "fast", ["CPU"]),
        (["AzureExecutionProvider", "CPUExecutionProvider"], "fast", ["CPU"]),
        (["CPUExecutionProvider", "CUDAExecutionProvider"], "fast", ["CUDA", "CPU"]),
        (["DmlExecutionProvider", "CPUExecutionProvider"], "float32", ["Dml", "CPU"]),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], "fast", ["CoreML", "CPU"]),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], "float32", ["CPU"]),
    ],
)
def test_providers(available: list[str], precision: Any, expected: list[str]) -> None:
    chosen = choose_providers(available, precision)
    assert [name.removesuffix("ExecutionProvider") for name, _ in chosen] == expected


@needs_openvino
def test_the_bundled_model_is_what_keras_says_it_is() -> None:
    # As large as the fields that it is for.
    images = [simulate_site(kind, seed=seed, size=512) for seed, kind in enumerate(_KINDS)]
    keras, exact, fast = (
        load_classifier(MODEL, **options).predict(images).probabilities
        for options in (
            {"engine": "keras"},
            {"engine": "openvino", "precision": "float32"},
            {"engine": "openvino", "precision": "fast"},
        )
    )
    np.testing.assert_allclose(exact, keras, atol=1e-4)
    np.testing.assert_allclose(fast, keras, atol=1e-2)


_KINDS = ("HEPG2", "HUVEC", "RPE", "U2OS")
_WATCHED = ("keras", "tensorflow", "torch", "jax", "napari", "qtpy")
_LOADED = f"print(json.dumps([name for name in {_WATCHED!r} if name in sys.modules]))"


def _last_line(code: str) -> Any:
    code = f"import json, sys\n{code}\n{_LOADED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@needs_openvino
def test_predicting_in_python_imports_no_keras() -> None:
    assert (
        _last_line(
            "import napari_cellclf as cc\n"
            f"cc.load_classifier({MODEL!r}).predict(cc.simulate_site('RPE', seed=0, size=64))"
        )
        == []
    )


@needs_openvino
def test_predicting_on_the_command_line_imports_no_keras(tmp_path: Path) -> None:
    import tifffile

    image = simulate_site("RPE", seed=0, size=64)
    file = tmp_path / "site.tif"
    tifffile.imwrite(file, image.data, metadata={"axes": "CYX"}, imagej=True)
    command = ["predict", MODEL, str(file), "--json"]
    assert _last_line(f"from napari_cellclf.cli import main\nmain({command!r})") == []


@pytest.mark.parametrize(
    "engine", [pytest.param("openvino", marks=needs_openvino), "onnxruntime", "keras"]
)
def test_no_engine_tells_anybody_that_it_is_used(
    engine: str, bundle: ModelBundle, tmp_path: Path
) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    tells_nobody(
        f"""
from napari_cellclf.inference.load import load_classifier
load_classifier({str(bundle.path)!r}, engine={engine!r})
if {engine!r} == "openvino":
    import openvino.tools.ovc
assert "openvino_telemetry" not in sys.modules
""",
        tmp_path,
        # TensorFlow asks the system for its processor by a program.
        quietly=engine != "keras",
    )
