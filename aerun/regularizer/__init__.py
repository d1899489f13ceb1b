"""Penalties on the whole pass, in addition to those of sparsity and latent: ``regularizer=[one,other]``.

- ``aux_k``: what dead units could reconstruct.
- ``jacobian``: derivatives of the encoder and of the decoder.
- ``norms``: the length of codes and the size of weights.
- ``views``: the codes of two corruptions of an image.
"""

from aerun.regularizer.aux_k import AuxK
from aerun.regularizer.jacobian import Contractive, RaeGradient
from aerun.regularizer.norms import RaeL2, Spectral
from aerun.regularizer.views import Decorrelation

__all__ = ["AuxK", "Contractive", "Decorrelation", "RaeGradient", "RaeL2", "Spectral"]
