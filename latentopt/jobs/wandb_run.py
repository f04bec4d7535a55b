"""A run of Weights & Biases: how it begins, goes on under its id, and what it is given in the end."""

from __future__ import annotations

import os
import random
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUN_ID = "latentopt-run-id.txt"
KINDS = {"latents": "latents", "adversarial": "adversarial"}
"""Tensors that are an artifact of their own, by the name of their file; and its type."""


def wandb_module() -> Any:
    import wandb

    return wandb


def start(folder: Path, mode: str, config: dict[str, Any], kind: str) -> Any:
    """The run of a job's folder, new or gone on with; None where W&B cannot start: that must not stop a job."""
    wandb = wandb_module()
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        _warn("no W&B key is configured (wandb login); the run stays offline")
        mode = "offline"
    settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True, init_timeout=20)
    options = {"project": "latentopt", "dir": str(folder), "config": config, "job_type": kind, "settings": settings}
    options |= {"id": _run_id(folder), "resume": "allow", "reinit": "finish_previous"}
    options |= {"group": os.environ.get("WANDB_RUN_GROUP")}  # W&B itself reads it only once in a process
    try:
        return wandb.init(mode=mode, **options)
    except Exception as error:  # whatever goes wrong with tracking must not stop the job
        if mode == "offline":
            _warn(f"W&B could not start ({error}); everything is still on disk")
            return None
        _warn(f"W&B's server did not answer ({type(error).__name__}); the run stays offline")
        return wandb.init(mode="offline", **options)


def _run_id(folder: Path) -> str:
    """Of the folder's run: an agent's, if one runs this job; else the one that was kept; else a new one. It is kept."""
    path = folder / "wandb" / RUN_ID
    kept = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    found = os.environ.get("WANDB_RUN_ID") or kept or _new_id()
    if found != kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    return found


def _new_id() -> str:
    dice = random.SystemRandom()  # a job's seed decides nothing here
    return "".join(dice.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def log_table(run: Any, rows: Sequence[dict[str, Any]]) -> None:
    """The table of results."""
    columns = list(rows[0])
    run.log({"results": wandb_module().Table(columns=columns, data=[[row[c] for c in columns] for row in rows])})


def log_files(run: Any, files: Sequence[Path]) -> None:
    """The written files as one artifact, latents by themselves too; pictures and pages are shown."""
    wandb = wandb_module()
    artifact = wandb.Artifact(f"results-{run.id}", type="results")
    for file in files:
        artifact.add_file(str(file))
        if file.suffix == ".png":
            run.log({f"pictures/{file.stem}": wandb.Image(str(file))})
        elif file.suffix == ".gif":
            run.log({f"pictures/{file.stem}": wandb.Video(str(file), format="gif")})
        elif file.suffix == ".html":
            run.log({file.stem: wandb.Html(str(file), inject=False)})
        elif file.suffix == ".safetensors" and file.stem in KINDS:
            alone = wandb.Artifact(f"{file.stem}-{run.id}", type=KINDS[file.stem])
            alone.add_file(str(file))
            run.log_artifact(alone)
    if files:
        run.log_artifact(artifact)


def log_model(run: Any, model: Path) -> None:
    """A trained model, a file or a folder, as an artifact."""
    artifact = wandb_module().Artifact(f"{model.stem}-{run.id}", type="model")
    if model.is_dir():
        artifact.add_dir(str(model))
    else:
        artifact.add_file(str(model))
    run.log_artifact(artifact)


def _warn(message: str) -> None:
    print(f"latentopt: warning: {message}", file=sys.stderr)
