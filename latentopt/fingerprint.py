"""Fingerprints of Python objects, equal across processes if the objects hold and do the same.

A fingerprint covers numbers, text, tensors, containers, fields of objects, weights of modules, and the code of
functions with the values that they close over and the globals that they read. Opaque objects (locks, files, loggers,
compiled code) count by their type alone, functions of a library by their name.
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

MAX_DEPTH = 60
"""Depth of nested objects, below which only the type counts."""
_PLAIN = (numbers.Number, str, bytes, range, slice, enum.Enum, PurePath, np.generic)
_PLAIN += (torch.dtype, torch.device, torch.Size, types.EllipsisType, types.NoneType)
_NAMESPACES = (argparse.Namespace, types.SimpleNamespace)
_NAMED = (type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, np.ufunc)
_NAMED += (types.MethodDescriptorType, types.WrapperDescriptorType)
_DATA = (*_PLAIN, *_NAMESPACES, Tensor, np.ndarray, Mapping, Sequence, Set)


def fingerprint(thing: object) -> str:
    """Return a text that two objects share if they hold and do the same, as far as Python shows.

    >>> fingerprint((1, torch.zeros(2))) == fingerprint((1, torch.zeros(2)))
    True
    >>> fingerprint(lambda x: x < 0.5) == fingerprint(lambda x: x < 0.25)
    False
    """
    hasher = _ObjectHasher()
    hasher.add(thing)
    return hasher.hash.hexdigest()[:16]


def without_addresses(text: str) -> str:
    """Return a representation without addresses in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors by name: of their names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


class _ObjectHasher:
    """Hash of objects, each visited once."""

    def __init__(self) -> None:
        self.hash, self.depth = hashlib.sha256(), 0
        self.seen: dict[int, tuple[int, object]] = {}  # id to number and object, which keeps its id taken

    def update(self, *words: object) -> None:
        self.hash.update(repr(words).encode())

    def add(self, thing: object) -> None:
        if isinstance(thing, _PLAIN):
            self.update(type(thing).__name__, without_addresses(repr(thing)))
        elif id(thing) in self.seen:
            self.update("again", self.seen[id(thing)][0])
        elif self.depth == MAX_DEPTH:
            self.update("deep", type(thing).__qualname__)
        else:
            self.seen[id(thing)] = len(self.seen), thing
            self.depth += 1
            next((method for kinds, method in _METHODS if isinstance(thing, kinds)), _ObjectHasher._object)(self, thing)
            self.depth -= 1

    def _all(self, kind: str, things: Sequence[Any]) -> None:
        self.update(kind, len(things))
        for thing in things:
            self.add(thing)

    def _tensor(self, tensor: Tensor) -> None:
        self.update("tensor", str(tensor.dtype), tuple(tensor.shape))
        try:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            self.hash.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        except (RuntimeError, TypeError):  # sparse, quantised, or without data
            self.update("unseen")

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self.update("array", str(array.dtype), array.shape)
        if array.dtype.hasobject:
            self._all("objects", array.ravel().tolist())
        else:
            self.hash.update(np.ascontiguousarray(array).tobytes())

    def _module(self, module: nn.Module) -> None:
        """Add weights and structure; other attributes may count calls or cache values."""
        self.update(without_addresses(repr(module)))
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.update(name)
            self.add(tensor)

    def _mapping(self, mapping: Mapping[Any, Any]) -> None:
        self._all("mapping", [part for item in mapping.items() for part in item])

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
        for name, value in _outer_names(function):
            foreign = isinstance(value, types.FunctionType) and value.__module__ != function.__module__
            self.update(name)
            self.add(value.__qualname__ if foreign else value)

    def _code(self, code: types.CodeType) -> None:
        self.update("code", code.co_code, code.co_names, code.co_argcount, code.co_kwonlyargcount)
        self._all("constants", code.co_consts)

    def _named(self, named: Any) -> None:
        self.update(getattr(named, "__qualname__", named.__name__))
        if isinstance(named, type):
            self._attributes(named)
            return
        owner = getattr(named, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            self.add(owner)

    def _object(self, thing: object) -> None:
        kind = type(thing)
        self.update(kind.__qualname__)
        if kind.__module__.partition(".")[0] in sys.stdlib_module_names and not isinstance(thing, _NAMESPACES):
            return
        self._mapping(_fields(thing))
        self._attributes(kind)
        if isinstance(vars(kind).get("__call__"), types.FunctionType) and not kind.__module__.startswith("latentopt."):
            self._mapping({name: value for name, value in vars(kind).items() if isinstance(value, types.FunctionType)})

    def _attributes(self, kind: type) -> None:
        """Add the data of a class and its bases, except those of libraries."""
        for base in kind.__mro__:
            if not _is_library_class(base) and (data := _class_data(base)):
                self._mapping(data)


def _is_library_class(kind: type) -> bool:
    """Return whether the data of a class change only with the version of Python, this package or an installed one."""
    root = kind.__module__.partition(".")[0]
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in sys.stdlib_module_names or root == "latentopt" or "site-packages" in file or "dist-packages" in file


def _class_data(kind: type) -> dict[str, Any]:
    """Return the plain attributes of a class, except those that its own methods write."""
    methods = [value for value in vars(kind).values() if isinstance(value, types.FunctionType)]
    written = {name for method in methods for name in _names_in(method.__code__, "STORE_ATTR")}
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("__") and name not in written and isinstance(value, _DATA)
    }


def _fields(thing: object) -> dict[str, Any]:
    """Return the fields of an object, except cached properties."""
    if is_dataclass(thing):
        return {field.name: getattr(thing, field.name, None) for field in fields(thing)}
    kind = type(thing)
    slots = [name for base in kind.__mro__ for name in vars(base).get("__slots__", ()) if not name.startswith("__")]
    values = {name: getattr(thing, name, None) for name in slots} | getattr(thing, "__dict__", {})
    return {n: v for n, v in values.items() if not isinstance(getattr(kind, n, None), functools.cached_property)}


def _outer_names(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the outer variables that a function reads, except those that it writes itself."""
    code = function.__code__
    written = set(_names_in(code, "STORE_DEREF", "STORE_GLOBAL"))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name not in written:
            try:
                yield name, cell.cell_contents
            except ValueError:  # not yet filled
                yield name, None
    for name in sorted(set(_names_in(code, "LOAD_GLOBAL", "LOAD_NAME")) - written):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _names_in(code: types.CodeType, *operations: str) -> Iterator[str]:
    """Yield the names that a function, or one inside it, uses in these operations."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in operations:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant, *operations)


_METHODS: tuple[tuple[Any, Callable[[_ObjectHasher, Any], None]], ...] = (
    (Tensor, _ObjectHasher._tensor),
    (np.ndarray, _ObjectHasher._array),
    (nn.Module, _ObjectHasher._module),
    (functools.partial, _ObjectHasher._partial),
    (types.MethodType, _ObjectHasher._bound),
    (types.FunctionType, _ObjectHasher._function),
    (types.CodeType, _ObjectHasher._code),
    (_NAMED, _ObjectHasher._named),
    (Mapping, _ObjectHasher._mapping),
    (Set, _ObjectHasher._set),
    (Sequence, _ObjectHasher._sequence),
)
