"""Labeled codes for protocols: which images are encoded, and how the model's sparsity is applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aerun.contracts import Count, Evaluation, NonNegativeInt, Positive
from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Images, Split
    from aerun.protocol.subject import Subject

CHUNK = 1000  # images
SPARSE_SHARE = 0.3  # codes with a smaller share of nonzeros are stored as a sparse matrix


class LabeledImages(NamedTuple):
    """Images as stored, in one or more pieces [n,...], and the labels [N] of all, numbered from 0 without gaps."""

    images: list[Images]
    labels: Tensor

    def select(self, rows: Tensor) -> LabeledImages:
        """Select some of the images, by ascending row."""
        import torch

        pieces: list[Images] = []
        start = 0
        for piece in self.images:
            here = rows[(rows >= start) & (rows < start + len(piece))] - start
            start += len(piece)
            if len(here):
                pieces.append(piece[here.to(piece.device)] if isinstance(piece, torch.Tensor) else piece.select(here))
        return LabeledImages(pieces, self.labels[rows])

    def map_images(self, function: Callable[[Tensor], Tensor]) -> Any:
        """Apply ``function(images[B,...]) -> [B,...]`` to all images in [0,1]; flatten to [N,D], float32, on the host.

        Returns a NumPy array, or a SciPy sparse matrix if most values are zero.
        """
        import numpy as np
        from scipy import sparse

        pieces: list[Any] = []
        dense = False
        for images in self._batches():
            values = function(images).flatten(1).float().cpu().numpy()
            dense = dense or (not pieces and bool(np.count_nonzero(values) > SPARSE_SHARE * values.size))
            pieces.append(values if dense else sparse.csr_matrix(values))
        return np.concatenate(pieces) if dense else sparse.vstack(pieces, format="csr")

    def _batches(self) -> Iterator[Tensor]:
        from aerun.dataset.data import as_float

        for piece in self.images:
            for chunk in piece.split(CHUNK):
                yield as_float(chunk)


@dataclass(frozen=True, kw_only=True)
class CodeProtocol(Evaluation):
    """Keys shared by all protocols that use codes.

    - ``sparse``: apply the model's sparsity as in evaluation; if false, only the nonlinearity of the code is applied.
    - ``k_factor``: encode with this multiple of a top-k model's k (k-sparse autoencoders are trained with k and
      encode with alpha k, arXiv:1312.5663).
    - ``pool``, ``pool_stride``: max-pool feature maps over regions of this size; the stride defaults to the size.
    - ``classes``: use the images with these labels from the whole data set, whatever the model was trained on.
    - ``tested_on``: the ``test`` part, or the ``second_half`` of the training images in stored order, with the first
      half for fitting.
    """

    sparse: bool = True
    k_factor: Positive = 1.0
    pool: Count | None = None
    pool_stride: Count | None = None
    classes: list[NonNegativeInt] | None = None
    tested_on: Literal["test", "second_half"] = "test"

    def __post_init__(self) -> None:
        if self.pool is None and self.pool_stride is not None:
            raise ValueError(f"pool_stride={self.pool_stride}: needs pool, the size of the regions")

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError, before training, for keys that do not fit the data or the model."""
        if data.train.labels is None or data.test.labels is None:
            raise ConfigError("needs labels; these data have none")
        if autoencoder.condition is not None:
            raise ConfigError(
                "model.condition=label: the encoder is given the labels that are to be predicted from codes"
            )
        missing = [number for number in self.classes or [] if data.classes and number >= len(data.classes)]
        if missing:
            last = len(data.classes or []) - 1
            raise ConfigError(
                f"classes={self.classes}: {missing[0]} is not a label of these data. Allowed: 0 to {last}"
            )
        if self.k_factor != 1 and not (self.sparse and autoencoder.sparsity.max_nonzeros is not None):
            raise ConfigError(f"k_factor={self.k_factor:g}: needs a sparsity with k, and sparse=true")
        shape = list(autoencoder.code_shape)
        if self.pool is not None and len(shape) != 3:
            raise ConfigError(f"pool={self.pool}: needs feature maps; the code is {shape}")
        if self.pool is not None and self.pool > min(shape[1:]):
            raise ConfigError(f"pool={self.pool}: is larger than the feature maps, {shape}")

    def labeled_parts(self, subject: Subject) -> tuple[LabeledImages, LabeledImages]:
        """Return the images to fit on (training and validation) and the images to test on."""
        import torch

        data = subject.data
        if self.classes is not None:
            whole = dataclasses.replace(subject.dataset, classes=self.classes, validation=0, train_limit=None)
            data = whole.load(subject.device)
        splits = [data.train] if data.validation is None else [data.train, data.validation]
        if any(split.labels is None for split in (*splits, data.test)):
            raise DataError("needs labels; these data have none")
        numbers = torch.cat([_labels(split) for split in (*splits, data.test)]).unique()
        fitted, tested = _joined(splits, numbers), _joined([data.test], numbers)
        if self.tested_on == "second_half":
            first, second = torch.arange(len(fitted.labels)).tensor_split(2)
            fitted, tested = fitted.select(first), fitted.select(second)
        return fitted, tested

    def encode_all(self, autoencoder: Autoencoder, part: LabeledImages) -> Any:
        """Return the codes of a part, in the form of ``LabeledImages.map_images``."""
        import torch

        with torch.no_grad():
            return part.map_images(lambda images: self.encode(autoencoder, images))

    def encode(self, autoencoder: Autoencoder, images: Tensor) -> Tensor:
        """images[B,...] in [0,1] -> codes[B,...] according to the keys."""
        from torch.nn.functional import max_pool2d

        features = autoencoder.encoder(autoencoder.standardise_input(images))
        constrained, _ = self.choose_sparsity(autoencoder)(features, False)
        code: Tensor = autoencoder.latent(constrained, None)[0]
        return code if self.pool is None else max_pool2d(code, self.pool, self.pool_stride)

    def choose_sparsity(self, autoencoder: Autoencoder) -> Any:
        """Return the sparsity to encode with: the model's, the same with another k, or its nonlinearity alone."""
        from aerun.sparsity import NoSparsity

        sparsity = autoencoder.sparsity
        if not self.sparse:
            return NoSparsity(sparsity.activation)  # type: ignore[arg-type]
        if self.k_factor == 1 or sparsity.max_nonzeros is None:
            return sparsity
        shape = autoencoder.code_shape
        limit = shape[0] if len(shape) == 1 else shape[1] * shape[2]
        return sparsity.with_max_nonzeros(min(limit, max(1, round(sparsity.max_nonzeros * self.k_factor))))


def _labels(split: Split) -> Tensor:
    assert split.labels is not None
    return split.labels.cpu()


def _joined(splits: list[Split], numbers: Tensor) -> LabeledImages:
    import torch

    from aerun.dataset.binarize import binarize_all
    from aerun.metrics.evaluation import EVALUATION_SEED

    labels = torch.cat([_labels(split) for split in splits])
    # Images that are binarized in every minibatch are sampled once: the test images are binary, too.
    images = [binarize_all(s.inputs, EVALUATION_SEED) if s.binarise else s.inputs for s in splits]
    return LabeledImages(images, torch.searchsorted(numbers, labels))
