"""The units of every layer over some images, taken as the images pass: nothing but the numbers is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from aerun.doctor.examination import Layer
from aerun.model.modules import Activate

BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
STILL = 1e-6  # of the largest value: less is rounding


@torch.no_grad()
def layers_of(model: nn.Module, images: Tensor) -> list[Layer]:
    """The layers of an autoencoder in the order in which images[N,...] pass them, hidden ones by the name of the layer
    with the weights, as ``freeze`` knows it, and ``code``. The model is left in the mode in which it was."""
    found: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name, bounds=bounds: _note(found, name, output, bounds))
        for name, module, bounds in _activations(model)
    ]
    before = _code_hook(model, found)
    was_training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
        before()
    if not found:
        return []
    numbers = torch.stack([values for _, values in found]).tolist()  # the device is waited for once
    return [
        Layer(name, int(units), still, dead, saturated, variation)
        for (name, _), (units, still, dead, saturated, variation) in zip(found, numbers, strict=True)
    ]


def _activations(model: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[float, float] | None]]:
    """Nonlinearities with the name of the layer before them, and the bounds of what they give."""
    last = ""
    for name, module in model.named_modules():
        if next(module.children(), None) is not None:
            continue
        if isinstance(getattr(module, "weight", None), Tensor):
            last = name
        elif last and (isinstance(module, Activate) or type(module).__module__ == "torch.nn.modules.activation"):
            yield last, module, BOUNDS.get(_activation_name(module))


def _activation_name(module: nn.Module) -> str:
    return module.name if isinstance(module, Activate) else type(module).__name__


def _code_hook(model: nn.Module, found: list[tuple[str, Tensor]]) -> Callable[[], None]:
    """Note what enters the decoder; what ends that."""
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Module):
        return lambda: None
    handle = decoder.register_forward_pre_hook(lambda _, inputs: _note(found, "code", inputs[0], None))
    return handle.remove


def _note(found: list[tuple[str, Tensor]], name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
    found.append((name, statistics(output.detach().float(), bounds)))


def statistics(values: Tensor, bounds: tuple[float, float] | None = None) -> Tensor:
    """values[N,U,...] -> units, and the shares still, dead and saturated, and the variation, of ``Layer``."""
    units = values.transpose(0, 1).flatten(1)
    low, high = units.amin(1), units.amax(1)
    size = torch.maximum(low.abs(), high.abs())
    still = high - low <= STILL * size
    saturated = values.new_zeros(())
    if bounds is not None:
        near = 0.01 * (bounds[1] - bounds[0])
        saturated = ((values <= bounds[0] + near) | (values >= bounds[1] - near)).float().mean()
    rows = values.flatten(1)
    variance = (rows - rows.mean(0)).square().mean(0).sum()
    square = rows.square().mean(0).sum().clamp_min(1e-30)
    count = values.new_tensor(float(len(units)))
    dead = (still & (size == 0)).float().mean()
    return torch.stack([count, still.float().mean(), dead, saturated, variance / square])


def can_die(model: nn.Module) -> bool:
    """Whether some hidden layer's units can be 0 for whole ranges of inputs."""
    kinds = (_activation_name(module).lower() for _, module, _ in _activations(model))
    return any(kind in ("relu", "relu6", "threshold", "hardshrink", "softshrink") for kind in kinds)
