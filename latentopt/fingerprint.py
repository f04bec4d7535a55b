"""Fingerprints: whether two Python objects, perhaps of two processes, hold and do the same.

Seen are numbers, text, tensors, containers, the fields of objects, modules' weights, and of functions the code, the
values that they close over and the globals that they read. Of what cannot be seen into (locks, files, loggers, compiled
code) only the type counts, and of a library's functions only the name.
"""

from __future__ import annotations

import argparse
import dis
import enum
import functools
import hashlib
import numbers
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEP = 60
"""Objects within objects that are looked into."""
_PLAIN = (numbers.Number, str, bytes, range, slice, enum.Enum, PurePath, np.generic)
_PLAIN += (torch.dtype, torch.device, torch.Size, types.EllipsisType, types.NoneType)
_NAMESPACES = (argparse.Namespace, types.SimpleNamespace)
_NAMED = (type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, np.ufunc)
_NAMED += (types.MethodDescriptorType, types.WrapperDescriptorType)
_DATA = (*_PLAIN, *_NAMESPACES, Tensor, np.ndarray, Mapping, Sequence, Set)


def fingerprint(thing: object) -> str:
    """A text that two things share if they hold and do the same, as far as can be seen.

    >>> fingerprint((1, torch.zeros(2))) == fingerprint((1, torch.zeros(2)))
    True
    >>> fingerprint(lambda x: x < 0.5) == fingerprint(lambda x: x < 0.25)
    False
    """
    walk = _Walk()
    walk.add(thing)
    return walk.hash.hexdigest()[:16]


def without_addresses(text: str) -> str:
    """A representation without the places in memory that it may name."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


class _Walk:
    def __init__(self) -> None:
        self.hash, self.depth = hashlib.sha256(), 0
        self.seen: dict[int, tuple[int, object]] = {}  # by id: number, and the object, kept so that its id is its own

    def say(self, *words: object) -> None:
        self.hash.update(repr(words).encode())

    def add(self, thing: object) -> None:
        if isinstance(thing, _PLAIN):
            self.say(type(thing).__name__, without_addresses(repr(thing)))
        elif id(thing) in self.seen:
            self.say("again", self.seen[id(thing)][0])
        elif self.depth == DEEP:
            self.say("deep", type(thing).__qualname__)
        else:
            self.seen[id(thing)] = len(self.seen), thing
            self.depth += 1
            next((method for kinds, method in _METHODS if isinstance(thing, kinds)), _Walk._object)(self, thing)
            self.depth -= 1

    def _all(self, kind: str, things: Sequence[Any]) -> None:
        self.say(kind, len(things))
        for thing in things:
            self.add(thing)

    def _tensor(self, tensor: Tensor) -> None:
        self.say("tensor", str(tensor.dtype), tuple(tensor.shape))
        try:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            self.hash.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        except (RuntimeError, TypeError):  # sparse, quantised, or without data
            self.say("unseen")

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self.say("array", str(array.dtype), array.shape)
        if array.dtype.hasobject:
            self._all("objects", array.ravel().tolist())
        else:
            self.hash.update(np.ascontiguousarray(array).tobytes())

    def _module(self, module: nn.Module) -> None:
        """Weights and structure; other attributes may count calls or keep what was last seen."""
        self.say(without_addresses(repr(module)))
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.say(name)
            self.add(tensor)

    def _mapping(self, mapping: Mapping[Any, Any]) -> None:
        self._all("mapping", [each for pair in mapping.items() for each in pair])

    def _sequence(self, sequence: Sequence[Any]) -> None:
        self._all(type(sequence).__name__, sequence)

    def _set(self, members: Set[Any]) -> None:
        self._all("set", sorted(map(fingerprint, members)))

    def _partial(self, partial: functools.partial[Any]) -> None:
        self._all("partial", [partial.func, partial.args, partial.keywords])

    def _bound(self, method: types.MethodType) -> None:
        self._all("method", [method.__func__, method.__self__])

    def _function(self, function: types.FunctionType) -> None:
        inner = getattr(function, "__wrapped__", function)
        if inner is not function:
            self.add(inner)
            return
        self._code(function.__code__)
        self._all("defaults", [function.__defaults__, function.__kwdefaults__])
        for name, value in _read(function):
            foreign = isinstance(value, types.FunctionType) and value.__module__ != function.__module__
            self.say(name)
            self.add(value.__qualname__ if foreign else value)

    def _code(self, code: types.CodeType) -> None:
        self.say("code", code.co_code, code.co_names, code.co_argcount, code.co_kwonlyargcount)
        self._all("constants", code.co_consts)

    def _named(self, named: Any) -> None:
        self.say(getattr(named, "__qualname__", named.__name__))
        if isinstance(named, type):
            self._attributes(named)
            return
        owner = getattr(named, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            self.add(owner)

    def _object(self, thing: object) -> None:
        kind = type(thing)
        self.say(kind.__qualname__)
        if kind.__module__.partition(".")[0] in sys.stdlib_module_names and not isinstance(thing, _NAMESPACES):
            return
        self._mapping(_held(thing))
        self._attributes(kind)
        if isinstance(vars(kind).get("__call__"), types.FunctionType) and not kind.__module__.startswith("latentopt."):
            self._mapping({name: each for name, each in vars(kind).items() if isinstance(each, types.FunctionType)})

    def _attributes(self, kind: type) -> None:
        """The data of a class and its bases, but those of libraries."""
        for base in kind.__mro__:
            if not _of_library(base) and (data := _data(base)):
                self._mapping(data)


def _of_library(kind: type) -> bool:
    """Whether a class is Python's, this package's or an installed one's: its data change only with its version."""
    root = kind.__module__.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in sys.stdlib_module_names or root == "latentopt" or "site-packages" in file or "dist-packages" in file


