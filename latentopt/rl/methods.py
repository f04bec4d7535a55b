"""Methods of `refine_action` by name, with step sizes in scaled actions, where the range of actions is [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latentopt.errors import InputError
from latentopt.optimizers import ADRGD, CEM, GD, METHODS, Adam, Optimizer, RandomShooting, SoftGates, registry


@dataclass(frozen=True)
class Method:
    """A method and how often it starts."""

    optimizer: Optimizer
    restarts: int = 1


ACTIONS: dict[str, Callable[[], Method]] = {
    "gd": lambda: Method(GD(lr=0.3, normalize=True, schedule="linear")),
    "adam": lambda: Method(Adam(lr=0.1)),
    "adr-gd": lambda: Method(ADRGD(SoftGates(tau=0.05), Adam(lr=0.1))),
    "adr-gd-paper": lambda: Method(
        ADRGD.paper(a_x=0.2, beta0=0.5, a_eta=0.1, a_beta=0.01, r=0.05, delta=1e-3, delta_beta=0.1, T_p=10)
    ),
    "adr-gd-reference": lambda: Method(ADRGD.reference(a_x=0.2, a_eta=0.1, a_beta=0.01, r=0.05, delta_beta=0.1)),
    "multi-start": lambda: Method(Adam(lr=0.1), restarts=8),
    "cem": lambda: Method(CEM()),
    "random-shooting": lambda: Method(RandomShooting()),
}
"""Settings of ``adr-gd-paper`` are those of Table 2 of arXiv 2406.00494 for DDPG and TD3."""


def method(optimizer: Optimizer | str) -> Method:
    """The method itself, or the one that a name stands for here.

    Raises:
        InputError: there is none of this name.
    """
    if isinstance(optimizer, Optimizer):
        return Method(optimizer)
    if optimizer in ACTIONS:
        return ACTIONS[optimizer]()
    if optimizer not in METHODS:
        known = ", ".join({**ACTIONS, **METHODS})
        raise InputError("optimizer", f"one of {known}, or an Optimizer", repr(optimizer))
    return Method(registry.method(optimizer))
