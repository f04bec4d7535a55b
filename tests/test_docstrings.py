"""The contract of public docstrings: one plain sentence first, then arguments, what is returned and what is raised."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import latentopt as lo
from latentopt import gates, metrics, objectives, operators, optimizers, sets
from latentopt.inverse import initializers, priors
from latentopt.solver import callbacks

ROOMS = (callbacks, gates, initializers, metrics, objectives, operators, optimizers, priors, sets)
ELLIPTIC = re.compile(r"^(What|Of|Whether|How|Where|Whose|So|That|Those|Which|When)\b")
"""First words of a docstring that is no sentence of its own."""


def public() -> Iterator[tuple[str, Any]]:
    """Every public class and function, by its name."""
    seen = set[int]()
    for room in (lo, *ROOMS):
        names = getattr(room, "__all__", None) or [name for name in vars(room) if not name.startswith("_")]
        for name in names:
            value = getattr(room, name)
            home = getattr(value, "__module__", "") or ""
            documented = inspect.isclass(value) or inspect.isfunction(value)
            if documented and home.startswith(room.__name__) and id(value) not in seen:
                seen.add(id(value))
                yield f"{room.__name__}.{name}", value


PUBLIC = dict(public())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
METHODS = {
    f"{name}.{attribute}": getattr(owner, attribute)
    for name, owner in CLASSES.items()
    for attribute, value in vars(owner).items()
    if not attribute.startswith("_") and attribute not in ("close", "take")  # protocols, described where they are used
    if inspect.isfunction(value) or isinstance(value, classmethod | property)
}


SOURCES = {
    node.name: "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    for text in (path.read_text(encoding="utf-8") for path in Path(lo.__file__).parent.rglob("*.py"))
    for node in ast.parse(text).body
    if isinstance(node, ast.ClassDef)
}
"""The source of each class by its name, which is unique."""


def sections(value: Any) -> dict[str, str]:
    """The parts of a docstring: "" for what comes before the first heading, then by heading."""
    text = inspect.getdoc(value) or ""
    parts = re.split(r"^(Args|Attributes|Returns|Yields|Raises|Warns):\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(value: Any) -> set[str]:
    """The names in a docstring's Args, and those it explains in its text as ``name``."""
    entries = re.findall(r"^    (\*{0,2}\w[\w, *`]*?)(?: \([^)]*\))?:", sections(value).get("Args", ""), re.MULTILINE)
    mentioned = re.findall(r"``?(\w+)", sections(value)[""])
    return {name.strip(" *`") for entry in entries for name in entry.split(",")} | set(mentioned)


def parameters(value: Any) -> set[str]:
    """Its parameters by name; ``*args`` and ``**kwargs`` are those of a class without a constructor."""
    return {
        p.name for p in inspect.signature(value).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_the_first_line_is_one_sentence(name):
    first = (inspect.getdoc({**PUBLIC, **METHODS}[name]) or "").split("\n")[0]
    assert first[:1].isupper() or first[:1] in "`(|", "a sentence"
    assert first.endswith((".", ":")), "on one line, with its full stop"
    assert not ELLIPTIC.match(first), "with its subject first"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_describes_its_arguments_and_what_it_returns(name):
    function, text = FUNCTIONS[name], sections(FUNCTIONS[name])
    assert parameters(function) - described(function) == set()
    returned = inspect.signature(function).return_annotation
    if len(parameters(function)) > 1 and returned not in (None, "None"):
        assert "Returns" in text or re.match(r"Return\b|Yield\b|Context\b", text[""])


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_describes_its_arguments(name):
    owner = CLASSES[name]
    if issubclass(owner, BaseException) or inspect.isabstract(owner) or hasattr(owner, "_member_map_"):
        return
    source = SOURCES[owner.__name__]
    commented = set(re.findall(r"^    (\w+): .*#", source, re.MULTILINE))
    commented |= set(re.findall(r'^    (\w+): .*\n    """', source, re.MULTILINE))
    inherited = set[str]().union(*(described(parent) for parent in owner.__mro__[:-1] if parent.__doc__))
    assert parameters(owner) - inherited - commented == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_refuses_input_says_when(name):
    source = inspect.getsource(FUNCTIONS[name])
    if "raise InputError" in source or re.search(r"\b(positive|nonnegative)\(", source):
        assert "Raises" in sections(FUNCTIONS[name])
