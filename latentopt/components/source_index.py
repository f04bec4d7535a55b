"""The package's own component classes, read from their source: names, bases, arguments and types, without importing."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from latentopt.components.numbers import parse_number
from latentopt.errors import InputError, with_nearest

PACKAGE = Path(__file__).parents[1]
NUMBERS = {"float": parse_number, "int": int}


@dataclass(frozen=True)
class Parameter:
    """An argument of a class."""

    annotation: ast.expr | None
    required: bool


class SourceIndex:
    """Classes, type aliases and tables of names that some files of the package define.

    Args:
        sources: folders and files, relative to the package.
    """

    def __init__(self, sources: tuple[str, ...]) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.modules: dict[str, str] = {}  # of classes
        self.exports: set[str] = set()
        self.values: dict[str, ast.expr] = {}  # of assignments
        for source in sources:
            path = PACKAGE / source
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                self._read(file, exporting=not path.is_dir())

    def _read(self, file: Path, exporting: bool) -> None:
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            match node:
                case ast.ClassDef(name=name):
                    self.classes[name] = node
                    self.modules[name] = module
                    if exporting and not name.startswith("_"):
                        self.exports.add(name)
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value) if file.name == "__init__.py":
                    self.exports |= set(ast.literal_eval(value)) if isinstance(value, ast.List) else set()
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.values[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.values[name] = value

    def preset_class(self, name: str) -> str | None:
        """Return the class of the method that a name of ``METHODS`` stands for, where its source shows it."""
        entries = self.values["METHODS"]
        assert isinstance(entries, ast.Dict)
        keys = [key.value for key in entries.keys if isinstance(key, ast.Constant)]
        node = entries.values[keys.index(name)] if name in keys else None
        while node is not None:
            match node:
                case (
                    ast.Call(func=ast.Name(id="Preset"), args=[inner, *_])
                    | ast.Lambda(body=inner)
                    | ast.Call(func=inner)
                ):
                    node = inner
                case ast.Attribute(attr=attribute) if attribute in self.classes:
                    return attribute
                case ast.Attribute(value=inner):
                    node = inner
                case _:
                    return None
        return None

    def by_path(self, path: str) -> str | None:
        """Return the class that a path names, by its module or a package that exports it, if it is one of these."""
        home, _, name = path.rpartition(".")
        module = self.modules.get(name, "")
        exported = module.startswith(f"{home}.") and name in _exports(home)
        return name if home and (home == module or exported) else None

    def ancestors(self, name: str) -> Iterator[str]:
        """Yield a class and those it is derived from, as far as they are known."""
        yield name
        for base in self.classes[name].bases if name in self.classes else ():
            yield from self.ancestors(ast.unparse(base))

    def is_subclass(self, name: str, base: str) -> bool:
        return base in self.ancestors(name)

    def exported_subclasses(self, base: str) -> list[str]:
        """Return the public classes derived from one that have no abstract methods of their own, in order."""
        names = sorted(self.exports & set(self.classes))
        derived = [name for name in names if name != base and self.is_subclass(name, base)]
        return [name for name in derived if not self._is_abstract(name)]

    def _is_abstract(self, name: str) -> bool:
        decorators = [
            d for item in self.classes[name].body if isinstance(item, ast.FunctionDef) for d in item.decorator_list
        ]
        return any(ast.unparse(decorator) == "abstractmethod" for decorator in decorators)

    def parameters(self, name: str) -> dict[str, Parameter] | None:
        """Return the arguments of a class; None where its source does not list them all."""
        node = self.classes[name]
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                arguments = [*item.args.posonlyargs, *item.args.args][1:]
                required = len(arguments) - len(item.args.defaults)
                found = {a.arg: Parameter(a.annotation, i < required) for i, a in enumerate(arguments)}
                for a, default in zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True):
                    found[a.arg] = Parameter(a.annotation, default is None)
                return None if item.args.kwarg else found
        found = {}
        for base in reversed(node.bases):
            if isinstance(base, ast.Name) and base.id in self.classes:
                found |= self.parameters(base.id) or {}
        for item in node.body:
            match item:
                case ast.AnnAssign(target=ast.Name(id=field), annotation=annotation, value=value):
                    if "ClassVar" not in ast.unparse(annotation):
                        found[field] = Parameter(annotation, value is None)
        return found

    def check_arguments(self, name: str, kind: str, arguments: Mapping[str, Any], complete: bool) -> bool:
        """Raise `InputError` where arguments of a class are unknown, missing or of another type.

        Args:
            name: of the setting.
            kind: name of the class.
            arguments: as a recipe has them.
            complete: whether those that have no default must be among them.

        Returns:
            Whether the source tells that all fit. Otherwise the arguments are to be parsed before they are trusted.
        """
        parameters = self.parameters(kind)
        if parameters is None:
            return not arguments
        certain = True
        for key, value in arguments.items():
            if key not in parameters:
                expected = f"arguments of {kind} ({', '.join(parameters) or 'none'})"
                raise InputError(name, expected, with_nearest(key, parameters))
            annotation = parameters[key].annotation
            fits = None if annotation is None else self._fits(annotation, value, f"{name}.{key}")
            if annotation is not None and fits is False:
                raise InputError(f"{name}.{key}", ast.unparse(annotation), repr(value))
            certain = certain and fits is True
        missing = [key for key, parameter in parameters.items() if parameter.required and key not in arguments]
        if complete and missing:
            raise InputError(name, f"{', '.join(missing)} of {kind}", "nothing")
        return certain

    def _fits(self, node: ast.expr, value: Any, name: str) -> bool | None:
        """Return whether a value of a recipe has a type; None where that cannot be told from the source."""
        match node:
            case ast.Constant(value=None):
                return value is None
            case ast.BinOp(left=ast.Name(id="Optimizer"), right=ast.Name(id="str")) if isinstance(value, str):
                return True if self.preset_class(value) else None
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return _any_fits([self._fits(left, value, name), self._fits(right, value, name)], value)
            case ast.Name(id="float" | "int" as kind):
                return _is_number(value, kind)
            case ast.Name(id="bool"):
                return isinstance(value, bool)
            case ast.Name(id="str" | "Path"):
                return isinstance(value, str)
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
                return value in (ast.literal_eval(inner) if isinstance(inner, ast.Tuple) else [ast.literal_eval(inner)])
            case ast.Subscript(value=ast.Name(id="tuple" | "list" | "Sequence"), slice=inner):
                return self._all_fit(inner, value, name) if isinstance(value, list | tuple) else False
            case ast.Name(id=alias) if alias in self.values and alias not in self.classes:
                return self._fits(self.values[alias], value, name)
            case ast.Name() | ast.Attribute() if isinstance(value, Mapping):
                return self._class_fits(ast.unparse(node), value, name)
        return None

    def _class_fits(self, base: str, value: Mapping[str, Any], name: str) -> bool | None:
        """Return whether a mapping gives an object of a class: a class path with arguments, or arguments alone."""
        path, arguments = value.get("class_path"), value.get("init_args") or {}
        if path is None and base in self.classes and not set(value) & {"init_args", "dict_kwargs"}:
            return self.check_arguments(name, base, value, complete=False) or None
        kind = self.by_path(path) if isinstance(path, str) else None
        if kind is None or not isinstance(arguments, Mapping) or set(value) - {"class_path", "init_args"}:
            return None
        if not self.is_subclass(kind, base):
            return False if base in self.classes else None
        return self.check_arguments(name, kind, arguments, complete=True) or None

    def _all_fit(self, node: ast.expr, values: list[Any] | tuple[Any, ...], name: str) -> bool | None:
        kinds = node.elts if isinstance(node, ast.Tuple) else [node]
        if len(kinds) == 1 or isinstance(kinds[-1], ast.Constant):  # a list, or a tuple of any length
            kinds = [kinds[0]] * len(values)
        if len(kinds) != len(values):
            return False
        fits = [self._fits(kind, value, name) for kind, value in zip(kinds, values, strict=True)]
        return False if False in fits else None if None in fits else True


def _any_fits(fits: list[bool | None], value: Any) -> bool | None:
    """Return whether a value has one of some types; a class path may also pass for text."""
    if True in fits and (None not in fits or not (isinstance(value, str) and "." in value)):
        return True
    return None if None in fits else False


@cache
def _exports(package: str) -> frozenset[str]:
    """The names that a package gives away, by its stub or its ``__all__``."""
    folder = PACKAGE.parent.joinpath(*package.split("."))
    stub, init = folder / "__init__.pyi", folder / "__init__.py"
    names = set[str]()
    for node in ast.parse((stub if stub.is_file() else init).read_text(encoding="utf-8")).body:
        match node:
            case ast.ImportFrom(names=imported) if stub.is_file():
                names |= {alias.asname or alias.name for alias in imported}
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() as value):
                names |= set(ast.literal_eval(value))
    return frozenset(names)


def _is_number(value: Any, kind: str) -> bool:
    if isinstance(value, str):  # YAML takes 1e-3 for text
        try:
            NUMBERS[kind](value)
        except ValueError:
            return False
        return True
    return not isinstance(value, bool) and isinstance(value, int | float if kind == "float" else int)
