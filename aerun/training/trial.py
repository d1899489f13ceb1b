"""One pass of zeros through parts of one's own, before anything trains: what does not fit is an error of one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aerun.base.trial import tensor_of, tried, written, zeros
from aerun.config.deferred import Deferred, DeferredPart
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.errors import ConfigError


def has_own_modules(settings: Settings) -> bool:
    """Whether the autoencoder is, in part, of classes that are not aerun's, whose shapes only a pass can tell."""
    return any(_is_own(part) for part in (settings.model, settings.sparsity, settings.latent))


def _is_own(part: Any) -> bool:
    is_given_one = any(isinstance(value, Deferred) for value in _arguments(part).values())
    return isinstance(part, DeferredPart) or is_given_one or not type(part).__module__.startswith("aerun.")


def _arguments(part: Any) -> Mapping[str, Any]:
    """The arguments of a part, built or not."""
    return part.deferred.arguments if isinstance(part, DeferredPart) else vars(part)


def name_of(settings: Settings, group: str, module: str = "") -> str:
    """How a part is named in a message: its class if that is somebody's own, or that of one of its modules."""
    part = vars(settings)[group]
    given = {key: value.key for key, value in _arguments(part).items() if isinstance(value, Deferred)}
    if module in given:
        return given[module]
    if isinstance(part, DeferredPart):
        name = part.deferred.key
    elif given:
        name = " and ".join(given.values())
    elif _is_own(part):
        name = f"{group}._target_={type(part).__module__}.{type(part).__qualname__}"
    else:
        name = settings.name(group)
    return f"{name}: its {module}" if module else name


@torch.no_grad()
def try_pass(settings: Settings, autoencoder: Autoencoder) -> None:
    """ConfigError, naming the part and the shapes, if a part does not take what the one before it returns."""
    was_training, first = autoencoder.training, next(autoencoder.parameters(), None)
    autoencoder.eval()
    encoder, decoder = (name_of(settings, "model", side) for side in ("encoder", "decoder"))
    images, targets = f"the images of {settings.name('dataset')}", f"the targets of {settings.name('dataset')}"
    with torch.random.fork_rng(devices=[]):
        x = zeros(autoencoder.input_shape, None if first is None else first.device)
        features = tensor_of(encoder, tried(encoder, autoencoder.encoder, x, images))
        sparsity, latent = name_of(settings, "sparsity"), name_of(settings, "latent")
        given = tried(sparsity, lambda features: autoencoder.sparsity(features, False), features, "the features")
        constrained = _code(sparsity, given)
        code = _code(latent, tried(latent, lambda code: autoencoder.latent(code, None), constrained, "the features"))
        _same_shape(latent, code, zeros(autoencoder.code_shape), "the code of " + settings.name("model"))
        output = tensor_of(decoder, tried(decoder, autoencoder.decoder, code, "the code"))
        _same_shape(decoder, output, zeros(autoencoder.output_shape), targets)
    autoencoder.train(was_training)


def _code(key: str, given: Any) -> Tensor:
    """The code of what a sparsity or a latent returns."""
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], list)):
        raise ConfigError(f"{key}: returns {type(given).__name__}, must return the code and a list of penalties")
    return tensor_of(key, given[0])


def _same_shape(key: str, given: Tensor, wanted: Tensor, what: str) -> None:
    if given.shape != wanted.shape:
        raise ConfigError(f"{key}: returns {written(given)}, must be {written(wanted)}, {what}")
