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
    from aerun.training.parts import Update

WARM = 3  # calls that run as they are: libraries choose their algorithms, optimizers make their state
log = logging.getLogger(__name__)
Compute = Callable[[Tensor, Tensor, "Tensor | None"], "Update"]
# function -> its result, and what computes it again in the same memory
Recorder = Callable[[Callable[[], "Update"]], "tuple[Update, Callable[[], Any]]"]


class Recorded:
    """``compute(inputs, targets, draw)``, recorded for the shapes of its first call.

    Calls with other shapes (the last, smaller batch of an epoch) run as they are. So does everything where the
    recording fails, which is said once, and ``give_up`` called; with ``required`` it is a ConfigError.
    """

    def __init__(
        self,
        compute: Compute,
        record: Recorder,
        parameters: Sequence[nn.Parameter],
        required: bool,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._compute, self._record, self._parameters, self._required = compute, record, parameters, required
        self._give_up = give_up
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
        if self._replay is None and (self._shapes is None or len(inputs) > self._shapes[0][0][0]):
            self._shapes, self._calls = (
                shapes,
                0,
            )  # a run that is continued may begin with an epoch's last, smaller batch
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
        stream, current = torch.cuda.Stream(inputs.device), torch.cuda.current_stream(inputs.device)
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
        except Exception as error:  # of somebody's model, too
            cause = error.__context__ or error  # the end of a recording that has failed raises an error of its own
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            if self._required:
                raise ConfigError(f"trainer.graph=true: the step cannot be recorded ({reason})") from error
            log.info("trainer.graph=auto: the step cannot be recorded (%s) and runs operation by operation", reason)
            self._failed = True
            self._give_up()
            return False
        self._places = [given, None if targets is inputs else wanted, drawn]
        self._gradients = [parameter.grad for parameter in self._parameters]
        return True


def record_on_cuda(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
    """Record what ``function`` launches on the current device, without running it.

    Other threads may go on with their own work: the one that reads images, say.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    # The outer context puts the stream back, whatever becomes of the recording.
    with torch.cuda.stream(torch.cuda.current_stream()), recording:
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
    if device.type == "cuda" and setting == "auto":
        log.info("trainer.graph=auto: with %d processes the step is not recorded", processes)
    return False
