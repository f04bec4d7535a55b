"""The reconstruction job: any number of targets through one generator, batch by batch, as a Lightning predict loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from latentopt.batch_math import take
from latentopt.errors import positive
from latentopt.inverse.initializers import Initializer, Regression
from latentopt.inverse.priors import Prior, Unconstrained
from latentopt.inverse.problem import Reconstruction, TargetCheck, measurement_shapes
from latentopt.inverse.reconstruct import HALVING
from latentopt.jobs.batch import Reconstructor, Settings
from latentopt.jobs.chunks import Chunks, chunks_of
from latentopt.jobs.lifetime import job
from latentopt.jobs.results import finish
from latentopt.jobs.specs import describe
from latentopt.jobs.store import Store
from latentopt.jobs.targets import Fit, Fitted, Targets, open_source
from latentopt.jobs.tracker import WandbMode, check_wandb_mode, track_job
from latentopt.jobs.trainer import Where, predict, predictor
from latentopt.jobs.used import card_of, held, used
from latentopt.objectives import MSE, Loss
from latentopt.operators import Identity, Operator
from latentopt.optimizers import LBFGS, Optimizer
from latentopt.solver.loop import halvings, solve
from latentopt.zoo import cards


@dataclass(frozen=True)
class Report:
    """What a job did."""

    rows: list[dict[str, Any]]  # of the table of results, a target each
    skipped: list[tuple[str, str]]  # name and reason
    files: list[Path]  # what was written
    compared: Literal["image", "measurement"]  # what the metrics compare
    seconds: float
    rank: int = 0  # of this process among those of the job; only the first, 0, writes


@job
def reconstruct(
    model: str,
    targets: list[str],
    operator: Operator = Identity(),
    loss: Loss = MSE(),
    optimizer: Optimizer = LBFGS(memory=64),
    steps: int = 400,
    restarts: int = 8,
    seed: int = 0,
    start: Initializer = Regression(),
    halving: tuple[tuple[int, int], ...] = HALVING,
    tolerance: float | None = None,
    rounds: int = 1,
    prior: Prior = Unconstrained(),
    noise: float = 0.0,
    measured: bool | None = None,
    resize: bool = False,
    convert: bool = False,
    fit: Fit = "crop",
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int | None = None,
    batch_size: int = 64,
    out: str = "runs/reconstruct",
    wandb: WandbMode = "offline",
    device: str = "auto",
    picture_every: int = 10,
    evaluations: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    devices: int | str = 1,
    strategy: str = "auto",
    num_nodes: int = 1,
) -> Report:
    """Reconstruct images through a pretrained generator.

    Args:
        model: name of a shipped model, or a folder with a card and weights.
        targets: image files and folders of images; or one .npy or .npz array; or a data set's name
            (digits, mnist, cifar10, ... any of torchvision's).
        operator: what is known of an image, e.g. downsample, bicubic, blur, hole, crop, gaussian (compressed sensing).
        loss: distance between what is known and what the reconstruction gives: mse, l1, huber, ssim, lpips.
        optimizer: lbfgs, adr-gd, adam, ... (a wrong name is answered by all names), or a class path.
        steps: steps of each restart.
        restarts: starts of each target; the best is kept.
        seed: of every random number.
        start: regression (what kernel regression on samples of the generator predicts), nearest, encoder or random.
            All targets share the forwards that it costs to learn it; they count where it was learnt before, too.
        halving: pairs [step, count]: after that step only the count best restarts of each target go on.
        tolerance: a target is solved once its loss is below this; default never.
        rounds: targets that are not solved are tried so often, from what was found and from other starts.
        prior: what is known of latents: unconstrained (nothing), gaussian, sphere, box.
        noise: standard deviation of noise that is added to the measurements of images.
        measured: the targets are measurements already (the operator's output); by default decided by their shape.
        resize: resize targets that have another size than the generator's images, keeping their aspect.
        convert: turn colour into grey or grey into colour where the generator needs it.
        fit: of targets that are resized and have another aspect: crop (the middle is kept), pad (the rest is black) or
            stretch (distorted).
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set where it is not there.
        limit: only the first so many targets.
        batch_size: targets optimised together; results do not depend on it.
        out: folder for the results; a job that was stopped goes on where it was.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
        picture_every: steps between two frames of the trajectory.
        evaluations: forwards and backwards that each target may cost, all its restarts together; default any number.
        seconds: wall-clock time for each batch of targets; default any. Results then depend on the machine and the
            batch size.
        patience: a restart ends when so many steps have not lowered its loss; default never.
        devices: how many, or which, of each machine; one process each. Results do not depend on it.
        strategy: how Lightning starts the processes; auto or ddp.
        num_nodes: machines; all need the folder for the results.
    """
    recipe = {"job": "reconstruct", **describe(locals())}
    begun = time.perf_counter()
    counts = {"steps": steps, "restarts": restarts, "batch_size": batch_size, "picture_every": picture_every}
    for name, value in counts.items():
        positive(name, value, integer=True)
    for name, value in (("evaluations", evaluations), ("seconds", seconds), ("patience", patience)):
        if value is not None:
            positive(name, value, integer=name != "seconds")
    positive("rounds", rounds, integer=True)
    halvings(halving)
    check_wandb_mode(wandb)
    generator = cards.load_generator(model)
    image_shape, shape = measurement_shapes(generator, operator)
    with predictor(Where(device, devices, strategy, num_nodes)) as trainer:
        source = open_source(targets, root, split, download, limit)
        checked = TargetCheck(generator, operator, image_shape, measured)
        dataset = Targets(source, Fitted(image_shape, shape, resize, convert, fit), checked=checked)
        if measured is None:
            checked.measured = measured = dataset.first_good().shape != image_shape
        dataset.kind = shape if measured else image_shape
        first = dataset.first_good()[None]
        its, own = take(operator, torch.tensor([0])), take(loss, torch.tensor([0]))
        problem = Reconstruction(generator, first, its, own, measured, tolerance, prior, noise, seed)
        solve(problem, optimizer, steps=1, seed=seed)  # what is wrong is known before anything is written
        start.check(generator, its)
        measurement_shapes(generator, operator, len(dataset) - 1)  # an operator for each target has one for the last

        identity = {"weights": cards.read_card(model).weights_sha256, "targets_held": source.fingerprint}
        identity |= card_of(model) | held(operator=operator, loss=loss, optimizer=optimizer, start=start, prior=prior)
        store, rank = Store(Path(out), recipe, identity), trainer.global_rank
        if rank == 0:
            store.open()
        todo = set(range(len(dataset))) - store.done()
        chunks = chunks_of(todo, batch_size, rank, trainer.world_size)
        tracker = track_job(store, wandb, todo, {**recipe, **used(model)}, "reconstruct", rank)
        loop = {"steps": steps, "restarts": restarts, "halving": halving}
        loop |= {"evaluations": evaluations, "seconds": seconds, "patience": patience}
        settings = Settings(
            operator, loss, prior, noise, measured, optimizer, start, tolerance, rounds, seed, picture_every, loop
        )
        module = Reconstructor(generator, settings, tracker, 0 if rank else len(chunks), len(dataset))
        if todo or trainer.world_size > 1:  # processes that are waited for
            predict(trainer, module, DataLoader(Chunks(dataset, chunks), batch_size=None), store)
    compared = "measurement" if measured else "image"
    if rank:
        return Report(store.rows(), [], [], compared, time.perf_counter() - begun, rank)
    rows, skipped, files = finish(store, module, dataset)
    return Report(rows, skipped, files, compared, time.perf_counter() - begun)
