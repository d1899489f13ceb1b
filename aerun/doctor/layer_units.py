"""The units of every layer over some images, measured as the images pass: only a few numbers of each layer are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.core.nested import activation_name, find_tensor
from aerun.doctor.examination import Layer

BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
CAN_DIE = ("relu", "relu6", "threshold", "hardshrink", "softshrink")  # 0 for whole ranges of inputs
ROUNDING = 1e-6  # of the largest value: smaller differences count as none


@torch.no_grad()
def measure_layers(model: nn.Module, images: Tensor) -> list[Layer]:
    """The layers of an autoencoder in the order in which images[N,...] pass them, ``code`` among them. A hidden layer
    has the name of the layer with the weights, as ``freeze`` takes it. The model stays in its mode."""
    measured: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name, function=function: _record(measured, name, output, BOUNDS.get(function))
        )
        for name, module, function in _activations(model)
    ]
    remove_code_hook = _hook_code(model, measured)
    was_training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
        remove_code_hook()
    if not measured:
        return []
    numbers = torch.stack([values for _, values in measured]).tolist()  # the device is waited for once
    return [
        Layer(name, int(units), still, dead, saturated, None if math.isnan(variation) else variation)
        for (name, _), (units, still, dead, saturated, variation) in zip(measured, numbers, strict=True)
    ]


def _activations(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Each activation with the name of the layer before it, and the name of its function in lower case. Those of layers
    that the model never trains, such as a pretrained network's, are left out: nothing is wrong with them."""
    last = ""
    fixed = model.fixed if isinstance(model, Autoencoder) else frozenset[str]()
    for name, module in model.named_modules():
        if next(module.children(), None) is not None:
            continue
        if find_tensor(module, "weight") is not None:
            last = name
        elif last and f"{last}.weight" not in fixed and (function := activation_name(module)) is not None:
            yield last, module, function.lower()


def _hook_code(model: nn.Module, measured: list[tuple[str, Tensor]]) -> Callable[[], None]:
    """Record the decoder's input as ``code``; returns a function that removes the hook."""
    decoder = dict(model.named_children()).get("decoder")
    if decoder is None:
        return lambda: None
    handle = decoder.register_forward_pre_hook(lambda _, inputs: _record(measured, "code", inputs[0], None))
    return handle.remove


def _record(measured: list[tuple[str, Tensor]], name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
    measured.append((name, unit_statistics(output.detach().float(), bounds)))


def unit_statistics(values: Tensor, bounds: tuple[float, float] | None = None) -> Tensor:
    """values[N,U,...] -> [5]: the number of units, and the numbers ``still``, ``dead``, ``saturated`` and ``variation``
    of ``Layer``, the last one NaN if all values are 0."""
    units = values.transpose(0, 1).flatten(1)
    low, high = units.amin(1), units.amax(1)
    size = torch.maximum(low.abs(), high.abs())
    still = high - low <= ROUNDING * size
    saturated = values.new_zeros(())
    if bounds is not None:
        margin = 0.01 * (bounds[1] - bounds[0])
        saturated = ((values <= bounds[0] + margin) | (values >= bounds[1] - margin)).float().mean()
    rows = values.flatten(1)
    variance = (rows - rows.mean(0)).square().mean(0).sum()
    square = rows.square().mean(0).sum()
    count = values.new_tensor(float(len(units)))
    dead = (still & (size == 0)).float().mean()
    return torch.stack([count, still.float().mean(), dead, saturated, variance / square])


def has_units_that_die(model: nn.Module) -> bool:
    """Whether units of some hidden layer can be 0 for whole ranges of inputs."""
    return any(function in CAN_DIE for _, _, function in _activations(model))
