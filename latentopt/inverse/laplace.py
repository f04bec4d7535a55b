"""Laplace's approximation of a posterior of latents at its modes (MacKay 2003, chapter 27), by Gauss-Newton.

Within one activation region of a piecewise-linear generator, with a linear operator and Gaussian noise, it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from latentopt.problem import Batch

MIN_PROBABILITY = 1e-12
"""Least weight of a mode where one is drawn."""


@dataclass(frozen=True)
class Likelihood:
    """The likelihood as a function of standard normal latents ``u = (z - mean) / scale``, flattened.

    Args:
        batch: rows whose objective is the negative log-likelihood in nats, without a penalty.
        mean: of the latents (*shape).
        scale: standard deviation of the latents (*shape).
    """

    batch: Batch
    mean: Tensor
    scale: Tensor

    def latents(self, u: Tensor) -> Tensor:
        """Return latents (B, *shape) of standard ones (B, n)."""
        return self.mean + self.scale * u.reshape(-1, *self.mean.shape)

    def standard(self, z: Tensor) -> Tensor:
        """Return standard latents (B, n) of latents (B, *shape)."""
        return ((z - self.mean) / self.scale).flatten(1)

    def gradient(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood (B,) and its gradient (B, n): one forward and one backward."""
        evaluation, grad = self.batch.gradient(self.latents(u))
        return evaluation.value.detach(), (grad * self.scale).flatten(1)

    def information(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood (B,) and its Gauss-Newton curvature (B, n, n) in float64.

        It costs one forward, and one backward for each of the n latents and one more.
        """
        z = self.latents(u).detach().requires_grad_()
        with torch.enable_grad():
            output = self.batch.network(z)
            residual, value = self.batch.residual(output, z), self.batch.loss(output, z)
            weight = torch.zeros_like(residual, requires_grad=True)  # J^T w is linear in w, and its gradient is J
            (pulled,) = torch.autograd.grad(residual, z, weight, create_graph=True)
            columns = [torch.autograd.grad(c.sum(), weight, retain_graph=True)[0] for c in pulled.flatten(1).unbind(1)]
        J = torch.stack(columns, 2).double() * self.scale.flatten().double()  # (B, m, n)
        return value.detach(), 2 * J.mT @ J

    def take(self, rows: Tensor) -> Self:
        """Return the likelihood of the rows ``rows`` (long), each as often as it is named."""
        return type(self)(self.batch.take(rows), self.mean, self.scale)


@dataclass(frozen=True)
class LaplaceMixture:
    """Normal distributions at K modes of each of B posteriors, in standard latents; best mode first.

    Args:
        u: (K, B, n) the modes, float64.
        value: (K, B) negative log-likelihoods there.
        information: (K, B, n, n) curvatures of the likelihood.
        distinct: (K, B) whether no better mode explains it.
    """

    u: Tensor
    value: Tensor
    information: Tensor
    distinct: Tensor

    @classmethod
    def at(cls, likelihood: Likelihood, u: Tensor) -> Self:
        """Make the mixture at candidates (K, B, n), of which those are dropped that a better mode explains.

        A mode explains points within sqrt(n) of its standard deviations, the distance of its own samples.
        """
        count, batch, n = u.shape
        rows = torch.arange(batch, device=u.device).repeat(count)
        value, information = likelihood.take(rows).information(u.flatten(0, 1))
        value, information = value.double().reshape(count, batch), information.reshape(count, batch, n, n)
        u, sample = u.double(), torch.arange(batch, device=u.device)
        order = (value + u.square().sum(2) / 2).nan_to_num(torch.inf).argsort(0)
        u, value, information = u[order, sample], value[order, sample], information[order, sample]
        distinct = value.isfinite() & information.isfinite().flatten(2).all(2)
        information = torch.where(distinct[..., None, None], information, 0.0)
        distinct[0] = True
        curvature = information + torch.eye(n, dtype=u.dtype, device=u.device)
        for k in range(1, count):
            step = u[k] - u[:k]
            distance = torch.einsum("kbi,kbij,kbj->kb", step, curvature[:k], step)
            distinct[k] &= ~((distance < n) & distinct[:k]).any(0)
        return cls(u, value, information, distinct)

    def curvature(self, beta: float | Tensor = 1.0) -> Tensor:
        """Return the precision (K, B, n, n) at the inverse temperature ``beta`` of the likelihood."""
        eye = torch.eye(self.u.shape[2], dtype=self.u.dtype, device=self.u.device)
        return beta * self.information + eye

    def log_evidence(self, beta: float = 1.0) -> Tensor:
        """Return the logarithm (K, B) of the integral of likelihood and prior around each mode; -inf: not distinct."""
        half_logdet = torch.linalg.cholesky(self.curvature(beta)).diagonal(dim1=2, dim2=3).log().sum(2)
        evidence = -beta * self.value - self.u.square().sum(2) / 2 - half_logdet
        return evidence.masked_fill(~self.distinct, -math.inf)

    def weight(self, beta: float = 1.0) -> Tensor:
        """Return the shares (K, B) of the modes by their evidence."""
        return self.log_evidence(beta).softmax(0)

    def draw(self, normal: Tensor, uniform: Tensor, beta: float = 1.0) -> Tensor:
        """Draw from the mixture.

        Args:
            normal: standard normal numbers (B, n).
            uniform: numbers (B,) in [0, 1), which choose the mode.
            beta: inverse temperature.

        Returns:
            Points (B, n), float64.
        """
        weight = self.weight(beta)
        mode = (weight.cumsum(0) <= uniform.to(weight)).sum(0).clamp_max(len(weight) - 1)
        mode = torch.where(weight.gather(0, mode[None])[0] > MIN_PROBABILITY, mode, weight.argmax(0))
        sample = torch.arange(len(mode), device=mode.device)
        return self.u[mode, sample] + times(self.root(beta, mode), normal.to(self.u))

    def root(self, beta: float, mode: Tensor) -> Tensor:
        """Return roots S (B, n, n) of the covariances S S^T of one mode (B,) of each sample."""
        factor = torch.linalg.cholesky(self.curvature(beta)[mode, torch.arange(len(mode), device=mode.device)])
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand_as(factor)
        return torch.linalg.solve_triangular(factor.mT, eye, upper=True)

    def nearest(self, u: Tensor) -> Tensor:
        """Return the mode (S, B) long whose normal distribution is most likely to have drawn points (S, B, n)."""
        curvature, best = self.curvature(), torch.full(u.shape[:2], -math.inf, dtype=self.u.dtype, device=u.device)
        half_logdet = torch.linalg.cholesky(curvature).diagonal(dim1=2, dim2=3).log().sum(2)
        log_weight, mode = self.weight().log(), torch.zeros(u.shape[:2], dtype=torch.long, device=u.device)
        for k in range(len(self.u)):
            step = u.double() - self.u[k]
            log_density = log_weight[k] + half_logdet[k] - torch.einsum("sbi,bij,sbj->sb", step, curvature[k], step) / 2
            mode, best = torch.where(log_density > best, k, mode), torch.maximum(log_density, best)
        return mode


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return the products (B, n) of matrices (B, n, n) and vectors (B, n)."""
    return (matrix @ vector[..., None])[..., 0]
