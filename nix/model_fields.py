"""The fields of pydantic models, dataclasses and typed dicts, read from the source of wheels.

Nothing is imported: an engine's package needs torch. Names in annotations are followed through
imports and aliases, also into other wheels.
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


class ModelError(Exception):
    """A class is not where it is looked for."""


@dataclass(frozen=True)
class Model:
    """One class: its fields, each with the classes that its annotation leads to.

    `tags` are the texts that a field may only have: {"type": ("text",)}.
    """

    name: str
    fields: dict[str, tuple[Model, ...]] = field(compare=False)
    tags: dict[str, tuple[str, ...]] = field(compare=False)


class Sources:
    """The modules of some wheels or folders, of which the first that has a module counts."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._wheels = [zipfile.ZipFile(path) for path in paths]
        self._names = [set(wheel.namelist()) for wheel in self._wheels]
        self.module = cache(self._module)
        self._models: dict[tuple[str, str], Model] = {}

    def model(self, module: str, name: str) -> Model:
        """The class of this name, with all that it leads to. Raises ModelError."""
        found = list(self._of_name(module, name, frozenset()))
        if len(found) != 1:
            raise ModelError(f"{module} has no class {name}")
        return found[0]

    def _module(self, name: str) -> tuple[ast.Module, bool] | None:
        """The module's tree, and whether it is a package."""
        path = name.replace(".", "/")
        for wheel, names in zip(self._wheels, self._names, strict=True):
            for file, is_package in ((f"{path}.py", False), (f"{path}/__init__.py", True)):
                if file in names:
                    return ast.parse(wheel.read(file)), is_package
        return None

    def _of_name(self, module: str, name: str, seen: frozenset[str]) -> Iterator[Model]:
        """The classes that a name of a module stands for: none for one of no known wheel."""
        known = self.module(module)
        key = f"{module}:{name}"
        if known is None or key in seen:
            return
        tree, is_package = known
        for node in _statements(tree.body):
            match node:
                case ast.ClassDef(name=found) if found == name:
                    yield self._class(module, node)
                    return
                case (
                    ast.Assign(targets=[ast.Name(id=found)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value)
                ) if found == name:
                    yield from self._of_expression(module, value, seen | {key})
                    return
                case ast.ImportFrom(names=names):
                    for alias in names:
                        if (alias.asname or alias.name) == name:
                            origin = _origin(module, node, is_package=is_package)
                            yield from self._of_name(origin, alias.name, seen | {key})
                            return

    def _of_expression(
        self, module: str, expression: ast.expr, seen: frozenset[str]
    ) -> Iterator[Model]:
        match expression:
            case ast.Name(id=name):
                yield from self._of_name(module, name, seen)
            case ast.Attribute(value=ast.Name(id=package), attr=name):
                yield from self._of_name(self._imported(module, package), name, seen)
            case ast.Constant(value=str(text)):
                yield from self._of_expression(module, _parsed(text), seen)
            case ast.Subscript(value=ast.Name(id="Literal")):
                pass
            case ast.Subscript(value=value, slice=inner):
                yield from self._of_expression(module, value, seen)
                yield from self._of_expression(module, inner, seen)
            case ast.BinOp(left=left, right=right):
                yield from self._of_expression(module, left, seen)
                yield from self._of_expression(module, right, seen)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                for item in items:
                    yield from self._of_expression(module, item, seen)

    def _imported(self, module: str, package: str) -> str:
        known = self.module(module)
        for node in _statements(known[0].body) if known else ():
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == package:
                        origin = _origin(module, node, is_package=bool(known and known[1]))
                        return f"{origin}.{alias.name}"
        return package

    def _class(self, module: str, node: ast.ClassDef) -> Model:
        key = (module, node.name)
        if key in self._models:
            return self._models[key]
        # Known before its fields are: a class may lead to itself.
        model = self._models[key] = Model(node.name, {}, {})
        for base in node.bases:
            for parent in self._of_expression(module, base, frozenset()):
                model.fields.update(parent.fields)
                model.tags.update(parent.tags)
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            written = ast.unparse(item.annotation)
            if item.target.id.startswith("_") or written.startswith("ClassVar"):
                continue
            name = _alias(item.value) or item.target.id
            found = self._of_expression(module, item.annotation, frozenset())
            model.fields[name] = tuple({id(each): each for each in found}.values())
            if tags := _literals(item.annotation):
                model.tags[name] = tags
        return model


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's statements, also those that only a type checker runs."""
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _statements(node.body)
            yield from _statements(node.orelse)
        else:
            yield node


def _origin(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    """The whole name of the module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return ast.Constant(value=None)


def _alias(value: ast.expr | None) -> str:
    """The name on the wire that `Field(alias="schema")` gives."""
    for keyword in value.keywords if isinstance(value, ast.Call) else ():
        if keyword.arg == "alias" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return ""


def _literals(annotation: ast.expr) -> tuple[str, ...]:
    """The texts of `Literal["a", "b"]` and of `Required[Literal["a"]]`; nothing for others."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="Required"), slice=inner):
            return _literals(inner)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=str(text))):
            return (text,)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=items)):
            return tuple(str(item.value) for item in items if isinstance(item, ast.Constant))
    return ()
