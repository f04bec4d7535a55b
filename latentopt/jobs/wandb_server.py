"""Whether a server of Weights & Biases takes runs: asked once, briefly, before a run goes there."""

from __future__ import annotations

import base64
import json
import netrc
import os
import ssl
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from latentopt.jobs.wandb_files import wandb_module

URL = "https://api.wandb.ai"
SECONDS, TRIES = 5.0, 2
"""How long an answer may take, and how often a server that fails is asked."""


def refusal() -> str:
    """Why no run can go to the server; empty if one can, or if only W&B can tell."""
    url = os.environ.get("WANDB_BASE_URL") or setting("base_url") or URL
    token = os.environ.get("WANDB_IDENTITY_TOKEN_FILE")
    key = "" if token else api_key(url)
    if not key and not token:
        return "no W&B key is configured (wandb login)"
    return _asked(url, key)


def api_key(url: str) -> str:
    """The key for a server, from where W&B looks for it; empty if there is none."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            found = netrc.netrc(str(Path(file).expanduser())) if file else None
        except (OSError, netrc.NetrcParseError):
            continue
        if found and (entry := found.authenticators(urlsplit(url).hostname or "")):
            return entry[2] or ""
    return setting("api_key") or ""


def setting(name: str) -> Any:
    """Of W&B in this process: from its files, or as the user has set it up."""
    try:
        return getattr(wandb_module().setup().settings, name, None)
    except Exception:  # whatever goes wrong with tracking must not stop the job
        return None


def _asked(url: str, key: str) -> str:
    answer = ""
    for left in reversed(range(TRIES)):
        try:
            return _answer(url, key)
        except HTTPError as error:
            if error.code in (401, 403):
                return f"W&B's server does not take the key (HTTP {error.code})"
            answer = f"HTTP {error.code}"
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, ssl.SSLError):  # W&B may know certificates that are not known here
                return ""
            answer = type(cause).__name__ if isinstance(cause, BaseException) else str(cause)
        time.sleep(0.5 * bool(left))
    return f"W&B's server did not answer ({answer})"


def _answer(url: str, key: str) -> str:
    """What is wrong, by the server's answer to who the key's owner is.

    Raises:
        OSError: it gave none.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "latentopt"}
    if key:
        headers["Authorization"] = f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}"
    query = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    with urlopen(Request(f"{url.rstrip('/')}/graphql", query, headers), timeout=SECONDS) as answer:
        content = answer.read()
    try:
        viewer = json.loads(content)["data"]["viewer"]
    except (ValueError, KeyError, TypeError):  # of another version, perhaps
        return ""
    return "" if viewer or not key else "W&B's server does not know the key"
