"""An autoencoder's layers one by one: those nested in it, layers that stay as they are, and another run's layers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from aerun.config.schema import nearest
from aerun.core.autoencoder import Autoencoder
from aerun.errors import ConfigError
from aerun.latent import Deterministic
from aerun.sparsity import NoSparsity

log = logging.getLogger(__name__)


def nested(whole: Autoencoder, pairs: int) -> Autoencoder:
    """The autoencoder of the outermost ``pairs`` layer pairs, which it shares with the whole.

    Its code is what the next pair would see, the hidden activation included; nothing else constrains it. With all
    pairs it is the whole itself.
    """
    assert whole.cuts is not None
    if pairs > len(whole.cuts):
        return whole
    end, start = whole.cuts[pairs - 1]
    assert isinstance(whole.encoder, nn.Sequential) and isinstance(whole.decoder, nn.Sequential)
    inner = copy.copy(whole)
    inner._modules = dict(whole._modules)
    inner.encoder, inner.decoder = whole.encoder[:end], whole.decoder[start:]  # names of layers stay the same
    inner.sparsity, inner.latent, inner.cuts = NoSparsity("identity"), Deterministic(), whole.cuts[: pairs - 1]
    with torch.no_grad():
        code = inner.encoder(torch.zeros(1, *whole.input_shape, device=whole.device))
    inner.code_shape = tuple(code.shape[1:])
    return inner


def layers(autoencoder: Autoencoder) -> list[str]:
    """The names of all layers that have parameters, as ``freeze`` takes them: encoder.1, … decoder.0, …"""
    return list(dict.fromkeys(name.rpartition(".")[0] for name, _ in autoencoder.named_parameters()))


def freeze(autoencoder: Autoencoder, names: Sequence[str]) -> None:
    """Hold the named layers (a name's beginning means all that begin so), beside what the model holds itself.

    ConfigError for a name that there is not, and where nothing is left to train.
    """
    parameters = list(autoencoder.named_parameters())
    for name in names:
        if not any(_within(path, name) for path, _ in parameters):
            known = layers(autoencoder)
            raise ConfigError(
                f"freeze={name}: there is no such layer.{nearest(name, known)} Layers: {', '.join(known)}"
            )
    autoencoder.fixed = frozenset(name for name, parameter in parameters if not parameter.requires_grad)
    if not hold(autoencoder, names):
        raise ConfigError(f"freeze=[{','.join(names)}]: nothing would be left to train")


def hold(autoencoder: Autoencoder, names: Sequence[str], others: Iterable[nn.Parameter] = ()) -> bool:
    """Let all be trained but the named layers, ``others`` and what is ``fixed``; whether that leaves anything."""
    held = {id(parameter) for parameter in others}
    trained = False
    for path, parameter in autoencoder.named_parameters():
        is_held = id(parameter) in held or path in autoencoder.fixed or any(_within(path, name) for name in names)
        parameter.requires_grad_(not is_held)
        trained |= parameter.requires_grad
    return trained


def _within(parameter: str, name: str) -> bool:
    return name != "" and (parameter == name or parameter.startswith(f"{name}."))
