"""A client written from the first project's published words alone.

"it enables a user to encode either a .png or .jpeg image file and produce a string version of this
data. It is very simple for a user to send this string information within a 'get' request [...] the
api address '/api/predict' [...] it comes as an array of four numbers. The python script will parse
the array and format it into a string with labels so it is easy to read for the user."
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.server.served_model import ServedModel, load_served

CLIENT = """
import io, sys
import httpx
from PIL import Image

image = Image.open(sys.argv[2])
encoded = io.BytesIO()
image.save(encoded, sys.argv[3])
response = httpx.request("GET", sys.argv[1] + "/api/predict", content=encoded.getvalue())
print(response.status_code)
print(response.text)
"""


@pytest.fixture(scope="module")
def four_classes(save_model: Any, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    path = tmp_path_factory.mktemp("seed") / "seed.cellclf"
    save_model(path, [{"name": "w2 ConA"}], classes=("HEPG2", "HUVEC", "RPE", "U2OS"))
    return load_served(str(path), 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_published_client_works(
    running: Any, four_classes: ServedModel, tmp_path: Path, kind: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "B02_s1_w2.png")
    with running(four_classes) as live:
        command = [sys.executable, "-c", CLIENT, live.url, str(tmp_path / "B02_s1_w2.png"), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    _check_four_numbers(done.stdout)


def test_it_gets_four_numbers_from_the_bundled_model(running: Any, tmp_path: Path) -> None:
    """One picture of stain w2, without its name, for a model of six stains."""
    site = simulate_site("U2OS", seed=1)
    Image.fromarray(site.to_cyx()[1]).save(tmp_path / "B02_s1_w2.png")
    bundled = load_served("rxrx1-celltype", 2)
    assert bundled.single_channel == "w2 ConA"
    with running(bundled) as live:
        file = str(tmp_path / "B02_s1_w2.png")
        command = [sys.executable, "-c", CLIENT, live.url, file, "PNG"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        content = Path(file).read_bytes()
        form = [("image", ("picture.png", content))]
        (lone,) = httpx.post(f"{live.url}/api/predict", files=form).json()["predictions"]
        named = [("image", ("B02_s1_w2.png", content))]
        (same,) = httpx.post(f"{live.url}/api/predict", files=named).json()["predictions"]
    _check_four_numbers(done.stdout)
    assert lone["probabilities"] == same["probabilities"]
    taken = "the image is one channel without a name, taken as w2 ConA"
    assert taken in lone["warnings"]
    assert taken not in same["warnings"]


def _check_four_numbers(said: str) -> None:
    status, text = said.splitlines()
    assert status == "200"
    answers = [part.split(": ") for part in text.split(", ")]
    assert [name for name, _ in answers] == ["HEPG2", "HUVEC", "RPE", "U2OS"]
    assert all(len(value) == 6 for _, value in answers)
    assert sum(float(value) for _, value in answers) == pytest.approx(1, abs=2e-4)
