"""Clocks, and alternating timing of several methods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Seconds(NamedTuple):
    """Duration of some work."""

    cpu: float  # of all threads of this process
    wall: float


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Context in which torch uses ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(work: Callable[[], object]) -> Seconds:
    """Run some work and return its duration."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(
    work: Mapping[str, Callable[[], object]], seconds: float, min_rounds: int, max_rounds: int
) -> dict[str, list[Seconds]]:
    """Time each piece of work once a round, alternating forwards and back, so that disturbances affect all alike.

    Args:
        work: name to a piece of work.
        seconds: no new round after this long ...
        min_rounds: ... but at least so many rounds.
        max_rounds: at most so many.

    Returns:
        Of each piece what every round took.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in work}
    begun = time.perf_counter()
    for done in range(max_rounds):
        if done >= min_rounds and time.perf_counter() - begun > seconds:
            break
        for name in list(work)[:: -1 if done % 2 else 1]:
            times[name].append(timed(work[name]))
    return times
