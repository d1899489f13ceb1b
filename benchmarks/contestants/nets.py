"""The networks, written out by hand, for everyone but aerun."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What aerun is told to get the same.
MODELS = {
    "fc": ["model=fc"],
    "fc_deep": ["model=fc_deep"],
    "big": ["model=fc_deep", "model.hidden=[1000,500,250]", "model.code_size=30"],
    "conv": ["model=conv"],
    "conv_fc": ["model=conv_fc"],
    "vae": ["model=vae"],
}


class Net(nn.Module):
    """An encoder and a decoder of images [B,1,28,28]; a Gaussian encoder gives means, then log-variances."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, gaussian: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder, self.gaussian = encoder, decoder, gaussian

    def loss(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Mean squared error; for a Gaussian code with the KL divergence, per pixel. ``noise``: to fix its draw."""
        if not self.gaussian:
            return F.mse_loss(self.decoder(self.encoder(x)), x)
        mean, log_variance = self.encoder(x).chunk(2, 1)
        draw = torch.randn_like(mean) if noise is None else noise
        code = mean + (0.5 * log_variance).exp() * draw
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
        return F.mse_loss(self.decoder(code), x) + kl / 784


def build(model: str) -> Net:
    """The network of that name, with fresh weights."""
    image = nn.Unflatten(1, (1, 28, 28))
    if model == "fc":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU())
        return Net(encoder, nn.Sequential(nn.Linear(64, 784), image))
    if model in ("fc_deep", "big"):
        widths = [784, 128, 64, 32, 2] if model == "fc_deep" else [784, 1000, 500, 250, 30]
        return Net(
            nn.Sequential(nn.Flatten(), *_linear(widths)),
            nn.Sequential(*_linear(widths[::-1]), image),
        )
    if model == "conv":
        return Net(nn.Sequential(*_down(), nn.ReLU()), nn.Sequential(*_up()))
    if model == "vae":
        encoder = nn.Sequential(*_down(), nn.ReLU(), nn.Flatten(), nn.Linear(576, 32))
        return Net(encoder, nn.Sequential(nn.Linear(16, 576), nn.ReLU(), nn.Unflatten(1, (64, 3, 3)), *_up()), True)
    if model == "conv_fc":
        encoder = nn.Sequential(
            *(nn.Conv2d(1, 8, 6), nn.LeakyReLU()),
            *(nn.Conv2d(8, 8, 6), nn.LeakyReLU()),
            *(nn.Conv2d(8, 8, 6), nn.LeakyReLU()),
            *(nn.Conv2d(8, 8, 6), nn.MaxPool2d(2), nn.Flatten(), nn.LeakyReLU()),
        )
        return Net(encoder, nn.Sequential(nn.Linear(128, 784), image))
    raise ValueError(f"{model}: there is no such network; there are {', '.join(MODELS)}")


def _linear(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU()]
    return layers[:-1]


def _down() -> list[nn.Module]:
    return [
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        nn.Conv2d(32, 64, 3, 2, 0),
    ]


def _up() -> list[nn.Module]:
    return [
        *(nn.ConvTranspose2d(64, 32, 3, 2, 0), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 1, 3, 2, 1, output_padding=1), nn.Sigmoid()),
    ]
