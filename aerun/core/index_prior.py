"""A prior over the indices of quantized codes: a small causal transformer, fitted to the indices of training images.

van den Oord, Vinyals & Kavukcuoglu 2017 (arXiv:1711.00937, section 3.3) fit a PixelCNN to the indices of a VQ-VAE after
its training; here it is a transformer over the sequence of indices, as in Esser, Rombach & Ommer 2021, "Taming
Transformers" (arXiv:2012.09841, section 3.2): p(s) = prod_t p(s_t | s_1 ... s_{t-1}).
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aerun.base.progress_bar import progress_bar
from aerun.base.seeding import Randomness, restored_generator, seeded
from aerun.contracts import Latent, Shape
from aerun.core.causal_transformer import DROPOUT, HEADS, LAYERS, WIDTH, CausalTransformer
from aerun.core.kept_weights import load_weights, save_weights
from aerun.dataset.paths import data_root
from aerun.errors import ConfigError

VERSION = 1  # of everything that changes a fitted prior
RATE = 3e-3  # of Adam, which falls linearly to 0
MAX_STEPS, MAX_EPOCHS = 1500, 40  # whichever is less
STEPS_PER_CHECK, PATIENCE = 75, 3  # of the held-out images; checks without a better one after which the fit ends
TOKENS_PER_BATCH = 2048
MAX_BATCH, MAX_HELD_OUT, MAX_HELD_OUT_TOKENS = 256, 1000, 64_000  # images, and their indices
HELD_OUT_SHARE = 0.1  # of the images
CHUNK = 64  # sequences that are sampled or measured at once
MAX_INDICES, MAX_ENTRIES = 256, 4096  # of a code, and of a codebook
SMOOTHINGS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # counts that every entry gets in advance, the rival's one choice
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexOrder:
    """The sequence of a code's indices [S,G,L]: position by position in raster order, vectors of a position in their
    order, stages of a vector from the first.

    ``places`` [T]: where the index of each step is in the flattened indices. ``books`` [T]: the codebook s G + g of
    each step, of ``entries`` entries.
    """

    shape: Shape
    places: Tensor
    books: Tensor
    entries: int

    def sequence(self, indices: Tensor) -> Tensor:
        """indices[N,S,G,L] -> sequences[N,T] on the CPU."""
        return indices.cpu().long().flatten(1)[:, self.places]

    def indices(self, sequences: Tensor) -> Tensor:
        """The inverse of ``sequence``."""
        found = torch.empty_like(sequences)
        found[:, self.places] = sequences
        return found.view(-1, *self.shape)


def order_of(latent: Latent, code_shape: Shape) -> IndexOrder:
    """The order of the indices of a quantized latent. ConfigError for codes that have none, or too many."""
    codebooks = latent.codebooks
    if codebooks is None:
        raise ConfigError("a prior over indices: this model's latent is not quantized; use the mixture")
    stages, groups, entries, dimension = codebooks.shape
    vectors, positions = code_shape[0] // dimension, math.prod(code_shape[1:])
    if not can_have_index_prior(latent, code_shape):
        raise ConfigError(
            f"a prior over indices: {stages * vectors * positions} indices of {entries} entries; at most {MAX_INDICES} "
            f"indices of {MAX_ENTRIES} entries are allowed; use the frequencies"
        )
    flat = torch.arange(stages * vectors * positions).view(stages, vectors, positions)
    places, length = flat.permute(2, 1, 0).flatten(), vectors * positions // groups
    return IndexOrder((stages, groups, length), places, places // length, entries)


def can_have_index_prior(latent: Latent, code_shape: Shape) -> bool:
    """Whether the latent is quantized, and its codes are short enough for a prior over their indices."""
    if (codebooks := latent.codebooks) is None:
        return False
    stages, _, entries, dimension = codebooks.shape
    return stages * math.prod(code_shape) // dimension <= MAX_INDICES and entries <= MAX_ENTRIES


@dataclass(frozen=True)
class IndexPrior:
    """A fitted prior. ``nats`` and ``independent_nats``: -log p of an image's indices, in nats, by the prior and by
    independent positions, means over ``held_out`` images that it was not fitted to, but that chose when to stop."""

    network: CausalTransformer
    order: IndexOrder
    frequencies: Tensor  # log p [T,K] of independent positions
    nats: float
    independent_nats: float
    held_out: int

    def nats_of(self, indices: Tensor) -> Tensor:
        """-log p of indices[N,S,G,L], in nats, [N] float64."""
        return _nats(self.network, self.order.sequence(indices))

    def independent_nats_of(self, indices: Tensor) -> Tensor:
        """-log p of indices[N,S,G,L] as the product of the frequencies at each position, in nats, [N] float64."""
        return _independent(self.frequencies, self.order.sequence(indices))

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """New indices [N,S,G,L]. More of the same seed begin with the same ones."""
        length = self.order.places.numel()
        uniform = torch.from_numpy(np.random.default_rng([seed, 2]).random((-(-count // CHUNK) * CHUNK, length)))
        device = next(self.network.parameters()).device
        found = []
        with torch.no_grad(), progress_bar("samples", len(uniform)) as bar:
            for chunk in uniform.to(device).split(CHUNK):
                drawn = torch.empty(CHUNK, 0, dtype=torch.long, device=device)
                for step in range(length):
                    shares = self.network.next_logits(drawn).double().softmax(1).cumsum(1)
                    chosen = torch.searchsorted(shares, chunk[:, step : step + 1].contiguous(), right=True)
                    drawn = torch.cat([drawn, chosen.clamp_max(self.order.entries - 1)], 1)
                found.append(drawn.cpu())
                bar.update(CHUNK)
        return self.order.indices(torch.cat(found)[:count])


def fit_index_prior(
    indices: Tensor, latent: Latent, code_shape: Shape, *, seed: int = 0, steps: int | None = None, keep: bool = True
) -> IndexPrior:
    """Fit a prior to the indices[N,S,G,L] of a quantized latent's codes[N,*code_shape], on the latent's device.

    Adam minimizes the mean -log p of an index for at most ``steps`` steps (default: 1,500, or 40 passes over the
    images); a tenth of the images, at most 1,000, is held out, and the weights with the least -log p of these are
    returned. The fit depends only on its arguments, and is kept
    in ``priors`` below $AERUN_DATA or ~/.cache/aerun unless ``keep`` is False. ConfigError for fewer than two codes,
    and for codes that ``order_of`` rejects.
    """
    order = order_of(latent, code_shape)
    if len(indices) < 2:
        raise ConfigError("a prior over indices needs at least two codes")
    sequences = order.sequence(indices)
    random = Randomness(seed, torch.device("cpu"))
    rows = torch.randperm(len(sequences), generator=random.at("held-out indices", 0))
    most = min(MAX_HELD_OUT, MAX_HELD_OUT_TOKENS // order.places.numel())
    held_out = max(1, min(most, round(HELD_OUT_SHARE * len(rows))))
    known, unseen = sequences[rows[held_out:]], sequences[rows[:held_out]]
    codebooks = latent.codebooks
    assert codebooks is not None
    size = max(1, min(MAX_BATCH, len(known), TOKENS_PER_BATCH // known.shape[1]))
    steps = steps or min(MAX_STEPS, -(-MAX_EPOCHS * len(known) // size))
    with restored_generator(), seeded(seed):
        network = CausalTransformer(order.books, order.entries).to(codebooks.device)
        path = data_root() / "priors" / f"{_key(sequences, order, seed, steps)}.npz"
        if not (keep and load_weights(path, network)):
            log.info("fitting a prior to the indices of %d images, at most %d steps", len(known), steps)
            _train(network, known, unseen, random, steps, size)
            if keep:
                save_weights(path, network)
    network.eval()
    found = _frequencies(known, unseen, order.entries)
    nats, independent = float(_nats(network, unseen).mean()), float(_independent(found, unseen).mean())
    log.info("prior: %.1f nats per held-out image; independent positions: %.1f", nats, independent)
    return IndexPrior(network, order, found, nats, independent, held_out)


def _train(
    network: CausalTransformer, known: Tensor, unseen: Tensor, random: Randomness, steps: int, size: int
) -> None:
    """Adam on minibatches of ``size`` images, with a rate that falls to 0; the weights of the best check remain."""
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    best, lowest, worse = copy.deepcopy(network.state_dict()), math.inf, 0
    with progress_bar("prior over indices", steps) as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            batch = torch.randint(len(known), (size,), generator=random.at("indices", step))
            optimizer.zero_grad()
            network.losses(known[batch].to(device)).mean().backward()
            optimizer.step()
            bar.update()
            if (step + 1) % STEPS_PER_CHECK and step + 1 < steps:
                continue
            network.eval()
            nats = float(_nats(network, unseen).mean())
            network.train()
            worse = 0 if nats < lowest else worse + 1
            if nats < lowest:
                best, lowest = copy.deepcopy(network.state_dict()), nats
            if worse == PATIENCE:
                break
    network.load_state_dict(best)


def _nats(network: CausalTransformer, sequences: Tensor) -> Tensor:
    device = next(network.parameters()).device
    with torch.no_grad():
        return torch.cat([network.losses(chunk.to(device)).double().sum(1).cpu() for chunk in sequences.split(CHUNK)])


def _frequencies(known: Tensor, unseen: Tensor, entries: int) -> Tensor:
    """log p [T,K] of each entry at each step, with the smoothing that is best for the held-out sequences."""
    counts = torch.stack([torch.bincount(column, minlength=entries) for column in known.T]).double()
    smoothed = [counts + more for more in SMOOTHINGS]
    tables = [(each / each.sum(1, keepdim=True)).log() for each in smoothed]
    return min(tables, key=lambda table: float(_independent(table, unseen).mean()))


def _independent(table: Tensor, sequences: Tensor) -> Tensor:
    return -table.T.gather(0, sequences).sum(1)


def _key(sequences: Tensor, order: IndexOrder, seed: int, steps: int) -> str:
    """What a fitted prior depends on, as 32 hexadecimal digits."""
    settings = (VERSION, WIDTH, HEADS, LAYERS, DROPOUT, RATE, TOKENS_PER_BATCH, order.shape, order.entries, seed, steps)
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (sequences, order.places):
        digest.update(repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
