"""An autoencoder as an outlier detector of scikit-learn."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from aerun.dataset.splitting import split_train_validation
from aerun.sklearn.estimator import Autoencoder

if TYPE_CHECKING:
    import torch

LEAST_HELD_OUT = 20  # rows; if fewer are held out, scores are brought to one scale by all rows


class AutoencoderDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outliers by the scores of ``aerun-anomalies``, with scikit-learn's conventions.

    ``estimator``: an ``Autoencoder``, which is cloned; None for ``Autoencoder()``. ``by``: the score, ``error``,
    ``mahalanobis``, ``knn``, ``pca``, ``fused`` … (see ``aerun.metrics.anomaly_scores``). ``neighbors``: of ``knn``.
    ``contamination``: the share of the rows of ``fit``, at most a half, that ``predict`` calls outliers, as for
    ``IsolationForest``. Scores of rows that were trained on are lower than those of new ones, so a larger share of new
    rows is above; ``aerun-anomalies`` chooses a threshold on rows that were held out.

    After ``fit``: ``estimator_``, ``offset_`` (``decision_function`` is ``score_samples`` less it), ``n_features_in_``.
    ValueError for a score that these rows do not have, and for an invalid ``contamination``.
    """

    def __init__(
        self,
        estimator: Autoencoder | None = None,
        *,
        by: str = "error",
        contamination: float = 0.1,
        neighbors: int = 5,
    ) -> None:
        self.estimator = estimator
        self.by = by
        self.contamination = contamination
        self.neighbors = neighbors

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X [N,F], and fit the scores. ``y`` is ignored."""
        from aerun.use.anomalies.finding import fit_arrays

        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination={self.contamination}: must be above 0 and at most 0.5")
        if self.neighbors < 1:
            raise ValueError(f"neighbors={self.neighbors}: must be at least 1")
        rows = validate_data(self, X, dtype=np.float32)
        self.estimator_ = clone(Autoencoder() if self.estimator is None else self.estimator).fit(rows)
        train, held_out = self._parts(len(rows))
        images = self._images(rows)
        detector = fit_arrays(self.estimator_.autoencoder_, images[train], images[held_out], self.neighbors)
        if self.by not in detector.validation:
            raise ValueError(
                f"by={self.by}: these rows do not have this score. Allowed: {', '.join(detector.validation)}"
            )
        self._detector = dataclasses.replace(detector, model=None)  # type: ignore[arg-type]  # see _complete_detector
        self.offset_ = float(np.percentile(self.score_samples(rows), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Rows [N,F] -> minus the score [N]: higher is more normal."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        from aerun.dataset.data import Split

        images = self._images(rows)
        scores: np.ndarray = -self._complete_detector().scores(Split(images, images, None))[self.by]
        return scores

    def decision_function(self, X: Any) -> np.ndarray:
        """Rows [N,F] -> ``score_samples`` less ``offset_`` [N]: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Rows [N,F] -> 1 for normal rows, -1 for outliers [N]."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _complete_detector(self) -> Any:
        """With the model, which a pickle holds once, without its device."""
        from aerun.use.opened_run import as_opened

        return dataclasses.replace(self._detector, model=as_opened(self.estimator_.autoencoder_))

    def _images(self, rows: np.ndarray) -> torch.Tensor:
        import torch

        return torch.tensor(rows).reshape(-1, *self.estimator_.shape_)

    def _parts(self, count: int) -> tuple[Any, Any]:
        """Rows that the estimator has trained on, and rows that it has held out; all, if these are too few."""
        keys = self.estimator_.config_["dataset"]
        parts = split_train_validation(count, keys["validation"], keys["train_limit"], keys["split_seed"])
        return parts if len(parts[1]) >= LEAST_HELD_OUT else (slice(None), slice(None))
