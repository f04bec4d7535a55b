"""The command line in a process of its own that a test may kill."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from latentopt.cli import main


def start(words: list[str], errors: Path | str = os.devnull) -> BaseProcess:
    """Run `latentopt` in a copy of this process, which has imported all it needs; its errors go to a file."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(words, str(errors)), daemon=True)
    process.start()
    return process


def _run(words: list[str], errors: str) -> None:
    with Path(os.devnull).open("w") as sys.stdout, Path(errors).open("a", buffering=1) as sys.stderr:
        code = main(words)
    os._exit(code)
