"""Batches, deadlines, clients that go away, a new model, a graceful stop."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_samples import png

from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import part_done
from napari_cellclf.errors import CancelledError, ImageTooLargeError, InputError
from napari_cellclf.inference.batches import PlaneAnswer
from napari_cellclf.inference.remote import read_token
from napari_cellclf.server.batching import Batcher
from napari_cellclf.server.run import listen
from napari_cellclf.server.served_model import ServedModel, load_served
from napari_cellclf.server.settings import Limits, Settings, is_loopback
from napari_cellclf.server.uploads import UploadedImage

RAW = {"Content-Type": "image/png"}


class SlowClassifier:
    """A classifier whose network waits until it is let go."""

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier
        self.go = threading.Event()
        self.entered = threading.Event()
        self.computed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def answers(self, pixels: np.ndarray) -> list[PlaneAnswer]:
        self.entered.set()
        assert self.go.wait(20)
        self.computed.append(len(pixels))
        return list(self._classifier.answers(pixels))


@pytest.fixture
def slow(served_one: ServedModel) -> Iterator[ServedModel]:
    served = replace(served_one, classifier=SlowClassifier(served_one.classifier), batch=4)
    yield served
    served.classifier.go.set()


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _ask(url: str, level: int = 9) -> httpx.Response:
    return httpx.post(f"{url}/api/predict", content=png(level), headers=RAW, timeout=20)


def test_images_that_wait_together_are_computed_together() -> None:
    sizes: list[int] = []

    async def work() -> list[np.ndarray]:
        batcher = Batcher(lambda images, waiting: sizes.append(images))

        def double(pixels: np.ndarray) -> np.ndarray:
            return 2 * pixels.reshape(len(pixels), -1)

        running = asyncio.create_task(batcher.run())
        images = [np.full((2, 2 + i % 2, 1), i, np.float32) for i in range(10)]
        answers = await asyncio.gather(*(batcher.compute("a", double, one, 4) for one in images))
        running.cancel()
        return answers

    answers = asyncio.run(work())
    assert [answer[0] for answer in answers] == [2.0 * i for i in range(10)]
    assert sizes == [4, 4, 1, 1]


def test_what_does_not_fit_together_is_computed_alone() -> None:
    def small_only(pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > 1 or pixels[0, 0, 0, 0] == 2:
            raise MemoryError
        return pixels.reshape(len(pixels), -1)

    async def work() -> list[Any]:
        batcher = Batcher(lambda *_: None)
        running = asyncio.create_task(batcher.run())
        images = [np.full((1, 1, 1), i, np.float32) for i in range(4)]
        jobs = (batcher.compute("a", small_only, one, 8) for one in images)
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        running.cancel()
        return answers

    answers = asyncio.run(work())
    assert [float(a[0]) for a in (answers[0], answers[1], answers[3])] == [0, 1, 3]
    assert isinstance(answers[2], ImageTooLargeError)


def test_the_fastest_number_of_images_at_a_time_is_found(
    one_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = {1: 5.0, 2: 3.0, 4: 2.1, 8: 2.0, 16: 2.15, 32: 9.0}
    monkeypatch.setitem(
        load_served.__globals__, "_seconds_each", lambda classifier, size: each[size]
    )
    assert [load_served(str(one_channel), most).batch for most in (1, 3, 32)] == [1, 2, 16]


def test_requests_share_batches(running: Any, slow: ServedModel) -> None:
    classifier: Any = slow.classifier
    with running(slow) as live, ThreadPoolExecutor(9) as pool:
        first = pool.submit(_ask, live.url)
        assert classifier.entered.wait(10)
        others = [pool.submit(_ask, live.url, level) for level in range(0, 80, 10)]
        _until(lambda: live.service.batcher.waiting == 8)
        classifier.go.set()
        assert {answer.result().status_code for answer in [first, *others]} == {200}
    assert classifier.computed == [1, 4, 4]


def test_a_full_queue_says_when_to_come_again(running: Any, slow: ServedModel) -> None:
    with running(slow, Limits(requests=2, batch=4)) as live, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(_ask, live.url) for _ in range(2)]
        _until(lambda: live.service._running == 2)
        refused = _ask(live.url)
        assert refused.status_code == 503
        assert refused.json()["error"] == "busy"
        assert refused.headers["retry-after"] == "1"
        slow.classifier.go.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert _ask(live.url).status_code == 200


def test_an_answer_that_is_late_is_dropped_from_the_queue(running: Any, slow: ServedModel) -> None:
    with running(slow, Limits(answer_seconds=0.3, batch=4)) as live, ThreadPoolExecutor(2) as pool:
        first = pool.submit(_ask, live.url)
        assert slow.classifier.entered.wait(10)
        second = pool.submit(_ask, live.url)
        for answer in (first, second):
            assert answer.result().status_code == 504
            assert answer.result().json()["error"] == "deadline"
        slow.classifier.go.set()
        assert _ask(live.url).status_code == 200
        # The second's image was never computed.
        assert slow.classifier.computed == [1, 1]


def test_nothing_is_computed_for_a_client_that_went_away(
    running: Any, slow: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    content = png(9)
    with running(slow) as live, ThreadPoolExecutor(1) as pool:
        first = pool.submit(_ask, live.url)
        assert slow.classifier.entered.wait(10)
        with (
            caplog.at_level(logging.INFO, "napari_cellclf.server"),
            socket.create_connection(live.address) as gone,
        ):
            gone.sendall(
                b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                b"Content-Length: %d\r\n\r\n" % len(content) + content
            )
            _until(lambda: live.service.batcher.waiting == 1)
            gone.close()
            _until(lambda: any(" 499 " in r.getMessage() for r in caplog.records))
        slow.classifier.go.set()
        assert first.result().status_code == 200
        assert _ask(live.url).status_code == 200
    assert slow.classifier.computed == [1, 1]


@pytest.mark.parametrize("limit", [{"receiving_per_peer": 0}, {"waiting_bytes": 10}])
def test_bodies_are_bounded_together(client: Any, served_one: ServedModel, limit: Any) -> None:
    answer = client(served_one, Limits(**limit)).post("/api/predict", content=png(9), headers=RAW)
    assert (answer.status_code, answer.json()["error"]) == (503, "busy")


def test_nothing_is_held_when_all_is_answered(running: Any, served_one: ServedModel) -> None:
    with running(served_one) as live:
        for content in (png(9), png(9)[:40], b"nothing"):
            httpx.post(f"{live.url}/api/predict", content=content, headers=RAW)
        service = live.service
        assert (service._running, service.receiver._held, service.batcher.waiting) == (0, 0, 0)
        assert not service.receiver._peers


@contextmanager
def _asking_all_the_time(url: str) -> Iterator[list[tuple[int, str]]]:
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while not stop.is_set():
                answer = client.post("/api/predict", content=png(100), headers=RAW)
                answers.append((answer.status_code, answer.json()["model"]["sha256"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


@pytest.fixture
def replaceable(one_channel: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_channel, tmp_path / "one.cellclf"))


def test_a_new_model_is_taken_up_without_dropping_a_request(
    running: Any, replaceable: Path, save_model: Any
) -> None:
    old = load_served(str(replaceable), 4)
    with running(old, reload_seconds=0.05) as live, _asking_all_the_time(live.url) as answers:
        _until(lambda: len(answers) > 10)
        save_model(replaceable, [{"name": "w2 ConA"}], slope=1.0, overwrite=True)
        _until(lambda: live.service.models.current is not old, 30)
        count = len(answers)
        _until(lambda: len(answers) > count + 10)
        new = live.service.models.current.sha256
        assert 'cellclf_model_reloads_total{result="taken"} 1.0' in (
            httpx.get(f"{live.url}/metrics").text
        )
    assert {status for status, _ in answers} == {200}
    assert {sha for _, sha in answers} == {old.sha256, new}
    assert answers[-1][1] == new


def test_a_bad_new_model_is_refused_once_and_the_old_goes_on(
    running: Any, replaceable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = load_served(str(replaceable), 4)
    with running(old, reload_seconds=0.05) as live:
        network = replaceable / "weights.safetensors"
        described = (replaceable / "bundle.json").read_text()
        wrong = described.replace(old.spec.files["weights.safetensors"], "0" * 64)
        (replaceable / "bundle.json").write_text(wrong)
        _until(lambda: "is refused" in caplog.text)
        time.sleep(0.3)
        assert caplog.text.count("is refused") == 1
        network.write_bytes(b"no network")
        (replaceable / "bundle.json").unlink()
        _until(lambda: caplog.text.count("is refused") == 2)
        assert _ask(live.url).json()["model"]["sha256"] == old.sha256
        text = httpx.get(f"{live.url}/metrics").text
        assert 'cellclf_model_reloads_total{result="refused"} 2.0' in text


def test_a_fault_of_ours_is_told_without_its_reason(
    running: Any, served_one: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SlowClassifier):
        def answers(self, pixels: np.ndarray) -> list[PlaneAnswer]:
            raise RuntimeError("what only the log may say")

    served = replace(served_one, classifier=Broken(served_one.classifier))
    with running(served) as live, caplog.at_level(logging.INFO):
        answer = _ask(live.url)
        assert (answer.status_code, answer.json()["error"]) == (500, "internal")
        assert "what only" not in answer.text
        _until(lambda: "what only" in caplog.text)
        assert "POST /api/predict 500" in caplog.text
        assert httpx.get(f"{live.url}/healthz").status_code == 200


def test_a_new_model_that_fails_in_any_way_does_not_end_the_watch(
    running: Any, served_one: ServedModel, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(reference: str, max_batch: int, **computed: str) -> ServedModel:
        raise ZeroDivisionError("of some library")

    monkeypatch.setitem(load_served.__globals__, "load_served", fail)
    served = replace(served_one, sha256="0" * 64)
    with running(served, reload_seconds=0.02) as live:
        _until(lambda: "ZeroDivisionError: of some library" in caplog.text)
        monkeypatch.undo()
        live.service.models._refused = ""
        _until(lambda: live.service.models.current is not served)


def test_images_that_nobody_waits_for_are_ended_or_make_it_not_ready(
    running: Any, served_one: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, told = threading.Semaphore(0), threading.Event(), []

    def one_piece() -> None:
        # As a decoder that looks at nothing until it is done, and then is told to end.
        begun.release()
        assert go.wait(20)
        try:
            part_done("reading", 0.5)
        except CancelledError as error:
            told.append(error)
            raise

    def read(self: UploadedImage) -> Image:
        one_piece()
        return Image(np.zeros((9, 9)), "YX")

    limits = Limits(batch=4, answer_seconds=0.5)
    with running(served_one, limits) as live, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(UploadedImage, "read", read)
        answers = [pool.submit(_ask, live.url) for _ in range(2)]
        assert [answer.result().status_code for answer in answers] == [504, 504]
        assert begun.acquire(timeout=10)
        assert begun.acquire(timeout=10)
        ready = httpx.get(f"{live.url}/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "busy"})
        assert _ask(live.url).status_code == 503
        assert httpx.get(f"{live.url}/healthz").status_code == 200
        go.set()
        _until(lambda: not live.service.is_stuck)
        assert len(told) == 2
        monkeypatch.undo()
        assert httpx.get(f"{live.url}/readyz").status_code == 200
        assert _ask(live.url).status_code == 200


def test_a_stop_finishes_what_has_begun(running: Any, slow: ServedModel) -> None:
    with running(slow, drain_seconds=0.4) as live, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(_ask, live.url)
        assert slow.classifier.entered.wait(10)
        assert httpx.get(f"{live.url}/readyz").status_code == 200
        live.server.servers[0].get_loop().call_soon_threadsafe(live.server._told_to_stop)
        _until(lambda: live.service.stopping)
        ready = httpx.get(f"{live.url}/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "stopping"})
        assert httpx.get(f"{live.url}/healthz").status_code == 200
        _until(lambda: live.server.should_exit)
        slow.classifier.go.set()
        assert begun.result().status_code == 200


def test_a_stop_does_not_wait_for_ever(
    running: Any, slow: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with running(slow, Limits(stop_seconds=1, batch=4)) as live:
            begun = pool.submit(_ask, live.url)
            assert slow.classifier.entered.wait(10)
        answer = begun.result()
    assert (answer.status_code, answer.json()["error"]) == (503, "busy")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_limit_of_open_files_is_raised() -> None:
    code = (
        "import resource as r; from napari_cellclf.server.run import allow_many_connections as do;"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); do(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(300, 300)\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "plates.example"])
def test_others_may_only_ask_with_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match="--token-file"):
        Settings(host=host)
    assert Settings(host=host, token="a-long-enough-token").host == host


@pytest.mark.parametrize("fields", [{"key": Path("k")}, {"allow_origins": ("lab.example",)}])
def test_settings_that_are_of_no_use(fields: Any) -> None:
    with pytest.raises(InputError):
        Settings(**fields)


@pytest.mark.parametrize("content", [b"short", b"", b"two words and more of them", b"\xff" * 30])
def test_tokens_that_protect_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(InputError, match="token"):
        read_token(file)
    file.write_text("long-enough-to-protect\n")
    assert read_token(file) == "long-enough-to-protect"
    assert "long-enough" not in repr(Settings(token=read_token(file)))


def test_an_address_that_is_taken_is_found_before_the_model_is_loaded() -> None:
    with listen(Settings(port=0)) as taken:
        taken.listen()
        with pytest.raises(InputError, match="choose another"):
            listen(Settings(port=taken.getsockname()[1]))


def test_a_server_computes_as_it_was_told(one_channel: Path) -> None:
    assert load_served(str(one_channel), 1, engine="keras").classifier.device.startswith("keras ")
    exact = load_served(str(one_channel), 1, precision="float32").classifier.device
    assert "bfloat16" not in exact
