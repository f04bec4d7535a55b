"""Components, such as an optimizer or an operator: named in Python, on the command line and in recipes alike.

A component is a short name (``adam``), ``{class_path: ..., init_args: {...}}`` with a short name or a class path (the
convention of jsonargparse), or, from Python, an object. The names, arguments and types of the package's own classes are
read from its source (`latentopt.components.source_index`), so that a wrong one is told at once, and without torch.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentopt.components.numbers import parse_fractions
from latentopt.components.source_index import SourceIndex
from latentopt.components.trust import EXPECTED, may_be_imported, only_trusted, refusal
from latentopt.errors import InputError, LatentOptError, is_number, nonnegative, with_nearest
from latentopt.files import ARRAY_SUFFIXES, in_quotes, is_folder, require_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ComponentKind:
    """Kind of component that a setting takes, and its allowed values.

    Args:
        base: dotted path of the class that all are derived from; ``""``: functions and plain names.
        sources: folders and files of the package that define the shipped ones.
        methods: short names are those of `METHODS`; otherwise a class's short name is its own in lower case.
        functions: any function will do, too.
        aliases: further short names, or other meanings of some.
        also: further classes, dotted paths.
        plain: short names that stay names when the job runs; ``"*"``: all do.
        file: class path of what an array file's path stands for.
        suffix: end of the classes' names that their short names leave out, beside the name of the kind.
        numbers: whether numbers >= 0 will do, too.
    """

    base: str
    sources: tuple[str, ...]
    methods: bool = False
    functions: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    file: str = ""
    suffix: str = ""
    numbers: bool = False


KINDS = {
    "optimizer": ComponentKind(
        "latentopt.optimizers.Optimizer", ("optimizers",), True, aliases={"adr-gd": "adr-gd-latent"}
    ),
    "attack": ComponentKind(
        "latentopt.optimizers.Optimizer",
        ("optimizers", "attacks", "classification.py"),
        True,
        aliases={"adr-gd": "adr-gd-attack", "adr-gd-soft": "adr-gd-soft-attack"},
        also=("latentopt.attacks.stages.Portfolio",),
        plain=("portfolio", "fgsm"),
    ),
    "refiner": ComponentKind("latentopt.optimizers.Optimizer", ("optimizers",), True, plain=("*",)),
    "operator": ComponentKind("latentopt.operators.Operator", ("operators",), functions=True),
    "loss": ComponentKind("latentopt.objectives.Loss", ("objectives",), functions=True, suffix="Noise"),
    "noise": ComponentKind("latentopt.objectives.NoiseModel", ("objectives",), suffix="Noise", numbers=True),
    "attack_loss": ComponentKind("", ("classification.py",), functions=True, plain=("ce", "margin", "dlr")),
    "prior": ComponentKind(
        "latentopt.inverse.priors.Prior",
        ("inverse/priors.py",),
        aliases={"anywhere": "unconstrained"},
    ),
    "initializer": ComponentKind(
        "latentopt.inverse.initializers.Initializer",
        ("inverse/initializers",),
        plain=("auto",),
        file="latentopt.inverse.initializers.Saved",
    ),
    "training_module": ComponentKind(
        "latentopt.zoo.modules.VAE",
        ("zoo/modules.py", "zoo/classifiers.py", "zoo/architectures.py", "zoo/capped.py"),
        also=("latentopt.zoo.modules.GAN", "latentopt.zoo.classifiers.ClassifierTraining"),
    ),
    "training_data": ComponentKind("latentopt.zoo.data.ImageData", ("zoo/data.py",)),
}
METHODS = "latentopt.optimizers.registry.METHODS"
"""Path of the table of methods, which is above this module."""


@cache
def _index(sources: tuple[str, ...]) -> SourceIndex:
    return SourceIndex(sources)


def short_names(kind: str) -> list[str]:
    """Return the short names of a kind."""
    entry = KINDS[kind]
    names = _imported(METHODS) if entry.methods else _classes(kind) if entry.base else ()
    return list(dict.fromkeys([*(name for name in entry.plain if name != "*"), *names]))


@cache
def _classes(kind: str) -> dict[str, str]:
    """The shipped classes of a kind by short name: their own in lower case, without the name of the kind."""
    entry = KINDS[kind]
    base = entry.base.rpartition(".")[2]
    names = _index(entry.sources).exported_subclasses(base)
    return {name.removesuffix(base).removesuffix(entry.suffix).lower(): name for name in names}


def check(name: str, kind: str, value: Any) -> None:
    """Raise `InputError` where a component is none of its kind, or has unknown, missing or wrong arguments.

    What the source of the package does not tell, such as a network or a class of another package, is built to see.

    Raises:
        LatentOptError: it cannot be built; in one line.
    """
    if not isinstance(value, str | Mapping):
        _require_object(name, kind, value)
    elif not _told_by_source(name, kind, value):
        _built(name, kind, value)


def _require_object(name: str, kind: str, value: Any) -> None:
    """Raise `InputError` where an object is none of its kind."""
    entry = KINDS[kind]
    if entry.numbers and is_number(value):
        nonnegative(name, value)
        return
    if entry.functions and callable(value) and not inspect.isclass(value):
        return
    if isinstance(value, None | bool | int | float | list | tuple | set) or not isinstance(value, _types(entry)):
        objects = [path.rpartition(".")[2] for path in (entry.base, *entry.also) if path]
        objects += ["a function"] * entry.functions + ["a number >= 0"] * entry.numbers
        got = f"the class {value.__name__}" if inspect.isclass(value) else repr(value)[:80]
        raise InputError(name, f"a name, class_path and init_args, or {' or '.join(objects)}", got)


def _told_by_source(name: str, kind: str, value: str | Mapping[str, Any]) -> bool:
    """Return whether the source shows that a component is right; raise `InputError` if it shows that it is wrong."""
    path, arguments = _split(name, kind, value)
    entry, index = KINDS[kind], _index(KINDS[kind].sources)
    if path == entry.file and isinstance(arguments.get("path"), str):
        require_file(arguments["path"], f"a file of {name}s")
    if entry.file and path not in short_names(kind) and is_folder(path):
        raise InputError(name, f"one of {', '.join(short_names(kind))}, or a file", in_quotes(path))
    if "." not in path:
        short = entry.aliases.get(path.lower(), path.lower())
        if short not in short_names(kind):
            known = short_names(kind)
            raise InputError(name, f"one of {', '.join(known)}, or a class path", with_nearest(path, known))
        if short in entry.plain and arguments:
            raise InputError(name, f"no arguments of {short}, which has settings of its own", ", ".join(arguments))
        shipped = index.preset_class(short) if entry.methods else _classes(kind).get(short)
        if shipped is None:
            return not arguments
        return index.check_arguments(name, shipped, arguments, complete=not entry.methods)
    shipped = index.by_path(path)
    if shipped is not None and entry.base:
        bases = [dotted.rpartition(".")[2] for dotted in (entry.base, *entry.also)]
        if not any(index.is_subclass(shipped, base) for base in bases):
            raise InputError(name, f"a class derived from {' or '.join(bases)}", repr(path))
        return index.check_arguments(name, shipped, arguments, complete=True)
    if not may_be_imported(path):
        raise InputError(name, EXPECTED, repr(path))
    return False


def build(name: str, kind: str, value: Any, aliases: Mapping[str, str] | None = None) -> Any:
    """Return the object that a component names; an object is returned as it is.

    Args:
        name: of the argument or setting, for messages.
        kind: a key of `KINDS`.
        value: short name, ``{class_path, init_args}``, class path or object.
        aliases: meanings of short names here, in place of the kind's own.

    Raises:
        InputError: the object is none of its kind.
        LatentOptError: it cannot be built; in one line.

    >>> build("operator", "operator", {"class_path": "downsample", "init_args": {"factor": 2}})
    Downsample(factor=2.0)
    """
    if not isinstance(value, str | Mapping):
        _require_object(name, kind, value)
        return value
    path, arguments = _split(name, kind, value)
    path = (aliases or {}).get(path.lower(), path)
    value = {"class_path": path, "init_args": arguments} if arguments else path
    _told_by_source(name, kind, value)
    return _built(name, kind, value)


def build_each(name: str, kind: str, values: Any) -> tuple[Any, ...]:
    """Return the objects of a list of components, or of one; as `build`."""
    values = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
    return tuple(build(name, kind, value) for value in values)


def _built(name: str, kind: str, value: str | Mapping[str, Any]) -> Any:
    """The object that a component names, which is a name or a class path with arguments."""
    path, arguments = _split(name, kind, value)
    entry = KINDS[kind]
    if "." not in path:
        short = entry.aliases.get(path.lower(), path.lower())
        if short in entry.plain or (entry.plain == ("*",) and not arguments):
            return short
        if entry.methods and not arguments:
            return _imported(METHODS)[short]()
        path, preset = _expanded(kind, short)
        if not arguments and entry.base:
            return _imported(path)()
        arguments = _merged(preset, arguments)
    return _parsed(name, _type_of(entry, path), {"class_path": path, "init_args": arguments} if entry.base else path)


def spell_out(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class path and all arguments of a component, those with defaults too."""
    return _parsed(name, _type_of(KINDS[kind], value["class_path"]), value, instantiate=False)


