"""How long a run takes to stop, in each of its parts.

``python benchmarks/stop_everywhere.py`` simulates a plate, starts ``cellclf train`` on it, and asks
it to stop as soon as its log shows a part of the work, by Ctrl-C and by the file ``stop`` in turns;
then resumes it, and stops it in the next part. It prints the seconds until the process had ended,
and ends with 1 if any took longer than 10.

``--architecture A`` for another network than MobileNetV2, ``--size N`` for other images than 96
pixels.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from napari_cellclf.cli.demo.demo_folder import write_plate
from napari_cellclf.core.progress import ignore_progress, never_stop
from napari_cellclf.core.simulation import simulate_plate
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress

#: Seconds that a stop may take.
LIMIT = 10.0
#: A line of the log that shows each part, and the part.
PARTS = (
    ({"event": "start"}, "opened"),
    ({"event": "stage", "stage": "prepare"}, "preparing images"),
    ({"event": "stage", "stage": "build"}, "preparing the network"),
    ({"event": "stage", "stage": "features"}, "compiling the backbone"),
    ({"event": "step", "stage": "features"}, "computing features"),
    ({"event": "step", "stage": "head"}, "training the head"),
    ({"event": "stage", "stage": "network"}, "compiling the network"),
    ({"event": "step", "stage": "network"}, "training the network"),
    ({"event": "step", "stage": "network", "epoch": 2}, "training or validating"),
    ({"event": "stage", "stage": "evaluate"}, "evaluating"),
    ({"event": "stage", "stage": "save"}, "writing report and model"),
)


def main() -> int:
    """Stop a run in each of its parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="mobilenetv2")
    parser.add_argument("--size", type=int, default=96)
    args = parser.parse_args()
    settings = [
        *("--architecture", args.architecture, "--weights", "none", "--batch-size", "16"),
        *("--set", f"size=[{args.size},{args.size}]", "--set", "crop=null", "--epochs", "2"),
        *("--set", "head_epochs=20", "--set", "steps_per_epoch=5"),
    ]
    with tempfile.TemporaryDirectory(prefix="stop-everywhere-") as name:
        folder = Path(name)
        plate = simulate_plate(wells_per_type=6, sites_per_well=2, size=128)
        write_plate(plate, folder / "plate", on_progress=ignore_progress, should_stop=never_stop)
        print("seconds  asked by  in")
        slowest = max(
            stop(folder, settings, fields, part, by_file=bool(number % 2))
            for number, (fields, part) in enumerate(PARTS)
        )
    print(f"\nthe slowest took {slowest:.1f} s")
    return int(slowest > LIMIT)


def stop(
    folder: Path, settings: list[str], fields: dict[str, object], part: str, *, by_file: bool
) -> float:
    """Start or resume the run, ask it to stop in a part, and return how long that took."""
    run = RunFolder(folder / "run")
    new = [str(folder / "plate"), "--out", str(run.path), *settings]
    _, offset = read_progress(run.log)
    child = subprocess.Popen(
        [sys.executable, "-m", "napari_cellclf", "train", *([str(run.path)] if offset else new)],
        env=os.environ | {"CELLCLF_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None:
        records, offset = read_progress(run.log, offset)
        if any(fields.items() <= record.items() for record in records):
            break
        time.sleep(0.005)
    began = time.perf_counter()
    if by_file:
        run.ask_to_stop()
    else:
        child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    seconds = time.perf_counter() - began
    if child.returncode not in (0, 130):
        raise SystemExit(f"{part}: ended with {child.returncode}: {said.strip()}")
    how = "finished" if child.returncode == 0 else "file" if by_file else "Ctrl-C"
    last = read_progress(run.log, offset)[0][-1:]
    told = last[0].get("message", "") if last else ""
    print(f"{seconds:7.1f}  {how:8s}  {part}: {told}", flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
