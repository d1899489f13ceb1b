"""Penalties on the whole pass, in addition to those of sparsity and latent: ``regularizer=[one,other]``.

Any ``aerun.contracts.Regularizer`` can be used as one.
"""
