"""Eval mode and frozen parameters while a network is evaluated."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from latentopt.errors import InputError
from latentopt.networks.outputs import argument_of, module_of


def require_eval(network: object) -> None:
    """Raise `InputError` where a network's BatchNorm would mix the samples of a batch."""
    root = module_of(network)
    for name, module in root.named_modules() if root is not None else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training:
                raise InputError("network", "one in eval mode (call .eval())", f"{name} (BatchNorm) in training mode")
            if module.running_mean is None:
                raise InputError("network", "BatchNorm with running statistics", f"{name} without")


@dataclass
class _FrozenPart:
    """A module or a parameter that is frozen."""

    part: nn.Module | Tensor  # kept alive, so that its id is its own
    state: bool  # whether it was training, or took gradients, before
    users: int = 0


_lock = threading.RLock()
_frozen_parts: dict[int, _FrozenPart] = {}  # by id


@contextmanager
def frozen(network: object) -> Iterator[None]:
    """Context in which a module is in eval mode and its parameters take no gradients; then all is as before.

    Contexts may overlap, also in other threads and for modules within the module: the state before the first returns
    after the last. An object that is no module is left alone.
    """
    root = module_of(network)
    if root is None:
        yield
        return
    parts = [*root.modules(), *root.parameters()]
    _require_values(root)
    with _lock:
        for part in parts:
            _hold(part)
        try:
            _to_eval(root)
            for parameter in root.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
        except BaseException:
            _release(parts)
            raise
    try:
        yield
    finally:
        _release(parts)


def _require_values(root: nn.Module) -> None:
    """Raise `InputError` unless gradients may pass the weights of a module, and they have values."""
    argument = argument_of(root)
    for parameter in root.parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta:
            raise InputError(argument, "weights with values (load them, or call lazy layers once)", "weights without")
        if parameter.is_inference():
            raise InputError(argument, "a module built outside torch.inference_mode", "one built in it")


def _to_eval(root: nn.Module) -> None:
    try:
        root.eval()
    except NotImplementedError:  # of torch.export, in the mode in which it was exported
        for module in root.modules():
            module.training = False


def _hold(part: nn.Module | Tensor) -> None:
    state = part.training if isinstance(part, nn.Module) else part.requires_grad
    _frozen_parts.setdefault(id(part), _FrozenPart(part, state)).users += 1


def _release(parts: Sequence[nn.Module | Tensor]) -> None:
    with _lock:
        for part in parts:
            entry = _frozen_parts[id(part)]
            entry.users -= 1
            if entry.users:
                continue
            del _frozen_parts[id(part)]
            if isinstance(part, nn.Module):
                part.training = entry.state
            elif part.requires_grad != entry.state:
                part.requires_grad_(entry.state)
