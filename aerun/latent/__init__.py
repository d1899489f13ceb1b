"""Maps the constrained features to the code: unchanged, or to a sample from the distribution that they describe.

- ``deterministic``: the features themselves.
- ``gaussian``: samples of a Gaussian posterior.
"""

from aerun.latent.deterministic import Deterministic
from aerun.latent.gaussian import Gaussian, ImportanceWeighted, kl_divergences, standard_normal

__all__ = ["Deterministic", "Gaussian", "ImportanceWeighted", "kl_divergences", "standard_normal"]
