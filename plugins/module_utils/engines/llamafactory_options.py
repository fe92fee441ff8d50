"""Which options a LLaMA-Factory version knows, and its templates, read from its sources without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import (
    Option,
    OptionTable,
    one_option_a_flag,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines.python_source import (
    ClassRef,
    Scope,
    Sources,
    arguments,
    dotted,
    enum_values,
    imported_paths,
    is_enum,
    union_members,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

PARSER = "llamafactory/hparams/parser.py"
TEMPLATE = "llamafactory/data/template.py"
SOURCES = (PARSER, "llamafactory/hparams/*_args.py", "llamafactory/extras/constants.py", TEMPLATE)

_TYPES = ("str", "int", "float", "bool")


def read_options(sources: Mapping[str, str], version: str) -> OptionTable:
    """The options of `llamafactory.cli api`: the fields of the dataclasses in `hparams.parser._INFER_ARGS`.

    The `--no_x` forms of booleans that are on by default are left out: they stand alone, and the inventory's way to say
    the same is `x: false`.

    Args:
        sources: path inside site-packages -> source, of the files that match `SOURCES`.
        version: of LLaMA-Factory, for the table and for messages.
    Raises:
        DeployError: a file that declares options is missing, is no Python, or is laid out in a way not known here.
    """
    package = Sources(f"llamafactory {version}", sources)
    try:
        options = [option for ref in _infer_classes(package) for option in _fields(ref)]
    except RecursionError:
        raise DeployError(f"{package.package} nests its options too deeply to read", "install it again") from None
    return OptionTable("llamafactory", version, one_option_a_flag(options))


def read_template_defaults(sources: Mapping[str, str]) -> dict[str, str]:
    """The templates of LLaMA-Factory, and the system prompt that each puts in where a request has none.

    Args:
        sources: as for `read_options`; only `TEMPLATE` is read.
    Returns:
        template -> default system prompt, '' where it has none. A template whose prompt the source does not write out
        is left out.
    Raises:
        DeployError: the file is missing, or is no Python.
    """
    package = Sources("llamafactory", sources)
    scope = package.scope(TEMPLATE)
    calls = [
        node
        for statement in package.body(TEMPLATE)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and dotted(node.func) == "register_template"
    ]
    defaults = {}
    for call in calls:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        name = scope.value(call.args[0] if call.args else given.get("name"))
        default = scope.value(given["default_system"]) if "default_system" in given else ""
        if isinstance(name, str) and isinstance(default, str):
            defaults[name] = default
    return defaults


def _infer_classes(package: Sources) -> list[ClassRef]:
    scope = package.scope(PARSER)
    values = [node.value for node in scope.statements("_INFER_ARGS") if isinstance(node, ast.Assign)]
    names = [name for value in values if isinstance(value, ast.List) for name in value.elts]
    for name in names:
        _require_import(dotted(name), scope)
    classes = [ref for ref in map(scope.value, names) if isinstance(ref, ClassRef)]
    if not classes or len(classes) != len(names):
        raise DeployError(
            f"{PARSER} of {package.package} names no classes in _INFER_ARGS",
            "its options cannot be told from its sources: leave the check to the engine's own parser",
        )
    return classes


def _require_import(name: str, scope: Scope) -> None:
    for statement in scope.statements(name):
        if isinstance(statement, ast.ImportFrom):
            scope.sources.scope(imported_paths(statement, scope.path)[0])


def _fields(ref: ClassRef) -> Iterator[Option]:
    yield from _fields_by_name(ref, ()).values()


def _fields_by_name(ref: ClassRef, below: tuple[str, ...]) -> dict[str, Option]:
    """Name -> option, of a dataclass and its bases: as in Python, what comes first in the bases' order wins."""
    if ref.node.name in below:
        return {}
    found: dict[str, Option] = {}
    for base in map(ref.scope.value, reversed(ref.node.bases)):
        if isinstance(base, ClassRef):
            found.update(_fields_by_name(base, (*below, ref.node.name)))
    scope = ref.scope.inside(ref.node)
    for node in ref.node.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            option = _field(node.target.id, node, scope)
            if option is not None:
                found[node.target.id] = option
    return found


def _field(name: str, node: ast.AnnAssign, scope: Scope) -> Option | None:
    """As `HfArgumentParser._parse_dataclass_field` decides it."""
    call = node.value if isinstance(node.value, ast.Call) and dotted(node.value.func) == "field" else None
    given = {keyword.arg: keyword.value for keyword in call.keywords} if call else {}
    annotated = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
    if dotted(annotated) in ("ClassVar", "InitVar") or scope.value(given.get("init"), True) is False:
        return None
    metadata = scope.value(given.get("metadata"))
    aliases = metadata.get("aliases") if isinstance(metadata, dict) else None
    named = [aliases] if isinstance(aliases, str) else aliases if isinstance(aliases, list) else []
    kind, choices, many = _of_type(node.annotation, scope)
    flags = (f"--{name}", *(flag for flag in named if isinstance(flag, str)))
    return Option(flags, kind, choices, many)


def _of_type(annotation: ast.expr, scope: Scope) -> tuple[str, tuple[str, ...] | None, bool]:
    members = union_members(annotation)
    names = [dotted(member) for member in members]
    if len(members) != 1:
        # A union with str is read as text, whatever else is in it; other unions are refused by LLaMA-Factory itself.
        return "str" if "str" in names and "bool" not in names else "any", None, False
    member, name = members[0], names[0]
    if name in _TYPES:
        return name, None, False
    if isinstance(member, ast.Subscript) and dotted(member.value) == "Literal":
        return _choices([scope.value(value) for value in arguments(member)])
    if isinstance(member, ast.Subscript) and dotted(member.value) in ("list", "List"):
        elements = [dotted(element) for element in arguments(member)]
        return next((element for element in elements if element in ("str", "int", "float")), "any"), None, True
    ref = scope.value(member)
    if isinstance(ref, ClassRef) and is_enum(ref.node):
        return _choices(enum_values(ref))
    return "any", None, True


def _choices(values: list[Any]) -> tuple[str, tuple[str, ...] | None, bool]:
    known = bool(values) and None not in values
    return "str", tuple(map(str, values)) if known else None, False
