"""Small models of known health, without training: PCA's own weights on pictures of a few blobs."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.latent import Deterministic, Gaussian
from aerun.sparsity import NoSparsity

SIDE = 8


def pictures(count: int, seed: int = 0) -> Tensor:
    """Sums of six smooth patterns with random weights, in [0,1]: [N,1,8,8]."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(0, torch.pi, SIDE)
    patterns = torch.stack([torch.outer((i * axis).cos(), (j * axis).cos()) for i in range(2) for j in range(1, 4)])
    weights = torch.randn(count, 6, generator=generator)
    return torch.sigmoid(torch.einsum("nk,khw->nhw", weights, patterns))[:, None]


def pca_autoencoder(
    code_size: int = 6,
    hidden: list[int] | None = None,
    activation: type[nn.Module] = nn.ReLU,
    output_activation: str = "identity",
    code_activation: str = "identity",
) -> Autoencoder:
    """Linear, with the weights of PCA, which is as healthy as a linear code can be; with ``hidden`` layers, random."""
    images = pictures(300, seed=1).flatten(1)
    mean = images.mean(0)
    vectors = torch.linalg.eigh((images - mean).T @ (images - mean)).eigenvectors.flip(1)[:, :code_size]
    if hidden:
        torch.manual_seed(0)
        sizes = [SIDE * SIDE, *hidden, code_size]
        inner = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), activation())]
        sizes = sizes[::-1]
        outer = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), activation())]
        encoder, decoder = (
            nn.Sequential(nn.Flatten(), *inner[:-1]),
            nn.Sequential(*outer[:-1], nn.Unflatten(1, (1, 8, 8))),
        )
    else:
        down, up = nn.Linear(SIDE * SIDE, code_size), nn.Linear(code_size, SIDE * SIDE)
        down.weight.data, down.bias.data = vectors.T.clone(), -(mean @ vectors)
        up.weight.data, up.bias.data = vectors.clone(), mean.clone()
        encoder, decoder = nn.Sequential(nn.Flatten(), down), nn.Sequential(up, nn.Unflatten(1, (1, 8, 8)))
    return Autoencoder(
        encoder,
        decoder,
        input_shape=(1, SIDE, SIDE),
        output_shape=(1, SIDE, SIDE),
        code_shape=(code_size,),
        sparsity=NoSparsity(code_activation),  # type: ignore[arg-type]
        latent=Deterministic(),
        output_activation=output_activation,
    )


def vae(code_size: int = 6, beta: float = 4.0) -> Autoencoder:
    """PCA's weights for the means, and small variances."""
    plain = pca_autoencoder(code_size)
    first = plain.encoder[1]  # type: ignore[index]
    both = nn.Linear(SIDE * SIDE, 2 * code_size)
    both.weight.data = torch.cat([first.weight.data, torch.zeros_like(first.weight.data)])
    both.bias.data = torch.cat([first.bias.data, torch.full((code_size,), -4.0)])
    plain.encoder, plain.latent = nn.Sequential(nn.Flatten(), both), Gaussian(beta)
    return plain
