"""What a run does, as a script that somebody writes for the purpose: for benchmarks/startup.py and the curious.

    python benchmarks/bare.py [FOLDER] [EPOCHS]

784-64-784 on the images of FOLDER (IDX files, gzipped; by default those that come with aerun), a tenth held out,
batches of 128, Adam. Prints the losses and saves one grid of reconstructions, reconstructions.png.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.utils import save_image

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "aerun/data/fashion_mnist_mini")
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 30


def read(name: str) -> torch.Tensor:
    with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).copy())


torch.manual_seed(0)
images, test = read("train"), read("t10k")
held_out, images = images[: len(images) // 10], images[len(images) // 10 :]
net = nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784))
optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)


@torch.no_grad()
def evaluate(part: torch.Tensor) -> float:
    chunks = (chunk.float() / 255 for chunk in part.split(1000))
    return sum(float(nn.functional.mse_loss(net(x), x)) * len(x) for x in chunks) / len(part)


for epoch in range(epochs):
    for rows in torch.randperm(len(images)).split(128):
        x = images[rows].float() / 255
        loss = nn.functional.mse_loss(net(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: training {loss.item():.5f}, validation {evaluate(held_out):.5f}")
print(f"test {evaluate(test):.6f}")
with torch.no_grad():
    x = test[:16].float() / 255
    save_image(torch.cat([x, net(x)]).view(-1, 1, 28, 28).clamp(0, 1), "reconstructions.png", nrow=16)
