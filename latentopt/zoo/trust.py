"""Which classes a card or a recipe may name: checked before anything is imported, as importing a module runs it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from latentopt.errors import InputError

VARIABLE = "LATENTOPT_TRUST"
PACKAGES = {"latentopt": "latentopt", "torch.nn": "torch.nn.modules", "torchvision.models": "torchvision.models"}
"""What a class path may begin with, and the package that the class must then be defined in."""
CODE = (("torch.fx.graph_module", "GraphModule"), ("torch.jit._script", "ScriptModule"))
"""Modules whose arguments are programs; so are those of the classes derived from them."""
EXPECTED = (
    f"a class of {', '.join(PACKAGES)}, or of a package of yours that the environment variable {VARIABLE} names, as"
    " building it runs its code"
)
_added: set[str] = set()
_refused: ContextVar[list[InputError] | None] = ContextVar("refused", default=None)
"""What was refused within `only_trusted`; None outside."""


def trust(*packages: str) -> None:
    """Let cards and recipes name the classes, and where a function is wanted the functions, of your own packages.

    Args:
        packages: dotted names, such as ``"my_package"``; all that lies under one is trusted. The environment variable
            ``LATENTOPT_TRUST`` holds such names too, with commas between them.

    Raises:
        InputError: a name is not dotted words.

    >>> trust("my_package")
    """
    for package in packages:
        if not _is_dotted(package):
            raise InputError("packages", "dotted names of packages", repr(package))
    _added.update(packages)


def trusted() -> tuple[str, ...]:
    """The user's own packages that are trusted; what is no name in the environment variable is passed over."""
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return (*sorted(_added), *(name for name in named if _is_dotted(name)))


def require_trusted(name: str, path: str, kind: str = "class_path") -> None:
    """Raise `InputError` unless ``name``, the start of a path, is a trusted package, or in one."""
    if not any(_within(name, package) for package in trusted()):
        raise InputError(kind, f"one that {VARIABLE} names, as importing it runs its code", repr(path))


@contextmanager
def only_trusted() -> Iterator[None]:
    """Within, in this thread or task, jsonargparse imports for the values that it parses only what is trusted.

    Raises:
        InputError: a value names something else, or jsonargparse is of a version that cannot be guarded.
    """
    _guard()
    refused: list[InputError] = []
    token = _refused.set(refused)
    try:
        yield
    except Exception as error:  # jsonargparse says what it thinks of each type of a union, and drops the causes
        if refused and refusal(error) is None:
            raise refused[0] from error
        raise
    finally:
        _refused.reset(token)


def refusal(error: BaseException) -> InputError | None:
    """The first cause of an error that the package itself raised."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _guard() -> None:
    """Put the check in front of every import that jsonargparse makes for a parsed value, once."""
    import jsonargparse._actions
    import jsonargparse._typehints

    modules = [module for name, module in list(sys.modules.items()) if name.startswith("jsonargparse.")]
    places = [module for module in modules if "import_object" in vars(module) and module.__name__[-5:] != "_util"]
    if not {"jsonargparse._actions", "jsonargparse._typehints"} <= {place.__name__ for place in places}:
        raise InputError("jsonargparse", "a version whose imports can be guarded", jsonargparse.__version__)
    for place in places:
        known: Any = vars(place)["import_object"]
        if not (isinstance(known, partial) and known.func is _imported):
            vars(place)["import_object"] = partial(_imported, known)


def _imported(plainly: Callable[..., Any], path: Any, *args: Any, **options: Any) -> Any:
    """What a path names, imported by ``plainly``; a class that may be named, where the path is a parsed value."""
    refused = _refused.get()
    if refused is None or options.get("check_path") is False or args[:1] == (False,):  # of code, not of a value
        return plainly(path, *args, **options)
    if not isinstance(path, str) or "." not in path or not _is_dotted(path):
        raise ValueError(f"{path!r} is no class path")
    if may_be_imported(path):
        found = plainly(path, check_path=False)  # its own list of what is denied is not needed
        if _may_be_named(found):
            return found
    refused.append(InputError("class_path", EXPECTED, repr(path)))
    raise refused[-1]


def may_be_imported(path: str) -> bool:
    runs = "__main__" in path.split(".")[1:]  # the command line of a package, not a class
    return not runs and any(_within(path, package) for package in (*PACKAGES, *trusted()))


def _may_be_named(found: Any) -> bool:
    """Where it is defined decides: a module has what it imports as attributes, so ``a.b.os.system`` leads anywhere."""
    home = getattr(found, "__module__", None)
    if isinstance(home, str) and any(_within(home, package) for package in trusted()):
        return inspect.isclass(found) or inspect.isroutine(found)
    if not inspect.isclass(found) or not any(_within(found.__module__, package) for package in PACKAGES.values()):
        return False
    return not any((base.__module__, base.__qualname__) in CODE for base in found.__mro__)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
