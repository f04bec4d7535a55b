"""A callback that tracks a solve: the fixed keys of its figures, on disk and in Weights & Biases."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from latentopt.errors import InputError
from latentopt.jobs.lifetime import lock, unlock
from latentopt.jobs.tracker import METRICS, Tracker, WandbMode, check_wandb_mode
from latentopt.solver.callbacks import Progress, each, means

_KEYS = {"grad_norm": "opt/grad_norm", "beta": "opt/beta", "flips": "opt/flips", "constraint": "constraint"}


def figures(progress: Progress) -> dict[str, float]:
    """What is tracked of a step, by its fixed key: each the mean over all that are still in; the cost, of a sample."""
    seen = means(progress)
    loss = {"loss/total": seen["loss"], "loss/data": seen["loss"], "loss/best": seen["best"]}
    shown = {key: seen[name] for name, key in _KEYS.items() if name in seen}
    return {**loss, "cost/forwards": each(progress.forwards, progress), **shown}


class Track:
    """Tracks a solve as jobs are tracked: ``lo.solve(..., callbacks=[lo.Track("runs/mine")])``.

    The folder gets ``metrics.jsonl``, a line a step, and W&B's run, whose configuration is the settings of the solve
    and whose table is the best objective of each sample.

    Args:
        folder: where; made if it is not there.
        wandb: ``offline`` keeps the run on disk (``wandb sync`` uploads it later), ``online`` sends it where a key is
            configured, ``disabled`` leaves W&B out.
        resume: go on behind the last line of an existing ``metrics.jsonl``.

    Raises:
        InputError: the folder holds a ``metrics.jsonl`` and ``resume`` is not set, or it is no folder; another process
            is at work in it.
    """

    def __init__(self, folder: str | Path, wandb: WandbMode = "offline", resume: bool = False) -> None:
        check_wandb_mode(wandb)
        self.folder, self.resume = Path(folder), resume
        self.wandb: WandbMode = wandb
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError("folder", "a folder", f"the file {folder}")
        self._check()
        self.tracker: Tracker | None = None
        self.lock: FileLock | None = None

    def __call__(self, progress: Progress) -> None:
        if self.tracker is None:
            self._check()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = lock(self.folder, "folder")
            self.tracker = Tracker(self.folder, self.wandb, progress.meta, "solve")
            self.step = int(self.tracker.last().get("step", -1)) + 1
        self.tracker.log(self.step, figures(progress))
        self.tracker.flush()
        self.step, self.best = self.step + 1, progress.best.tolist()

    def close(self) -> None:
        if self.tracker is not None:
            rows = [{"sample": at, "loss": loss} for at, loss in enumerate(self.best)]
            mean = sum(self.best) / len(self.best)
            self.tracker.finish(rows, {"mean_loss": mean}, [self.folder / METRICS])
        if self.lock is not None:
            unlock(self.lock)
        self.tracker = self.lock = None

    def _check(self) -> None:
        if (self.folder / METRICS).exists() and not self.resume:
            raise InputError("folder", f"one without {METRICS}, or resume=True", str(self.folder))
