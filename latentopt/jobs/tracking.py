"""Tracking: Weights & Biases, offline by default, and always the same figures on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from latentopt.errors import InputError
from latentopt.result import write_atomically

Mode = Literal["online", "offline", "disabled"]
METRICS = "metrics.jsonl"


def check_mode(mode: str) -> None:
    """Raise `InputError` unless ``mode`` is a `Mode`."""
    if mode not in get_args(Mode):
        raise InputError("wandb", f"one of {', '.join(get_args(Mode))}", repr(mode))


class Tracker:
    """One W&B run, and ``metrics.jsonl``.

    Lines reach the file when a batch is done, whole: a job that is killed leaves no half batch behind.

    Args:
        folder: where the job's results are; W&B writes its offline run there too.
        mode: ``offline`` keeps the run on disk (``wandb sync`` uploads it later); ``online`` falls back to offline,
            with a warning, where no key is configured or no server answers.
        config: the resolved recipe.
        kind: W&B's job type.
        rank: of this process among those of the job; only the first, 0, tracks.
    """

    def __init__(self, folder: Path, mode: Mode, config: dict[str, Any], kind: str, rank: int = 0) -> None:
        check_mode(mode)
        self.folder, self.lines, self.rank = folder, [], rank
        self.run: Any = None if rank or mode == "disabled" else _start(folder, mode, config, kind)
        if self.run:
            for key in ("loss/total", "loss/data", "constraint"):
                self.run.define_metric(key, summary="min")
            for key in ("metric/psnr", "metric/success"):
                self.run.define_metric(key, summary="max")

    def log(self, step: int, figures: Mapping[str, float | str], pictures: dict[str, np.ndarray] | None = None) -> None:
        """Record the figures, and pictures (H, W, C) bytes, of one step; steps rise by one from call to call."""
        if self.rank:
            return
        self.lines.append(json.dumps({"step": step, **figures}))
        if self.run:
            shown = {name: _wandb().Image(picture) for name, picture in (pictures or {}).items()}
            self.run.log({**figures, **shown}, step=step)

    def last(self) -> dict[str, float]:
        """What was logged last by an earlier run of the same job; empty if there was none."""
        if self.rank:
            return {}
        path = self.folder / METRICS
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # the job was killed within a line
            write_atomically(path, whole.encode())
        return json.loads(whole.splitlines()[-1]) if whole else {}

    def flush(self) -> None:
        """Append what was logged since the last call to the file."""
        if self.rank:
            return
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()

    def finish(self, rows: list[dict[str, Any]], best: dict[str, float], files: list[Path]) -> list[Path]:
        """Record the table of results, the best figures and the written files, and close the run; return its folder."""
        if not self.run:
            return []
        wandb = _wandb()
        columns = list(rows[0])
        self.run.log({"results": wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})
        self.run.summary.update({f"best/{name}": value for name, value in best.items()})
        artifact = wandb.Artifact(f"results-{self.run.id}", type="results")
        for file in files:
            artifact.add_file(str(file))
            if file.suffix == ".png":
                self.run.log({f"pictures/{file.stem}": wandb.Image(str(file))})
            elif file.suffix == ".gif":
                self.run.log({f"pictures/{file.stem}": wandb.Video(str(file), format="gif")})
            elif file.suffix == ".html":
                self.run.log({file.stem: wandb.Html(str(file), inject=False)})
        self.run.log_artifact(artifact)
        folder = Path(self.run.dir).parent
        self.run.finish()
        return [folder]


def _wandb() -> Any:
    import wandb

    return wandb


def _start(folder: Path, mode: Mode, config: dict[str, Any], kind: str) -> Any:
    wandb = _wandb()
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        _warn("no W&B key is configured (wandb login); the run stays offline")
        mode = "offline"
    settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True, init_timeout=20)
    options = {"project": "latentopt", "dir": str(folder), "config": config, "job_type": kind, "settings": settings}
    try:
        return wandb.init(mode=mode, **options)
    except Exception as error:  # whatever goes wrong with tracking must not stop the job
        if mode == "offline":
            _warn(f"W&B could not start ({error}); everything is still on disk")
            return None
        _warn(f"W&B's server did not answer ({type(error).__name__}); the run stays offline")
        return wandb.init(mode="offline", **options)


def _warn(message: str) -> None:
    print(f"latentopt: warning: {message}", file=sys.stderr)
