"""`cellclf serve` as a process: it starts, takes up a model, stops, and says what is wrong."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_samples import TOKEN, png

import napari_cellclf.server
from napari_cellclf.cli import main

COMMAND = [
    sys.executable, "-c",
    "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))",
]  # fmt: skip
RAW = {"Content-Type": "image/png"}


@contextmanager
def _serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    process = subprocess.Popen(
        [*COMMAND, "serve", *map(str, arguments), "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said: list[str] = []
    try:
        while True:
            line = process.stderr.readline()
            assert line, said
            said.append(line)
            if match := re.search(r"ready at (\S+) on \w+ \S+, ", line):
                break
        yield process, match[1], said
    finally:
        if process.poll() is None:
            process.kill()
        said += process.stderr.readlines()
        process.stderr.close()
        process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_from_start_to_stop(one_channel: Path, save_model: Any, tmp_path: Path) -> None:
    model = tmp_path / "one.cellclf"
    shutil.copytree(one_channel, model)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    headers = RAW | {"Authorization": f"Bearer {TOKEN}"}
    with _serving(model, "--token-file", token) as (process, url, said):
        assert httpx.get(f"{url}/api/model").status_code == 401
        first = httpx.post(f"{url}/api/predict", content=png(9), headers=headers).json()
        save_model(model, [{"name": "w2 ConA"}], slope=2.0, overwrite=True)
        process.send_signal(signal.SIGHUP)
        for _ in range(400):
            again = httpx.post(f"{url}/api/predict", content=png(9), headers=headers).json()
            if again["model"] != first["model"]:
                break
            time.sleep(0.02)
        assert again["model"]["sha256"] != first["model"]["sha256"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    text = "".join(said)
    assert "POST /api/predict 200" in text
    assert "now serving model" in text
    assert TOKEN not in text


def test_others_are_not_let_in_without_a_token(
    one_channel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(one_channel), "--host", "0.0.0.0"]) == 1
    assert "--token-file" in capsys.readouterr().err


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "no-such-model", "--port", "0"]) == 1
    assert "there is no model 'no-such-model'" in capsys.readouterr().err


def test_a_certificate_that_is_none(
    one_channel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "not.pem"
    file.write_text("nothing")
    tls = ["--certificate", str(file), "--key", str(file)]
    assert main(["serve", str(one_channel), "--port", "0", *tls]) == 1
    assert "PEM" in capsys.readouterr().err


def test_without_the_extra_one_sentence_says_what_to_install(
    one_channel: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("napari_cellclf.server")]:
        monkeypatch.delitem(sys.modules, name)
    # The package's attribute is set by the import below, and has to be put back as well.
    monkeypatch.setattr(napari_cellclf, "server", napari_cellclf.server)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(one_channel)]) == 1
    said = capsys.readouterr().err
    assert 'pip install "napari-cellclf[server]"' in said
    assert "uvicorn" in said


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_ports_that_are_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "x", f"--port={port}"]) == 2
    assert "is not a port" in capsys.readouterr().err
