"""The norms ``||P_j||`` by which eq. 8 of arXiv 2406.00494 turns a pre-activation into a distance to its border."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from latentopt.batch_math import per_sample, sample_rms
from latentopt.errors import InputError, nonnegative, positive
from latentopt.gates import Norms, row_norms
from latentopt.problem import Batch

Kind = Literal["probes", "exact", "layer", "none"]


@dataclass(frozen=True)
class RowNorms:
    """How the norms of the rows are had; never by multiplying weights.

    Args:
        kind: "exact": one forward an input dimension; "probes": estimated by random directions; "layer": one norm for
            all neurons of a layer, the root mean square of the estimates; "none": 1 everywhere (no normalisation).
        probes: random directions, >= 1; the relative error of a row is about ``.7 / sqrt(probes)``.
        refresh: steps between two computations, >= 1.
        own_gate: multiply a row's norm by its own gate, as the authors' code for images does.
        floor: least norm, >= 0. 0: a hundredth of the layer's root mean square, as a neuron behind closed gates has no
            row and would be infinitely far.
    """

    kind: Kind = "probes"
    probes: int = 8
    refresh: int = 40
    own_gate: bool = False
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError("RowNorms.kind", f"one of {', '.join(get_args(Kind))}", repr(self.kind))
        for name in ("probes", "refresh"):
            positive(f"RowNorms.{name}", getattr(self, name), integer=True)
        nonnegative("RowNorms.floor", self.floor)

    def due(self, t: int) -> bool:
        """Whether step ``t``, from 0, computes them."""
        return self.kind != "none" and t % self.refresh == 0

    def norms(
        self,
        batch: Batch,
        x: Tensor,
        gate: Callable[[int, Tensor], Tensor],
        layers: Collection[int] | None,
        t: int,
    ) -> Norms:
        """The norms in step ``t`` at ``x`` (B, *shape), with the gates of ``gate`` (`latentopt.gates.row_norms`)."""
        if self.kind == "exact":
            basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
            directions = basis.expand(-1, len(x), *x.shape[1:])
        else:
            like = x[:, None].expand(-1, self.probes, *x.shape[1:])
            directions = batch.noise.normal(like, "probe", t).transpose(0, 1)
        own: list[Tensor] = []

        def kept(index: int, z: Tensor) -> Tensor:
            own.append(gate(index, z))
            return own[-1]

        norms = row_norms(batch.network, x, kept, directions, self.kind == "exact", layers)
        switches = [self._floored(n, g) for n, g in zip(norms.switches, own, strict=False)]
        return norms._replace(switches=switches, output=norms.output.clamp_min(_least(x)))

    def _floored(self, norm: Tensor, gate: Tensor) -> Tensor:
        norm = norm * gate if self.own_gate else norm
        rms = per_sample(sample_rms(norm), norm)
        if self.kind == "layer":
            norm = rms.expand_as(norm)
        floor = 0.01 * rms if self.floor == 0 else torch.full_like(rms, self.floor)
        return torch.maximum(norm, floor.clamp_min(_least(norm)))


def _least(like: Tensor) -> float:
    """The least norm that is divided by: behind gates that are all closed a row is 0."""
    return max(1e-12, torch.finfo(like.dtype).tiny)
