"""The keys that all models share, and the encoder and decoder that a model builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aerun.contracts import Activation, Codec, Model, Positive, Regularizer, Shape, Size


@dataclass(frozen=True, kw_only=True)
class CodeKeys(Model):
    """``code_activation`` is the nonlinearity of the code, which the sparsity applies. ``output_activation`` follows
    the decoder's last layer."""

    code_activation: Activation
    output_activation: Literal["identity", "sigmoid", "tanh", "relu", "softplus"]

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        unread = {}
        if settings.latent.constrains_code or settings.sparsity.fixes_activation:
            unread["model.code_activation"] = "the latent or the sparsity fixes the code's nonlinearity"
        if settings.latent.constrains_code:
            unread["sparsity.activation"] = f"{settings.name('latent')} applies no nonlinearity to the code"
        return unread


@dataclass(frozen=True, kw_only=True)
class ModelSpec(CodeKeys):
    """Keys shared by all models that are made of layers here.

    - ``activation`` follows every hidden layer.
    - ``init``: ``default`` is torch's; ``kaiming`` and ``xavier`` are normal with the variance of He et al. 2015 and
      Glorot & Bengio 2010; ``normal`` has the standard deviation ``init_std``. All but ``default`` set biases to zero.
    - ``tied``: each decoder weight is the transpose of its mirror layer's in the encoder; biases are separate.
    - ``condition=label``: encoder and decoder also take the label of each image (``aerun.model.conditional``), one-hot,
      or as a learned embedding of ``condition_size`` values.
    - ``output_bias``: the last bias starts as ``init`` sets it, or such that the output of a zero input of the last
      layer is the ``mean`` of the training targets (per channel for convolutions).
    - ``linear_path=pca``: the code is the sum of the encoder's output and of the scores of as many principal components
      of the training images, each with unit variance; the output is the sum of the decoder's and of their projection.
      This path is fixed, and the networks begin at zero, so training begins with the error of PCA
      (``aerun.model.linear_path``).
    """

    activation: Activation
    init: Literal["default", "kaiming", "xavier", "normal"]
    init_std: Positive
    tied: bool
    output_bias: Literal["init", "mean"] = "init"
    # Configurations of older runs lack the keys below.
    linear_path: Literal["none", "pca"] = "none"
    condition: Literal["none", "label"] = "none"
    condition_size: Size | None = None

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        unread = {} if self.init == "normal" else {"model.init_std": "model.init is not normal"}
        if self.linear_path == "pca":
            unread["model.output_bias"] = "model.linear_path=pca starts at the mean image"
        if self.condition == "none":
            unread["model.condition_size"] = "model.condition is none"
        return unread | dict(super().unread_keys(settings))

    def check_settings(self, settings: Any) -> None:
        if self.linear_path == "none":
            return
        key = f"model.linear_path={self.linear_path}"
        if self.tied:
            raise ValueError(f"{key} and model.tied=true: the mirror layers lie within the path; use model.tied=false")
        if self.condition != "none":
            raise ValueError(f"{key} and model.condition={self.condition}: choose one of them")
        if settings.loss.takes_logits:
            raise ValueError(f"{key} and {settings.name('loss')}: components add up to images, not to logits; loss=mse")
        if self.output_activation != "identity":
            raise ValueError(
                f"{key} and model.output_activation={self.output_activation}: components add up to images; "
                "use model.output_activation=identity"
            )
        for name, part in settings.regularizer.items():
            if type(part).change_networks is not Regularizer.change_networks:
                raise ValueError(f"{key} and regularizer={name}: the networks begin at zero, which it cannot scale")
        if settings.sparsity.constrains_code or self.code_activation != "identity":
            limit = f"model.code_activation={self.code_activation}"
            limit = settings.name("sparsity") if settings.sparsity.constrains_code else limit
            raise ValueError(f"{key} and {limit}: components have both signs and are never zero")

    def conditional(self, codec: Codec, classes: int) -> Codec:
        from aerun.model.conditional import conditional

        return conditional(codec, classes, self.condition_size, self.init, self.init_std)


__all__ = ["CodeKeys", "Codec", "ModelSpec", "Shape", "check_image_shape"]


def check_image_shape(input_shape: Shape, output_shape: Shape) -> None:
    """Raise ValueError unless both are images [C,H,W] of the same height and width."""
    for shape in (input_shape, output_shape):
        if len(shape) != 3:
            raise ValueError(f"convolutions need images [C,H,W], the data are vectors of {shape[0]} values")
    if input_shape[1:] != output_shape[1:]:
        sizes = " and ".join("x".join(map(str, shape[1:])) for shape in (input_shape, output_shape))
        raise ValueError(f"convolutions need inputs and targets of the same height and width, here {sizes}")
