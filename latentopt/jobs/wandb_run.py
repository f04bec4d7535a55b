"""A run of Weights & Biases: how it begins, continues under its id, and receives tables and files."""

from __future__ import annotations

import base64
import json
import netrc
import os
import secrets
import ssl
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from latentopt.errors import in_one_line
from latentopt.jobs.wandb_log import RUN_ID, last_step, read_run_id

PROJECT, URL = "latentopt", "https://api.wandb.ai"
ANSWER_SECONDS, TRIES = 5.0, 2
"""How long the server may take to answer, and how often a failing one is asked."""
INIT_SECONDS, FINISH_SECONDS = 20, 300
"""How long a job waits for the server at its start, and for uploads at its end. The rest stays on disk."""
OWN_ARTIFACTS = ("latents", "adversarial")
"""Stems of the tensor files that are also an artifact of their own; the type of the artifact is the stem."""


def wandb_module() -> Any:
    """Import wandb without its error reports, which use the network even offline."""
    if "wandb" not in sys.modules:  # otherwise the choice is the user's
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def begin_run(folder: Path, mode: str, config: dict[str, Any], job_type: str) -> tuple[Any, int]:
    """Begin the run of a job's folder, or continue it.

    Failures are reported as warnings: they must not stop the job.

    Args:
        folder: of the job.
        mode: online or offline.
        config: settings of the job.
        job_type: name of the job.

    Returns:
        The run, None if W&B cannot start, and the last step that W&B holds of it, -1 if it holds none.
    """
    options = {"dir": _place(folder), "config": config, "job_type": job_type, "resume": "allow"}
    options["reinit"] = "create_new"  # a run that the user has open stays open, and stays theirs
    if mode == "online" and (reason := server_refusal()):
        warn(f"{reason}; the run stays offline")
        mode = "offline"
    try:
        return _init(folder, mode, _stored_run_id(folder), options)
    except Exception as error:
        if mode == "online":
            warn(f"W&B's server did not answer ({type(error).__name__}); the run stays offline")
    try:  # under a new id, as the process of W&B may still hold the former
        return _init(folder, "offline", _stored_run_id(folder, renew=True), options)
    except Exception as error:
        warn(f"W&B could not start ({in_one_line(error)}); everything is still on disk")
        return None, -1


def _place(folder: Path) -> str:
    """Return the folder of the runs: ``WANDB_DIR``; the job's where there is none, or it cannot be written."""
    place = os.environ.get("WANDB_DIR") or str(folder)
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        writable = os.access(place, os.W_OK)
    except OSError:
        writable = False
    if writable or place == str(folder):
        return place
    # W&B would take the system's folder for temporary files.
    warn(f"WANDB_DIR: {place} cannot be written; the run is in {folder}")
    return str(folder)


def _init(folder: Path, mode: str, run_id: str, options: dict[str, Any]) -> tuple[Any, int]:
    step = last_step(folder, run_id)
    run = wandb_module().init(mode=mode, id=run_id, settings=_settings(), **options)
    if mode == "online":  # the server knows better than the files
        step = run.starting_step - 1 if run.resumed else -1
    return run, step


def _settings() -> Any:
    """Return W&B's settings by today's environment variables; W&B reads these only once in a process."""
    tags = os.environ.get("WANDB_TAGS")
    variables = {
        "entity": os.environ.get("WANDB_ENTITY") or _configured_entity(),
        "run_group": os.environ.get("WANDB_RUN_GROUP") or "",
        "run_name": os.environ.get("WANDB_NAME") or "",
        "run_notes": os.environ.get("WANDB_NOTES") or "",
        "run_tags": tuple(tags.split(",")) if tags else (),  # None would leave the tags of an earlier job
    }
    settings: dict[str, Any] = {key: value for key, value in variables.items() if value or _process_setting(key)}
    settings |= {"project": os.environ.get("WANDB_PROJECT") or PROJECT, "init_timeout": INIT_SECONDS}
    if url := os.environ.get("WANDB_BASE_URL"):
        settings["base_url"] = url
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        settings["finish_timeout"] = FINISH_SECONDS
    quiet = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
    return wandb_module().Settings(**settings, **quiet)


