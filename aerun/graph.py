"""A function of tensors recorded once as a CUDA graph, then replayed: one launch instead of one for every operation.

Small networks wait for these launches most of their time. A replay reads and writes the very memory that was recorded,
so inputs are copied into place and small results out of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aerun.errors import ConfigError

if TYPE_CHECKING:
    from aerun.step import Update

WARM = 3  # calls that run as they are: libraries choose their algorithms, optimizers make their state
log = logging.getLogger(__name__)
Compute = Callable[[Tensor, Tensor, "Tensor | None"], "Update"]
# function -> its result, and what computes it again in the same memory
Recorder = Callable[[Callable[[], "Update"]], "tuple[Update, Callable[[], Any]]"]


class Recorded:
    """``compute(inputs, targets, draw)``, recorded for the shapes of its first call.

    Calls with other shapes (the last, smaller batch of an epoch) run as they are. So does everything where the
    recording fails, which is said once; with ``required`` it is a ConfigError.
    """

    def __init__(self, compute: Compute, record: Recorder, parameters: Sequence[nn.Parameter], required: bool) -> None:
        self._compute, self._record, self._parameters, self._required = compute, record, parameters, required
        self._calls = 0
        self._shapes: list[Any] | None = None
        self._replay: Callable[[], Any] | None = None
        self._failed = False
        self._places: list[Tensor | None] = []
        self._result: Update
        self._gradients: list[Tensor | None] = []

    def __call__(self, inputs: Tensor, targets: Tensor, draw: Tensor | None) -> Update:
        """What ``compute`` would do and tell; codes are valid until the next call."""
        shapes = [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in (inputs, targets, draw)]
        self._shapes = self._shapes or shapes
        if self._failed or shapes != self._shapes:
            return self._compute(inputs, targets, draw)
        self._calls += 1
        if self._calls <= WARM:
            return self._warm(inputs, targets, draw)
        if self._replay is None and not self._begin(inputs, targets, draw):
            return self._compute(inputs, targets, draw)
        for place, tensor in zip(self._places, (inputs, targets, draw), strict=True):
            if place is not None and tensor is not None:
                place.copy_(tensor)
        assert self._replay is not None
        self._replay()
        # A step that ran as it stands in between has left gradients of its own.
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        values = torch.stack(list(self._result.terms.values())).unbind()
        return self._result._replace(terms=dict(zip(self._result.terms, values, strict=True)))

    def _warm(self, inputs: Tensor, targets: Tensor, draw: Tensor | None) -> Update:
        """As it stands, but on a stream of its own, as the recording will be."""
        if inputs.device.type != "cuda":
            return self._compute(inputs, targets, draw)
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._compute(inputs, targets, draw)
        current.wait_stream(stream)
        return result

    def _begin(self, inputs: Tensor, targets: Tensor, draw: Tensor | None) -> bool:
        """Record; whether that has worked."""
        given = inputs.clone()
        wanted = given if targets is inputs else targets.clone()
        drawn = None if draw is None else draw.clone()
        for parameter in self._parameters:
            parameter.grad = None
        try:
            self._result, self._replay = self._record(lambda: self._compute(given, wanted, drawn))
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if self._required:
                raise ConfigError(f"trainer.graph=true: the step cannot be recorded ({reason})") from error
            log.info("trainer.graph=auto: the step cannot be recorded (%s) and runs operation by operation", reason)
            self._failed = True
            return False
        self._places = [given, None if targets is inputs else wanted, drawn]
        self._gradients = [parameter.grad for parameter in self._parameters]
        return True


def record_on_cuda(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
    """Record what ``function`` launches, without running it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return result, graph.replay


def wants_recording(
    setting: Literal["auto"] | bool, device: torch.device, processes: int = 1
) -> Literal["auto"] | bool:
    """What ``trainer.graph`` comes to on a device. ConfigError where it is asked for and cannot be."""
    if device.type == "cuda" and processes == 1:
        return setting
    if setting is True:
        why = f"needs a CUDA device, the device is {device}" if processes == 1 else f"not with {processes} processes"
        raise ConfigError(f"trainer.graph=true: {why}")
    return False
