"""Progress of long calls: one line on standard error, in terminals and notebooks, once a call has taken two seconds."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self, TypeVar

from latentopt.errors import InputError

T = TypeVar("T")
VARIABLE = "LATENTOPT_PROGRESS"
"""Environment variable; ``0`` hides the progress of all calls, jobs too."""
DELAY, INTERVAL = 2.0, 0.2
"""Seconds until a line is drawn first, and between two drawings."""
SIZE = 80, 24
"""Columns and rows of a terminal that does not know its own, such as that of `script` or of a container."""
FORMAT, OPEN_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}", "{desc} {elapsed}{postfix}"
_settings = {"shown": True}


def set_progress(shown: bool) -> None:
    """Show the progress of calls that take longer than two seconds, or hide it.

    By default it is shown on standard error where that is a terminal, and in notebooks. The environment variable
    ``LATENTOPT_PROGRESS=0`` hides it too, for commands as well.

    Args:
        shown: whether it is shown.

    Raises:
        InputError: it is neither True nor False.
    """
    if not isinstance(shown, bool):
        raise InputError("shown", "True or False", repr(shown))
    _settings["shown"] = shown


def is_progress_shown() -> bool:
    """Return whether calls show their progress."""
    if not _settings["shown"] or os.environ.get(VARIABLE) == "0" or sys.stderr is None:
        return False
    if sys.stderr.isatty():
        return True
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return "IPKernelApp" in getattr(shell, "config", {})


class ProgressLine:
    """Progress of one call, a context manager. Only the outermost call draws; the texts of calls within follow its own.

    A call within advances the outer one too, up to ``share``. Before `DELAY` nothing is drawn, and tqdm not imported.

    Args:
        name: of the call.
        total: number of units to come; None: unknown.
        unit: what is counted.
        leave: whether the line stays once the call has ended.
        shown: whether it may be drawn; if not, calls within draw nothing either.
    """

    def __init__(
        self, name: str, total: int | None, unit: str = "step", leave: bool = False, shown: bool = True
    ) -> None:
        self.name, self.total, self.unit, self.leave, self.shown = name, total, unit, leave, shown
        self.done: float = 0
        self.share: float = 1  # units that a call within stands for
        self.text: str | Callable[[], str] = ""
        self.inner: ProgressLine | None = None
        self.outer: ProgressLine | None = None
        self.root, self.bar = self, None
        self.token: Token[ProgressLine | None] | None = None
        self.next_drawing = math.inf

    def __enter__(self) -> Self:
        self.outer = _current.get()
        self.token = _current.set(self)
        self.begun = time.perf_counter()
        if self.outer is not None:
            self.root, self.outer.inner = self.outer.root, self
        elif self.shown and is_progress_shown():
            self.next_drawing = self.begun + DELAY
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, count: float = 1, text: str | Callable[[], str] | None = None) -> None:
        """Count units, and draw the line if it is time.

        Args:
            count: number of them; 0 only draws.
            text: shown behind the count, or a function that returns it; called only where the line is drawn.
        """
        self.done += count
        if text is not None:
            self.text = text
        if time.perf_counter() >= self.root.next_drawing:
            self.root._draw()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and count each when it is done.

        Args:
            items: what is worked through.
        """
        for item in items:
            yield item
            self.update()

    def silence(self) -> None:
        """Draw nothing from now on."""
        self.root.next_drawing = math.inf

    def close(self) -> None:
        """End the line, as leaving the context does."""
        if self.token is None:
            return
        _current.reset(self.token)
        self.token, self.next_drawing = None, math.inf
        if self.outer is not None:
            self.outer.inner = None
        if self.bar is not None:
            if self.leave:
                self._draw()
            self.bar.close()

    def _draw(self) -> None:
        bar = self.bar = self._open() if self.bar is None else self.bar
        bar.n = min(self._position(), math.inf if self.total is None else self.total)
        bar.set_postfix_str(", ".join(self._parts()), refresh=False)
        bar.refresh()
        self.next_drawing = time.perf_counter() + INTERVAL

    def _open(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notebook without widgets has the line as text
            from tqdm.auto import tqdm

        form = OPEN_FORMAT if self.total is None else FORMAT
        size = dict(zip(("ncols", "nrows"), SIZE, strict=True)) if _is_without_size(sys.stderr) else {}
        bar = tqdm(desc=self.name, total=self.total, bar_format=form, leave=self.leave, file=sys.stderr, **size)
        bar.start_t = time.time() - (time.perf_counter() - self.begun)
        return bar

    def _position(self) -> float:
        """Units done, with those of the call under way within."""
        inner = self.inner
        if inner is None or not inner.total:
            return self.done
        return self.done + self.share * min(inner._position() / inner.total, 1)

    def _parts(self) -> list[str]:
        count = f"{self.unit} {self.done:g}" + ("" if self.total is None else f"/{self.total}")
        text = self.text if isinstance(self.text, str) else self.text()
        own = [text] if self.total == 1 else [count, text]
        return [*filter(None, own), *([] if self.inner is None else self.inner._parts())]


def _is_without_size(stream: Any) -> bool:
    """Return whether a stream is a terminal of no columns or no rows, in which tqdm would draw nothing."""
    try:
        return stream.isatty() and 0 in os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):  # no file of the system
        return False


_current: ContextVar[ProgressLine | None] = ContextVar("progress", default=None)


def silence_progress() -> None:
    """Let a call under way draw nothing from now on."""
    line = _current.get()
    if line is not None:
        line.silence()
