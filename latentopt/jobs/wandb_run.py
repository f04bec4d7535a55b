"""A run of Weights & Biases: how it begins, goes on under its id, and what it is given in the end."""

from __future__ import annotations

import os
import random
import string
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentopt.jobs.wandb_files import RUN_ID, last_step, run_id, wandb_module
from latentopt.jobs.wandb_server import refusal, setting

PROJECT = "latentopt"
INIT_SECONDS, FINISH_SECONDS = 20, 300
"""How long a job waits for W&B's server at its start, and for uploads at its end; what is left stays on disk."""
KINDS = {"latents": "latents", "adversarial": "adversarial"}
"""Tensors that are an artifact of their own, by the name of their file; and its type."""


@dataclass(frozen=True)
class Started:
    """A run that has begun, or gone on."""

    run: Any
    step: int  # the last that W&B holds of it; -1: none


def start(folder: Path, mode: str, config: dict[str, Any], kind: str) -> Started | None:
    """The run of a job's folder, new or gone on with; None where W&B cannot start: that must not stop a job."""
    options = {"dir": str(folder), "config": config, "job_type": kind, "resume": "allow"}
    options["reinit"] = "create_new"  # a run that the user has open stays open, and stays theirs
    if mode == "online" and (reason := refusal()):
        warn(f"{reason}; the run stays offline")
        mode = "offline"
    try:
        return _begun(folder, mode, _run_id(folder), options)
    except Exception as error:  # whatever goes wrong with tracking must not stop the job
        if mode == "online":
            warn(f"W&B's server did not answer ({type(error).__name__}); the run stays offline")
    try:  # W&B's process may still hold the id
        return _begun(folder, "offline", _kept(folder, _new_id()), options)
    except Exception as error:
        warn(f"W&B could not start ({' '.join(str(error).split())}); everything is still on disk")
        return None


def _begun(folder: Path, mode: str, name: str, options: dict[str, Any]) -> Started:
    held = last_step(folder, name)
    run = wandb_module().init(mode=mode, id=name, settings=_settings(), **options)
    if mode == "online":  # the server knows better than the files
        held = run.starting_step - 1 if run.resumed else -1
    return Started(run, held)


def _settings() -> Any:
    """Of a run: W&B itself reads its variables only once in a process, so that those of a first job would stay."""
    read = os.environ.get
    tags = read("WANDB_TAGS")
    wanted = {
        "entity": read("WANDB_ENTITY") or _configured("entity"),
        "run_group": read("WANDB_RUN_GROUP"),
        "run_name": read("WANDB_NAME"),
        "run_notes": read("WANDB_NOTES"),
        "run_tags": tuple(tags.split(",")) if tags else None,
    }
    empty = {"run_tags": ()}  # None would leave what the process began with
    settings: dict[str, Any] = {key: value or empty.get(key, "") for key, value in wanted.items()}
    settings = {key: value for key, value in settings.items() if value or setting(key)}
    settings |= {"project": read("WANDB_PROJECT") or PROJECT, "init_timeout": INIT_SECONDS}
    if url := read("WANDB_BASE_URL"):
        settings["base_url"] = url
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        settings["finish_timeout"] = FINISH_SECONDS
    quiet = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
    return wandb_module().Settings(**settings, **quiet)


def _configured(name: str) -> Any:
    """A setting in W&B's own files."""
    try:
        return wandb_module().setup().settings.read_system_settings().all().get(name)
    except Exception:  # there are none, or W&B has moved them
        return None


def _run_id(folder: Path) -> str:
    """Of the folder's run: an agent's, if one runs this job; else the one that was kept; else a new one. It is kept."""
    return _kept(folder, os.environ.get("WANDB_RUN_ID") or run_id(folder) or _new_id())


def _kept(folder: Path, name: str) -> str:
    path = folder / "wandb" / RUN_ID
    if name != run_id(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return name


def _new_id() -> str:
    dice = random.SystemRandom()  # a job's seed decides nothing here
    return "".join(dice.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def log_table(run: Any, rows: Sequence[dict[str, Any]], step: int) -> None:
    """The table of results."""
    columns = list(rows[0])
    table = wandb_module().Table(columns=columns, data=[[row[c] for c in columns] for row in rows])
    run.log({"results": table}, step=step, commit=True)


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


def warn(message: str) -> None:
    print(f"latentopt: warning: {message}", file=sys.stderr)
