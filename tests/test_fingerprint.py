"""Two things share a fingerprint where they hold and do the same, in this process and in another."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nets import Counted, mlp, randn
from torch import Tensor, nn

from latentopt.fingerprint import fingerprint
from latentopt.objectives import MSE, Fit
from latentopt.sets import Box, bounded_ball

LIMIT = 0.5
CALLS = 0


def limited(value: Tensor) -> Tensor:
    return value < LIMIT


def below(limit: float) -> Callable[[Tensor], Tensor]:
    return lambda value: value < limit


def helped(value: Tensor) -> Tensor:
    return limited(value)


class Below:
    def __init__(self, limit: Any) -> None:
        self.limit = limit

    def __call__(self, value: Tensor) -> Tensor:
        return value < self.level

    @cached_property
    def level(self) -> Any:
        return self.limit

    def check(self, value: Tensor) -> Tensor:
        return value < self.limit


class Slotted:
    __slots__ = ("limit",)

    def __init__(self, limit: float) -> None:
        self.limit = limit


@dataclass
class Held:
    rule: Any


def network(scale: float = 1.0) -> nn.Module:
    module = mlp(2, 3, 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    return module


def of_class(limit: float) -> type:
    class Limits:
        at = limit
        calls = 0

        def __call__(self, value: Tensor) -> Tensor:
            type(self).calls += 1
            return value < self.at

    return Limits


def derived(limit: float) -> type:
    class Derived(of_class(limit)):
        pass

    return Derived


def reading(limits: Any) -> Callable[[Tensor], Tensor]:
    return lambda value: value < limits.at


MAKERS: dict[str, Callable[[float], Any]] = {
    "a number": lambda v: v,
    "a decimal": lambda v: Decimal(v),
    "text": str,
    "a tensor": lambda v: torch.tensor([1.0, v]),
    "a tensor in half precision": lambda v: torch.tensor([1.0, v], dtype=torch.bfloat16),
    "an array": lambda v: np.array([v]),
    "an array of objects": lambda v: np.array([None, v], dtype=object),
    "a list": lambda v: [1, [v]],
    "a dictionary": lambda v: OrderedDict(a=v),
    "a set": lambda v: {"a", "b", str(v)},
    "a queue of the standard library": lambda v: deque([v]),
    "a closure": below,
    "a default": lambda v: lambda x, limit=v: x < limit,
    "a keyword's default": lambda v: lambda x, *, limit=v: x < limit,
    "a partial": lambda v: partial(torch.lt, other=v),
    "an object": Below,
    "an object with slots": Slotted,
    "an object whose class holds it": lambda v: of_class(v)(),
    "an object whose class inherits it": lambda v: derived(v)(),
    "a class in a closure": lambda v: reading(of_class(v)),
    "a namespace in a closure": lambda v: reading(SimpleNamespace(at=v)),
    "the command line's namespace": lambda v: reading(Namespace(at=v)),
    "a namespace in a class": lambda v: type("Holding", (), {"at": SimpleNamespace(at=[v]), "__module__": __name__}),
    "a method": lambda v: Below(v).check,
    "a number's own method": lambda v: v.__gt__,
    "a tensor's own method": lambda v: torch.tensor(v).gt,
    "a dataclass": lambda v: Held([Below(v)]),
    "a closure in a closure": lambda v: (lambda inner: lambda x: inner(x))(below(v)),
    "a module": network,
    "a module in a closure": lambda v: (lambda module: lambda x: module(x))(network(v)),
    "a module's setting": lambda v: nn.LeakyReLU(v),
    "a fit": lambda v: Fit(MSE(), nn.Identity(), torch.tensor([v])),
    "a box": lambda v: Box([-1.0, -1.0], v),
    "a ball in a box": lambda v: bounded_ball([0.0], v, "l2", -9.0, 9.0),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_other_values_have_another_fingerprint_and_the_same_the_same(name):
    make = MAKERS[name]
    assert fingerprint(make(0.5)) == fingerprint(make(0.5))
    assert fingerprint(make(0.5)) != fingerprint(make(0.25))


def test_what_a_function_reads_counts(monkeypatch):
    before = fingerprint(limited), fingerprint(helped)
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 0.25)
    assert fingerprint(limited) != before[0]
    assert fingerprint(helped) != before[1]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (lambda x: x < 0.5, lambda x: x <= 0.5),
        (lambda x: x.sum(), lambda x: x.mean()),
        (lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]),
        (torch.sin, torch.cos),
        (torch.Tensor.abs, torch.Tensor.neg),
        (np.sin, np.cos),
        (nn.functional.relu, nn.functional.gelu),
        (MSE, Fit),
        (1, 1.0),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2).double()),
        (nn.Linear(1, 1), nn.Linear(1, 2)),
        (torch.float32, torch.float64),
        (None, False),
    ],
)
def test_other_things_have_another_fingerprint(one, two):
    assert fingerprint(one) != fingerprint(two)


def test_what_a_function_counts_itself_does_not_count():
    calls = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal calls
        global CALLS
        calls, CALLS = calls + 1, CALLS + 1
        return x

    before = fingerprint(counting)
    counting(torch.zeros(1))
    assert fingerprint(counting) == before


def test_what_is_computed_or_counted_on_the_way_does_not_count():
    below, counted = Below(0.5), Counted(network())
    own = of_class(0.5)()
    before = fingerprint(below), fingerprint(counted), fingerprint(own)
    below(torch.zeros(1))
    own(torch.zeros(1))
    counted(randn(1, 2))
    counted.train()
    assert (fingerprint(below), fingerprint(counted), fingerprint(own)) == before


def test_a_circle_and_what_cannot_be_seen_into_are_no_trouble():
    circle: list[Any] = [1]
    circle.append(circle)
    deep: Any = 0.5
    for _ in range(5000):
        deep = [deep]
    opaque = [threading.Lock(), logging.getLogger(), torch.Generator(), torch.zeros(2, device="meta"), object(), deep]
    for thing in (circle, *opaque):
        assert fingerprint(thing) == fingerprint(thing)


@pytest.mark.slow
def test_another_process_finds_the_same():
    lines = [
        "import sys; sys.path.insert(0, sys.argv[1])",
        "from test_fingerprint import MAKERS, fingerprint, limited, helped",
        "for name, make in MAKERS.items(): print(name, fingerprint(make(0.5)))",
        "print(fingerprint(limited), fingerprint(helped))",
    ]
    here = [f"{name} {fingerprint(make(0.5))}" for name, make in MAKERS.items()]
    here.append(f"{fingerprint(limited)} {fingerprint(helped)}")
    command = [sys.executable, "-c", "\n".join(lines), __file__.rpartition("/")[0]]
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "1"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert said.splitlines() == here
