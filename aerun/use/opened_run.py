"""A trained run, opened to be used on images that it has never seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from aerun.core.autoencoder import Autoencoder
from aerun.dataset.decoder import Decoder
from aerun.errors import DataError
from aerun.runs.folder import read_choices, read_config, read_summary
from aerun.runs.reopen import load, load_data, weights_of

if TYPE_CHECKING:
    from aerun.dataset.data import Data

ROWS_PER_BLOCK = 64
NO_FOLDER = Path("the model")  # said in place of a folder, of a model that is given without one


@dataclass(frozen=True)
class OpenedRun:
    """The trained model of a run folder, and what tells how to show it images.

    ``encode``, ``decode`` and ``reconstruct`` take any number of images and give float32 on the CPU. They compute in
    blocks of ``BLOCK`` images, the last one filled up, so what comes out for the n-th image does not depend on how
    many there are: libraries choose other orders of summation for batches of other sizes. DataError for images or
    codes of another shape, and for images with values that are not finite.
    """

    folder: Path
    autoencoder: Autoencoder
    config: dict[str, Any]
    trusted_packages: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: [C,H,W] of images, [F] of vectors."""
        return self.autoencoder.input_shape

    @property
    def is_image(self) -> bool:
        """Whether inputs and outputs are images, grey or colour."""
        shapes = (self.autoencoder.input_shape, self.autoencoder.output_shape)
        return all(len(shape) == 3 and shape[0] in (1, 3) for shape in shapes)

    @property
    def is_gaussian(self) -> bool:
        """Whether the code is a sample around a mean, as a variational autoencoder's, with a standard normal prior."""
        return bool(self.autoencoder.latent.parameters_per_code > 1)

    @property
    def code_size(self) -> int:
        """Numbers of one code."""
        return torch.Size(self.autoencoder.code_shape).numel()

    @property
    def fit(self) -> Literal["crop", "pad", "stretch"]:
        """How pictures of other sizes were brought to the run's: as ``dataset.fit`` says, else ``crop``."""
        fit: Literal["crop", "pad", "stretch"] = self.config["dataset"].get("fit", "crop")
        return fit

    @property
    def choices(self) -> dict[str, str]:
        """The option chosen in each group; empty where that is not known."""
        return read_choices(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """What the run found at its end; None if it has not come to it."""
        return read_summary(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights: codes of one fingerprint can be compared with each other, and with no others."""
        return digest_weights(self.autoencoder)

    @cached_property
    def data(self) -> Data:
        """What it was trained on, on the CPU. DataError if that is not there, or is no longer the same."""
        if self.folder is NO_FOLDER:
            raise DataError(f"{NO_FOLDER}: is given without its run folder, which names its data; give images")
        return load_data(self.folder, self.trusted_packages)

    def decoder(self) -> Decoder:
        """Makes inputs of picture files. DataError for a run that takes no pictures."""
        if not self.is_image:
            shape = "x".join(map(str, self.shape))
            raise DataError(
                f"{self.folder}: was trained on inputs of shape {shape}, which are no grey or colour images"
            )
        channels, height, width = self.shape
        return Decoder((channels, height, width), self.fit)

    def encode(self, images: Tensor) -> Tensor:
        """images[N,*shape], uint8 or float in the data's units ([0,1]) -> codes[N,*code_shape]."""
        return apply_in_blocks(self.autoencoder.encode, self.check_images(images))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images[N,*shape] -> means and log-variances [N,*code_shape] of a Gaussian latent's codes."""
        both = apply_in_blocks(
            lambda block: torch.stack(self.autoencoder.posterior(block), 1), self.check_images(images)
        )
        return both[:, 0], both[:, 1]

    def decode(self, codes: Tensor) -> Tensor:
        """codes[N,*code_shape] -> images[N,*output_shape] in the data's units, nothing clamped."""
        self._check("codes", codes, self.autoencoder.code_shape)
        return apply_in_blocks(self.autoencoder.decode, codes)

    def reconstruct(self, images: Tensor) -> Tensor:
        """images[N,*shape], uint8 or float in the data's units -> images[N,*output_shape], nothing clamped."""
        return apply_in_blocks(self.autoencoder.reconstruct, self.check_images(images))

    def check_images(self, images: Tensor) -> Tensor:
        """The images as they are. DataError for others than [N,*shape], or with values that are not finite."""
        self._check("images", images, self.shape)
        if images.dtype.is_floating_point:
            bad = (~images.isfinite().flatten(1).all(1)).nonzero().flatten().tolist() if len(images) else []
            if bad:
                raise DataError(
                    f"images: {len(bad)} of {len(images):,} have values that are not finite, first number {bad[0]}"
                )
        return images

    def _check(self, what: str, given: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(given.shape[1:]) != tuple(shape) or given.dim() == 0:
            taken = ",".join(map(str, ("N", *shape)))
            raise DataError(f"{what} of shape {list(given.shape)}: {self.folder} takes [{taken}]")


def open_run(folder: str | os.PathLike[str], device: str = "cpu", trusted_packages: Sequence[str] = ()) -> OpenedRun:
    """The run in ``folder``, with its best weights. DataError if it is not a run folder, or has no weights yet."""
    path = Path(folder).expanduser()
    config = read_config(path)
    if not (weights := weights_of(path)).exists():
        raise DataError(f"{path}: has no trained weights yet ({weights.relative_to(path)})")
    return OpenedRun(path, load(path, device, trusted_packages), config, tuple(trusted_packages))


Run = OpenedRun | Autoencoder | str | os.PathLike[str]  # a run that is open, a model, or a run folder


def as_opened(run: Run) -> OpenedRun:
    """The run, opened if it is the name of a folder. A model is taken as it is: pictures of other sizes are cropped."""
    if isinstance(run, Autoencoder):
        return OpenedRun(NO_FOLDER, run, {"dataset": {}})
    return run if isinstance(run, OpenedRun) else open_run(run)


def digest_weights(autoencoder: Autoencoder) -> str:
    """Sixteen hexadecimal digits that weights and buffers decide."""
    state = hashlib.sha256()
    for name, tensor in autoencoder.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]


def apply_in_blocks(function: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
    """``function`` of data[N,...], uint8 (which becomes float in [0,1]) or float, on the CPU, in blocks of ``BLOCK``
    rows, the last one filled up."""
    parts = []
    for block in data.split(ROWS_PER_BLOCK) if len(data) else [data]:
        values = block.float() / 255 if block.dtype == torch.uint8 else block.float()
        missing = ROWS_PER_BLOCK - len(values)
        if 0 < missing < ROWS_PER_BLOCK:
            values = torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])
        parts.append(function(values)[: len(block)].cpu())
    return torch.cat(parts)
