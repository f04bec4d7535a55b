"""Inverse problems: reconstruct images through frozen generators."""

from latentopt.inverse import priors

__all__ = ["priors"]
