"""The plainest fast loop there is: images as one tensor, a batch an index into it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.contestants.nets import Net, build
from benchmarks.contestants.task import LEARNING_RATE, Round, Task, Train, now, read_images


def prepare(task: Task, fused: bool = True) -> Train:
    """``fused``: torch's fused Adam, the fastest it has; else the one that comes without being asked for."""
    images, held_out = (part.to(task.device) for part in read_images(task.folder))

    def train(steps: int) -> Round:
        net = build(task.model).to(task.device)
        optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True if fused else None)
        begin, seen = now(task.device), 0
        while True:
            for rows in torch.randperm(len(images), device=task.device).split(task.batch):
                x = images[rows].float().div_(255)
                loss = net.loss(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps, seen = steps - 1, seen + len(x)
                if steps == 0:
                    end = now(task.device)
                    return Round(seen, end - begin, len(held_out), evaluate(net, held_out, task.device))

    return train


@torch.no_grad()
def evaluate(net: Net, images: Tensor, device: str) -> float:
    """Seconds that the mean loss of uint8 images takes."""
    begin = now(device)
    total = sum(net.loss(chunk.float().div_(255)) * len(chunk) for chunk in images.split(1000))
    float(total / len(images))
    return now(device) - begin
