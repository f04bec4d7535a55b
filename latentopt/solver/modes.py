"""The distinct answers among the restarts of a solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentopt.batch_math import sample_rms, take
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt
from latentopt.pictures import add_captions, tile, to_pictures
from latentopt.results import SavedResult, draw_sorted, thinned

MAX_MODES, MAX_SAMPLES = 8, 4
"""Greatest numbers of modes of a sample, and of samples, in a picture."""


@dataclass(frozen=True, eq=False, repr=False)
class Modes(SavedResult):
    """Distinct answers for each of B samples, M in all: groups of restarts with nearly the same output.

    Modes are ordered by sample, and those of a sample by rising value, so the first one is its result. A mode is the
    best of its restarts. ``problem.take(modes.sample)`` is the problem of which ``x`` are inputs.
    """

    sample: Tensor  # (M,) long, in [0, B)
    value: Tensor  # (M,) objective at x
    weight: Tensor  # (M,) share of the sample's restarts that ended in the mode, in (0, 1]
    x: Tensor  # (M, *shape) inputs
    output: Tensor  # (M, *out) of the network at x
    label: Tensor  # (restarts, B) long, the mode of each restart; -1: none, as it did not come to an end

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each mode: its sample, value and weight."""
        return [row | {"sample": sample} for row, sample in zip(super().rows, self.sample.tolist(), strict=True)]

    def summary(self) -> dict[str, Any]:
        """Return the numbers of samples and modes, and the mean weight of the best mode of a sample, by name."""
        samples = self.sample.unique()
        first = torch.searchsorted(self.sample, samples)
        return {"samples": len(samples), "modes": len(self.sample), "weight_of_best": float(self.weight[first].mean())}

    def _draw(self, figure: Any) -> None:
        axes = figure.subplots()
        if self.output.ndim not in (3, 4, 5) or not self.output.is_floating_point():
            draw_sorted(axes, {"value": self.value}, "value")
            return
        rows, samples = list[Tensor](), self.sample.unique()[:MAX_SAMPLES]
        counts = [min(int((self.sample == sample).sum()), MAX_MODES) for sample in samples]
        for sample, count in zip(samples, counts, strict=True):
            own = (self.sample == sample).nonzero()[:count, 0]
            images = thinned(to_pictures(self.output[own]))
            captions = [f"{self.value[i]:.3g} ({self.weight[i]:.0%})" for i in own.tolist()]
            captioned = add_captions(images, captions)
            rows.append(torch.cat([captioned, captioned.new_full((max(counts) - count, *captioned.shape[1:]), 255)]))
        axes.imshow(tile(list(torch.stack(rows, 1)), per_row=1, side=rows[0].shape[-2]))
        axes.set_axis_off()
        axes.set_title("modes of each sample: value (share of restarts)", fontsize=9)


@torch.no_grad()
def find_modes(network: Callable[[Tensor], Any], x: Tensor, value: Tensor, left_out: Tensor, distance: float) -> Modes:
    """Return the modes among restarts, as `latentopt.Result.modes` describes.

    Args:
        network: maps (B, *shape) to (B, *out); with ``take(rows)``, or a `latentopt.Generator`, if samples differ.
        x: (restarts, B, *shape) inputs.
        value: (restarts, B) objective there; those that are not finite are left out.
        left_out: (restarts, B) bool, restarts that belong to no mode.
        distance: greatest root mean square difference of the outputs of a mode from its best one.
    """
    valid, label = value.isfinite() & ~left_out, torch.full(value.shape, -1, device=value.device)
    chosen, outputs, shares = list[tuple[int, int]](), list[Tensor](), list[float]()
    with frozen(network):
        for sample in range(value.shape[1]):
            restarts = value[:, sample].masked_fill(~valid[:, sample], torch.inf).argsort(stable=True)
            restarts = restarts[: int(valid[:, sample].sum())]
            output = _outputs(network, x[restarts, sample], sample)
            members = _leaders(output, distance)
            leaders = members.unique()  # positions among the restarts, rising, so by value
            label[restarts, sample] = len(chosen) + torch.searchsorted(leaders, members)
            chosen += [(restart, sample) for restart in restarts[leaders].tolist()]
            outputs.append(output[leaders])
            shares += [float((members == leader).double().mean()) for leader in leaders]
    restart, sample = torch.tensor(chosen, device=value.device).reshape(-1, 2).T.contiguous()
    return Modes(
        sample, value[restart, sample], value.new_tensor(shares), x[restart, sample], torch.cat(outputs), label
    )


def _outputs(network: Callable[[Tensor], Any], x: Tensor, sample: int) -> Tensor:
    """Return the outputs (n, *out) of inputs (n, *shape) of one sample, as many at once as fit into memory."""
    count = getattr(network, "rows_at_once", None) or max(len(x), 1)
    parts = list[Tensor]()
    for rows in x.split(count):
        own = take(network, torch.full((len(rows),), sample, device=x.device))
        parts.append(adapt(own, pick=None)(rows))
    return torch.cat(parts)


def _leaders(output: Tensor, distance: float) -> Tensor:
    """Return for each output (n, *out), the best first, the position (n,) long of the best one of its mode."""
    leaders, members = list[int](), list[int]()
    for position in range(len(output)):
        if leaders:
            nearest = sample_rms((output[leaders] - output[position]).double().flatten(1)).min(0)
            if nearest.values <= distance:
                members.append(leaders[int(nearest.indices)])
                continue
        leaders.append(position)
        members.append(position)
    return torch.tensor(members, device=output.device)
