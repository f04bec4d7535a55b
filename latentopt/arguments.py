"""Arguments of public functions and classes: their types are checked by their annotations, and numbers made tensors."""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.errors import InputError, first_line, is_number
from latentopt.files import ARRAY_SUFFIXES, read_values

C = TypeVar("C", bound=Callable[..., Any])

Values = float | Tensor | NDArray[Any] | Sequence[Any]
"""A number, or numbers as a tensor, an array (or what converts to one) or a list, also one of tensors."""
Named = str | Mapping[str, Any]
"""A name, or ``{class_path: ..., init_args: {...}}``, of a component (`latentopt.components`)."""
Files = str | Path | Sequence[str | Path]
"""A path of an image, a folder or an array file, or a list of paths, as `latentopt.load_images` takes them."""


def as_values(name: str, values: Values) -> float | Tensor:
    """Return a number as it is, anything else as a tensor, which takes no gradient.

    Raises:
        InputError: (of ``name``) they are no real numbers.
    """
    if holds_tensors(values):
        values = _stacked(name, values)
    if isinstance(values, Tensor):
        if values.is_complex():
            raise InputError(name, "real numbers", values.dtype)
        return values.detach()
    if isinstance(values, str) or not (isinstance(values, Sequence | int | float) or hasattr(values, "__array__")):
        raise InputError(name, "a number, a tensor, an array or a list of numbers", type(values).__name__)
    try:
        array = _as_array(values)
        if np.iscomplexobj(array):
            raise InputError(name, "real numbers", str(array.dtype))
        array = array.astype(np.float64)  # what a list of Python's numbers holds, not torch's default precision
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(name, "numbers, in rows of equal length", first_line(error)) from error
    return torch.from_numpy(array) if array.ndim else float(array)


def as_tensor(name: str, values: Values, like: Tensor) -> Tensor:
    """Return numbers as a tensor in the dtype and on the device of ``like``, without a gradient.

    Raises:
        InputError: (of ``name``) they are no real numbers; or not whole, where ``like`` is of integers.

    >>> as_tensor("start", [[1, 2]], torch.empty(0))
    tensor([[1., 2.]])
    """
    numbers = as_values(name, values)
    tensor = numbers if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=torch.float64, device="cpu")
    if not like.is_floating_point() and tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        raise InputError(name, "whole numbers", str(tensor.dtype).removeprefix("torch."))
    return tensor.to(like)


def as_given(name: str, values: Any) -> Tensor:
    """Return a tensor as it is, a sparse one dense, and an array or a list by its dtype (floats in torch's default).

    Raises:
        InputError: (of ``name``) it is something else.
    """
    if isinstance(values, Tensor):
        return values if values.layout == torch.strided else values.to_dense()
    try:
        if holds_tensors(values):
            return torch.stack(list(values))
        if isinstance(values, str) or not (isinstance(values, Sequence) or hasattr(values, "__array__")):
            raise TypeError(type(values).__name__)
        array = _as_array(values)
        tensor = torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError) as error:
        expected = "a tensor, an array or a list of numbers, in rows of equal length"
        raise InputError(name, expected, first_line(error)) from error
    while isinstance(values, Sequence) and len(values):
        values = values[0]
    return tensor.to(torch.get_default_dtype()) if type(values) in (int, float) and array.dtype.kind == "f" else tensor


def as_pixels(name: str, values: Values, like: Tensor) -> Tensor:
    """Return images as `as_tensor` does; bytes (uint8) stand for [0, 1], as everywhere: 255 is 1.

    >>> as_pixels("target", torch.tensor([0, 255], dtype=torch.uint8), torch.empty(0))
    tensor([0., 1.])
    """
    if holds_tensors(values):
        values = _stacked(name, values)
    kind = np.asarray(values).dtype if hasattr(values, "__array_interface__") else getattr(values, "dtype", None)
    pixels = as_tensor(name, values, like)
    return pixels / 255 if kind in (np.uint8, torch.uint8) else pixels


def read_images(name: str, files: Files) -> Tensor:
    """Return the images (B, C, H, W) in [0, 1] of files, by `latentopt.load_images`, or the numbers of an array file.

    Raises:
        InputError: (of ``name``) a file cannot be read.
    """
    try:
        paths = [files] if isinstance(files, str | Path) else files
        if len(paths) == 1 and Path(paths[0]).suffix.lower() in ARRAY_SUFFIXES:  # also of measurements
            return torch.from_numpy(np.array(read_values(paths[0]), order="C"))
        return import_module("latentopt.jobs.targets").load_images(*paths)
    except InputError as error:
        raise InputError(name, error.expected, f"{error.name}: {error.got}") from error


def names_files(value: object) -> TypeGuard[Files]:
    """Return whether an argument is a path, or a list of paths."""
    parts = value if isinstance(value, list | tuple) and value else [value]
    return all(isinstance(part, str | Path) for part in parts)


def _as_array(values: Any) -> NDArray[Any]:
    """Return real numbers as an array; raise `TypeError` or `ValueError` where they are none."""
    array = np.array(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"values of type {array.dtype}")
    return array


def holds_tensors(values: object) -> TypeGuard[Sequence[Any]]:
    """Return whether values are a list or a tuple that has tensors in it."""
    return isinstance(values, list | tuple) and any(isinstance(each, Tensor) for each in values)


