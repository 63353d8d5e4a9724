"""Make the documentation's pictures of a report: ``python tools/report_picture.py``.

The model that ``cellclf demo`` trains is evaluated on simulated plates that it has not seen, three
batches in fields so small (64 pixels) that it makes mistakes. Needs Chromium (Debian's package
``chromium``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from napari_cellclf.cli import main as cellclf
from napari_cellclf.cli.demo.demo_folder import write_plate
from napari_cellclf.core.progress import ignore_progress, never_stop
from napari_cellclf.core.simulation import simulate_plate

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
#: Size of each picture, and what of the page is left out of it.
PICTURES = {
    "report-figures.png": ((1180, 862), "footer"),
    "report-mistakes.png": (
        (1180, 505),
        "header, section > :not(.mistakes, #e0-mistakes, #e0-mistakes + p), section ~ *",
    ),
}
COLOURS = 200


def main() -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="where the pictures go")
    parser.add_argument("--demo", type=Path, help="folder of an earlier cellclf demo")
    arguments = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("There is no Chromium; install it (Debian: apt-get install chromium).")
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="cellclf-report-") as folder:
        work = Path(folder)
        page = _make_report(work, arguments.demo)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, (size, hidden) in PICTURES.items():
            part = work / "part.html"
            style = f"<style>{hidden} {{ display: none }} main {{ padding-top: 1rem }}</style>"
            text = page.read_text(encoding="utf-8").replace("</head>", f"{style}</head>", 1)
            part.write_text(text, encoding="utf-8")
            _picture(browser, part.as_uri(), size, work / name)
            _shrink(work / name, arguments.out / name)
    return 0


def _make_report(work: Path, demo: Path | None) -> Path:
    if demo is None:
        demo = work / "demo"
        _succeed("demo", "--out", demo)
    batches = [
        site
        for batch in (1, 2, 3)
        for site in simulate_plate(
            wells_per_type=6, sites_per_well=1, size=64, batch=batch, seed=40 + batch
        )
    ]
    plates = work / "three-batches"
    write_plate(batches, plates, on_progress=ignore_progress, should_stop=never_stop)
    report = work / "report"
    _succeed("evaluate", demo / "demo-celltype.cellclf", plates, "--out", report)
    return report / "report.html"


def _succeed(*arguments: object) -> None:
    code = cellclf([str(argument) for argument in arguments])
    if code:
        sys.exit(code)


def _picture(browser: str, address: str, size: tuple[int, int], path: Path) -> None:
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--window-size={size[0]},{size[1]}", f"--screenshot={path}", address]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def _shrink(picture: Path, path: Path) -> None:
    with Image.open(picture) as whole:
        whole.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
