"""Reads constants and types out of Python source by its syntax tree; nothing is imported or run."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Frame = Mapping[str, list[ast.AST]]

_DEPTH = 60  # of nested expressions and names that lead to names
_COLLECTIONS = ("list", "tuple", "set", "frozenset", "sorted")
_GROWING = ("append", "add", "extend", "update")


class _Unknown(Exception):
    """An expression whose value cannot be told without running it."""


@dataclass(frozen=True)
class ClassRef:
    """A class that an expression names."""

    scope: Scope
    node: ast.ClassDef


@dataclass(frozen=True)
class FunctionRef:
    """A function that an expression names."""

    scope: Scope
    node: ast.FunctionDef


@dataclass
class Sources:
    """The sources of a package, parsed when they are first asked for.

    Args:
        package: what they belong to, for messages: "sglang 0.5.23".
        texts: path inside site-packages -> source.
    """

    package: str
    texts: Mapping[str, str]
    _trees: dict[str, ast.Module] = field(default_factory=dict)
    _frames: dict[int, Frame] = field(default_factory=dict)
    _values: dict[tuple[int, str], Any] = field(default_factory=dict)

    def scope(self, path: str) -> Scope:
        """The names of the module at `path`.

        Raises:
            DeployError: the file is missing, or is no Python.
        """
        if path not in self._trees:
            self._trees[path] = self._parse(path)
        return Scope(self, path, (self.frame(self._trees[path]),))

    def frame(self, owner: ast.Module | ast.ClassDef | ast.FunctionDef) -> Frame:
        """What is bound by the statements of a module, class or function, each name to its statements."""
        if id(owner) not in self._frames:
            self._frames[id(owner)] = _bindings(owner.body)
        return self._frames[id(owner)]

    def body(self, path: str) -> list[ast.stmt]:
        """The statements of the module at `path`; raises as `scope` does."""
        self.scope(path)
        return self._trees[path].body

    def _parse(self, path: str) -> ast.Module:
        text = self.texts.get(path)
        if text is None:
            raise DeployError(f"{self.package} has no {path}", "install that version again")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the engine's escape sequences are not ours to complain about
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line}: {getattr(error, 'msg', error)})" if line else ""
            raise DeployError(
                f"{path} of {self.package} is no Python that this interpreter reads{where}",
                "install that version again, or let a newer Python read it",
            ) from None


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: its file, and the frames in which its names are looked up, innermost first."""

    sources: Sources
    path: str
    frames: tuple[Frame, ...]
    bound: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    def inside(self, owner: ast.ClassDef | ast.FunctionDef) -> Scope:
        """The scope of a class's or function's body."""
        return replace(self, frames=(self.sources.frame(owner), *self.frames))

    def binding(self, names: Mapping[str, Any]) -> Scope:
        """The same scope, with names that have these values (the variables of a loop)."""
        return replace(self, bound={**self.bound, **names})

    def value(self, node: ast.AST | None, default: Any = None) -> Any:
        """The value of an expression: constants, lists (tuples and sets too), dicts, ClassRef or FunctionRef.

        Returns:
            `default` where the value cannot be told without running the code.
        """
        try:
            return default if node is None else _value(node, self)
        except _Unknown:
            return default

    def text(self, node: ast.AST | None) -> str:
        """The text of an expression on one line, with … for the parts that cannot be told."""
        return " ".join(_text(node, self).split())

    def statements(self, name: str) -> list[ast.AST]:
        """The statements of the innermost frame that binds `name`."""
        return next((list(frame[name]) for frame in self.frames if name in frame), [])


def _bindings(body: Iterable[ast.stmt]) -> dict[str, list[ast.AST]]:
    found: dict[str, list[ast.AST]] = {}
    for statement in body:
        for name in _bound_names(statement):
            found.setdefault(name, []).append(statement)
        if not isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for nested in nested_bodies(statement):
                for name, statements in _bindings(nested).items():
                    found.setdefault(name, []).extend(statements)
    return found


