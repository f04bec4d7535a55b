"""A function mode that intercepts every activation and max pooling of a network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentopt.autodiff import require_no_checkpoint
from latentopt.errors import InputError
from latentopt.gates.activations import SITES, Activation
from latentopt.networks.checkpointing import MODES, RESUMED
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import argument_of, module_of

Network = Callable[[Tensor], Tensor]

ARITHMETIC = {"abs", "absolute", "clamp", "clip", "clamp_min", "clamp_max"}
"""Functions that a network may also call on other tensors than activations. Such calls are left alone, as are all calls
on parameters."""
_SCRIPTED = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
_POOLS = {f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)}

Rule = Callable[[int, Tensor, Activation, Callable[[Tensor], Tensor]], Tensor]
"""Maps ``(site, h, activation, real)`` to the output of the activation; ``real(h)`` is its own output."""
Pool = Callable[[Tensor, int, Callable[[Tensor], tuple[Tensor, Tensor]]], tuple[Tensor, Tensor]]
"""Maps ``(h, dims, real)`` to maxima and their indices, pooled over the last ``dims`` dimensions; ``real(h)`` is the
pooling's own output."""


class _Eager:
    """Context in which compiled functions run uncompiled, in all threads, as the compiler's stance is global."""

    def __init__(self) -> None:
        self.lock, self.count = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.count:
                self.stance = torch.compiler.set_stance("force_eager")
            self.count += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.count -= 1
            if not self.count:
                self.stance.__exit__(*error)


_EAGER = _Eager()


class OnGates(TorchFunctionMode):
    """A mode in which ``rule`` computes every elementwise activation, and ``pool`` every max pooling.

    Args:
        rule: called for each site.
        rows: size of the batch; a call with another is an error, or no activation of the network.
        layers: sites that the rule is for. None: all.
        pool: called for each max pooling. None: pooling is left alone.

    Attributes:
        sites: number of activations called so far.
        driven: number of those that the rule computed.

    >>> with OnGates(lambda site, h, activation, real: h.square(), rows=2) as mode:
    ...     torch.relu(torch.tensor([-1.0, 2.0]))
    tensor([1., 4.])
    """

    def __init__(self, rule: Rule, rows: int, layers: Collection[int] | None = None, pool: Pool | None = None) -> None:
        super().__init__()
        self.rule, self.rows, self.layers, self.pool = rule, rows, layers, pool
        self.sites = self.driven = 0
        self.resumed = False  # whether it is a second pass

    def resume(self) -> Callable[[], OnGates]:
        """Return what makes a mode that goes on from here, for a second pass through a checkpointed block."""
        sites = self.sites

        def again() -> OnGates:
            mode = OnGates(self.rule, self.rows, self.layers, self.pool)
            mode.sites, mode.resumed = sites, True
            return mode

        return again

    def __enter__(self):
        self.token = MODES.set((*MODES.get(), self.resume))
        # Compiled code would be traced again with each rule. torch._dynamo is slow to import, so it is not forced.
        self.stance = _EAGER if "torch._dynamo" in sys.modules else nullcontext()
        self.stance.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        MODES.reset(self.token)
        self.stance.__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").split(".")[0]  # relu.default in a module of torch.export
        plain = name.removesuffix("_")
        if plain in SITES:
            return self._activation(plain, name != plain, func, args, kwargs)
        if self.pool is not None and name.removesuffix("_with_indices") in _POOLS:
            return self._max_pool(name, args, kwargs)
        return func(*args, **kwargs)

    def _activation(self, name: str, in_place: bool, func, args: tuple, kwargs: dict[str, Any]):
        h, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        if not self._is_site(name, h, *rest, *kwargs.values()):
            return func(*args, **kwargs)
        site, self.sites = self.sites, self.sites + 1
        if self.layers is not None and site not in self.layers:
            return func(*args, **kwargs)
        self.driven += 1
        if not (self.resumed or RESUMED.get()):
            require_no_checkpoint(f"site {site} within one")
        named = {key: value for key, value in kwargs.items() if key != "input"}
        activation = SITES[name](h, *rest, **named)
        real = lambda z: func(z, *rest, **named)  # noqa: E731
        if not (in_place or activation.in_place):
            return self.rule(site, h, activation, real)
        return h.copy_(self.rule(site, h.clone(), activation, lambda z: real(z.clone())))  # others may hold h

    def _is_site(self, name: str, h: Tensor, *others: object) -> bool:
        """Return whether the call is an activation of the batch; a clamp with bounds for each sample is not."""
        batch = h.shape[:1] == (self.rows,)
        if name in ARITHMETIC and not isinstance(h, nn.Parameter):
            bounds = [bound for bound in others if isinstance(bound, Tensor) and bound is not h]
            fixed = all(isinstance(bound, nn.Parameter) or bound.ndim < h.ndim for bound in bounds)
            return batch and h.is_floating_point() and fixed
        if not (batch or isinstance(h, nn.Parameter)):
            expected = f"a batch of {self.rows} at every activation"
            raise InputError("network", expected, f"shape {tuple(h.shape)} at {name}, site {self.sites}")
        return not isinstance(h, nn.Parameter)

    def _max_pool(self, name: str, args: tuple, kwargs: dict[str, Any]):
        named = {key: value for key, value in kwargs.items() if key not in ("input", "return_indices")}
        h, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        if h.shape[:1] != (self.rows,):
            raise InputError("network", f"a batch of {self.rows} at every max pooling", f"shape {tuple(h.shape)}")
        both = name.endswith("_with_indices")
        call = getattr(nn.functional, name if both else f"{name}_with_indices")
        dims = int(name.removesuffix("_with_indices")[-2])
        assert self.pool is not None
        maxima, places = self.pool(h, dims, lambda z: call(z, *rest, **named))
        return (maxima, places) if both else maxima


