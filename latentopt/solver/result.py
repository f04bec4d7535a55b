"""The result of a solve and its file."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.errors import InputError, LatentOptError, nonnegative
from latentopt.networks.freezing import frozen
from latentopt.reports import Row
from latentopt.results import SavedResult, draw_images, is_image
from latentopt.solver.modes import Modes, find_modes


class Status(enum.IntEnum):
    """Reason why a sample stopped; its best input is returned in any case."""

    SOLVED = 0  # the success test holds on the returned input
    BUDGET = 1  # a budget was spent: steps, evaluations or seconds
    NONFINITE = 2  # every restart met values that are not finite, again after returning to its best point
    STALLED = 3  # every restart stopped, at least one because its objective no longer fell
    STOPPED = 4  # a callback stopped the solve
    DROPPED = 5  # of a restart only: others of its sample were better (`halving`)


@dataclass(frozen=True, eq=False, repr=False)
class Result(SavedResult):
    """Best input of each of B samples, chosen by the objective among all restarts and iterates.

    All restarts' inputs are there too, with their values: several answers to one question. ``all_x[restart[b], b]`` is
    ``x[b]``. So one sample with many restarts gives many results; `modes` groups those that agree.
    """

    x: Tensor  # (B, *shape) inputs
    value: Tensor  # (B,) objective at x
    output: Tensor  # (B, *out) of the network at x
    status: tuple[Status, ...]  # B reasons why the samples stopped
    restart: Tensor  # (B,) long, the restart that found x
    forwards: Tensor  # (B,) long, of all restarts of the sample
    backwards: Tensor  # (B,) long, of all restarts of the sample
    history: dict[str, Tensor]  # name to (steps, restarts, B), NaN once a restart has stopped; always has "loss"
    meta: dict[str, Any]  # optimizer, steps, restarts, seed, budgets, versions, seconds
    all_x: Tensor = field(default_factory=lambda: torch.empty(0))  # (restarts, B, *shape) best input of each restart
    all_value: Tensor = field(default_factory=lambda: torch.empty(0))  # (restarts, B) objective there; inf: it met none
    all_status: Tensor = field(default_factory=lambda: torch.empty(0))  # (restarts, B) long, a `Status`; -1: not tried
    activations: dict[str, Tensor] = field(default_factory=dict)  # by layer (B, *shape); `output` is of the last one's
    unknowns: dict[str, Tensor] = field(default_factory=dict)  # parameters (B, ...) found with x, by name

    @property
    def rows(self) -> list[Row]:
        """One row for each sample: value, status, restart and cost."""
        return [{**row, "status": status.name} for row, status in zip(super().rows, self.status, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Return the number of samples and of the solved ones, their values and mean costs by name."""
        value = self.value.double()
        return {
            "samples": len(value),
            "solved": sum(status is Status.SOLVED for status in self.status),
            "mean_value": float(value.mean()),
            "median_value": float(value.median()),
            "forwards": float(self.forwards.double().mean()),
            "backwards": float(self.backwards.double().mean()),
            "seconds": self.meta.get("seconds", float("nan")),
        }

    def _draw(self, figure: Any) -> None:
        images = next((t for t in (self.output, self.x) if is_image(t)), None)
        *left, right = figure.subplots(1, 1 if images is None else 2, squeeze=False)[0]
        if images is not None:
            figure.set_size_inches(10, 4.2)
            draw_images(left[0], {"output" if images is self.output else "x": images})
        best = np.fmin.accumulate(self.history["loss"].detach().cpu().double().numpy(), 0)  # NaN: has stopped
        best = np.fmin.reduce(best, 1)  # (steps, B)
        low, middle, high = np.nanquantile(best, (0.25, 0.5, 0.75), axis=1)
        steps = range(1, len(best) + 1)
        right.plot(steps, middle, label="median")
        right.fill_between(steps, low, high, alpha=0.2, linewidth=0, label="quartiles")
        right.set(xlabel="step", ylabel="best value so far", yscale="log" if low.min() > 0 else "linear")
        right.grid(alpha=0.3)
        right.legend()

    @checked
    def modes(self, network: nn.Module, distance: float = 0.05) -> Modes:
        """Group the restarts of each sample by their outputs: the distinct answers to one question.

        The best restart founds the first mode. Each further one, by rising value, joins the nearest mode whose best
        output is within ``distance`` of its own, or founds another. Restarts that `halving` dropped are left out, as
        they did not come to an end: search with ``halving=()`` for the modes of all.

        Args:
            network: the network of the problem, maps (B, *shape) to (B, *out); each restart is evaluated once, one
                sample after the other.
            distance: greatest root mean square difference of the outputs of a mode from its best one, >= 0, in their
                units; images are in [0, 1].

        Returns:
            The `Modes`, of each sample by rising value.

        Raises:
            InputError: the result holds no restarts, as those of older files, or the network does not take them.
        """
        nonnegative("distance", distance)
        if not self.all_x.numel():
            raise InputError("result", "one with the inputs of all restarts", "one of an older file")
        return find_modes(network, self.all_x, self.all_value, self.all_status == Status.DROPPED, distance)

    @checked
    def verify(self, network: nn.Module, tolerance: float = 1e-5) -> None:
        """Check that a network returns `output` for `x`.

        Args:
            network: maps `x` to (B, *out); where the search went on in layers, the last `activations`, as the second
                part of `latentopt.split` does.
            tolerance: greatest difference of an output.

        Raises:
            LatentOptError: an output differs by more.
        """
        with frozen(network), torch.no_grad():
            output = network([self.x, *self.activations.values()][-1])
        if output.shape != self.output.shape:
            shapes = f"{tuple(output.shape)}, the saved one {tuple(self.output.shape)}"
            raise LatentOptError(f"the network's output has shape {shapes}: another network?")
        error = (output - self.output).abs().max().item()
        if not error <= tolerance:
            raise LatentOptError(f"the network's output differs from the saved one by {error:.3g}: other weights?")