def _split(name: str, kind: str, value: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name or class path, and the arguments."""
    if isinstance(value, str):
        file = KINDS[kind].file
        is_path = file and Path(value).suffix.lower() in ARRAY_SUFFIXES
        return (file, {"path": value}) if is_path else (value, {})
    path, arguments = value.get("class_path"), value.get("init_args") or {}
    if path is None and isinstance(arguments, Mapping) and arguments:
        raise InputError(name, f"a name beside its arguments ({', '.join(arguments)})", "none")
    if not isinstance(path, str) or not isinstance(arguments, Mapping) or set(value) - {"class_path", "init_args"}:
        raise InputError(name, "a name, or class_path and init_args", repr(dict(value)))
    return path, dict(arguments)


def _expanded(kind: str, short: str) -> tuple[str, dict[str, Any]]:
    """The class path and the arguments that a short name stands for."""
    if not KINDS[kind].methods:
        return f"{KINDS[kind].base.rpartition('.')[0]}.{_classes(kind)[short]}", {}
    spec = describe(_imported(METHODS)[short]())
    return spec["class_path"], spec.get("init_args", {})


def _merged(preset: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a preset with the given ones in their place, merged in components without a class path."""
    merged = dict(preset)
    for key, value in arguments.items():
        inner = merged.get(key)
        if isinstance(value, Mapping) and "class_path" not in value and isinstance(inner, Mapping):
            value = {**inner, "init_args": _merged(inner.get("init_args", {}), value.get("init_args", value))}
        merged[key] = value
    return merged


def _type_of(entry: ComponentKind, path: str) -> Any:
    """Return the type of a class path's object; that of one base alone where it is known, so that errors tell why."""
    if not entry.base:
        return Callable[..., Any]
    index, union = _index(entry.sources), None
    shipped = index.by_path(path)
    for base in (entry.base, *entry.also):
        if shipped is None or index.is_subclass(shipped, base.rpartition(".")[2]):
            union = _imported(base) if union is None else union | _imported(base)
    return union


def _types(entry: ComponentKind) -> tuple[type, ...]:
    """The classes that objects of a kind are derived from."""
    return tuple(_imported(path) for path in (entry.base, *entry.also) if path)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _parsed(name: str, kind: Any, value: Any, instantiate: bool = True) -> Any:
    """An object of a type, or its arguments, parsed by jsonargparse, which imports trusted classes alone."""
    import argparse

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=kind)
    try:
        with only_trusted():
            # a copy, as jsonargparse changes lists of components in place
            parsed = parser.parse_object({name: parse_fractions(value)})
            return parser.instantiate(parsed)[name] if instantiate else parsed[name].as_dict()
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        raise refusal(error) or LatentOptError(str(error)) from error


def describe(value: Any) -> Any:
    """Return an object as ``{class_path, init_args}``, with the arguments its class takes; plain values as they are.

    >>> from latentopt.operators import Downsample
    >>> describe(Downsample(4))
    {'class_path': 'latentopt.operators.Downsample', 'init_args': {'factor': 4}}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {key: describe(item) for key, item in value.items()}
    if (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):  # enough to tell one from another
        return f"tensor of shape {tuple(value.shape)}, sha256 {digest([value])}"
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    kind = type(value)
    arguments = inspect.signature(kind).parameters
    init = {name: describe(getattr(value, name)) for name in arguments if hasattr(value, name)}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", **({"init_args": init} if init else {})}


def digest(tensors: Iterable[Tensor]) -> str:
    """Return a short checksum of the types, shapes and values of tensors."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]
