"""Warnings about agents as lines on stderr, as the command line says what it has to say."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from latentopt.rl.normalization import NormalizationWarning


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Within, each `NormalizationWarning` is a line on stderr; other warnings are as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", NormalizationWarning)
        as_ever = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
            if issubclass(category, NormalizationWarning):
                print(f"latentopt: warning: {message}", file=sys.stderr)
            else:
                as_ever(message, category, *where, **rest)

        warnings.showwarning = show
        yield
