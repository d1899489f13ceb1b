"""How a protocol comes by labelled codes: of which images, and what of the model's sparsity acts on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aerun.config.schema import Count, NonNegativeInt, Positive
from aerun.contracts import Evaluation
from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Images, Split
    from aerun.protocol.subject import Subject

CHUNK = 1000
SPARSE = 0.3  # codes with a smaller share of nonzeros are kept as a sparse matrix


class Labelled(NamedTuple):
    """Images as stored, in one or more pieces [n,...], and the labels [N] of all, numbered from 0 without gaps."""

    images: list[Images]
    labels: Tensor

    def chosen(self, rows: Tensor) -> Labelled:
        """Some of these, by ascending row."""
        import torch

        pieces: list[Images] = []
        start = 0
        for piece in self.images:
            here = rows[(rows >= start) & (rows < start + len(piece))] - start
            start += len(piece)
            if len(here):
                pieces.append(piece[here.to(piece.device)] if isinstance(piece, torch.Tensor) else piece.select(here))
        return Labelled(pieces, self.labels[rows])

    def described(self, describe: Callable[[Tensor], Tensor]) -> Any:
        """``describe(images[B,...]) -> [B,...]`` of all images in [0,1], flattened: [N,D], float32, on the host.

        An array of numpy's, or a sparse matrix of scipy's where most are zero.
        """
        import numpy as np
        from scipy import sparse

        pieces: list[Any] = []
        dense = False
        for images in self._batches():
            values = describe(images).flatten(1).float().cpu().numpy()
            dense = dense or (not pieces and bool(np.count_nonzero(values) > SPARSE * values.size))
            pieces.append(values if dense else sparse.csr_matrix(values))
        return np.concatenate(pieces) if dense else sparse.vstack(pieces, format="csr")

    def _batches(self) -> Iterator[Tensor]:
        from aerun.dataset.data import as_float

        for piece in self.images:
            for chunk in piece.split(CHUNK):
                yield as_float(chunk)


@dataclass(frozen=True, kw_only=True)
class Coding(Evaluation):
    """Keys of every protocol that looks at codes.

    ``sparse``: the model's sparsity acts as in evaluation; without it a code is what the code's nonlinearity leaves
    of the features. ``k_factor``: a top-k model is coded with so many times its k (k-sparse autoencoders are trained
    with k and code with alpha k, arXiv:1312.5663). ``pool``, ``pool_stride``: feature maps are max-pooled over regions
    of that size; the stride is the size unless given. ``classes``: the images with these labels, of the whole set,
    whatever the model was trained on. ``tested_on``: the ``test`` part, or the ``second_half`` of the training
    images in their stored order, while the first is for fitting.
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
        """Refuse before training what data and model cannot give. ConfigError, the key without its path."""
        if data.train.labels is None or data.test.labels is None:
            raise ConfigError("needs labels, and these data have none")
        missing = [number for number in self.classes or [] if data.classes and number >= len(data.classes)]
        if missing:
            last = len(data.classes or []) - 1
            raise ConfigError(f"classes={self.classes}: {missing[0]} is no label of these data. Allowed: 0 to {last}")
        if self.k_factor != 1 and not (self.sparse and autoencoder.sparsity.max_nonzeros is not None):
            raise ConfigError(f"k_factor={self.k_factor:g}: needs a sparsity with a k, and sparse=true")
        shape = list(autoencoder.code_shape)
        if self.pool is not None and len(shape) != 3:
            raise ConfigError(f"pool={self.pool}: needs feature maps, the code is {shape}")
        if self.pool is not None and self.pool > min(shape[1:]):
            raise ConfigError(f"pool={self.pool}: is larger than the feature maps, {shape}")

    def parts(self, subject: Subject) -> tuple[Labelled, Labelled]:
        """The images to fit on, those of training and of validation alike, and the images to test on."""
        import torch

        data = subject.data
        if self.classes is not None:
            whole = dataclasses.replace(subject.dataset, classes=self.classes, validation=0, train_limit=None)
            data = whole.load(subject.device)
        splits = [data.train] if data.validation is None else [data.train, data.validation]
        if any(split.labels is None for split in (*splits, data.test)):
            raise DataError("needs labels, and these data have none")
        numbers = torch.cat([_labels(split) for split in (*splits, data.test)]).unique()
        fitted, tested = _joined(splits, numbers), _joined([data.test], numbers)
        if self.tested_on == "second_half":
            first, second = torch.arange(len(fitted.labels)).tensor_split(2)
            fitted, tested = fitted.chosen(first), fitted.chosen(second)
        return fitted, tested

    def codes(self, autoencoder: Autoencoder, part: Labelled) -> Any:
        """The codes of a part, as ``Labelled.described`` gives them."""
        import torch

        with torch.no_grad():
            return part.described(lambda images: self.encode(autoencoder, images))

    def encode(self, autoencoder: Autoencoder, images: Tensor) -> Tensor:
        """images[B,...] in [0,1] -> codes[B,...] by these keys."""
        from torch.nn.functional import max_pool2d

        features = autoencoder.encoder(autoencoder.standardise_input(images))
        constrained, _ = self.sparsity(autoencoder)(features, False)
        code: Tensor = autoencoder.latent(constrained, None)[0]
        return code if self.pool is None else max_pool2d(code, self.pool, self.pool_stride)

    def sparsity(self, autoencoder: Autoencoder) -> Any:
        """What constrains the code: what the model has, or that with more survivors, or its nonlinearity alone."""
        from aerun.sparsity import NoSparsity

        own = autoencoder.sparsity
        if not self.sparse:
            return NoSparsity(own.activation)  # type: ignore[arg-type]
        if self.k_factor == 1 or own.max_nonzeros is None:
            return own
        shape = autoencoder.code_shape
        most = shape[0] if len(shape) == 1 else shape[1] * shape[2]
        return own.with_max_nonzeros(min(most, max(1, round(own.max_nonzeros * self.k_factor))))


def _labels(split: Split) -> Tensor:
    assert split.labels is not None
    return split.labels.cpu()


def _joined(splits: list[Split], numbers: Tensor) -> Labelled:
    import torch

    from aerun.dataset.binarize import binarize_all
    from aerun.metrics.evaluation import EVALUATION_SEED

    labels = torch.cat([_labels(split) for split in splits])
    # Of images that are drawn anew for every minibatch one draw: those of the test are binary, too.
    images = [binarize_all(s.inputs, EVALUATION_SEED) if s.binarise else s.inputs for s in splits]
    return Labelled(images, torch.searchsorted(numbers, labels))