def nested_bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of statements in an if, for, while, with or try."""
    for part in ("body", "orelse", "finalbody"):
        yield getattr(statement, part, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body


def _bound_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        return [statement.target.id] if isinstance(statement.target, ast.Name) and statement.value else []
    if isinstance(statement, ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    grown = _grown(statement)
    return [grown[0]] if grown else []


def _grown(statement: ast.AST) -> tuple[str, str, ast.expr] | None:
    """Name, method and argument of a statement such as `CHOICES.append("x")`."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in _GROWING
        and isinstance(call.func.value, ast.Name)
        and len(call.args) == 1
    ):
        return call.func.value.id, call.func.attr, call.args[0]
    return None


def _value(node: ast.AST, scope: Scope) -> Any:
    if scope.depth > _DEPTH:
        raise _Unknown
    scope = replace(scope, depth=scope.depth + 1)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [value for item in node.elts for value in _elements(item, scope)]
    if isinstance(node, ast.Dict):
        # The values may be classes of files that are not there; whoever looks at the keys does not need them.
        return {_hashable(_value(key, scope)): scope.value(value) for key, value in _pairs(node)}
    if isinstance(node, ast.JoinedStr):
        return "".join(_formatted(part, scope) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.BitOr)):
        return _joined(_value(node.left, scope), _value(node.right, scope))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _negative(_value(node.operand, scope))
    if isinstance(node, ast.Name):
        return _named(node.id, scope)
    if isinstance(node, ast.Attribute):
        return _attribute(_value(node.value, scope), node.attr)
    if isinstance(node, ast.Call):
        return _called(node, scope)
    if isinstance(node, ast.ListComp) and len(node.generators) == 1:
        return _comprehended(node, scope)
    raise _Unknown


def _pairs(node: ast.Dict) -> Iterator[tuple[ast.expr, ast.expr]]:
    for key, value in zip(node.keys, node.values):
        if key is None:
            raise _Unknown
        yield key, value


def _hashable(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise _Unknown


def _elements(item: ast.expr, scope: Scope) -> list[Any]:
    return _iterated(_value(item.value, scope)) if isinstance(item, ast.Starred) else [_value(item, scope)]


def _formatted(part: ast.expr, scope: Scope) -> str:
    value = _value(part.value if isinstance(part, ast.FormattedValue) else part, scope)
    if not isinstance(value, str) or (isinstance(part, ast.FormattedValue) and part.format_spec):
        raise _Unknown
    return value


def _joined(left: Any, right: Any) -> Any:
    if isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    raise _Unknown


def _negative(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return -value
    raise _Unknown


def _iterated(value: Any) -> list[Any]:
    if isinstance(value, (list, dict)):
        return list(value)
    if isinstance(value, ClassRef) and is_enum(value.node):
        return enum_values(value)
    raise _Unknown


def _comprehended(node: ast.ListComp, scope: Scope) -> list[Any]:
    (generator,) = node.generators
    if generator.ifs or not isinstance(generator.target, ast.Name):
        raise _Unknown
    name = generator.target.id
    return [_value(node.elt, scope.binding({name: item})) for item in _iterated(_value(generator.iter, scope))]


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, ClassRef):
        scope = owner.scope.inside(owner.node)
        if name in scope.frames[0]:
            return _named(name, scope)
    if name == "value" and isinstance(owner, (str, int)):  # a member of an enum stands for its value here
        return owner
    raise _Unknown


def _called(node: ast.Call, scope: Scope) -> Any:
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "copy") and not node.args:
        value = _value(node.func.value, scope)
        return list(value) if isinstance(value, dict) and node.func.attr == "keys" else value
    if isinstance(node.func, ast.Name) and node.func.id in _COLLECTIONS and len(node.args) == 1:
        return _iterated(_value(node.args[0], scope))
    function = _value(node.func, scope)
    if not isinstance(function, FunctionRef) or node.args or node.keywords:
        raise _Unknown
    # A function without arguments whose last word is a return: earlier returns are the same list from elsewhere
    # (`_reasoning_parser_choices` of SGLang 0.5.23 asks first what is imported already).
    last = function.node.body[-1]
    if not isinstance(last, ast.Return) or last.value is None:
        raise _Unknown
    return _value(last.value, replace(function.scope.inside(function.node), depth=scope.depth))