def _configured_entity() -> str:
    """Return the entity in W&B's own settings files."""
    try:
        return wandb_module().setup().settings.read_system_settings().all().get("entity") or ""
    except Exception:  # there are no such files, or W&B has moved them
        return ""


def _process_setting(name: str) -> Any:
    """Return a setting of W&B in this process: from its files, or set by the user."""
    try:
        return getattr(wandb_module().setup().settings, name, None)
    except Exception:  # whatever fails in tracking must not stop the job
        return None


def _stored_run_id(folder: Path, renew: bool = False) -> str:
    """Return and store the run's id: that of W&B's agent, else the stored one, else a new one."""
    stored = read_run_id(folder)
    run_id = "" if renew else os.environ.get("WANDB_RUN_ID") or stored
    run_id = run_id or secrets.token_hex(4)  # independent of the job's seed
    if run_id != stored:
        path = folder / "wandb" / RUN_ID
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(run_id, encoding="utf-8")
    return run_id


def server_refusal() -> str:
    """Return why the server takes no runs; empty if it takes them, or if only W&B can tell."""
    url = os.environ.get("WANDB_BASE_URL") or _process_setting("base_url") or URL
    token = os.environ.get("WANDB_IDENTITY_TOKEN_FILE")
    key = "" if token else _api_key(url)
    if not key and not token:
        return "no W&B key is configured (wandb login)"
    reason = ""
    for tries_left in reversed(range(TRIES)):
        try:
            return _ask_server(url, key)
        except HTTPError as error:
            if error.code in (401, 403):
                return f"W&B's server does not take the key (HTTP {error.code})"
            reason = f"HTTP {error.code}"
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, ssl.SSLError):  # W&B may know certificates that are not known here
                return ""
            reason = type(cause).__name__ if isinstance(cause, BaseException) else str(cause)
        time.sleep(0.5 * bool(tries_left))
    return f"W&B's server did not answer ({reason})"


def _api_key(url: str) -> str:
    """Return the key of a server, from where W&B looks for it; empty if there is none."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    for file in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            entry = netrc.netrc(str(Path(file).expanduser())).authenticators(urlsplit(url).hostname or "")
        except (OSError, netrc.NetrcParseError):
            continue
        if entry:
            return entry[2] or ""
    return _process_setting("api_key") or ""


def _ask_server(url: str, key: str) -> str:
    """Ask the server whose key this is; return what is wrong with the answer.

    Raises:
        OSError: there is no answer.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "latentopt"}
    if key:
        headers["Authorization"] = f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}"
    query = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    with urlopen(Request(f"{url.rstrip('/')}/graphql", query, headers), timeout=ANSWER_SECONDS) as answer:
        content = answer.read()
    try:
        viewer = json.loads(content)["data"]["viewer"]
    except (ValueError, KeyError, TypeError):  # perhaps the server is of another version
        return ""
    return "" if viewer or not key else "W&B's server does not know the key"


def log_table(run: Any, rows: Sequence[dict[str, Any]], step: int) -> None:
    """Log the table of results."""
    columns = list(rows[0])
    table = wandb_module().Table(columns=columns, data=[[row[column] for column in columns] for row in rows])
    run.log({"results": table}, step=step, commit=True)


def log_files(run: Any, files: Sequence[Path]) -> None:
    """Log files as one artifact, latents and adversarial images also alone; show pictures and pages."""
    wandb = wandb_module()
    for file in files:
        path = str(file)
        match file.suffix:
            case ".png":
                run.log({f"pictures/{file.stem}": wandb.Image(path)})
            case ".gif":
                run.log({f"pictures/{file.stem}": wandb.Video(path, format="gif")})
            case ".html":
                run.log({file.stem: wandb.Html(path, inject=False)})
            case ".safetensors" if file.stem in OWN_ARTIFACTS:
                log_artifact(run, file.stem, file.stem, [file])
    if files:
        log_artifact(run, "results", "results", files)


def log_artifact(run: Any, name: str, kind: str, paths: Sequence[Path]) -> None:
    """Log files and folders as one artifact."""
    artifact = wandb_module().Artifact(f"{name}-{run.id}", type=kind)
    for path in paths:
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path))
    run.log_artifact(artifact)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"latentopt: warning: {message}", file=sys.stderr)
