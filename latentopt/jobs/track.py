"""A callback that tracks a solve, on disk and in Weights & Biases."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from latentopt.arguments import checked
from latentopt.errors import InputError
from latentopt.files import writing
from latentopt.jobs.experiment import require_writable
from latentopt.jobs.lifetime import lock, unlock
from latentopt.jobs.records import METRICS
from latentopt.jobs.settings import wandb_mode
from latentopt.jobs.tracker import Tracker, WandbMode, check_wandb_mode
from latentopt.solver.callbacks import Progress

_KEYS = {"grad_norm": "opt/grad_norm", "beta": "opt/beta", "flips": "opt/flips", "constraint": "constraint"}


def tracked_figures(progress: Progress) -> dict[str, float]:
    """Return the figures of a step by their fixed keys: means over all running rows, and the cost of one sample."""
    mean = progress.means()
    losses = {"loss/total": mean["loss"], "loss/data": mean["loss"], "loss/best": mean["best"]}
    state = {key: mean[name] for name, key in _KEYS.items() if name in mean}
    return {**losses, "cost/forwards": progress.per_sample(progress.forwards), **state}


class Track:
    """A callback that tracks a solve as jobs are tracked: ``lo.solve(..., callbacks=[lo.Track("runs/mine")])``.

    The folder gets ``metrics.jsonl``, with a line for each step, and an offline run of W&B. The configuration of the
    run is the settings of the solve, and its table is the best objective of each sample.

    Args:
        folder: where to write; made if it does not exist.
        wandb: ``offline`` keeps the run on disk (``wandb sync`` uploads it later), ``online`` sends it if a key is
            configured, ``disabled`` leaves W&B out. None: as ``WANDB_MODE`` says, else offline.
        resume: whether to continue after the last line of an existing ``metrics.jsonl``.

    Raises:
        InputError: the folder holds a ``metrics.jsonl`` and ``resume`` is not set, it is no folder, or another process
            is at work in it.
    """

    @checked
    def __init__(self, folder: str | Path, wandb: WandbMode | None = None, resume: bool = False) -> None:
        self.wandb: WandbMode = wandb_mode() if wandb is None else wandb
        check_wandb_mode(self.wandb)
        if not str(folder).strip() or "\0" in str(folder):
            raise InputError("folder", "a folder", repr(folder))
        self.folder, self.resume = Path(folder), resume
        require_writable(self.folder, "folder")
        self._check()
        self.tracker: Tracker | None = None
        self.lock: FileLock | None = None

    def __call__(self, progress: Progress) -> None:
        if self.tracker is None:
            self._check()
            with writing("folder", self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = lock(self.folder, "folder")
            self.tracker = Tracker(self.folder, self.wandb, progress.meta, "solve")
            self.step = int(self.tracker.last().get("step", -1)) + 1
        self.tracker.log(self.step, tracked_figures(progress))
        self.tracker.flush()
        self.step, self.best = self.step + 1, progress.best.tolist()

    def close(self) -> None:
        """Write the table and end the run."""
        if self.tracker is not None:
            rows = [{"sample": index, "loss": loss} for index, loss in enumerate(self.best)]
            mean = sum(self.best) / len(self.best)
            self.tracker.finish(rows, {"mean_loss": mean}, [self.folder / METRICS])
        if self.lock is not None:
            unlock(self.lock)
        self.tracker = self.lock = None

    def _check(self) -> None:
        if (self.folder / METRICS).exists() and not self.resume:
            raise InputError("folder", f"one without {METRICS}, or resume=True", str(self.folder))
