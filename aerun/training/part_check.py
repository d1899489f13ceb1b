"""Checks users' parts by a pass of zeros before training, so that a mismatch is an error of one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aerun.base.seeding import restored_generator
from aerun.base.trial import check_tensor, format_shape, try_call, zeros
from aerun.config.deferred import Deferred, DeferredPart
from aerun.config.settings import Settings
from aerun.contracts import Loss, Noise
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data
from aerun.errors import ConfigError


def has_own_modules(settings: Settings) -> bool:
    """Whether the autoencoder has parts of users' classes, whose shapes only a pass can show."""
    return any(_is_users(part) for part in (settings.model, settings.sparsity, settings.latent))


def _is_users(part: Any) -> bool:
    has_users_argument = any(isinstance(value, Deferred) for value in _arguments(part).values())
    return isinstance(part, DeferredPart) or has_users_argument or not type(part).__module__.startswith("aerun.")


def _arguments(part: Any) -> Mapping[str, Any]:
    """The arguments of a part, built or not."""
    return part.deferred.arguments if isinstance(part, DeferredPart) else vars(part)


def name_of(settings: Settings, group: str, module: str = "") -> str:
    """The name of a part in messages: the class if it is a user's, or that of one of its modules; otherwise the
    option."""
    part = settings.parts()[group]
    given = {key: value.key for key, value in _arguments(part).items() if isinstance(value, Deferred)}
    if module in given:
        return given[module]
    if isinstance(part, DeferredPart):
        name = part.deferred.key
    elif given:
        name = " and ".join(given.values())
    elif _is_users(part):
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
    with restored_generator():
        x = zeros(autoencoder.input_shape, None if first is None else first.device)
        features = check_tensor(encoder, try_call(encoder, autoencoder.encoder, x, images))
        sparsity, latent = name_of(settings, "sparsity"), name_of(settings, "latent")
        given = try_call(sparsity, lambda features: autoencoder.sparsity(features, False), features, "the features")
        constrained = _code(sparsity, given)
        code = _code(latent, try_call(latent, lambda code: autoencoder.latent(code, None), constrained, "the features"))
        _same_shape(latent, code, zeros(autoencoder.code_shape), "the code of " + settings.name("model"))
        output = check_tensor(decoder, try_call(decoder, autoencoder.decoder, code, "the code"))
        _same_shape(decoder, output, zeros(autoencoder.output_shape), targets)
    autoencoder.train(was_training)


def _code(key: str, given: Any) -> Tensor:
    """The code in the result of a sparsity or a latent."""
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], list)):
        raise ConfigError(f"{key}: returns {type(given).__name__}, must return the code and a list of penalties")
    return check_tensor(key, given[0])


def _same_shape(key: str, given: Tensor, wanted: Tensor, what: str) -> None:
    if given.shape != wanted.shape:
        raise ConfigError(f"{key}: returns {format_shape(given)}, must be {format_shape(wanted)}, {what}")


@torch.no_grad()
def try_noise_and_loss(settings: Settings, data: Data, noise: Noise, loss: Loss, device: torch.device) -> None:
    """ConfigError, naming the part and the shapes, if a user's noise changes the shape of images, or a user's loss does
    not return a scalar. Both are built and on the device."""
    name = settings.name("dataset")
    if _is_users(settings.noise):
        key, images = name_of(settings, "noise"), zeros(data.input_shape, device)
        generator = torch.Generator(device)
        noisy = check_tensor(key, try_call(key, lambda x: noise(x, generator), images, f"the images of {name}"))
        _same_shape(key, noisy, images, f"the images of {name}")
    if _is_users(settings.loss):
        key, targets = name_of(settings, "loss"), zeros(data.output_shape, device)
        error = try_call(key, lambda x: loss(x, x), targets, f"the targets of {name}")
        if not isinstance(error, Tensor) or error.dim() > 0:
            what = f"a tensor of shape {list(error.shape)}" if isinstance(error, Tensor) else type(error).__name__
            raise ConfigError(f"{key}: returns {what}, must return a scalar tensor")
