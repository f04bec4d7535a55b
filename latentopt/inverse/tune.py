"""The weights of a generator after its latents (pivotal tuning, PTI, Roich et al. 2021, arXiv 2106.05744)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.arguments import Files, Named, Values, as_tensor, checked
from latentopt.autodiff import outside_inference_mode
from latentopt.errors import InputError, nonnegative, with_nearest
from latentopt.fingerprint import checksum
from latentopt.inverse.initializers import share_cost
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.networks.weights import call_with_weights
from latentopt.objectives import Fit
from latentopt.optimizers import Adam, Optimizer, method
from latentopt.problem import Problem
from latentopt.reports import Row
from latentopt.results import SavedResult, draw_images, is_image
from latentopt.solver.callbacks import Callbacks
from latentopt.solver.loop import solve
from latentopt.solver.result import Result

PTI = Adam(lr=3e-4, schedule="constant")
"""The method of PTI."""


@dataclass(frozen=True, eq=False, repr=False)
class TuneResult(SavedResult):
    """Changes of a generator's weights, which all images of a batch share, and these images."""

    x: Tensor  # (B, *latent_shape) latents
    value: Tensor  # (B,) loss of the tuned generator
    before: Tensor  # (B,) loss of the untouched generator
    output: Tensor  # (B, *image) of the tuned generator
    forwards: Tensor  # (B,) long, of the generator, on this image and its share of those that are to stay
    backwards: Tensor  # (B,) long
    history: dict[str, Tensor]  # name to (steps, 1, 1); "loss" is the objective
    delta: dict[str, Tensor]  # by parameter, added to the weights
    meta: dict[str, Any]  # settings of the solve, and "weights": the checksum of the untouched generator

    @property
    def rows(self) -> list[Row]:
        """One row for each image: its loss after and before, and the cost."""
        columns = {name: getattr(self, name).tolist() for name in ("value", "before", "forwards", "backwards")}
        return [{"sample": i, **{n: values[i] for n, values in columns.items()}} for i in range(len(self.value))]

    def summary(self) -> dict[str, Any]:
        """Return the number of samples, and the means of the losses and costs by name."""
        means = {name: getattr(self, name).double().mean().item() for name in ("value", "before", "forwards")}
        return {"samples": len(self.value), **means, "seconds": self.meta.get("seconds", float("nan"))}

    @checked
    def apply(self, generator: Generator) -> Generator:
        """Return a copy of a generator with the tuned weights.

        Args:
            generator: the one that was tuned, untouched.

        Returns:
            The copy, which makes `output` of `x`.

        Raises:
            InputError: it is another generator.
        """
        if _checksum(generator) != self.meta["weights"]:
            raise InputError("generator", "the one that was tuned, untouched", "one with other weights")
        tuned = copy.deepcopy(generator)
        weights = parameters_of(tuned)
        with torch.no_grad():
            for name, delta in self.delta.items():
                weights[name].add_(delta.to(weights[name].device))
        return tuned

    def _draw(self, figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        if is_image(self.output):
            draw_images(left, {"output": self.output})
        right.plot(range(1, len(self.history["loss"]) + 1), self.history["loss"].flatten().cpu())
        right.set(xlabel="step", ylabel="objective", yscale="log")


@outside_inference_mode
@checked
def tune(
    generator: Generator,
    latents: Values | Mapping[str, Values] | Result,
    target: Values | Files,
    *,
    operator: Callable[[Tensor], Tensor] | Named | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | Named | None = None,
    measured: bool | None = None,
    parameters: str | Sequence[str] | None = None,
    locality: float = 0.1,
    anchors: int = 8,
    optimizer: Optimizer | Named = PTI,
    steps: int = 350,
    seed: int = 0,
    seconds: float | None = None,
    patience: int | None = None,
    min_delta: float = 1e-4,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    callbacks: Callbacks = (),
) -> TuneResult:
    """Change a generator's weights so that it makes given images of given latents (PTI, arXiv 2106.05744).

    The images share one change of the weights. The generator itself is left as it is. Images of other latents, between
    those given and random ones, are kept as they were (locality). A search holds some eight copies of the weights that
    may change, L-BFGS two more for each pair that it remembers, and the activations of all images.

    Args:
        generator: a pretrained generator.
        latents: (B, *latent_shape), by part where they have names; or a `Result`, as of `latentopt.reconstruct`.
        target, operator, loss, measured: as in `latentopt.Reconstruction`.
        parameters: names of the parameters of the generator's module that may change, of modules that hold them, or
            patterns such as ``layers.*.weight``. None: all.
        locality: weight of the mean distance, in the units of ``loss``, between images of other latents and those that
            the untouched generator makes of them, >= 0.
        anchors: number of these other latents, >= 0. The k-th is k / anchors of the way from a given latent to a random
            one.
        optimizer: as in `latentopt.solve`; it moves the changes, which start at 0. The default is that of PTI. Methods
            with gates, such as ADR-GD, are for inputs, and refused.
        steps, seed, seconds, patience, min_delta, checkpoint, checkpoint_every, callbacks: as in `latentopt.solve`. A
            callback sees one sample: its input are the changes (n,), its output all images (B + anchors, ...).

    Returns:
        A `TuneResult`: its ``delta`` by parameter, which ``save`` keeps in a safetensors file and ``apply`` adds to the
        generator.

    Raises:
        InputError: as `latentopt.Reconstruction` and `latentopt.solve`; no parameter has a name as in ``parameters``;
            or there is not a latent for each target.
    """
    nonnegative("locality", locality)
    nonnegative("anchors", anchors, integer=True)
    generator.require_gradient()
    problem = Reconstruction(generator, target, operator, loss, measured)
    optimizer = method(optimizer, problem.feasible)
    if optimizer.drives_gates:
        raise InputError("optimizer", "a method without gates, such as adam or lbfgs, for weights", optimizer)
    if not isinstance(problem.objective, Fit):
        raise InputError("operator", "one whose parameters are known", type(problem.operator).__name__)
    chosen = choose_parameters(generator, parameters)
    if isinstance(latents, Result):
        generator.require_space("latents", latents.meta.get("space"))
        latents = latents.x
    z = as_tensor("latents", generator.join(latents) if isinstance(latents, Mapping) else latents, problem.like)
    if z.shape != (problem.batch, *problem.shape):
        raise InputError("latents", f"shape {(problem.batch, *problem.shape)}, one for each target", tuple(z.shape))
    network = WeightSpace(generator, z, anchors, chosen, seed)
    with torch.no_grad(), frozen(network):
        images = network(start := network.like.new_zeros(1, network.size))[0]
        before = problem.objective(images[: len(z)])
    assert isinstance(problem.objective, Fit)
    objective = TuneObjective(problem.objective, len(z), images[len(z) :], locality)
    result = solve(
        Problem(network, objective, network.size, 1, like=network.like),
        optimizer,
        steps=steps,
        seed=seed,
        start=start,
        seconds=seconds,
        patience=patience,
        min_delta=min_delta,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        callbacks=callbacks,
    )
    output = result.output[0, : len(z)]
    each = torch.arange(len(z), device="cpu")
    total = [len(images) * (int(count) + more) for count, more in ((result.forwards, 1), (result.backwards, 0))]
    return TuneResult(
        x=z,
        value=problem.objective(output),
        before=before,
        output=output,
        forwards=share_cost(total[0], len(z), each),
        backwards=share_cost(total[1], len(z), each),
        history=result.history,
        delta={name: part[0].clone() for name, part in network.parts(result.x).items()},
        meta={**result.meta, "weights": _checksum(generator), "locality": locality, "anchors": anchors},
    )


class WeightSpace(nn.Module):
    """A generator as a function of changes of its weights, at fixed latents.

    Args:
        generator: the generator.
        z: latents (B, *latent_shape).
        anchors: number of further latents, between these and random ones.
        chosen: parameters of the generator's module that change, by name.
        seed: of the random latents.

    Maps changes (rows, n) to images (rows, B + anchors, C, H, W).
    """

    argument = "generator"

    def __init__(self, generator: Generator, z: Tensor, anchors: int, chosen: Mapping[str, Tensor], seed: int) -> None:
        super().__init__()
        pivot = torch.arange(anchors, device=z.device) % len(z)
        share = torch.arange(1, anchors + 1, device=z.device) / max(anchors, 1)
        share = share.to(z).reshape(-1, *[1] * (z.ndim - 1))
        random = generator.latents(anchors, seed).to(z)
        self.generator = generator.take(torch.cat([torch.arange(len(z), device=z.device), pivot]))
        self.z = torch.cat([z, z[pivot] + share * (random - z[pivot])])
        self.chosen, self.size = dict(chosen), sum(weight.numel() for weight in chosen.values())
        first = next(iter(chosen.values()))
        self.like = first.new_empty(0, dtype=torch.promote_types(first.dtype, torch.float32))

    def parts(self, x: Tensor) -> dict[str, Tensor]:
        """Split changes (rows, n) into those of each parameter (rows, *shape)."""
        flat = x.split([weight.numel() for weight in self.chosen.values()], 1)
        named = zip(self.chosen.items(), flat, strict=True)
        return {name: part.reshape(-1, *weight.shape).to(weight.dtype) for (name, weight), part in named}

    def forward(self, x: Tensor) -> Tensor:
        parts, prefix = self.parts(x), _prefix(self.generator)
        rows = [{prefix + n: self.chosen[n] + part[row] for n, part in parts.items()} for row in range(len(x))]
        return torch.stack([call_with_weights(self.generator, weights, self.z) for weights in rows])


@dataclass(frozen=True, eq=False)
class TuneObjective:
    """The mean loss of the first images, and the weighted mean distance of the others from what they were."""

    fit: Fit  # of B images
    count: int  # B
    anchors: Tensor  # (K, ...) of the untouched generator
    locality: float

    def __call__(self, output: Tensor) -> Tensor:
        return torch.stack([self._value(images) for images in output])

    def _value(self, images: Tensor) -> Tensor:
        value = self.fit(images[: self.count]).mean()
        if not len(self.anchors) or not self.locality:
            return value
        return value + self.locality * self.fit.loss(images[self.count :], self.anchors).mean()


def parameters_of(generator: Generator, all_names: bool = False) -> dict[str, nn.Parameter]:
    """Return the parameters of a generator's module by their first names in it, or by all of them."""
    prefix = _prefix(generator)
    named = generator.named_parameters(remove_duplicate=not all_names)
    return {n.removeprefix(prefix): weight for n, weight in named if n.startswith(prefix)}


def choose_parameters(generator: Generator, names: str | Sequence[str] | None) -> dict[str, nn.Parameter]:
    """Return the floating-point parameters that names, modules or patterns stand for; None: all.

    Raises:
        InputError: one stands for none.
    """
    known = {name: weight for name, weight in parameters_of(generator).items() if weight.is_floating_point()}
    if not known:
        raise InputError("generator", "a module with parameters", "one without")
    if names is None:
        return known
    chosen, first = set[str](), {id(weight): name for name, weight in known.items()}
    every = {
        n: first[id(weight)] for n, weight in parameters_of(generator, all_names=True).items() if id(weight) in first
    }
    for wanted in [names] if isinstance(names, str) else names:
        matched = [own for n, own in every.items() if fnmatchcase(n, wanted) or n.startswith(f"{wanted}.")]
        if not matched:
            raise InputError("parameters", f"names such as {next(iter(known))}", with_nearest(wanted, known))
        chosen.update(matched)
    if not chosen:
        raise InputError("parameters", "at least one name, or None for all", "none")
    return {name: weight for name, weight in known.items() if name in chosen}


def _prefix(generator: Generator) -> str:
    return "module." if isinstance(generator.module, nn.Module) else "owner."


def _checksum(generator: Generator) -> str:
    """Return the checksum of the weights and buffers of a generator's module."""
    prefix = _prefix(generator)
    return checksum({n.removeprefix(prefix): t for n, t in generator.state_dict().items() if n.startswith(prefix)})
