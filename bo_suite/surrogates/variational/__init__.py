"""Variational inference for sparse processes: likelihoods, bounds, natural gradients and training."""
