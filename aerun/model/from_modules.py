"""An encoder and a decoder of one's own, each given by ``_target_``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.config.deferred import Deferred
from aerun.model.spec import Codec, CodeKeys, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Modules(CodeKeys):
    """Two ``nn.Module``: ``encoder(images[B,*input_shape]) -> features``, ``decoder(code) -> [B,*output_shape]``, both
    ending linear.

    They are built after the seed is set, encoder first. The code has the shape of the features, which one pass of zeros
    shows. Two ``nn.Sequential`` whose layers mirror each other can be pretrained greedily.
    """

    encoder: Any
    decoder: Any

    def __post_init__(self) -> None:
        for key, value in (("encoder", self.encoder), ("decoder", self.decoder)):
            if not isinstance(value, Deferred):
                raise ValueError(f"{key}={value}: must be an nn.Module by its class, {key}._target_=package.Class")

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes without the batch. ConfigError for an encoder that does not take the images, or whose features
        cannot be shared out among the ``parameters_per_code`` of each unit."""
        import torch

        from aerun.base.seeding import restored_generator
        from aerun.base.trial import check_tensor, try_call, zeros

        encoder, decoder = self.encoder.construct(), self.decoder.construct()
        modes = encoder.training, decoder.training
        with torch.no_grad(), restored_generator():
            found = try_call(self.encoder.key, encoder.eval(), zeros(input_shape), "the images")
            features = tuple(check_tensor(self.encoder.key, found).shape[1:])
            if features[0] % parameters_per_code:
                raise ValueError(
                    f"{self.encoder.key} gives {features[0]} features; each unit of the code takes "
                    f"{parameters_per_code}"
                )
            code_shape = (features[0] // parameters_per_code, *features[1:])
            cuts = find_matching_cuts(encoder, decoder.eval(), input_shape, code_shape, output_shape)
        return Codec(encoder.train(modes[0]), decoder.train(modes[1]), code_shape, cuts)


def find_matching_cuts(
    encoder: nn.Module, decoder: nn.Module, input_shape: Shape, code_shape: Shape, output_shape: Shape
) -> tuple[tuple[int, int], ...] | None:
    """The cuts (see Codec) of two sequences of as many layers with weights each, all of which fit when zeros pass; None
    if there are none. Between two layers the encoder is cut as late as it can be, the decoder too."""
    from torch import nn

    # A subclass may not be made of its own slices.
    if not (type(encoder) is nn.Sequential and type(decoder) is nn.Sequential):
        return None
    ends, starts = _weighted(encoder), _weighted(decoder)
    if not ends or len(ends) != len(starts) or not _fits(nn.Identity(), decoder, code_shape, output_shape):
        return None
    cuts = []
    for pair in range(1, len(ends)):
        places = itertools.product(range(ends[pair], ends[pair - 1], -1), range(starts[-pair], starts[-pair - 1], -1))
        fitting = (cut for cut in places if _fits(encoder[: cut[0]], decoder[cut[1] :], input_shape, output_shape))
        cuts.append(next(fitting, None))
    return None if None in cuts else tuple(cut for cut in cuts if cut is not None)


def _weighted(side: nn.Sequential) -> list[int]:
    """The places of layers that have weights, norms not counted."""
    from aerun.model.modules import WEIGHTED

    return [i for i, layer in enumerate(side) if any(isinstance(inner, WEIGHTED) for inner in layer.modules())]


def _fits(encoder: nn.Module, decoder: nn.Module, input_shape: Shape, output_shape: Shape) -> bool:
    from aerun.base.trial import zeros

    try:
        found = decoder(encoder(zeros(input_shape)))
    except (RuntimeError, ValueError):
        return False
    return tuple(found.shape[1:]) == output_shape
