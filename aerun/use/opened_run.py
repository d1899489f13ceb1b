"""A trained run, opened to be used on new images."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aerun.base.archive import is_file
from aerun.contracts import Latent
from aerun.core.autoencoder import Autoencoder
from aerun.core.image_inputs import as_codes, as_labels
from aerun.dataset.decoder import Decoder, Fit
from aerun.errors import DataError
from aerun.runs.folder import read_choices, read_config, read_summary
from aerun.runs.reopen import load, load_data, weights_of

if TYPE_CHECKING:
    import numpy as np

    from aerun.core.image_inputs import Images
    from aerun.dataset.data import Data

ROWS_PER_BLOCK = 64
NO_FOLDER = Path("the model")  # stands for the folder of a model without one, also in messages


@dataclass(frozen=True)
class OpenedRun:
    """The trained model of a run folder, with the configuration that says how to prepare images for it.

    ``encode``, ``decode`` and ``reconstruct`` take any number of images and return float32 on the CPU. They compute in
    blocks of ``ROWS_PER_BLOCK``, the last one padded, so that the result for an image does not depend on the other
    images: libraries sum in another order for batches of another size. DataError for images or codes that the run does
    not take.
    """

    folder: Path
    autoencoder: Autoencoder
    config: dict[str, Any]
    trusted_packages: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: [C,H,W] for images, [F] for vectors."""
        return self.autoencoder.input_shape

    @property
    def is_image(self) -> bool:
        """Whether inputs and outputs are gray or color images."""
        shapes = (self.autoencoder.input_shape, self.autoencoder.output_shape)
        return all(len(shape) == 3 and shape[0] in (1, 3) for shape in shapes)

    @property
    def is_gaussian(self) -> bool:
        """Whether the code is drawn from a Gaussian posterior, as in a VAE."""
        return type(self.autoencoder.latent).posterior is not Latent.posterior

    @property
    def has_prior(self) -> bool:
        """Whether codes can be drawn from the latent's prior."""
        return type(self.autoencoder.latent).sample_prior is not Latent.sample_prior

    @property
    def code_size(self) -> int:
        """Number of values in one code."""
        return torch.Size(self.autoencoder.code_shape).numel()

    @property
    def fit(self) -> Fit:
        """How images of other sizes are brought to the run's size: its ``dataset.fit``, or ``crop``."""
        fit: Fit = self.config["dataset"].get("fit", "crop")
        return fit

    @property
    def background(self) -> str:
        """The color that is shown through transparent pixels: the run's ``dataset.background``, or white."""
        return str(self.config["dataset"].get("background", "white"))

    @property
    def choices(self) -> dict[str, str]:
        """The option chosen in each group; empty if not recorded."""
        return read_choices(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """The run's summary; None for an unfinished run."""
        return read_summary(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights. Only codes of the same fingerprint can be compared."""
        return digest_weights(self.autoencoder)

    @cached_property
    def data(self) -> Data:
        """The run's data set, on the CPU. DataError if it is missing or has changed."""
        if self.folder is NO_FOLDER:
            raise DataError(f"{NO_FOLDER}: has no run folder that names its data; pass images")
        return load_data(self.folder, self.trusted_packages)

    def decoder(self) -> Decoder:
        """Reads image files as inputs. DataError if the run's inputs are not images."""
        self.require_images()
        channels, height, width = self.shape
        return Decoder((channels, height, width), self.fit, self.background, self.config["dataset"].get("white_value"))

    def require_images(self) -> None:
        """DataError unless inputs and outputs are images."""
        if not self.is_image:
            before, after = ("x".join(map(str, s)) for s in (self.shape, self.autoencoder.output_shape))
            raise DataError(
                f"{self.folder}: its inputs ({before}) and outputs ({after}) must be gray or color images for this"
            )

    @property
    def classes(self) -> int | None:
        """The number of labels that a conditional model takes; None for other models, and once a label is ``given``."""
        return self.autoencoder.classes

    def given(self, label: int) -> OpenedRun:
        """The run with this label for all images and codes. DataError for a label that it does not take."""
        with data_errors():
            labels = as_labels([label], 1, self.classes)
        return dataclasses.replace(self, autoencoder=self.autoencoder.given(labels))

    def encode(self, images: Images) -> Tensor:
        """Images, see ``as_inputs`` -> codes[N,*code_shape]."""
        return apply_in_blocks(self.autoencoder.encode, self.as_inputs(images))

    def indices(self, images: Images) -> Tensor:
        """Images, see ``as_inputs`` -> indices [N,S,G,L] of a quantized latent's codes, see ``Autoencoder.indices``."""
        with data_errors():
            return apply_in_blocks(self.autoencoder.indices, self.as_inputs(images))

    def posterior(self, images: Images) -> tuple[Tensor, Tensor]:
        """Images, see ``as_inputs`` -> means and log-variances [N,*code_shape] of a Gaussian latent's codes."""
        inputs = self.as_inputs(images)
        both = apply_in_blocks(lambda block: torch.stack(self.autoencoder.posterior(block), 1), inputs)
        return both[:, 0], both[:, 1]

    def decode(self, codes: Tensor | np.ndarray) -> Tensor:
        """codes[N,*code_shape] -> images[N,*output_shape] in the data's units, not clamped."""
        return apply_in_blocks(self.autoencoder.decode, self.as_codes(codes))

    def reconstruct(self, images: Images) -> Tensor:
        """Images, see ``as_inputs`` -> images[N,*output_shape] in the data's units, not clamped."""
        return apply_in_blocks(self.autoencoder.reconstruct, self.as_inputs(images))

    def as_inputs(self, images: Images) -> Tensor:
        """Tensors, arrays or PIL images as a batch [N,*shape] on the CPU, uint8 or float32 in the data's units.

        See ``image_inputs.as_batch``. DataError for another shape or type, and for values that are not finite; a
        warning if they exceed the range of the run's images.
        """
        with data_errors():
            inputs = self.autoencoder.as_inputs(images, str(self.folder)).detach().cpu()
        if inputs.is_floating_point():
            inputs = inputs.float()
            bad = (~inputs.isfinite().flatten(1).all(1)).nonzero().flatten().tolist() if len(inputs) else []
            if bad:
                raise DataError(
                    f"images: {len(bad)} of {len(inputs):,} have values that are not finite; the first is {bad[0]}"
                )
        return inputs

    def as_codes(self, codes: Tensor | np.ndarray) -> Tensor:
        """Codes [N,*code_shape] as a tensor on the CPU. DataError for another shape or type."""
        with data_errors():
            return as_codes(codes, self.autoencoder.code_shape, str(self.folder)).detach().cpu().float()


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """Raise a ValueError of the block as a DataError."""
    try:
        yield
    except ValueError as error:
        raise DataError(str(error)) from error


def open_run(
    folder: str | os.PathLike[str],
    device: str = "cpu",
    trusted_packages: Sequence[str] = (),
    *,
    conditional: bool = False,
) -> OpenedRun:
    """Open the run in ``folder`` with its best weights. DataError if it is not a run folder, or has no weights, and for
    a conditional model, which needs the labels of images, unless ``conditional``."""
    path = Path(folder).expanduser()
    config = read_config(path)
    if not is_file(weights := weights_of(path)):
        raise DataError(f"{path}: has no trained weights yet ({weights.relative_to(path)})")
    run = OpenedRun(path, load(path, device, trusted_packages), config, tuple(trusted_packages))
    return run if conditional else _without_condition(run)


def _without_condition(run: OpenedRun) -> OpenedRun:
    if run.classes is not None:
        raise DataError(
            f"{run.folder}: its model is conditional (model.condition=label), and images have no labels here; use "
            "aerun-generate samples, or aerun.load(RUN).encode(images, labels)"
        )
    return run


Run = OpenedRun | Autoencoder | str | os.PathLike[str]  # an opened run, a model, or a run folder


def as_opened(run: Run, *, conditional: bool = False) -> OpenedRun:
    """Open a run folder, or wrap a model, which then crops images of other sizes. An opened run is returned as is.
    DataError as ``open_run``."""
    if isinstance(run, Autoencoder):
        run = OpenedRun(NO_FOLDER, run, {"dataset": {}})
    opened = run if isinstance(run, OpenedRun) else open_run(run, conditional=True)
    return opened if conditional else _without_condition(opened)


def digest_weights(autoencoder: Autoencoder) -> str:
    """Sixteen hexadecimal digits of a hash of all weights and buffers."""
    state = hashlib.sha256()
    for name, tensor in autoencoder.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]


def apply_in_blocks(function: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
    """``function(data)`` on the CPU, computed in blocks of ``ROWS_PER_BLOCK`` rows, the last one padded.

    data[N,...]: float, or uint8, which becomes float in [0,1].
    """
    parts = []
    for block in data.split(ROWS_PER_BLOCK) if len(data) else [data]:
        values = block.float() / 255 if block.dtype == torch.uint8 else block.float()
        missing = ROWS_PER_BLOCK - len(values)
        if 0 < missing < ROWS_PER_BLOCK:
            values = torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])
        parts.append(function(values)[: len(block)].cpu())
    return torch.cat(parts)
