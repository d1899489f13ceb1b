"""Whether single code values correspond to single factors of variation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from aerun.contracts import Count, Evaluation, Factors, Metric, Range
from aerun.errors import ConfigError
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    import numpy as np

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data

SCORES = ("mig", "sap", "factor_vae", "dci_disentanglement", "dci_completeness", "dci_informativeness")
REFERENCES = ("random", "pca", "factors")
MAX_VALUES = 1000  # of a code


@dataclass(frozen=True, kw_only=True)
class Disentanglement(Evaluation):
    """Scores of the codes of test images by the true factors of the data, all from 0 to 1 (see
    ``aerun.protocol.disentanglement_scores``).

    ``mig`` (Chen et al. 2018), ``sap`` (Kumar et al. 2018), ``factor_vae`` (Kim & Mnih 2018), and
    ``dci_disentanglement``, ``dci_completeness`` and ``dci_informativeness`` (Eastwood & Williams 2018). Each also as
    ``SCORE_random``, for standard normal numbers instead of codes, ``SCORE_pca``, for as many principal components of
    the test images as the code has values, and ``SCORE_factors``, for the factors themselves: two floors and a ceiling.
    A code is compared by its deterministic value (the posterior mean).
    """

    bins: Annotated[int, Range(2, 1000)]
    votes: Annotated[int, Range(2, 1_000_000)]
    vote_images: Annotated[int, Range(2, 100_000)]
    trees: Count

    metrics = tuple(
        Metric(f"{score}{end}", higher_is_better=True)
        for score in SCORES
        for end in ("", *(f"_{r}" for r in REFERENCES))
    )

    def check_settings(self, settings: Any) -> None:
        """Raise ConfigError for data without known factors."""
        if settings.dataset.true_factors() is None:
            raise ConfigError(
                f"protocol=disentanglement and {settings.name('dataset')}: the factors of these data are not known; "
                "use dataset=sprites"
            )

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError for codes that are too large."""
        import math

        values = math.prod(autoencoder.code_shape)
        if values > MAX_VALUES:
            raise ConfigError(f"a code of {values} values is too large, at most {MAX_VALUES}")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return the scores by name."""
        import numpy as np

        factors: Factors = subject.dataset.true_factors()
        codes, images = _encode(subject)
        found = self.scores(codes, factors)
        references = {
            "random": np.random.default_rng(0).standard_normal(codes.shape),
            "pca": principal_components(images, codes.shape[1]),
            "factors": factors.values.astype(float),
        }
        for name, code in references.items():
            found |= {f"{score}_{name}": value for score, value in self.scores(code, factors).items()}
        return found

    def scores(self, codes: np.ndarray, factors: Factors) -> dict[str, float]:
        """The scores of codes[N,D]."""
        from aerun.protocol import disentanglement_scores as measure

        disentanglement, completeness, informativeness = measure.dci(codes, factors.values, self.trees)
        return {
            "mig": measure.mig(codes, factors.values, self.bins),
            "sap": measure.sap(codes, factors.values, factors.ordered),
            "factor_vae": measure.factor_vae(codes, factors.values, self.votes, self.vote_images),
            "dci_disentanglement": disentanglement,
            "dci_completeness": completeness,
            "dci_informativeness": informativeness,
        }


def _encode(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """The codes [N,D] and the images [N,P] of the test part, as the model is evaluated."""
    import torch

    from aerun.metrics.evaluation import given_batches

    codes, images = [], []
    with torch.no_grad():
        for model, _, inputs, targets in given_batches(subject.autoencoder, subject.data.test, subject.noise):
            codes.append(model.encode_batch(inputs).flatten(1).cpu())
            images.append(targets.flatten(1).cpu())
    return torch.cat(codes).double().numpy(), torch.cat(images).numpy()


def principal_components(images: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` leading principal components [N,D] of images[N,P], or as many as there are."""
    from sklearn.decomposition import PCA

    found: np.ndarray = PCA(min(count, *images.shape), svd_solver="randomized", random_state=0).fit_transform(images)
    return found
