"""Records a function of tensors once as a CUDA graph and replays it: one launch instead of one for every operation.

Small networks spend most of their time on these launches. A replay reads and writes the same memory as the recording,
so inputs are copied into it, and small results out of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from aerun.errors import ConfigError

if TYPE_CHECKING:
    from aerun.core.autoencoder import Extras
    from aerun.training.parts import Update

WARMUP_CALLS = 3  # not recorded: libraries choose their algorithms, and optimizers create their state
log = logging.getLogger(__name__)
Compute = Callable[[Tensor, Tensor, "Extras"], "Update"]
# function -> its result, and a function that computes it again in the same memory
Recorder = Callable[[Callable[[], "Update"]], "tuple[Update, Callable[[], Any]]"]


class Recorded:
    """``compute(inputs, targets, extras)``, recorded for the shapes of its first call.

    Calls with other shapes (the smaller last batch of an epoch) are computed without the recording. If recording fails,
    this is logged once, ``on_failure`` is called, and no call uses a recording; with ``required`` it is a ConfigError.
    """

    def __init__(
        self,
        compute: Compute,
        record: Recorder,
        parameters: Sequence[nn.Parameter],
        required: bool,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._compute, self._record, self._parameters, self._required = compute, record, parameters, required
        self._on_failure = on_failure
        self._calls = 0
        self._shapes: list[Any] | None = None
        self._replay: Callable[[], Any] | None = None
        self._failed = False
        self._places: list[Tensor] = []  # of inputs, targets unless they are the inputs, and extras
        self._result: Update
        self._gradients: list[Tensor | None] = []

    def __call__(self, inputs: Tensor, targets: Tensor, extras: Extras) -> Update:
        """The result of ``compute``; its codes are valid until the next call."""
        given = [inputs, *(() if targets is inputs else (targets,)), *extras.values()]
        shapes = [(tensor.shape, tensor.dtype) for tensor in given]
        if self._replay is None and (self._shapes is None or len(inputs) > self._shapes[0][0][0]):
            # The first batch of a resumed run may be the smaller last batch of an epoch.
            self._shapes, self._calls = shapes, 0
        if self._failed or shapes != self._shapes:
            return self._compute(inputs, targets, extras)
        self._calls += 1
        if self._calls <= WARMUP_CALLS:
            return self._warm_up(inputs, targets, extras)
        if self._replay is None and not self._try_recording(inputs, targets, extras):
            return self._compute(inputs, targets, extras)
        for place, tensor in zip(self._places, given, strict=True):
            place.copy_(tensor)
        assert self._replay is not None
        self._replay()
        # A call without the recording in between has replaced the gradients.
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        values = torch.stack(list(self._result.terms.values())).unbind()
        return self._result._replace(terms=dict(zip(self._result.terms, values, strict=True)))

    def _warm_up(self, inputs: Tensor, targets: Tensor, extras: Extras) -> Update:
        """Compute without a recording, but on a separate stream, as the recording will."""
        if inputs.device.type != "cuda":
            return self._compute(inputs, targets, extras)
        stream, current = torch.cuda.Stream(inputs.device), torch.cuda.current_stream(inputs.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._compute(inputs, targets, extras)
        current.wait_stream(stream)
        return result

    def _try_recording(self, inputs: Tensor, targets: Tensor, extras: Extras) -> bool:
        """Record, and return whether that succeeded."""
        input_place = inputs.clone()
        target_place = input_place if targets is inputs else targets.clone()
        extra_places = {name: tensor.clone() for name, tensor in extras.items()}
        for parameter in self._parameters:
            parameter.grad = None
        try:
            self._result, self._replay = self._record(lambda: self._compute(input_place, target_place, extra_places))
        except Exception as error:  # a user's model may raise anything
            cause = error.__context__ or error  # ending a failed recording raises another error
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            if self._required:
                raise ConfigError(f"trainer.graph=true: the step cannot be recorded ({reason})") from error
            log.info("trainer.graph=auto: the step cannot be recorded (%s) and runs without a CUDA graph", reason)
            self._failed = True
            self._on_failure()
            return False
        self._places = [input_place, *(() if targets is inputs else (target_place,)), *extra_places.values()]
        self._gradients = [parameter.grad for parameter in self._parameters]
        return True


def record_on_cuda(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
    """Record what ``function`` launches on the current device, without executing it.

    Other threads, such as the one that reads images, may continue to use the device.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    # The outer context restores the stream, even if recording fails.
    with torch.cuda.stream(torch.cuda.current_stream()), recording:
        result = function()
    return result, graph.replay


def resolve_recording(
    setting: Literal["auto"] | bool, device: torch.device, processes: int = 1
) -> Literal["auto"] | bool:
    """The value of ``trainer.graph`` for a device. ConfigError if it is true but the step cannot be recorded there."""
    if device.type == "cuda" and processes == 1:
        return setting
    if setting is True:
        reason = f"needs a CUDA device, the device is {device}" if processes == 1 else f"not with {processes} processes"
        raise ConfigError(f"trainer.graph=true: {reason}")
    if device.type == "cuda" and setting == "auto":
        log.info("trainer.graph=auto: with %d processes the step is not recorded", processes)
    return False
