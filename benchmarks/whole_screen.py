"""How long the whole of RxRx1 takes, worked out from what one site costs.

    python benchmarks/whole_screen.py [--prepare-ms 24] [--compute-ms 5] [--kilobytes 90]

125,510 sites in 753,060 files (https://www.rxrx.ai/rxrx1). The two costs are processor milliseconds
a site, as ``benchmarks/folder.py`` prints them; the size is that of an average file. Of several
cores a part is lost, which `--efficiency` assumes.
"""

from __future__ import annotations

import argparse

SITES, FILES = 125_510, 753_060
#: Megabytes a second: one old disk, a network of 1 Gbit/s, one of 10 Gbit/s, a local SSD.
READERS = {"hard disk": 150, "1 Gbit/s": 118, "10 Gbit/s": 1180, "SSD": 3000}


def human(seconds: float) -> str:
    """Say a time in the unit that fits."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare-ms", type=float, default=24)
    parser.add_argument("--compute-ms", type=float, default=5)
    parser.add_argument("--kilobytes", type=float, default=90)
    parser.add_argument("--efficiency", type=float, default=0.8)
    arguments = parser.parse_args()
    both = arguments.prepare_ms + arguments.compute_ms
    print("| what | time |\n|---|---|")
    for cores in (1, 2, 64):
        efficiency = 1 if cores == 1 else arguments.efficiency
        seconds = SITES * both / 1000 / cores / efficiency
        print(f"| {cores} core{'s' * (cores > 1)} | {human(seconds)} |")
    for cores in (16, 64):
        seconds = SITES * arguments.prepare_ms / 1000 / cores / arguments.efficiency
        print(f"| preparing alone, {cores} cores, the network on a GPU | {human(seconds)} |")
    size = FILES * arguments.kilobytes / 1000
    for name, rate in READERS.items():
        print(f"| reading {size / 1000:.0f} GB, {name} ({rate} MB/s) | {human(size / rate)} |")


if __name__ == "__main__":
    main()
