"""Clocks, and steps of several methods timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Seconds(NamedTuple):
    """What something took."""

    cpu: float  # of all threads of this process
    wall: float


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within: torch computes with ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(work: Callable[[], object]) -> Seconds:
    """Do it and say what it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(
    work: Mapping[str, Callable[[], object]], seconds: float, least: int, most: int
) -> dict[str, list[Seconds]]:
    """Each piece of work once a round, in turns, there and back, so that a disturbance hits all alike.

    Args:
        work: name to a piece of work.
        seconds: no new round after this long ...
        least: ... but at least so many rounds.
        most: at most so many.

    Returns:
        Of each piece what every round took.
    """
    taken: dict[str, list[Seconds]] = {name: [] for name in work}
    begun = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - begun > seconds:
            break
        for name in list(work)[:: -1 if done % 2 else 1]:
            taken[name].append(timed(work[name]))
    return taken
