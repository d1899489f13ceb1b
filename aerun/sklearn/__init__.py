"""Autoencoders as scikit-learn estimators.

from aerun.sklearn import Autoencoder, AutoencoderDetector
codes = Autoencoder(code_size=16, sparsity={"name": "topk", "k": 4}, random_state=0).fit_transform(X)
outliers = AutoencoderDetector(Autoencoder(code_size=4), contamination=0.05).fit_predict(X) == -1
"""

from aerun.sklearn.detector import AutoencoderDetector
from aerun.sklearn.estimator import Autoencoder

__all__ = ["Autoencoder", "AutoencoderDetector"]
