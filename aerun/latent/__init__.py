"""Maps the constrained features to the code: unchanged, or to a sample from the distribution that they describe.

- ``deterministic``: the features themselves.
- ``gaussian``: samples of a Gaussian posterior.
- ``aggregate``: codes whose distribution over the minibatch is compared with the prior.
- ``total_correlation``: a KL term in three parts.
- ``vamp``, ``vamp_prior``: a learned prior.
- ``quantized``: entries of codebooks; their modules are in ``quantizer``.
- ``entropy``: rounded values and their bits; their modules are in ``entropy_models``, with ``densities``.
"""

from aerun.latent.aggregate import InfoMMD, WassersteinMMD
from aerun.latent.deterministic import Deterministic
from aerun.latent.entropy import Factorized, Hyperprior
from aerun.latent.gaussian import Gaussian, ImportanceWeighted, kl_divergences, standard_normal
from aerun.latent.quantized import FSQ, LFQ, VQ, ResidualVQ
from aerun.latent.total_correlation import TotalCorrelation
from aerun.latent.vamp import VampPrior

__all__ = [
    "FSQ",
    "LFQ",
    "VQ",
    "Deterministic",
    "Factorized",
    "Gaussian",
    "Hyperprior",
    "ImportanceWeighted",
    "InfoMMD",
    "ResidualVQ",
    "TotalCorrelation",
    "VampPrior",
    "WassersteinMMD",
    "kl_divergences",
    "standard_normal",
]
