"""Loss = reconstruction error + weighted penalties."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from aerun.contracts import Penalty
from aerun.core.autoencoder import Autoencoder, Result


def objective(result: Result, targets: Tensor, autoencoder: Autoencoder, loss: Any) -> dict[str, Tensor]:
    """The scalar ``loss`` and its unweighted terms, by name, for targets[B,...] in the data's own units.

    ``reconstruction`` is reduced as ``loss.reduction`` says. A penalty in nats per image is scaled alike, but
    reported per image, with ``reconstruction_nats`` beside it.
    """
    prediction = result.logits if loss.takes_logits else result.prediction
    wanted = autoencoder.standardise_target(targets)
    for penalty in result.penalties:
        if penalty.samples is not None:
            return _importance_weighted(prediction, wanted, penalty, penalty.samples, loss)
    reconstruction = loss(prediction, wanted)
    total, terms = reconstruction, {"reconstruction": reconstruction}
    scale = loss.scale(targets[0].numel())
    for penalty in result.penalties:
        terms[penalty.name] = penalty.value
        total = total + penalty.weight * (scale if penalty.per_image else 1.0) * penalty.value
        if penalty.per_image:
            terms["reconstruction_nats"] = reconstruction / scale
    return {"loss": total, **terms}


def _importance_weighted(
    prediction: Tensor, targets: Tensor, penalty: Penalty, ratios: Tensor, loss: Any
) -> dict[str, Tensor]:
    """-log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), from predictions[B,k,...], targets[B,...] and log q/p [B,k].

    The mean over images is ``bound_nats``; the loss is scaled as a reconstruction error is.
    """
    errors = loss.nats(prediction, targets.unsqueeze(1))
    bound = math.log(ratios.shape[1]) - (-errors - ratios).logsumexp(1).mean()
    scale, nats = loss.scale(targets[0].numel()), errors.mean()
    terms = {"reconstruction": nats * scale, penalty.name: penalty.value, "reconstruction_nats": nats}
    return {"loss": bound * scale, **terms, "bound_nats": bound}
