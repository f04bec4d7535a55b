"""Convergence of Markov chains: split R-hat and effective sample size (Gelman et al. 2013, BDA3, section 11.4-5).

The effective sample size sums autocorrelations up to Geyer's initial positive sequence (Geyer 1992), as Stan does.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_r_hat(draws: Tensor) -> Tensor:
    """Return the potential scale reduction of chains that are split in halves.

    Args:
        draws: (T, chains, ...), T >= 4.

    Returns:
        (...), about 1 where the chains have converged; 1 where nothing varies.
    """
    within, total = _variances(_split(draws))
    return torch.where(within > 0, (total / within).sqrt(), torch.where(total > 0, torch.inf, 1.0))


def effective_sample_size(draws: Tensor) -> Tensor:
    """Return how many independent draws would estimate the means as well.

    Args:
        draws: (T, chains, ...), T >= 4.

    Returns:
        (...), at most the number of draws times its logarithm to base 10; the number where nothing varies.
    """
    chains = _split(draws)
    within, total = _variances(chains)
    length, count = len(chains), chains.shape[1]
    centred = chains - chains.mean(0)
    spectrum = torch.fft.rfft(centred, 2 * length, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), 2 * length, dim=0)[:length].mean(1) / (length - 1)
    rho = 1 - (within - covariance) / total.where(total > 0, 1.0)
    rho[0] = 1.0
    pairs = rho[: length // 2 * 2].unflatten(0, (-1, 2)).sum(1)  # sums of neighbours are positive and fall
    positive = (pairs > 0).cumprod(0)
    tau = (-1 + 2 * (pairs.cummin(0).values * positive).sum(0)).clamp_min(1 / torch.tensor(length * count).log10())
    return torch.where(total > 0, length * count / tau, length * count)


def _split(draws: Tensor) -> Tensor:
    """Return chains (T // 2, 2 chains, ...) of the halves, in float64."""
    half = len(draws) // 2
    return torch.cat([draws[:half], draws[-half:]], 1).double()


def _variances(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean variance within chains, and the estimate of the whole variance, (...) each."""
    length = len(chains)
    within = chains.var(0).mean(0)
    return within, within * (length - 1) / length + chains.mean(0).var(0)
