"""The norms ``||P_j||`` by which eq. 8 of arXiv 2406.00494 turns a pre-activation into a distance to its border."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import per_sample, sample_rms
from latentopt.errors import InputError, nonnegative, positive
from latentopt.gates import Norms, row_norms
from latentopt.problem import Batch

Kind = Literal["probes", "exact", "layer", "none"]


@checked
@dataclass(frozen=True)
class RowNorms:
    """Computation of row norms by forward passes; weights are never multiplied.

    Args:
        kind: "exact": one forward for each input dimension. "probes": estimates by random directions. "layer": one norm
            for all neurons of a layer, the root mean square of the estimates. "none": 1 everywhere.
        probes: random directions, >= 1; the relative error of a row is about ``.7 / sqrt(probes)``.
        refresh: steps between two computations, >= 1.
        own_gate: multiply a row's norm by its own gate, as the authors' code for images does.
        floor: least norm, >= 0. 0: a hundredth of the layer's root mean square, as a neuron behind closed gates has
            no row and would be infinitely far.
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
        """Return whether a step computes the norms.

        Args:
            t: number of the step, from 0.

        Returns:
            True in every ``refresh``-th step, from the first.
        """
        return self.kind != "none" and t % self.refresh == 0

    def norms(
        self,
        batch: Batch,
        x: Tensor,
        gate: Callable[[int, Tensor], Tensor],
        layers: Collection[int] | None,
        t: int,
    ) -> Norms:
        """Compute the norms by `latentopt.gates.row_norms`.

        Args:
            batch: the rows to optimise.
            x: (B, *shape), the iterate.
            gate: maps a switch's index and pre-activation (B, *site) to its gate.
            layers: numbers of the sites with gates. None: all.
            t: number of the step, the key of random directions.

        Returns:
            Norms of the switches and of the output, with floors, and their cost.
        """
        if self.kind == "exact":
            basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
            directions = basis.expand(-1, len(x), *x.shape[1:])
        else:
            like = x[:, None].expand(-1, self.probes, *x.shape[1:])
            directions = batch.noise.normal(like, "probe", t).transpose(0, 1)
        gates: list[Tensor] = []

        def record(index: int, z: Tensor) -> Tensor:
            gates.append(gate(index, z))
            return gates[-1]

        norms = row_norms(batch.network, x, record, directions, self.kind == "exact", layers)
        switches = [self._with_floor(norm, gate) for norm, gate in zip(norms.switches, gates, strict=False)]
        return norms._replace(switches=switches, output=norms.output.clamp_min(_smallest(x)))

    def _with_floor(self, norm: Tensor, gate: Tensor) -> Tensor:
        norm = norm * gate if self.own_gate else norm
        rms = per_sample(sample_rms(norm), norm)
        if self.kind == "layer":
            norm = rms.expand_as(norm)
        floor = 0.01 * rms if self.floor == 0 else torch.full_like(rms, self.floor)
        return torch.maximum(norm, floor.clamp_min(_smallest(norm)))


def _smallest(like: Tensor) -> float:
    """Return the least norm to divide by; behind closed gates a row is 0."""
    return max(1e-12, torch.finfo(like.dtype).tiny)
