"""The noise of a randomised network: which call in which layer draws it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentopt.networks.outputs import module_of


class _Draws(TorchFunctionMode):
    """Notes the calls of torch that advance its random numbers, each with the layer that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[str] = []  # those being called, outermost first
        self.draws: dict[str, None] = {}  # in order

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = _states()
        output = func(*args, **(kwargs or {}))
        if not all(map(torch.equal, before, _states())):
            layer = self.layers[-1] if self.layers else ""
            self.draws[f"{getattr(func, '__name__', func)}{f' in {layer}' if layer else ''}"] = None
        return output


def _states() -> list[Tensor]:
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.random.get_rng_state(), *devices]


@contextmanager
def _named(module: nn.Module | None, draws: _Draws) -> Iterator[None]:
    """Context in which ``draws`` knows the layer of a module that is being called."""

    def left(*_: object) -> None:
        draws.layers.pop()

    with ExitStack() as stack:
        for name, layer in module.named_modules() if module is not None else ():
            text = f"{name} ({type(layer).__name__})" if name else ""
            enter = layer.register_forward_pre_hook(lambda *_, text=text: draws.layers.append(text))
            leave = layer.register_forward_hook(left)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        yield


def noise_advice(network: object, forward: Callable[[], object]) -> str:
    """Return what a warning says of a randomised network: where its noise is, and how to fix it.

    Args:
        network: a module or a function.
        forward: evaluates it once.
    """
    draws, module = _Draws(), module_of(network)
    try:
        with _named(module, draws), draws:
            forward()
    except Exception:  # scripted modules take no hooks
        return ""
    first, *others = [*draws.draws, ""]
    if not first:
        return ""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f" It calls {first}{more}; {_remedy(network, module)}, or make the noise a latent."


def _remedy(network: Any, module: nn.Module | None) -> str:
    """Return how to fix the noise: by the argument of the forward that has to do with it, if there is one."""
    try:
        names = list(inspect.signature(module.forward if module is not None else network).parameters)
    except (TypeError, ValueError):
        names = []
    names = [name for name in names if "noise" in name or "random" in name]
    return f"fix it by generator.given({names[0]}=...)" if names else "fix it in the module"
