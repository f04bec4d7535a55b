"""The reconstruction job at work: a LightningModule that solves batches of targets, their rows, figures and frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.inverse.initializers import (
    Encoder,
    FittedInitializer,
    Saved,
    default_initializer,
    fit_cached,
    fit_initializer,
    share_cost,
)
from latentopt.inverse.initializers.fit import Key
from latentopt.inverse.layers import LayerSearch
from latentopt.inverse.nuisances import with_nuisances
from latentopt.inverse.posterior import PosteriorProblem, posterior
from latentopt.inverse.problem import Reconstruction, TargetCheck, measurement_shapes
from latentopt.inverse.reconstruct import invert
from latentopt.inverse.unknowns import require_identifiable, with_unknowns
from latentopt.io import checksum
from latentopt.jobs.chunks import Chunks, split_into_chunks
from latentopt.jobs.experiment import Experiment, Shard
from latentopt.jobs.identity import describe_card, describe_model, digest_tensors
from latentopt.jobs.reconstruct import ReconstructJobResult, ReconstructPlan, ReconstructSettings
from latentopt.jobs.reconstruct_progress import ReconstructProgress, result_rows
from latentopt.jobs.reconstruct_results import write_results
from latentopt.jobs.sources import Source, open_source
from latentopt.jobs.targets import Fit, Fitted, Target, Targets, to_tensor
from latentopt.jobs.tracker import Tracker, track_job
from latentopt.jobs.trainer import Hardware, predict, predictor
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.conditions import as_conditions, require_conditions
from latentopt.networks.generator import Generator
from latentopt.objectives import NoiseModel
from latentopt.operators import Operator
from latentopt.optimizers import method
from latentopt.progress import ProgressLine
from latentopt.solver.loop import solve
from latentopt.solver.settings import require_halving
from latentopt.zoo import cards
from latentopt.zoo.paths import cache_root


@dataclass(frozen=True)
class TargetProblems:
    """Turns targets of a job into a problem: the one place where the settings of a problem are read."""

    settings: ReconstructSettings  # with components built
    generator: Generator
    measured: bool  # the targets are measurements

    def __call__(self, targets: Sequence[Target]) -> Reconstruction:
        """Return the problem of targets that have an image, each with its own part of the operator and the loss."""
        s = self.settings
        images = torch.stack([target.image for target in targets if target.image is not None])
        rows = torch.tensor([target.index for target in targets])
        generator, operator, loss = (take(part, rows) for part in (self.generator, s.operator, s.loss))
        return Reconstruction(generator, images, operator, loss, self.measured, s.tolerance, s.prior, s.noise, s.seed)


def size_generator(
    generator: Generator, source: Source | None, image_size: int | Sequence[int] | None, keep: bool
) -> Generator:
    """Return the generator for images of a size.

    Args:
        generator: whose module may take latents of any size: it then has an attribute ``any_size``, True.
        source: where the targets come from.
        image_size: height and width, or one number for both; None: the first picture's, where any is possible.
        keep: the targets are fitted to the generator's own size, or are measurements.
    """
    if image_size is not None:
        return generator.resized(image_size)
    if keep or source is None or not generator.takes_any_size:
        return generator
    for index in range(len(source.names)):
        try:
            shape = to_tensor(source.read(index)).shape
        except InputError:  # told when the targets are read
            continue
        own = generator.output_shape()[1:]
        try:
            return generator if shape[-2:] == own else generator.resized(shape[-2:])
        except InputError as error:
            expected = f"{error.expected} (--image_size 256 --resize, or another one, changes the targets)"
            raise InputError(f"{source.names[index]}: {error.name}", expected, error.got) from error
    return generator


def open_targets(
    generator: Generator,
    source: Source,
    operator: Operator,
    measured: bool | None,
    resize: bool,
    convert: bool,
    fit: Fit = "crop",
    noise: object = None,
) -> tuple[Targets, bool]:
    """Open the targets of a generator.

    Args:
        generator: whose images or measurements they are.
        source: where they come from.
        operator: measures images.
        measured: they are measurements; None: as the shape of the first one says.
        resize, convert, fit: as `Fitted` takes them.
        noise: the loss, or another noise model of the measurements.

    Returns:
        The targets, and whether they are measurements.

    Raises:
        InputError: the operator does not fit the generator, or no target can be read.
    """
    image, measurement = measurement_shapes(generator, operator)
    fitted = Fitted(image, measurement, resize, convert, fit)
    model = noise if isinstance(noise, NoiseModel) else None
    if measured is None:
        undecided = Targets(source, fitted, checked=TargetCheck(generator, operator, image, None, model))
        measured = undecided.first_good().shape != image
    shape = measurement if measured else image
    return Targets(source, fitted, shape, TargetCheck(generator, operator, image, measured, model)), measured


def run_reconstruction(plan: ReconstructPlan) -> ReconstructJobResult:
    """Run a prepared reconstruction job, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the generator or the targets; nothing was written.
    """
    begun = time.perf_counter()
    settings = plan.settings.build()
    require_halving(settings.halving)
    generator = cards.load_generator(settings.model).given(**as_conditions(settings.conditions or {}))
    held = digest_tensors(latents=generator.distribution)  # before it estimates its moments
    source = plan.source or open_source(
        settings.targets, settings.root, settings.split, settings.download, settings.limit
    )
    generator = size_generator(generator, source, settings.image_size, settings.resize or bool(settings.measured))
    generator = with_nuisances(generator, **settings.nuisances) if settings.nuisances else generator
    generator = with_unknowns(generator, settings.operator)
    feasible = settings.prior.feasible(generator)
    start = default_initializer(generator, settings.operator) if settings.start == "auto" else settings.start
    settings = replace(settings, optimizer=method(plan.settings.optimizer, feasible), start=start)
    recipe = settings.recipe()
    measurement_shapes(generator, settings.operator)
    with predictor(Hardware(settings.device, settings.devices, settings.strategy, settings.num_nodes)) as trainer:
        shape = (settings.resize, settings.convert, settings.fit)
        model = settings.noise if isinstance(settings.noise, NoiseModel) else settings.loss
        targets, measured = open_targets(generator, source, settings.operator, settings.measured, *shape, model)
        problems = TargetProblems(settings, generator, measured)
        problem = problems([Target(0, source.names[0], targets.first_good())])
        solve(problem, settings.optimizer, steps=1, seed=settings.seed)  # an error comes before anything is written
        if problem.penalty is None:
            require_identifiable(generator, settings.operator)
        settings.start.check(problem.generator, problem.operator)
        search_layers(settings, generator)
        if settings.posterior:
            PosteriorProblem(problem)
        measurement_shapes(generator, settings.operator, len(targets) - 1)  # there is an operator for the last target
        require_conditions(generator.conditions, len(targets))
        if settings.calibration and not measures_alike(generator, settings.operator, len(targets)):
            expected = "0, as targets have operators or conditions of their own"
            raise InputError("calibration", expected, settings.calibration)
        weights = cards.read_card(settings.model).weights_sha256
        if isinstance(settings.start, Saved):
            settings = replace(settings, start=settings.start.of_targets(source.names, weights))
            problems = replace(problems, settings=settings)

        identity = {"weights": weights, "targets_held": source.fingerprint}
        parts = {name: getattr(settings, name) for name in ("operator", "loss", "optimizer", "start", "prior", "noise")}
        parts["conditions"] = generator.conditions
        if isinstance(settings.start, Encoder) and (path := settings.start.path or generator.trained_encoder):
            identity["encoder_sha256"] = checksum(Path(path))
        identity |= describe_card(settings.model) | digest_tensors(**parts) | held
        experiment = Experiment(plan.folder, recipe, identity)
        rank = trainer.global_rank
        if rank == 0:
            experiment.open()
        todo = set(range(len(targets))) - experiment.done()
        chunks = split_into_chunks(todo, settings.batch_size, rank, trainer.world_size)
        tracker = track_job(
            experiment, settings.wandb, todo, {**recipe, **describe_model(settings.model)}, "reconstruct", rank
        )
        count = sum(map(len, chunks))
        with ProgressLine("reconstruct", count, "target", leave=True, shown=not rank) as line:
            module = Reconstructor(problems, tracker, line, len(targets))
            if todo or trainer.world_size > 1:  # processes that are waited for
                predict(trainer, module, DataLoader(Chunks(targets, chunks), batch_size=None), experiment)
    kind = "measurement" if measured else "image"
    if rank:
        return ReconstructJobResult(experiment.rows(), [], [], kind, time.perf_counter() - begun, rank)
    rows, skipped, files = write_results(experiment, module, targets)
    return ReconstructJobResult(rows, skipped, files, kind, time.perf_counter() - begun)


def search_layers(settings: ReconstructSettings, generator: Generator) -> LayerSearch | None:
    """Return the search in the layers that the settings name, if any, with components built."""
    if not settings.layers:
        return None
    gradient = not settings.optimizer.gradient_free
    return LayerSearch(generator, settings.layers, settings.norm or "l1", settings.seed, gradient)


@torch.no_grad()
def measures_alike(generator: Generator, operator: Callable[[Tensor], Tensor], targets: int, chunk: int = 256) -> bool:
    """Return whether a number of targets have the same condition, and an operator that measures one image alike."""
    if any(len(condition) > 1 for condition in generator.conditions.values()):
        return False
    if not hasattr(operator, "take"):
        return True
    seeded = torch.Generator("cpu").manual_seed(0)
    image = torch.rand(1, *generator.output_shape(), generator=seeded, device="cpu")
    image = image.to(empty_like_parameters(generator))
    first = take(operator, torch.tensor([0], device="cpu"))(image)
    for rows in torch.arange(targets, device="cpu").split(chunk):
        measured = take(operator, rows)(image.expand(len(rows), *image.shape[1:]))
        if not torch.allclose(measured, first.expand_as(measured)):
            return False
    return True


class Reconstructor(lightning.LightningModule):
    """Wraps a pretrained generator; `predict_step` solves a batch of targets.

    Args:
        problems: of the targets; the generator is left as it is.
        tracker: takes the figures of every step.
        line: counts the targets.
        targets: of the whole job, which share what the start's learning costs.
    """

    def __init__(self, problems: TargetProblems, tracker: Tracker, line: ProgressLine, targets: int) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than chunks
        self.generator, self.settings, self.tracker = problems.generator.fused(), problems.settings, tracker
        if self.generator is problems.generator:
            self.generator.is_deterministic()
        self.generator = self.generator.within_memory()
        self.problems = replace(problems, generator=self.generator)
        self.search = search_layers(self.settings, self.generator)
        self.steps = self.settings.steps
        self.line = line
        self.known: dict[Key, FittedInitializer] = {}  # what the start has learnt
        self.logged = int(tracker.last().get("step", -1)) + 1
        self.targets, self.learning = targets, 0.0

    def transfer_batch_to_device(self, batch: list[Target], device: torch.device, dataloader_idx: int) -> list[Target]:
        return batch  # the problem moves what it needs

    def predict_step(self, batch: list[Target], batch_idx: int = 0) -> Shard | None:
        good = [target for target in batch if target.image is not None]
        if not good:
            return None
        self.line.share = len(batch)
        s, begun = self.settings, time.perf_counter()
        problem = self.problems(good)
        guess = self._guess(problem, torch.tensor([target.index for target in good]))
        begun = time.perf_counter() if self.alike else begun  # what all targets share is added below
        watch = ReconstructProgress(self, problem, good)
        rows = torch.arange(len(good))
        paid = share_cost(guess.forwards, *((self.targets, watch.index) if self.alike else (len(good), rows)))
        if self.search:
            paid = paid + share_cost(self.search.forwards, self.targets, watch.index)
        loop = {"steps": s.steps, "restarts": s.restarts, "halving": s.halving}
        loop |= {"evaluations": s.evaluations, "seconds": s.seconds, "patience": s.patience}
        search = self.search and self.search.take(watch.index)
        result = invert(problem, s.optimizer, guess, s.retries, s.seed, [watch], paid, search, **loop)
        drawn = posterior(problem, result, steps=s.posterior_steps, seed=s.seed) if s.posterior else None
        self.line.update(len(batch))
        seconds = (time.perf_counter() - begun) / len(good) + self.learning / self.targets
        rows, tensors = result_rows(problem, result, good, seconds, drawn), watch.tensors(result, drawn)
        return Shard([t.name for t in good], rows, tensors)

    @cached_property
    def alike(self) -> bool:
        """True if all targets have the same operator and condition, and so share the cost of the initializer's fit."""
        return measures_alike(self.generator, self.settings.operator, self.targets)

    def _guess(self, problem: Reconstruction, rows: Tensor) -> FittedInitializer:
        """Fit the initializer to the generator, or reuse its fit; saved latents are those of the targets ``rows``."""
        s, begun = self.settings, time.perf_counter()
        if not self.alike:  # each image's own, which no other batch asks for
            self.known = {}
        guess = fit_initializer(
            take(s.start, rows), problem.generator, problem.operator, s.seed, problem.batch, self._learn, self.known
        )
        if self.alike and not self.learning:
            self.learning = time.perf_counter() - begun
        return guess

    def _learn(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        start, folder = self.settings.start, cache_root() / "starts"
        if not self.alike:  # nor any other job
            return start.fit_each(generator, operators, seed)
        return [fit_cached(start, generator, operators[0], seed, folder)]
