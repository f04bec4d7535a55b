"""The names that codes of reinforcement learning give to the layers of actors and critics, and what each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from latentopt.errors import InputError


class _Naming(NamedTuple):
    """Names of the layers of a network below its own."""

    numbered: str  # pattern of those with a number
    first: int  # the first number
    step: int  # from one to the next
    last: tuple[str, ...] = ()  # of the layer after them, one of these; none: the numbered ones are all
    log_std: str | None = None  # of the layer of a stochastic actor's deviations


ACTORS: dict[str, _Naming] = {
    "sb3-sac": _Naming(r"latent_pi\.(\d+)", 0, 2, ("mu",), "log_std"),
    "sb3": _Naming(r"mu\.(\d+)", 0, 2),
    "td3": _Naming(r"l(\d+)", 1, 1),
    "cleanrl": _Naming(r"fc(\d+)", 1, 1, ("fc_mu", "fc_mean"), "fc_logstd"),
}
CRITICS: dict[str, _Naming] = {
    "sb3": _Naming(r"(\d+)", 0, 2),
    "td3": _Naming(r"l(\d+)", 1, 1),
    "cleanrl": _Naming(r"fc(\d+)", 1, 1),
}
_CRITIC = re.compile(r"(critic\.qf\d+|critic_\d+|qf\d+|critic)\.")
_TARGET = re.compile(r"(target_\w+|\w+_target)\.")
SCALE, BIAS = "actor.action_scale", "actor.action_bias"
EXAMPLE = "example."


class Names(NamedTuple):
    """Which tensors are what."""

    actor: list[str]  # layers, from the first to the last
    log_std: str | None
    critics: list[list[str]]  # of each; of a single network "critic" with layers l1, l2, ... all of them in a row
    code: Literal["sb3", "td3", "cleanrl"]  # whose names the critics have
    ignored: set[str]  # tensors of target networks


def sort_names(path: str, tensors: Iterable[str]) -> Names:
    """Find the layers of an actor and its critics by their names.

    Raises:
        InputError: there is no actor or no critic, a layer is missing, or a tensor belongs to neither.
    """
    ignored = {name for name in tensors if _TARGET.match(name)}
    names = [name for name in tensors if name not in ignored and not name.startswith(EXAMPLE)]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names if name not in (SCALE, BIAS)))
    networks: dict[str, list[str]] = {}
    for layer in layers:
        if found := _CRITIC.match(layer):
            networks.setdefault(found[1], []).append(layer[len(found[0]) :])
    own = [layer.removeprefix("actor.") for layer in layers if layer.startswith("actor.")]
    if not own or not networks:
        raise InputError(path, "an actor and its critics", ", ".join(layers) or "nothing")
    kind, actor, log_std = _actor(path, own)
    critics = [_critic(path, network, networks[network]) for network in sorted(networks, key=_number)]
    codes = {code for code, _ in critics}
    if len(codes) > 1 or len({network.rstrip("0123456789") for network in networks}) > 1:
        raise InputError(path, "critics that are named alike", ", ".join(networks))
    used = {*actor, *(layer for _, critic in critics for layer in critic), *([log_std] if log_std else [])}
    known = {f"{layer}.{part}" for layer in used for part in ("weight", "bias")}
    known |= {SCALE, BIAS} if kind == "cleanrl" else set()
    if left := [name for name in names if name not in known]:
        expected = "no tensors but those of an actor's and its critics' linear layers (docs, Agents from files)"
        raise InputError(path, expected, ", ".join(left[:6]) + ", ..." * (len(left) > 6))
    return Names(actor, log_std, [critic for _, critic in critics], codes.pop(), ignored)  # pyright: ignore[reportArgumentType]


def _number(network: str) -> int:
    return int(re.sub(r"\D", "", network) or 0)


def _actor(path: str, own: Sequence[str]) -> tuple[str, list[str], str | None]:
    """Whose names they are, the actor's layers and that of its deviations."""
    for kind, naming in ACTORS.items():
        body = _numbered(path, "actor", own, naming)
        last = [f"actor.{name}" for name in naming.last if name in own]
        if body and len(last) == bool(naming.last):
            has_log_std = naming.log_std is not None and naming.log_std in own
            return kind, body + last, f"actor.{naming.log_std}" if has_log_std else None
    raise InputError(path, "an actor's layers as the docs name them (Agents from files)", _few("actor", own))


def _critic(path: str, network: str, own: Sequence[str]) -> tuple[str, list[str]]:
    for code, naming in CRITICS.items():
        if (code == "sb3") == network.startswith("critic.qf") and (body := _numbered(path, network, own, naming)):
            return code, body
    raise InputError(path, "a critic's layers as the docs name them (Agents from files)", _few(network, own))


def _numbered(path: str, network: str, own: Sequence[str], naming: _Naming) -> list[str]:
    """The numbered layers in the order of their numbers."""
    found = {int(match[1]): name for name in own if (match := re.fullmatch(naming.numbered, name))}
    numbers = sorted(found)
    expected = [naming.first + naming.step * at for at in range(len(numbers))]
    if numbers != expected:
        between = ", an activation between every two" * (naming.step == 2)
        wanted = f"layers {', '.join(map(str, expected))} of {network}{between}"
        raise InputError(path, wanted, ", ".join(map(str, numbers)))
    return [f"{network}.{found[number]}" for number in numbers]


def _few(network: str, own: Sequence[str]) -> str:
    return ", ".join(f"{network}.{name}" for name in own[:6])