def _named(name: str, scope: Scope) -> Any:
    if name in scope.bound:
        return scope.bound[name]
    for index, frame in enumerate(scope.frames):
        if name in frame:
            return _remembered(name, replace(scope, frames=scope.frames[index:]))
    raise _Unknown


def _remembered(name: str, scope: Scope) -> Any:
    values, key = scope.sources._values, (id(scope.frames[0]), name)
    if key in values:
        value = values[key]
    else:
        values[key] = _Unknown  # a name that is defined by itself
        with contextlib.suppress(_Unknown):
            values[key] = _bound_value(name, scope)
        # What hangs on a loop's variable has another value the next time round.
        value = values.pop(key) if scope.bound else values[key]
    if value is _Unknown:
        raise _Unknown
    return value


def _bound_value(name: str, scope: Scope) -> Any:
    """The value of a name, all its statements together: which branch runs is not known, so lists are united."""
    values = [_statement_value(name, statement, scope) for statement in scope.frames[0][name]]
    if len(values) == 1:
        return values[0]
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    raise _Unknown


def _statement_value(name: str, statement: ast.AST, scope: Scope) -> Any:
    if isinstance(statement, ast.ClassDef):
        return ClassRef(scope, statement)
    if isinstance(statement, ast.FunctionDef):
        return FunctionRef(scope, statement)
    if isinstance(statement, ast.ImportFrom):
        return _imported(name, statement, scope)
    grown = _grown(statement)
    if grown is not None:
        value = _value(grown[2], scope)
        return [value] if grown[1] in ("append", "add") else _iterated(value)
    node = getattr(statement, "value", None)
    if node is None:
        raise _Unknown
    return _value(node, scope)


def _imported(name: str, statement: ast.ImportFrom, scope: Scope) -> Any:
    original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
    for path in imported_paths(statement, scope.path):
        if path in scope.sources.texts:
            try:
                there = scope.sources.scope(path)
            except DeployError:  # choices are worth less than the options themselves
                raise _Unknown from None
            return _named(original, replace(there, depth=scope.depth + 1))
    raise _Unknown


def imported_paths(statement: ast.ImportFrom, path: str) -> tuple[str, str]:
    """Where the module of a `from … import` may lie, for a statement in the file at `path`."""
    folders = path.split("/")[: -statement.level] if statement.level else []
    module = "/".join([*folders, *(statement.module or "").split(".")]).rstrip("/")
    return f"{module}.py", f"{module}/__init__.py"


def _text(node: ast.AST | None, scope: Scope, depth: int = 0) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, scope, depth + 1) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and depth < _DEPTH:
        return _text(node.left, scope, depth + 1) + _text(node.right, scope, depth + 1)
    value = scope.value(node, "" if node is None else "…")
    return value if isinstance(value, str) else "…"


def dotted(node: ast.AST | None) -> str:
    """The last name of `a.b.c`, '' for what is no name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_enum(node: ast.ClassDef) -> bool:
    """Whether a class is an enumeration, by the names of its bases."""
    return any(dotted(base).endswith("Enum") for base in node.bases)


def enum_values(ref: ClassRef) -> list[Any]:
    """The values of an enumeration's members.

    Returns:
        empty where one of them cannot be told.
    """
    nodes = [node.value for node in ref.node.body if isinstance(node, ast.Assign)]
    values = [ref.scope.value(node) for node in nodes]
    return [] if None in values else values


def union_members(node: ast.expr) -> list[ast.expr]:
    """The types of `Optional[X]`, `Union[X, Y]` or `X | Y`, without None; a type alone for what is no union."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Subscript) and dotted(node.value) in ("Optional", "Union"):
        parts = arguments(node)
    else:
        return [] if isinstance(node, ast.Constant) and node.value is None else [node]
    return [member for part in parts for member in union_members(part)]


def arguments(node: ast.AST) -> list[ast.expr]:
    """X and Y of `Type[X, Y]`, nothing for what has no brackets."""
    inner = node.slice if isinstance(node, ast.Subscript) else ast.Tuple([], ast.Load())
    return list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
