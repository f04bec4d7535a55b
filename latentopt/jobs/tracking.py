"""Tracking: Weights & Biases, offline by default, and always the same figures on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from latentopt.errors import InputError
from latentopt.jobs.wandb_run import log_files, log_model, log_table, start, wandb_module
from latentopt.result import write_atomically

Mode = Literal["online", "offline", "disabled"]
METRICS, SUMMARY = "metrics.jsonl", "summary.json"
OTHERS = "metrics.*.jsonl"
"""Of the second process of a job, `metrics.1.jsonl`, and so on."""
SUMMARISED = {
    "min": ("loss/total", "loss/data", "loss/best", "constraint", "train/loss"),
    "max": ("metric/psnr", "metric/success", "metric/return", "val/accuracy"),
}
"""W&B's own summary has the last value of a key; of these the best."""


def check_mode(mode: str) -> None:
    """Raise `InputError` unless ``mode`` is a `Mode`."""
    if mode not in get_args(Mode):
        raise InputError("wandb", f"one of {', '.join(get_args(Mode))}", repr(mode))


class Tracker:
    """One W&B run, and ``metrics.jsonl``.

    Lines reach the file when a batch is done, whole: a job that is killed leaves no half batch behind. The run's id
    stays in the folder: a job that goes on is the same run.

    Args:
        folder: where the job's results are; W&B writes its offline run there too.
        mode: ``offline`` keeps the run on disk (``wandb sync`` uploads it later); ``online`` falls back to offline,
            with a warning, where no key is configured or no server answers.
        config: the resolved recipe, and what it was run with.
        kind: W&B's job type.
        rank: of this process among those of the job; only the first, 0, has a run; it takes over what others log.
    """

    def __init__(self, folder: Path, mode: Mode, config: dict[str, Any], kind: str, rank: int = 0) -> None:
        check_mode(mode)
        self.folder, self.lines, self.rank = folder, [], rank
        self.path = folder / (OTHERS.replace("*", str(rank)) if rank else METRICS)
        self.run: Any = None if rank or mode == "disabled" else start(folder, mode, config, kind)
        if self.run:
            for goal, keys in SUMMARISED.items():
                for key in keys:
                    self.run.define_metric(key, summary=goal)

    def log(self, step: int, figures: Mapping[str, float | str], pictures: dict[str, np.ndarray] | None = None) -> None:
        """Record the figures, and pictures (H, W, C) bytes, of one step; steps rise by one from call to call."""
        self.lines.append(json.dumps({"step": step, **figures}))
        if self.run:
            shown = {name: wandb_module().Image(picture) for name, picture in (pictures or {}).items()}
            self.run.log({**figures, **shown}, step=step)

    def last(self) -> dict[str, float]:
        """What was logged last by an earlier run of the same job; empty if there was none."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # the job was killed within a line
            write_atomically(self.path, whole.encode())
        return json.loads(whole.splitlines()[-1]) if whole else {}

    def flush(self) -> None:
        """Append what was logged since the last call to the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()

    def finish(
        self, rows: list[dict[str, Any]], best: dict[str, float], files: list[Path], models: Sequence[Path] = ()
    ) -> list[Path]:
        """Close the run with what came of the job; return its folder, if there is one.

        Args:
            rows: of the table of results.
            best: the figures to compare runs by; in ``summary.json`` too.
            files: the job's results; latents and adversarial images are artifacts of their own as well.
            models: files, or folders with a card and weights: an artifact each.
        """
        if self.rank:
            return []
        self._take_over()
        summary = {f"best/{name}": value for name, value in best.items()}
        if best:
            write_atomically(self.folder / SUMMARY, json.dumps(summary, indent=1).encode())
        if not self.run:
            return []
        log_table(self.run, rows)
        self.run.summary.update(summary)
        log_files(self.run, files)
        for model in models:
            log_model(self.run, model)
        folder = Path(self.run.dir).parent
        self.run.finish()
        return [folder]

    def _take_over(self) -> None:
        """Log what the job's other processes logged, behind what this one did."""
        paths = sorted(self.folder.glob(OTHERS))
        step = int(self.last().get("step", -1))
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                figures, step = json.loads(line), step + 1
                self.log(step, {**figures, "step": step, "rank": int(path.name.split(".")[1])})
        if paths:
            self.flush()
        for path in paths:
            path.unlink()
