"""Reconstruction through operators with unknown parameters, which are parts of the latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.inverse.extra_latents import ExtraLatents, with_parts
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.objectives import Fit
from latentopt.operators import BlindOperator
from latentopt.operators.unknown import bind

PREFIX = "operator."
"""Begins the names of the parts of latents that are an operator's parameters."""
MAX_SIZE = 512
"""Greatest number of latents of which `require_identifiable` computes Jacobians."""
MIN_CHANGE = 1e-4
"""Least change of the measurement that is not undone by the latents, as a share of all change by the parameters."""


def with_unknowns(generator: Generator, operator: Callable[[Tensor], Tensor]) -> Generator:
    """Return the generator with the unknown parameters of an operator as the last parts of its latents.

    Its images are as before; a generator that has these parts is returned as it is.
    """
    if not isinstance(operator, BlindOperator):
        return generator
    shapes = {PREFIX + name: prior.shape or (1,) for name, prior in operator.priors.items()}
    if list(shapes.items()) == list(generator.part_shapes.items())[-len(shapes) :]:
        return generator
    scales = {PREFIX + name: 1 / prior.step for name, prior in operator.priors.items()}
    return with_parts(generator, ExtraLatents(generator, list(shapes)), shapes, scales)


@dataclass(frozen=True, eq=False)
class BlindFit:
    """The objective `latentopt.objectives.Fit` of an operator whose parameters the inputs hold.

    Args:
        loss, measurement: as of `Fit`.
        operator: with unknown parameters.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    operator: BlindOperator
    measurement: Tensor
    takes_input: ClassVar[bool] = True

    def __call__(self, output: Tensor, x: Tensor | None = None) -> Tensor:
        assert x is not None  # as it takes the input
        return self._at(x)(output)

    def residual(self, output: Tensor, x: Tensor) -> Tensor:
        """Compute residuals (B, m) as `Fit.residual`."""
        return self._at(x).residual(output)

    def take(self, rows: Tensor) -> BlindFit:
        return BlindFit(take(self.loss, rows), self.operator, self.measurement[rows])

    def _at(self, x: Tensor) -> Fit:
        return Fit(self.loss, bind(self.operator, x), self.measurement)


def fit_of(
    loss: Callable[[Tensor, Tensor], Tensor], operator: Callable[[Tensor], Tensor], measurement: Tensor
) -> Fit | BlindFit:
    """Return the objective ``loss(operator(output), measurement)``, of an operator with unknown parameters or none."""
    if isinstance(operator, BlindOperator):
        return BlindFit(loss, operator, measurement)
    return Fit(loss, operator, measurement)


def require_identifiable(generator: Generator, operator: Callable[[Tensor], Tensor], samples: int = 3) -> None:
    """Check that measurements tell an operator's unknown parameters from the latents.

    At a few random latents, the Jacobian of the measurement in latents and parameters, sketched by random projections,
    shows whether the latents undo a change of the parameters; its forwards are not counted, as of other checks.
    Generators of more than `MAX_SIZE` latents are not checked.

    Args:
        generator: with the parameters as its last latents.
        operator: the operator.
        samples: number of latents, of which one that tells them apart is enough.

    Raises:
        InputError: at each of them, some change of the parameters is undone by the latents.
    """
    size = generator.latent_shape[0]
    if not isinstance(operator, BlindOperator) or size > MAX_SIZE:
        return
    like, seeded = empty_like_parameters(generator), torch.Generator("cpu").manual_seed(0)
    drawn = generator.latents(samples, seed=0).to(like)
    if any(len(value) > 1 for value in generator.conditions.values()):
        generator = generator.take(torch.zeros(1, dtype=torch.long))
    change = 0.0
    with frozen(generator), torch.enable_grad():
        for z in drawn:
            rows = z.expand(size + 8, -1).clone().requires_grad_()
            measured = bind(operator, rows)(generator(rows)).flatten(1)
            weights = torch.randn(measured.shape, generator=seeded).to(measured)
            (jacobian,) = torch.autograd.grad((weights * measured).sum(), rows)  # (size + 8, size), sketched
            change = max(change, _least_change(jacobian.double().cpu(), operator.size))
    if change < MIN_CHANGE:
        names = ", ".join(operator.priors)
        expected = f"{names} that the measurement tells from the latents, or a prior with a penalty"
        raise InputError("operator", expected, "latents that undo a change of it (the Jacobian's rank)")


def _least_change(jacobian: Tensor, count: int) -> float:
    """Return the least share of a change by the last ``count`` columns that the other columns do not undo."""
    if not bool(jacobian.isfinite().all()):
        return 1.0
    own, parameters = jacobian[:, :-count], jacobian[:, -count:]
    basis, values, _ = torch.linalg.svd(own, full_matrices=False)
    basis = basis[:, values > 1e-6 * values.max()]
    rest = parameters - basis @ (basis.T @ parameters)
    whole = torch.linalg.svdvals(parameters)
    return float(torch.linalg.svdvals(rest)[-1] / whole[-1].clamp_min(1e-300))
