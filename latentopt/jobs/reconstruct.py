"""The reconstruction job: any number of targets through one generator, batch by batch, as a Lightning predict loop."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from latentopt import metrics
from latentopt.errors import InputError, positive
from latentopt.jobs import pictures
from latentopt.jobs.specs import describe
from latentopt.jobs.store import LATENTS, RESULTS, Shard, Store
from latentopt.jobs.targets import Fitted, Target, Targets, open_source
from latentopt.jobs.tracking import METRICS, Mode, Tracker
from latentopt.networks import Generator
from latentopt.objectives import MSE, Loss
from latentopt.operators import Identity, Operator
from latentopt.optimizers import ADRGD, Optimizer
from latentopt.result import Result
from latentopt.solve import Progress, solve
from latentopt.tasks.reconstruct import Reconstruction, measurement_shapes
from latentopt.zoo import cards

SHOWN = 16
"""Pictures show the first so many targets."""


@dataclass(frozen=True)
class Report:
    """What a job did."""

    rows: list[dict[str, Any]]  # of the table of results, a target each
    skipped: list[tuple[str, str]]  # name and reason
    files: list[Path]  # what was written
    compared: Literal["image", "measurement"]  # what the metrics compare
    seconds: float


def reconstruct(
    model: str,
    targets: list[str],
    operator: Operator = Identity(),  # noqa: B008, frozen
    loss: Loss = MSE(),  # noqa: B008
    optimizer: Optimizer = ADRGD(),  # noqa: B008
    steps: int = 300,
    restarts: int = 4,
    seed: int = 0,
    measured: bool | None = None,
    resize: bool = False,
    convert: bool = False,
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int | None = None,
    batch_size: int = 64,
    out: str = "runs/reconstruct",
    wandb: Mode = "offline",
    device: str = "auto",
    picture_every: int = 10,
) -> Report:
    """Reconstruct images through a pretrained generator.

    Args:
        model: name of a shipped model, or a folder with a card and weights.
        targets: image files and folders of images; or one .npy or .npz array; or a data set's name
            (digits, mnist, cifar10, ... any of torchvision's).
        operator: what is known of an image, e.g. downsample, hole, crop.
        loss: distance between what is known and what the reconstruction gives: mse, l1, huber.
        optimizer: adr-gd, adr-gd-paper, adam or gd.
        steps: steps of each restart.
        restarts: random starts of each target; the best is kept.
        seed: of every random number.
        measured: the targets are measurements already (the operator's output); by default decided by their shape.
        resize: resize targets that have another size than the generator's images.
        convert: turn colour into grey or grey into colour where the generator needs it.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set where it is not there.
        limit: only the first so many targets.
        batch_size: targets optimised together; results do not depend on it.
        out: folder for the results; a job that was stopped goes on where it was.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
        picture_every: steps between two frames of the trajectory.
    """
    begun = time.perf_counter()
    recipe = {"job": "reconstruct", **{name: describe(value) for name, value in locals().items() if name != "begun"}}
    for name, value in {"steps": steps, "restarts": restarts, "batch_size": batch_size}.items():
        positive(name, value, integer=True)
    positive("picture_every", picture_every, integer=True)
    accelerator = accelerator_of(device)
    generator = cards.load(model)
    image_shape, shape = measurement_shapes(generator, operator)
    source = open_source(targets, root, split, download, limit)
    dataset = Targets(source, Fitted(image_shape, shape, resize, convert))
    first = dataset.first_good().image
    assert first is not None
    dataset.kind = tuple(first.shape)
    measured = first.shape != image_shape if measured is None else measured

    identity = {"weights": cards.read_card(model).weights_sha256, "targets_held": source.fingerprint}
    store = Store(Path(out), recipe, identity)
    store.open()
    todo = sorted(set(range(len(dataset))) - store.done())
    tracker = Tracker(store.folder, wandb if todo else "disabled", recipe, "reconstruct")
    settings = _Settings(operator, loss, optimizer, steps, restarts, seed, measured, picture_every)
    module = _Reconstructor(generator, settings, tracker, -(-len(todo) // batch_size))
    if todo:
        _predict(module, DataLoader(Subset(dataset, todo), batch_size, collate_fn=list), store, accelerator)
    return _finish(store, module, "measurement" if measured else "image", begun)


def accelerator_of(device: str) -> str:
    known = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not known.get(device):
        raise InputError("device", f"one of {', '.join(name for name, there in known.items() if there)}", repr(device))
    return {"cuda": "gpu"}.get(device, device)


def _predict(module: lightning.LightningModule, loader: DataLoader[Target], store: Store, accelerator: str) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            callbacks=[_Writer(store)],
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,
        )
        trainer.predict(module, loader, return_predictions=False)


@dataclass(frozen=True)
class _Settings:
    operator: Operator
    loss: Loss
    optimizer: Optimizer
    steps: int
    restarts: int
    seed: int
    measured: bool
    picture_every: int


class _Reconstructor(lightning.LightningModule):
    """Wraps a pretrained generator; `predict_step` solves a batch of targets."""

    def __init__(self, generator: Generator, settings: _Settings, tracker: Tracker, batches: int) -> None:
        super().__init__()
        self.generator, self.settings, self.tracker = generator, settings, tracker
        self.skipped: list[tuple[str, str]] = []
        self.bar = tqdm(total=batches * settings.steps, unit="step", desc="reconstruct", disable=not batches)
        self.forwards = self.logged = 0

    def transfer_batch_to_device(self, batch: list[Target], device: torch.device, dataloader_idx: int) -> list[Target]:
        return batch  # the problem moves what it needs

    def predict_step(self, batch: list[Target], batch_idx: int = 0) -> Shard | None:
        self.skipped += [(target.name, target.error) for target in batch if target.image is None]
        good = [target for target in batch if target.image is not None]
        if not good:
            return None
        s, begun = self.settings, time.perf_counter()
        images = torch.stack([target.image for target in good if target.image is not None])
        problem = Reconstruction(self.generator, images, s.operator, s.loss, s.measured)
        watch = _Watch(self, problem, good)
        options = {"steps": s.steps, "restarts": s.restarts, "seed": s.seed, "callbacks": [watch]}
        result = solve(problem, s.optimizer, **options)
        self.forwards = watch.forwards
        seconds = (time.perf_counter() - begun) / len(good)
        return Shard([t.name for t in good], _rows(problem, result, good, seconds), watch.tensors(result))

    def on_predict_end(self) -> None:
        self.bar.close()


class _Writer(BasePredictionWriter):
    def __init__(self, store: Store) -> None:
        super().__init__("batch")
        self.store = store

    def write_on_batch_end(self, trainer, pl_module, prediction, *args: Any, **kwargs: Any) -> None:
        if prediction is not None:
            self.store.add(prediction)
            pl_module.tracker.flush()


class _Watch:
    """A callback of `solve`: moves the bar, tracks each step, keeps frames of the targets that pictures show.

    The generator's passes for pictures are not part of the counted cost.
    """

    def __init__(self, job: _Reconstructor, problem: Reconstruction, good: list[Target]) -> None:
        self.job, self.problem = job, problem
        self.index = torch.tensor([target.index for target in good])
        self.shown = int((self.index < SHOWN).sum())
        self.frames: list[Tensor] = []
        self.curve: list[Tensor] = []
        self.before = self.forwards = job.forwards

    def __call__(self, progress: Progress) -> None:
        self.forwards = self.before + progress.forwards
        self.curve.append(progress.best.float().cpu())
        loss, best = float(progress.loss.nanmean()), float(progress.best.mean())
        keys = {"grad_norm": "opt/grad_norm", "beta": "opt/beta", "flips": "opt/flips", "constraint": "constraint"}
        figures = {"loss/total": loss, "loss/data": loss, "loss/best": best, "cost/forwards": float(self.forwards)}
        figures |= {keys[name]: float(value.nanmean()) for name, value in progress.info.items() if name in keys}
        grid = None
        if progress.t % self.job.settings.picture_every == 0 or progress.t in (1, progress.steps):
            figures["metric/psnr"], grid = self._picture(progress)
        self.job.tracker.log(self.job.logged, figures, grid)
        self.job.logged += 1
        self.job.bar.set_postfix_str(f"loss {best:.5f}", refresh=False)
        self.job.bar.update()

    @torch.no_grad()
    def _picture(self, progress: Progress) -> tuple[float, dict[str, Any] | None]:
        best = self.job.generator(progress.best_x)
        psnr = metrics.psnr(*compared(self.problem, best)).mean().item()
        if not self.shown:
            return psnr, None
        self.frames.append(pictures.as_bytes(best[: self.shown]))
        current = pictures.as_bytes(self.job.generator(progress.x[: self.shown]))
        titled = {**_known(self.problem, self.shown), "current": current, "best": self.frames[-1]}
        return psnr, {"trajectory": pictures.tile(list(titled.values()))}

    def tensors(self, result: Result) -> dict[str, Tensor]:
        """What a shard keeps, without its rows."""
        kept = {"index": self.index, "latents": result.x, "curve": torch.stack(self.curve, 1)}
        if self.shown:
            kept["frames"] = torch.stack(self.frames, 1)  # (n, frames, C, H, W) bytes
            titled = {
                **_known(self.problem, self.shown),
                "reconstruction": pictures.as_bytes(result.output[: self.shown]),
            }
            again = self.problem.operator(result.output[: self.shown])
            if not isinstance(self.problem.operator, Identity) and again.ndim == 4:
                titled["re-measured"] = pictures.as_bytes(again)
            kept |= {f"show/{at} {title}": images for at, (title, images) in enumerate(titled.items())}
        return kept


def _stacked(moments: list[Tensor], count: int) -> Tensor:
    """(n, count, ...): what was seen, the last of it repeated where all targets stopped early."""
    return torch.stack(moments + moments[-1:] * (count - len(moments)), 1)


def _known(problem: Reconstruction, count: int) -> dict[str, Tensor]:
    """What is known of the first targets, as bytes by title."""
    measurement = problem.measurement[:count]
    if problem.image is None:
        return {"target = measurement": pictures.as_bytes(measurement)} if measurement.ndim == 4 else {}
    known = {"target": pictures.as_bytes(problem.image[:count])}
    return {**known, "measurement": pictures.as_bytes(measurement)} if measurement.ndim == 4 else known


def compared(problem: Reconstruction, output: Tensor) -> tuple[Tensor, Tensor]:
    """What the metrics compare: images where the true ones are known, else measurements."""
    if problem.image is not None:
        return output, problem.image
    return problem.operator(output), problem.measurement


@torch.no_grad()
def _rows(problem: Reconstruction, result: Result, good: list[Target], seconds: float) -> list[dict[str, Any]]:
    ours, true = compared(problem, result.output)
    ours = ours.clamp(0, 1)
    nan = torch.full((len(good),), torch.nan)
    similar = metrics.ssim(ours, true) if true.ndim == 4 and min(true.shape[-2:]) >= 3 else nan
    columns = zip(
        metrics.mse(ours, true).tolist(),
        metrics.psnr(ours, true).tolist(),
        similar.tolist(),
        result.value.tolist(),
        result.forwards.tolist(),
        result.backwards.tolist(),
        strict=True,
    )
    return [
        {
            "name": target.name,
            "mse": mse,
            "psnr": psnr,
            "ssim": ssim,
            "loss": loss,
            "status": status.name,
            "forwards": forwards,
            "backwards": backwards,
            "seconds": round(seconds, 4),
        }
        for target, status, (mse, psnr, ssim, loss, forwards, backwards) in zip(
            good, result.status, columns, strict=True
        )
    ]


def _finish(store: Store, module: _Reconstructor, compared: Literal["image", "measurement"], begun: float) -> Report:
    rows = store.finish(module.skipped)
    files = [store.folder / name for name in (RESULTS, LATENTS, METRICS, "recipe.yaml")]
    files += _draw(store, rows, type(module.settings.loss).__name__)
    finite = {key: [row[key] for row in rows] for key in ("mse", "psnr", "ssim", "loss")}
    best = {f"mean_{key}": sum(values) / len(values) for key, values in finite.items()}
    module.tracker.finish(rows, best, [file for file in files if file.exists()])
    return Report(rows, module.skipped, files, compared, time.perf_counter() - begun)


def _draw(store: Store, rows: Sequence[dict[str, Any]], loss: str) -> list[Path]:
    columns: dict[str, list[Tensor]] = {}
    frames, curves = [], []
    for shard in store.read():
        curves.append(shard.tensors["curve"])
        for key, value in shard.tensors.items():
            if key.startswith("show/"):
                columns.setdefault(key.removeprefix("show/"), []).append(value)
        if "frames" in shard.tensors:
            frames.append(shard.tensors["frames"])
    folder, titled = store.folder, {key.split(" ", 1)[1]: torch.cat(columns[key]) for key in sorted(columns)}
    paths = [folder / "grid.png", folder / "trajectory.gif", folder / "convergence.png"]
    if titled:
        pictures.save_png(paths[0], pictures.tile(list(titled.values())), list(titled))
        still = [images for title, images in titled.items() if title.startswith(("target", "measurement"))]
        moving = torch.cat(frames)
        shots = [pictures.tile([*still, moving[:, at]]) for at in range(moving.shape[1])]
        pictures.save_gif(paths[1], shots)
    pictures.save_convergence(paths[2], torch.cat(curves).numpy(), loss)
    return paths
