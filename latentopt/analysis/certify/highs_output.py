"""Standard output without what HiGHS prints."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FilteredStdout:
    """File descriptor 1 without the debug lines that HiGHS prints whatever its options say.

    Threads share it: what others print meanwhile comes out once the last search ends.
    """

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0

    @contextmanager
    def filtered(self) -> Iterator[None]:
        """Context in which lines of HiGHS are left out."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self._divert()
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self._restore()

    def _divert(self) -> None:
        _flush()
        self.file = None
        try:
            self.own = os.dup(1)
        except OSError:  # there is no such file
            return
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        os.dup2(self.file.fileno(), 1)

    def _restore(self) -> None:
        if self.file is None:
            return
        _flush()
        os.dup2(self.own, 1)
        os.close(self.own)
        with self.file as file:
            file.seek(0)
            for line in file:
                if not line.startswith(b"HighsMip"):
                    os.write(1, line)


def _flush() -> None:
    """Write out what Python and C hold back."""
    if sys.stdout is not None:
        sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


STDOUT = FilteredStdout()