class Site(NamedTuple):
    """A site of a network, for the choice of ``layers``."""

    number: int  # position in call order
    kind: str  # relu, leaky_relu, ...
    module: str  # name of the innermost module that calls it; "" outside any
    shape: tuple[int, ...]  # of the pre-activation of one sample


def sites(network: nn.Module, x: Tensor) -> list[Site]:
    """List the sites of a network, by one forward pass.

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).

    Returns:
        One entry per site, in call order.

    >>> sites(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    [Site(number=0, kind='relu', module='1', shape=(3,))]
    """
    result: list[Site] = []
    modules: list[str] = [""]

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        result.append(Site(site, activation.kind, modules[-1], tuple(h.shape[1:])))
        return real(h)

    thread = threading.get_ident()  # passes of other threads call the same hooks

    def enter(name: str) -> None:
        if threading.get_ident() == thread:
            modules.append(name)

    def leave() -> None:
        if threading.get_ident() == thread:
            modules.pop()

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        handles.append(module.register_forward_hook(lambda *_: leave()))
    try:
        with frozen(network), torch.no_grad(), OnGates(rule, len(x)):
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return result


def preactivations(network: Network, x: Tensor, layers: Collection[int] | None = None) -> list[Tensor]:
    """Compute the pre-activations of every switch, by one forward pass.

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).
        layers: numbers of sites; None: all.

    Returns:
        One tensor ``z`` (B, *site) per switch; its gate is open where z > 0.

    Raises:
        InputError: the network calls no piecewise-linear activation, or one that mixes the samples of the batch.
    """
    switches: list[Tensor] = []

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        switches.extend(z.clone() for z in activation.switches(h))  # the network may change h in place later
        return real(h)

    with OnGates(rule, len(x), layers) as mode:
        network(x)
    require_gates(mode, network)
    return switches


@torch.no_grad()
def has_gates(network: Network, x: Tensor) -> bool:
    """Tell whether a network calls piecewise-linear activations on whole batches, by one forward pass.

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).

    Returns:
        True if it has at least one site.
    """
    try:
        return count_sites(network, x) > 0
    except InputError:
        return False


@torch.no_grad()
def count_sites(network: Network, x: Tensor) -> int:
    """Count the sites of a network, by one forward pass.

    Args:
        network: maps (B, *features) to (B, *out).
        x: (B, *features).

    Returns:
        The number of sites, 0 for a smooth network.

    Raises:
        InputError: an activation mixes the samples of the batch.
    """
    with OnGates(lambda site, h, activation, real: real(h), len(x)) as mode:
        network(x)
    return mode.sites


def require_gates(mode: OnGates, network: object = None) -> None:
    """Check that a forward pass had gates to drive.

    Args:
        mode: the function mode of the pass.
        network: whose pass it was, for the message.

    Raises:
        InputError: it met no gate, or not all of its ``layers``.
    """
    if mode.sites and mode.driven < (1 if mode.layers is None else max(len(set(mode.layers)), 1)):
        raise InputError("layers", f"sites of the network, 0 to {mode.sites - 1}", mode.layers)
    if mode.driven:
        return
    came = "a network without (are its activations smooth, such as GELU, SiLU or tanh? adam, lbfgs, ... need none)"
    root = module_of(network)
    if any(isinstance(part, _SCRIPTED) for part in [network, *(() if root is None else root.modules())]):
        came = "a scripted one, whose activations are out of reach: give the module that it was made from"
    raise InputError(
        argument_of(network), "at least one piecewise-linear activation, for a method that drives gates", came
    )
