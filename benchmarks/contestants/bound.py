"""What the arithmetic alone would take: matrix products at the machine's best measured rate, and nothing else."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestants.nets import build
from benchmarks.contestants.task import Round, Task, Train, now, read_images

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}


def step_flops(model: str, batch: int, device: str = "cpu") -> float:
    """Floating-point operations of the products and convolutions of one training step, an image."""
    net, x = build(model).to(device), torch.rand(batch, 1, 28, 28, device=device)
    with FlopCounterMode(display=False) as counter:
        net.loss(x).backward()
    return counter.get_total_flops() / batch


def product_rate(size: int, device: str, seconds: float) -> float:
    """Operations a second of float32 products of square matrices."""
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    out = left @ right
    begin, count = now(device), 0
    while (elapsed := now(device) - begin) < seconds or not count:
        for _ in range(max(1, 10**9 // size**3)):
            torch.mm(left, right, out=out)
            count += 1
    return 2 * size**3 * count / elapsed


def prepare(task: Task) -> Train:
    """A round is so many steps' worth of images at the rate that is measured in it."""
    kind = task.device.partition(":")[0]
    size = max(SIZES[kind], key=lambda size: product_rate(size, task.device, 0.1))
    batch = min(task.batch, len(read_images(task.folder)[0]))
    flops = step_flops(task.model, batch, task.device)

    def train(steps: int) -> Round:
        images = steps * task.batch
        return Round(images, images * flops / product_rate(size, task.device, 0.2))

    return train
