"""Loss = reconstruction error + weighted penalties."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aerun.autoencoder import Autoencoder, Result


def objective(result: Result, targets: Tensor, autoencoder: Autoencoder, loss: Any) -> dict[str, Tensor]:
    """The scalar ``loss`` and its unweighted terms, by name, for targets[B,...] in the data's own units.

    ``reconstruction`` is reduced as ``loss.reduction`` says. A penalty in nats per image is scaled alike, but
    reported per image, with ``reconstruction_nats`` beside it.
    """
    prediction = result.logits if loss.takes_logits else result.prediction
    reconstruction = loss(prediction, autoencoder.standardise_target(targets))
    total, terms = reconstruction, {"reconstruction": reconstruction}
    scale = loss.scale(targets[0].numel())
    for penalty in result.penalties:
        terms[penalty.name] = penalty.value
        total = total + penalty.weight * (scale if penalty.per_image else 1.0) * penalty.value
        if penalty.per_image:
            terms["reconstruction_nats"] = reconstruction / scale
    return {"loss": total, **terms}
