"""How many known features of the data a dictionary has found."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Evaluation, Metric
from aerun.errors import ConfigError
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    import numpy as np

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Split

ROWS = 10_000  # vectors of each part that are used at most
RECOVERED_COSINE = 0.9  # above this a true feature counts as recovered
RANDOM_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Features(Evaluation):
    """Compares the decoder's vectors with the known features of the data, by their cosines.

    - ``mmcs``: mean over true features of the largest cosine with any vector (Sharkey, Braun & Millidge 2022).
    - ``matched_cosine``: the mean cosine if each feature is assigned a vector of its own, such that the sum is largest
      (a feature without one counts 0). ``recovered``: the share of features whose vector has a cosine above 0.9.
    - ``l0`` (mean number of nonzero code values), ``alive`` (share of units that any test vector activates) and
      ``explained_variance``, on the test part.

    The same of others: ``random_`` is a dictionary of as many random directions, and ``pca_`` the principal components
    of both signs, the floors. Their ``explained_variance``, and that of the true dictionary (``true_``), the ceiling,
    are for as many values for each vector as the model has: by orthogonal matching pursuit, for PCA of its first
    components. The vector of a unit is decoder(unit) - decoder(0), for a linear decoder the column of its weight.
    """

    metrics = (
        *(
            Metric(f"features/{whose}{name}", higher_is_better=True)
            for whose in ("", "random_", "pca_")
            for name in ("mmcs", "matched_cosine", "recovered", "explained_variance")
        ),
        Metric("features/true_explained_variance", higher_is_better=True),
        Metric("features/alive", higher_is_better=True),
        Metric("features/l0", "units per image"),
    )

    def check_settings(self, settings: Any) -> None:
        if settings.dataset.known_features() is None:
            raise ValueError(
                f"protocol=features and {settings.name('dataset')}: the features of these data are not known; use "
                "dataset=superposition"
            )

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError for data or codes that are not vectors."""
        if len(autoencoder.code_shape) != 1 or len(data.output_shape) != 1:
            raise ConfigError("compares vectors; use a model with a vector code, such as model=fc")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return the numbers as ``features/NAME``."""
        import numpy as np
        import torch

        autoencoder = subject.autoencoder
        units = torch.eye(autoencoder.code_shape[0], device=subject.device, dtype=autoencoder.dtype)
        learned = _array(autoencoder.decode(units) - autoencoder.decode(torch.zeros_like(units[:1])))
        truth = np.asarray(subject.dataset.known_features(), np.float64)
        tested, trained = rows_of(subject.data.test), rows_of(subject.data.train)
        codes = autoencoder.encode(torch.from_numpy(tested))
        nonzero = _array(codes != 0)
        count = max(1, round(nonzero.sum(1).mean()))
        found = {
            **similarity(truth, learned),
            "explained_variance": explained(tested, _array(autoencoder.decode(codes))),
        }
        found |= {"l0": float(nonzero.sum(1).mean()), "alive": float(nonzero.any(0).mean())}

        random = np.random.default_rng(RANDOM_SEED).standard_normal(learned.shape)
        mean = trained.mean(0)
        components = np.linalg.svd(np.cov(trained.T))[2]
        first = components[:count]
        others = {
            "random": {
                **similarity(truth, random),
                "explained_variance": explained(tested, pursue(tested, random, count)),
            },
            "pca": {
                **similarity(truth, np.concatenate([components, -components])),
                "explained_variance": explained(tested, mean + (tested - mean) @ first.T @ first),
            },
            "true": {"explained_variance": explained(tested, pursue(tested, truth, count))},
        }
        found |= {f"{whose}_{name}": value for whose, numbers in others.items() for name, value in numbers.items()}
        return {f"features/{name}": value for name, value in found.items()}


def similarity(truth: np.ndarray, learned: np.ndarray) -> dict[str, float]:
    """truth[n,d], learned[m,d] -> mmcs, matched_cosine and recovered."""
    from scipy.optimize import linear_sum_assignment

    cosines = unit_rows(truth) @ unit_rows(learned).T
    matched = cosines[linear_sum_assignment(cosines, maximize=True)]
    return {
        "mmcs": float(cosines.max(1).mean()),
        "matched_cosine": float(matched.sum() / len(truth)),
        "recovered": float((matched > RECOVERED_COSINE).sum() / len(truth)),
    }


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N,d] with unit norm; zero vectors stay zero."""
    import numpy as np

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


def explained(targets: np.ndarray, outputs: np.ndarray) -> float:
    """1 - |targets - outputs|^2 / |targets - mean|^2, over all rows [N,d]."""
    return float(1 - ((targets - outputs) ** 2).sum() / ((targets - targets.mean(0)) ** 2).sum())


def pursue(targets: np.ndarray, dictionary: np.ndarray, count: int) -> np.ndarray:
    """The combinations of at most ``count`` vectors of dictionary[m,d] that orthogonal matching pursuit finds for
    targets[N,d]."""
    import numpy as np
    from sklearn.linear_model import orthogonal_mp_gram

    vectors = unit_rows(dictionary)
    count = min(count, *vectors.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for exact combinations of fewer vectors
        codes = orthogonal_mp_gram(vectors @ vectors.T, vectors @ targets.T, n_nonzero_coefs=count)
    return np.asarray(codes.reshape(len(vectors), -1).T @ vectors)


def rows_of(part: Split) -> np.ndarray:
    """The first vectors of a part, float64."""
    import numpy as np

    from aerun.dataset.data import head
    from aerun.metrics.evaluation import corrupted_batches

    batches = corrupted_batches(head(part, ROWS), None)
    return np.concatenate([_array(clean) for clean, _, _ in batches])


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().double().cpu().numpy()
    return array
