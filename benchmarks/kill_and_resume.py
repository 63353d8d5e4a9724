"""Whether a training that is killed ends with the very weights of one that is not.

``python benchmarks/kill_and_resume.py`` simulates a plate, trains on it with ``cellclf train`` and
``reproducible=true``, then trains the same again while SIGKILL ends the process at ten random
moments of the work, and starts it again each time. It prints where each process took up the work
and where it died (what lies between one's death and the next one's start was lost), compares the
weights of both models, number by number, and ends with 1 if any differs.

``--kills N`` for another number of kills, ``--seed S`` for other moments, ``--keep`` to keep the
folder with both runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.cli.demo.demo_folder import write_plate
from napari_cellclf.core.progress import ignore_progress, never_stop
from napari_cellclf.core.simulation import simulate_plate
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.runs.progress_log import read_progress

#: A stage on a frozen network and one on the whole, with all that draws random numbers.
SETTINGS = (
    "parameters.width=8",
    "parameters.depth=3",
    "size=[64,64]",
    "crop=48",
    "head_epochs=20",
    "epochs=30",
    "steps_per_epoch=20",
    "batch_size=8",
    "mixup=0.2",
    "checkpoint_seconds=1",
    "reproducible=true",
)


@dataclass
class Death:
    """Where a process was killed.

    Parameters
    ----------
    seconds : float
        Since it was started.
    where : str
        The last that it told.
    begun, done : int
        Parts of the work that were done when it had taken up the run, and when it was killed.
    checkpoints : int
        States that it wrote.
    """

    seconds: float
    where: str
    begun: int
    done: int
    checkpoints: int


def main() -> int:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    if args.keep:
        return compare(Path(tempfile.mkdtemp(prefix="kill-and-resume-")), args.kills, args.seed)
    with tempfile.TemporaryDirectory(prefix="kill-and-resume-") as folder:
        return compare(Path(folder), args.kills, args.seed)


def compare(folder: Path, kills: int, seed: int) -> int:
    """Train in a folder, once at a stretch and once in pieces; 1 if the weights differ."""
    plate = simulate_plate(wells_per_type=6, sites_per_well=2, size=128)
    write_plate(plate, folder / "plate", on_progress=ignore_progress, should_stop=never_stop)
    whole, pieces = folder / "whole", folder / "pieces"
    began = time.perf_counter()
    finish(begin(folder, whole))
    seconds = time.perf_counter() - began
    total = read_progress(whole / "progress.jsonl")[0][0]["total"]
    print(f"{folder}: uninterrupted in {seconds:.0f} s, {total} parts of work\n")
    print("kill  after s  went on at  killed at  states written  it was")
    random = np.random.default_rng(seed)
    for number, target in enumerate(np.sort(random.uniform(0, 0.97, kills)) * total, start=1):
        process, later = resume(folder, pieces), float(random.uniform(0, 0.3))
        death = kill_at(process, pieces / "progress.jsonl", float(target), later)
        print(
            f"{number:4d}  {death.seconds:7.1f}  {death.begun / total:10.1%}  "
            f"{death.done / total:9.1%}  {death.checkpoints:14d}  {death.where}",
            flush=True,
        )
    finish(resume(folder, pieces))
    return judge(whole, pieces, kills)


def begin(folder: Path, run: Path) -> subprocess.Popen[str]:
    """Start a new run."""
    settings = [word for one in SETTINGS for word in ("--set", one)]
    return start(folder, "train", str(folder / "plate"), "--out", str(run), *settings)


def resume(folder: Path, run: Path) -> subprocess.Popen[str]:
    """Start what was killed again; if it was killed before there was a run, from the start."""
    return start(folder, "train", str(run)) if (run / "run.json").is_file() else begin(folder, run)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a process whose cache is in the same folder for both runs."""
    environment = os.environ | {"CELLCLF_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "napari_cellclf", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a process that must end well."""
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"a training ended with {process.returncode}: {said.strip()}")


def kill_at(process: subprocess.Popen[str], log: Path, target: float, later: float) -> Death:
    """Kill a process a while after it has done so much of the whole work."""
    began = time.perf_counter()
    _, offset = read_progress(log)
    records: list[Mapping[str, Any]] = []
    while process.poll() is None:
        new, offset = read_progress(log, offset)
        records += new
        if any(record.get("done", -1) >= target for record in records):
            # Lines come at most four times a second; the moment shall not be one of theirs.
            time.sleep(later)
            break
        time.sleep(0.005)
    process.kill()
    _, said = process.communicate()
    if process.returncode >= 0:
        raise SystemExit(f"a training ended by itself with {process.returncode}: {said.strip()}")
    records += read_progress(log, offset)[0]
    seconds = time.perf_counter() - began
    told = [record for record in records if record["event"] == "step"]
    # Before it trains, a process finds what earlier ones prepared.
    steps = [record for record in told if "epoch" in record]
    return Death(
        seconds,
        told[-1]["message"] if told else "starting",
        steps[0]["done"] if steps else 0,
        told[-1]["done"] if told else 0,
        sum(record["event"] == "checkpoint" for record in records),
    )


def judge(whole: Path, pieces: Path, kills: int) -> int:
    """Compare both models."""
    one, other = (
        KerasEngine.load(ModelBundle.load(run / "model.cellclf")).network.get_weights()
        for run in (whole, pieces)
    )
    differing = sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
    numbers = sum(weight.size for weight in one)
    largest = max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
    print(
        f"\nafter {kills} kills: {differing} of {numbers} weights differ "
        f"(largest difference {largest:g})"
    )
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
