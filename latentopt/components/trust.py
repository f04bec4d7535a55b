"""Guards the classes that a card or a recipe may name, before any import, as importing a module runs it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any

from latentopt.errors import InputError

VARIABLE = "LATENTOPT_TRUST"
PACKAGES = {
    "latentopt": "latentopt",
    "torch.distributions": "torch.distributions",
    "torch.nn": "torch.nn.modules",
    "torchvision.models": "torchvision.models",
}
"""Allowed beginnings of a class path, and the package that must define the class."""
CODE = (("torch.fx.graph_module", "GraphModule"), ("torch.jit._script", "ScriptModule"))
"""Modules whose arguments are programs, like those of the classes derived from them."""
EXPECTED = (
    f"a class of {', '.join(PACKAGES)}, or of a package of yours that the environment variable {VARIABLE} names, as"
    " building it runs its code"
)
_added: set[str] = set()
_refused: ContextVar[list[InputError] | None] = ContextVar("refused", default=None)
"""Refusals inside `only_trusted`; None outside."""


def trust(*packages: str) -> None:
    """Allow cards and recipes to name classes and functions of your own packages.

    Args:
        packages: dotted names, such as ``"my_package"``, each with all packages below it. The environment variable
            ``LATENTOPT_TRUST`` holds such names too, with commas between them.

    Raises:
        InputError: a name is no dotted identifier.

    >>> trust("my_package")
    """
    for package in packages:
        if not _is_dotted(package):
            raise InputError("packages", "dotted names of packages", repr(package))
    _added.update(packages)


def trusted() -> tuple[str, ...]:
    """Return the user's trusted packages; invalid names in the environment variable are ignored."""
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return (*sorted(_added), *(name for name in named if _is_dotted(name)))


def require_trusted(name: str, path: str, kind: str = "class_path") -> None:
    """Raise `InputError` unless ``name``, the start of a path, is a trusted package, or in one."""
    if not any(_within(name, package) for package in trusted()):
        raise InputError(kind, f"one that {VARIABLE} names, as importing it runs its code", repr(path))


def require_trusted_environment(name: str) -> None:
    """Raise `InputError` where an environment is a ``module:name`` whose module is not trusted."""
    module, colon, _ = name.rpartition(":")
    if colon:
        require_trusted(module, name, "env")


@contextmanager
def only_trusted() -> Iterator[None]:
    """Make jsonargparse import only trusted classes for parsed values, in this thread or task.

    Raises:
        InputError: a value names another object, or this version of jsonargparse cannot be guarded.
    """
    _guard()
    refused: list[InputError] = []
    token = _refused.set(refused)
    try:
        yield
    except Exception as error:  # jsonargparse reports each type of a union, and drops the causes
        if refused and refusal(error) is None:
            raise refused[0] from error
        raise
    finally:
        _refused.reset(token)


def refusal(error: BaseException) -> InputError | None:
    """Return the first `InputError` among an error and its causes, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _guard() -> None:
    """Wrap every import that jsonargparse makes for a parsed value, once."""
    import jsonargparse._actions
    import jsonargparse._typehints

    modules = [module for name, module in list(sys.modules.items()) if name.startswith("jsonargparse.")]
    places = [module for module in modules if "import_object" in vars(module) and module.__name__[-5:] != "_util"]
    if not {"jsonargparse._actions", "jsonargparse._typehints"} <= {place.__name__ for place in places}:
        raise InputError("jsonargparse", "a version whose imports can be guarded", jsonargparse.__version__)
    for place in places:
        known: Any = vars(place)["import_object"]
        if not (isinstance(known, partial) and known.func is _import):
            vars(place)["import_object"] = partial(_import, known)


def _import(plainly: Callable[..., Any], path: Any, *args: Any, **options: Any) -> Any:
    """Import the object of a path by ``plainly``; for a parsed value only if it is trusted."""
    refused = _refused.get()
    if refused is None or options.get("check_path") is False or args[:1] == (False,):  # of code, not of a value
        return plainly(path, *args, **options)
    if not isinstance(path, str) or "." not in path or not _is_dotted(path):
        raise ValueError(f"{path!r} is no class path")
    if may_be_imported(path):
        value = plainly(path, check_path=False)  # replaces jsonargparse's own deny list
        if _may_be_named(value):
            return value
    refused.append(InputError("class_path", EXPECTED, repr(path)))
    raise refused[-1]


def may_be_imported(path: str) -> bool:
    runs = "__main__" in path.split(".")[1:]  # the command line of a package, not a class
    return not runs and any(_within(path, package) for package in (*PACKAGES, *trusted()))


def import_class(path: str) -> type:
    """Import the class that a card or a recipe names, if it is trusted.

    Raises:
        InputError: it is not trusted, or there is no such class.
    """
    module, _, name = path.rpartition(".")
    if not _is_dotted(path) or not may_be_imported(path):
        raise InputError("class_path", EXPECTED, repr(path))
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError("class_path", "a class that can be imported", f"{path!r} ({error})") from error
    if not inspect.isclass(value) or not _may_be_named(value):
        raise InputError("class_path", EXPECTED, repr(path))
    return value


def _may_be_named(value: Any) -> bool:
    """Return whether a trusted package defines a value; a path such as ``a.b.os.system`` may lead to another."""
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and any(_within(home, package) for package in trusted()):
        return inspect.isclass(value) or inspect.isroutine(value)
    if not inspect.isclass(value) or not any(_within(value.__module__, package) for package in PACKAGES.values()):
        return False
    return not any((base.__module__, base.__qualname__) in CODE for base in value.__mro__)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
