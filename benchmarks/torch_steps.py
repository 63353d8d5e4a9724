"""Steps of a plain loop in PyTorch, for `train.py`, in a process of its own.

PyTorch and TensorFlow cannot be loaded into one process (both bring LLVM). For each line that comes
in, ``float32`` or ``bfloat16``, a step is taken in that precision, and its seconds go out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
import torchvision


def torch_step(name: str, side: int, count: int, bfloat16: bool) -> Callable[[], float]:
    """Make a step with AdamW and channels last, whose loss is waited for as well."""
    network = getattr(torchvision.models, name)(num_classes=4)
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.randn(count, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count) % 4
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Take the steps that are asked for."""
    name, side, count, threads = sys.argv[1], *map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    steps = {way: torch_step(name, side, count, way == "bfloat16") for way in WAYS}
    for line in sys.stdin:
        start = time.perf_counter()
        steps[line.strip()]()
        print(time.perf_counter() - start, flush=True)


WAYS = ("float32", "bfloat16")

if __name__ == "__main__":
    main()
