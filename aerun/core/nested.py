"""The layers of an autoencoder: autoencoders nested in it, and freezing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.errors import ConfigError, nearest
from aerun.latent import Deterministic
from aerun.model.linear_path import LinearPath
from aerun.model.modules import ACTIVATIONS, Tied
from aerun.sparsity import NoSparsity

PARTS = ("sparsity", "latent", "regularizer")


def nested(whole: Autoencoder, pairs: int) -> Autoencoder:
    """The autoencoder of the outermost ``pairs`` layer pairs, which shares its layers with ``whole``.

    Its code is the input of the next pair, after the hidden activation, without a sparsity or latent. With all pairs it
    is ``whole`` itself.
    """
    assert whole.cuts is not None
    if pairs > len(whole.cuts):
        return whole
    end, start = whole.cuts[pairs - 1]
    assert isinstance(whole.encoder, nn.Sequential) and isinstance(whole.decoder, nn.Sequential)
    inner = copy.copy(whole)
    # These may be modules, which the nested autoencoder must not share.
    inner._modules = {name: child for name, child in whole._modules.items() if name not in PARTS}
    inner.encoder, inner.decoder = whole.encoder[:end], whole.decoder[start:]  # names of layers stay the same
    inner.sparsity, inner.latent, inner.cuts = NoSparsity("identity"), Deterministic(), whole.cuts[: pairs - 1]
    inner.regularizers = {}
    with torch.no_grad():
        code = inner.encoder(torch.zeros(1, *whole.input_shape, device=whole.device))
    inner.code_shape = tuple(code.shape[1:])
    return inner


def has_linear_path(autoencoder: Autoencoder) -> bool:
    """Whether principal components are a fixed path around both networks."""
    return isinstance(autoencoder.encoder, LinearPath)


def layers(autoencoder: Autoencoder) -> list[str]:
    """The names of all layers that have parameters or buffers, as ``freeze`` takes them: encoder.1, … decoder.0, …"""
    paths = (name.rpartition(".")[0] for name in autoencoder.state_dict())
    return list(dict.fromkeys(path for path in paths if not path.startswith("standardise_")))


def find_tensor(layer: nn.Module, name: str) -> Tensor | None:
    """The tensor ``layer.name``, such as ``weight`` or ``bias``: a parameter, a buffer, or a property as in tied
    layers. None if the layer does not have it."""
    value = getattr(layer, name, None)
    return value if isinstance(value, Tensor) else None


def tied_weight(layer: nn.Module) -> Tensor | None:
    """The weight that a tied layer shares, in the layout of an untied layer; None for other layers."""
    if not isinstance(layer, Tied):
        return None
    return layer.weight.t() if layer.weight.dim() == 2 else layer.weight


def activation_name(layer: nn.Module) -> str | None:
    """The name of an activation: that of the key ``activation``, or else the class; None for other layers."""
    for name, kind in ACTIVATIONS.items():
        if type(layer) is kind:
            return name
    return type(layer).__name__ if type(layer).__module__ == "torch.nn.modules.activation" else None


def freeze(autoencoder: Autoencoder, names: Sequence[str]) -> None:
    """Freeze the named layers. A prefix, such as ``encoder``, means all layers below it. Parameters that the model
    itself never trains stay frozen. Frozen layers stay in evaluation mode, so that buffers such as a codebook or batch
    statistics do not change either.

    ConfigError for an unknown name, and if nothing is left to train.
    """
    parameters, known = list(autoencoder.named_parameters()), layers(autoencoder)
    for name in names:
        if not any(_within(path, name) for path in (*known, *dict(parameters))):
            raise ConfigError(
                f"freeze={name}: there is no such layer.{nearest(name, known)} Layers: {', '.join(known)}"
            )
    autoencoder.fixed = frozenset(name for name, parameter in parameters if not parameter.requires_grad)
    modules = (path for path, _ in autoencoder.named_modules())
    autoencoder.frozen = tuple(path for path in modules if any(_within(path, name) for name in names))
    if not freeze_only(autoencoder, names):
        raise ConfigError(f"freeze=[{','.join(names)}]: nothing would be left to train")


def freeze_only(autoencoder: Autoencoder, names: Sequence[str], others: Iterable[nn.Parameter] = ()) -> bool:
    """Train all parameters except the named layers, ``others``, and those that the model itself never trains
    (``fixed``). Returns whether any are left to train."""
    frozen = {id(parameter) for parameter in others}
    trained = False
    for path, parameter in autoencoder.named_parameters():
        is_frozen = id(parameter) in frozen or path in autoencoder.fixed or any(_within(path, name) for name in names)
        parameter.requires_grad_(not is_frozen)
        trained |= parameter.requires_grad
    return trained


def _within(parameter: str, name: str) -> bool:
    return name != "" and (parameter == name or parameter.startswith(f"{name}."))
