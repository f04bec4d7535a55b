"""The border for networks that users bring: whatever they return becomes one tensor with a row for each sample."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from types import MethodType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latentopt.batch_math import take
from latentopt.errors import InputError, first_line

Pick = int | str | Callable[[Any], Any]
"""Choice among a network's outputs: an index, a name (a key or an attribute), or a function of all that it returns."""
COPIES: ContextVar[int] = ContextVar("COPIES", default=1)
"""Number of output rows of each input row: 2 while a pass is forked (`latentopt.gates.dual`)."""


class WrappedModule(nn.Module):
    """A user's module whose output is a tensor with a row for each sample.

    Args:
        module: the user's module, or a function.
        pick: choice among its outputs; None: the first tensor.
    """

    argument: ClassVar[str]  # name of the argument that such a network is, for messages
    module: Any  # an nn.Module, or a function

    def __init__(self, module: Callable[..., Any], pick: Pick | None = None) -> None:
        super().__init__()
        if not callable(module):
            raise InputError("module", "a module, or a function", repr(module))
        self.module, self.pick = module, check_pick(pick)
        if not isinstance(module, nn.Module):
            self.owner = module_of(module)  # its weights are this module's too

    def evaluate(self, count: int, *inputs: Tensor, **named: Any) -> Tensor:
        """Return the module's output (count, ...)."""
        return evaluate(self.module, count, self.argument, self.pick, *inputs, **named)

    def with_module(self, module: Callable[..., Any]) -> Self:
        """Return a shallow copy with another ``module``."""
        wrapped = copy.copy(self)
        wrapped._modules = dict(self._modules)
        wrapped.module = module
        return wrapped


@dataclass(frozen=True, eq=False)
class TensorNetwork:
    """A network whose output is a tensor with a row for each sample; it may change its inputs in place."""

    network: Callable[[Tensor], Any]
    argument: str = "network"  # name of the argument that it is, for messages
    pick: Pick | None = None
    is_classifier: bool = False  # its outputs are logits

    def __call__(self, x: Tensor) -> Tensor:
        output = evaluate(self.network, len(x), self.argument, self.pick, x.clone())
        return as_logits(output, x) if self.is_classifier else output

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "network":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.network, name)  # such as input_range

    def take(self, rows: Tensor) -> TensorNetwork:
        part = take(self.network, rows)
        return self if part is self.network else replace(self, network=part)


def adapt(
    network: Callable[[Tensor], Any], argument: str = "network", pick: Pick | None = None, is_classifier: bool = False
) -> Callable[[Tensor], Tensor]:
    """Return a network that is evaluated as `evaluate` says; itself if it is one.

    Args:
        network: maps inputs (B, *shape) to one or several outputs.
        argument: name of the argument that it is, for messages.
        pick: choice among the outputs; None: the first tensor.
        is_classifier: whether its outputs are logits.
    """
    if pick is None and isinstance(network, WrappedModule | TensorNetwork):
        return network
    return TensorNetwork(network, argument, check_pick(pick), is_classifier)


def module_of(network: object) -> nn.Module | None:
    """Return the module that a network is, or whose method or partial call it is, if any."""
    if isinstance(network, TensorNetwork):
        return module_of(network.network)
    if isinstance(network, partial):
        return module_of(network.func)
    if isinstance(network, MethodType):
        return module_of(network.__self__)
    return network if isinstance(network, nn.Module) else None


def evaluate(
    network: Callable[..., Any], count: int, argument: str, pick: Pick | None, *inputs: Tensor, **named: Tensor
) -> Tensor:
    """Return the output (count, ...) of a network, which may change its inputs in place.

    Raises:
        InputError: the network needs more inputs, or its output is no tensor with a row for each of ``count`` samples.
    """
    try:
        output = network(*inputs, **named)
    except TypeError as error:
        unknown = str(error).partition("unexpected keyword argument ")[2].strip("'")
        if unknown and unknown in named:
            raise InputError(unknown, f"an argument of the {argument}'s forward", "an unknown name") from error
        if "required" not in str(error) or "argument" not in str(error):
            raise
        expected = "one that needs no other input, or is given it (Generator.given, functools.partial)"
        raise InputError(argument, expected, first_line(error)) from error
    several = not isinstance(output, Tensor)
    if pick is not None or several:
        output = _choose(output, argument, pick)
    if output.layout != torch.strided:
        output = output.to_dense()
    if not output.ndim or len(output) not in (count, count * COPIES.get()):
        expected = f"one output a sample, shape ({count}, ...){'' if pick is None else ', of what pick chooses'}"
        expected += " (pick= chooses another output)" if several and pick is None else ""
        raise InputError(argument, expected, f"shape {tuple(output.shape)}")
    return output


def argument_of(network: object) -> str:
    """Return the name of the argument that a network is, for messages."""
    return getattr(network, "argument", "network")


def as_logits(output: Tensor, x: Tensor) -> Tensor:
    """Return logits (B, K) as floating-point numbers; one logit (B, 1) of two classes becomes the pair (0, logit)."""
    if not output.is_floating_point() and not output.is_complex():
        output = output.to(x.dtype)
    if output.ndim == 2 and output.shape[1] == 1:
        return output * torch.tensor([0.0, 1.0], dtype=output.dtype, device=output.device)  # sigmoid(z) = softmax(0, z)
    return output


def check_pick(pick: Any) -> Pick | None:
    """Return a `Pick`, or raise `InputError`."""
    if pick is not None and (isinstance(pick, bool) or not (isinstance(pick, int | str) or callable(pick))):
        raise InputError("pick", "an index, a name or a function of the network's output", repr(pick))
    return pick


def _choose(output: Any, argument: str, pick: Pick | None) -> Tensor:
    """Return the tensor that ``pick`` chooses."""
    chosen = output if pick is None else _pick(output, pick)
    tensor = next(_tensors(chosen), None)
    if tensor is None:
        expected = "a tensor, or a tuple, list, mapping or dataclass that holds one (pick= chooses)"
        raise InputError(argument, expected, type(chosen).__name__)
    return tensor


def _pick(output: Any, pick: Pick) -> Any:
    if callable(pick):
        return pick(output)
    values = _values(output)
    names = [name for name, _ in values]
    index = names.index(pick) if pick in names else pick
    if isinstance(index, int) and -len(values) <= index < len(values):
        return values[index][1]
    raise InputError("pick", f"one of {', '.join(map(str, names))}" if names else "None for one tensor", repr(pick))


def _values(output: Any) -> list[tuple[Any, Any]]:
    """Return the outputs in a container, by key, field or index."""
    if isinstance(output, Mapping):
        return list(output.items())
    if is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in fields(output)]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    return list(enumerate(output)) if isinstance(output, tuple | list) else []


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in an output, depth first; of a distribution its mean."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Distribution):
        yield output.mean
    for _, part in _values(output):
        yield from _tensors(part)