def _data(kind: type) -> dict[str, Any]:
    """The plain attributes of a class, but what its own methods write."""
    methods = [each for each in vars(kind).values() if isinstance(each, types.FunctionType)]
    written = {name for method in methods for name in _used(method.__code__, "STORE_ATTR")}
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("__") and name not in written and isinstance(value, _DATA)
    }


def _held(thing: object) -> dict[str, Any]:
    """What an object holds, but what it has computed from that."""
    if is_dataclass(thing):
        return {field.name: getattr(thing, field.name, None) for field in fields(thing)}
    kind = type(thing)
    slots = [name for base in kind.__mro__ for name in vars(base).get("__slots__", ()) if not name.startswith("__")]
    held = {name: getattr(thing, name, None) for name in slots} | getattr(thing, "__dict__", {})
    return {n: v for n, v in held.items() if not isinstance(getattr(kind, n, None), functools.cached_property)}


def _read(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function reads from outside, by name, but what it counts there itself."""
    code = function.__code__
    written = set(_used(code, "STORE_DEREF", "STORE_GLOBAL"))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name not in written:
            try:
                yield name, cell.cell_contents
            except ValueError:  # not yet filled
                yield name, None
    for name in sorted(set(_used(code, "LOAD_GLOBAL", "LOAD_NAME")) - written):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _used(code: types.CodeType, *operations: str) -> Iterator[str]:
    """The names on which a function, or one within it, does this."""
    for each in dis.get_instructions(code):
        if each.opname in operations:
            yield each.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _used(constant, *operations)


_METHODS: tuple[tuple[Any, Callable[[_Walk, Any], None]], ...] = (
    (Tensor, _Walk._tensor),
    (np.ndarray, _Walk._array),
    (nn.Module, _Walk._module),
    (functools.partial, _Walk._partial),
    (types.MethodType, _Walk._bound),
    (types.FunctionType, _Walk._function),
    (types.CodeType, _Walk._code),
    (_NAMED, _Walk._named),
    (Mapping, _Walk._mapping),
    (Set, _Walk._set),
    (Sequence, _Walk._sequence),
)