def _stacked(name: str, values: Sequence[Any]) -> Tensor:
    try:
        return torch.stack(
            [torch.as_tensor(each, device=None if isinstance(each, Tensor) else "cpu").detach() for each in values]
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(name, "tensors of one shape", first_line(error)) from error


def checked(function: C) -> C:
    """Decorate a function, or a class, so that calls whose arguments are not as annotated raise `InputError`.

    A missing or unknown argument is told as well. Types alone are checked: ranges and shapes are the function's own.
    """
    if inspect.isclass(function):
        if "__init__" in vars(function):
            function.__init__ = _checked(function.__init__, function)
        return function  # pyright: ignore[reportReturnType]
    return _checked(function, function)


def _checked(function: Any, owner: Any) -> Any:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _check(function, owner, args, kwargs)
        return function(*args, **kwargs)

    return call


def _check(function: Callable[..., Any], owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    signature, types_ = _signature(function, owner)
    prefix = f"{owner.__name__}." if inspect.isclass(owner) else ""
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise _unbound(signature, _called(owner), prefix, kwargs, str(error)) from None
    for name, argument in given.items():
        is_many = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for value in argument if is_many else (argument,) if name in types_ else ():
            if not _fits(types_[name], value):
                raise InputError(f"{prefix}{name}", _description(types_[name]), _short(value))
            if unfit := _unfit_function(types_[name], value):
                count, text = unfit
                raise InputError(f"{prefix}{name}", f"a function of {count} argument{'s' if count > 1 else ''}", text)


def _unbound(
    signature: inspect.Signature, owner: str, prefix: str, kwargs: Mapping[str, Any], reason: str
) -> InputError:
    """Return the error for an argument that is missing or unknown, or one too many."""
    unknown = [name for name in kwargs if name not in signature.parameters]
    if unknown:
        close = get_close_matches(unknown[0], signature.parameters, 1)
        hint = f", such as {close[0]}" if close else ""
        return InputError(prefix + unknown[0], f"an argument of {owner}{hint}", "an unknown name")
    if "missing" in reason:
        name = reason.rpartition("argument: ")[2].strip("'")
        return InputError(prefix + name, f"an argument of {owner}", "none")
    return InputError(owner, "its arguments", reason)


@cache
def _signature(function: Callable[..., Any], owner: Any) -> tuple[inspect.Signature, dict[str, Any]]:
    """Return a function's signature and the types of its arguments, those with ``**`` left out."""
    modules = [base.__module__ for base in reversed(getattr(owner, "__mro__", ()))] + [owner.__module__]
    namespace = {name: value for module in modules for name, value in vars(sys.modules[module]).items()}
    namespace |= getattr(function, "__globals__", {})

    def taking() -> None: ...

    raw = inspect.get_annotations(function)
    taking.__annotations__ = {
        name: raw[name] for name in raw if name != "return"
    }  # which may be known to checkers alone
    types_ = inspect.get_annotations(taking, globals=namespace, eval_str=True)
    signature = inspect.signature(function)
    named = [name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    return signature, {name: types_[name] for name in named if name in types_}


def _called(owner: Any) -> str:
    """Return what a user calls: a function, a class, or ``Class.method``."""
    return owner.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")


def _unfit_function(kind: Any, value: Any) -> tuple[int, str] | None:
    """Return how many arguments a function must take, and its own, where a value is one that cannot; else None."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return next((_unfit_function(each, value) for each in inner if _fits(each, value)), None)
    if origin in (collections.abc.Sequence, collections.abc.Iterable) and isinstance(value, list | tuple):
        return next((unfit for each in value if (unfit := _unfit_function(inner[0], each))), None)
    if origin is not collections.abc.Callable or not isinstance(inner[0], list):
        return None
    try:
        signature = inspect.signature(value, follow_wrapped=False)
    except (TypeError, ValueError):  # of C
        return None
    try:
        signature.bind(*inner[0])
    except TypeError:
        own = ", ".join(map(str, signature.parameters.values()))
        return len(inner[0]), f"{getattr(value, '__name__', type(value).__name__)}({own})"
    return None


NOUNS = {
    float: "a number",
    int: "an integer",
    bool: "True or False",
    str: "a string",
    type(None): "None",
    Path: "a path",
    Tensor: "a tensor",
    np.ndarray: "an array",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a mapping",
    collections.abc.Sequence: "a sequence",
    collections.abc.Iterable: "a sequence",
}
"""Types in messages; other classes are named."""


def _fits(kind: Any, value: Any) -> bool:
    """Return whether a value is of an annotated type; a type that is not understood takes any value."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(each, value) for each in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if kind in (Any, None):
        return kind is Any or value is None
    if kind in (float, int):
        return is_number(value, integer=kind is int)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if origin is np.ndarray:
        return hasattr(value, "__array__") and not inspect.isclass(value)
    if origin is collections.abc.Callable:
        return callable(value) and not inspect.isclass(value)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1:] == (...,) and isinstance(value, list | tuple) else inner
        return isinstance(value, list | tuple) and len(value) == len(kinds) and all(map(_fits, kinds, value))
    if origin in (collections.abc.Sequence, collections.abc.Iterable):
        whole = isinstance(value, origin) and not isinstance(value, str | bytes | Mapping)
        return whole and (not isinstance(value, list | tuple) or all(_fits(inner[0], each) for each in value))
    kind = origin or kind
    return not isinstance(kind, type) or isinstance(value, kind)


def _description(kind: Any) -> str:
    """Return what a type is called in a message, such as ``a number or None``."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        *first, last = dict.fromkeys(_description(each) for each in inner)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return "a tuple" if inner[-1:] == (...,) else f"{len(inner)} values"
    kind = origin or kind
    name = getattr(kind, "__name__", str(kind))
    return NOUNS.get(kind) or getattr(kind, "description", f"{'an' if name[0] in 'AEIO' else 'a'} {name}")


def _short(value: Any) -> str:
    """Return a value, or its type where it is long."""
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    text = repr(value) if isinstance(value, str | bool | int | float | tuple | list | dict | None) else ""
    return text if 0 < len(text) <= 60 and "\n" not in text else type(value).__name__
