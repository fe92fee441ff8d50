"""Which options an SGLang version knows, read from its sources without importing it.

Two styles: `parser.add_argument("--x", …)` in `ServerArgs.add_cli_args` (the only one up to 0.5.12), and fields
`x: A[type, Arg(…)]` that `add_cli_args_from_dataclass` turns into arguments (of `ServerArgs` in 0.5.15, of the classes
in `arg_groups/fields` in 0.5.20). Versions with the second style use the first one beside it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import (
    Option,
    OptionTable,
    one_option_a_flag,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines.python_source import (
    ClassRef,
    FunctionRef,
    Scope,
    Sources,
    arguments,
    dotted,
    imported_paths,
    nested_bodies,
    union_members,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

SERVER_ARGS = "sglang/srt/server_args.py"
FIELDS = "sglang/srt/arg_groups/fields/"
# The first two hold the options, the others lists of choices.
SOURCES = (
    SERVER_ARGS,
    f"{FIELDS}*.py",
    "sglang/srt/arg_groups/argparse_actions.py",
    "sglang/srt/arg_groups/choices.py",
    "sglang/srt/function_call/function_call_parser.py",
    "sglang/srt/function_call/parser_names.py",
    "sglang/srt/model_executor/cuda_graph_config.py",
    "sglang/srt/parser/reasoning_parser.py",
    "sglang/srt/parser/reasoning_parser_names.py",
    "sglang/srt/reasoning_parser.py",
    "sglang/srt/utils/common.py",
)

_KINDS = {
    "str": "str",
    "int": "int",
    "float": "float",
    "nullable_str": "str",
    "loads": "str",
    "json_list_type": "str",
    "human_readable_int": "size",
    "parse_cuda_graph_backend_arg": "str",
    "parse_cuda_graph_config_arg": "str",
}
_FLAG_ACTIONS = ("store_true", "store_false", "store_const", "append_const", "count", "help", "version")
_STORE_ACTIONS = ("store", "append", "extend")
_MANY = ("+", "*", "...", "A...")
_FLAG = re.compile(r"--?[A-Za-z0-9][\w.-]*")
_DEPRECATED = re.compile(r"\W*(note\W+)?((this|the) (flag|option|argument) is |--[\w-]+ is )?deprecated", re.IGNORECASE)
_LONGEST = 200  # characters of a help text that are kept
_CALLS = 5  # functions that hand the parser on, one below the other
_UNTOLD = object()


def read_options(sources: Mapping[str, str], version: str) -> OptionTable:
    """The options of `python -m sglang.launch_server`.

    Args:
        sources: path inside site-packages -> source, of the files that match `SOURCES`.
        version: of SGLang, for the table and for messages.
    Raises:
        DeployError: a file that declares options is missing, is no Python, or is laid out in a way not known here.
    """
    package = Sources(f"sglang {version}", sources)
    try:
        module = package.scope(SERVER_ARGS)
        _require_fields(package)
        server_args = _class_named("ServerArgs", module)
        method = None if server_args is None else _function_named("add_cli_args", server_args)
        if server_args is None or method is None:
            raise DeployError(
                f"{SERVER_ARGS} of {package.package} has no ServerArgs.add_cli_args",
                "its options cannot be told from its sources: leave the check to the engine's own parser",
            )
        options = [option for call, scope in _calls(method) for option in _options(call, scope, server_args)]
    except RecursionError:
        raise DeployError(f"{package.package} nests its options too deeply to read", "install it again") from None
    return OptionTable("sglang", version, one_option_a_flag(options))


def _require_fields(package: Sources) -> None:
    for statement in package.body(SERVER_ARGS):
        if isinstance(statement, ast.ImportFrom):
            paths = imported_paths(statement, SERVER_ARGS)
            if paths[0].startswith(FIELDS):
                package.scope(paths[0])


def _class_named(name: str, scope: Scope) -> ClassRef | None:
    # 0.5.20 and later bind ServerArgs a second time, to a msgspec.Struct that is made from the class.
    nodes = [node for node in scope.statements(name) if isinstance(node, ast.ClassDef)]
    return ClassRef(scope, nodes[-1]) if nodes else None


def _function_named(name: str, ref: ClassRef) -> FunctionRef | None:
    scope = ref.scope.inside(ref.node)
    nodes = [node for node in scope.frames[0].get(name, []) if isinstance(node, ast.FunctionDef)]
    return FunctionRef(scope, nodes[-1]) if nodes else None


def _calls(function: FunctionRef, depth: int = 0) -> Iterator[tuple[ast.Call, Scope]]:
    """The calls that a function makes, in order, and those of functions that it hands its parser to."""
    # The body of a method does not see the names of its class.
    outer = Scope(function.scope.sources, function.scope.path, function.scope.frames[-1:])
    parameters = {parameter.arg for parameter in function.node.args.args} - {"self", "cls"}
    for call, scope in _calls_in(function.node.body, outer.inside(function.node)):
        yield call, scope
        handed = any(isinstance(argument, ast.Name) and argument.id in parameters for argument in call.args)
        called = scope.value(call.func) if handed and depth < _CALLS else None
        if isinstance(called, FunctionRef):
            yield from _calls(called, depth + 1)


def _calls_in(body: list[ast.stmt], scope: Scope) -> Iterator[tuple[ast.Call, Scope]]:
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            continue
        nested = [block for block in nested_bodies(statement) if block]
        if isinstance(statement, ast.For):
            for names in _loop(statement, scope):
                yield from _calls_in(statement.body, scope.binding(names))
            yield from _calls_in(statement.orelse, scope)
        elif nested:
            for block in nested:
                yield from _calls_in(block, scope)
        else:
            yield from ((node, scope) for node in ast.walk(statement) if isinstance(node, ast.Call))


def _loop(statement: ast.For, scope: Scope) -> list[dict[str, Any]]:
    """What the variables of a loop are, each time round; one round without any where the loop cannot be told."""
    items = scope.value(statement.iter)
    target = statement.target
    if isinstance(target, ast.Name) and isinstance(items, (list, dict)):
        return [{target.id: item} for item in items]
    names = [part.id for part in target.elts if isinstance(part, ast.Name)] if isinstance(target, ast.Tuple) else []
    if names and isinstance(items, list) and all(isinstance(row, list) and len(row) == len(names) for row in items):
        return [dict(zip(names, row)) for row in items]
    return [{}]


def _options(call: ast.Call, scope: Scope, server_args: ClassRef) -> Iterator[Option]:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
        flags = tuple(flag for argument in call.args if _is_flag(flag := scope.value(argument)))
        if flags:
            yield _argument(flags, {keyword.arg: keyword.value for keyword in call.keywords}, scope)
    elif dotted(call.func) == "add_cli_args_from_dataclass":
        for ref in _field_classes(server_args):
            yield from _fields(ref)


def _is_flag(value: Any) -> bool:
    return isinstance(value, str) and _FLAG.fullmatch(value) is not None


def _field_classes(server_args: ClassRef) -> list[ClassRef]:
    """The classes whose fields are arguments: ServerArgs, and the namespaces that it is put together from."""
    scope = server_args.scope
    namespaces = scope.value(ast.Name("_INPUT_NAMESPACES", ast.Load()))
    if isinstance(namespaces, list) and all(isinstance(ref, ClassRef) for ref in namespaces):
        return [server_args, *namespaces]
    package = scope.sources
    paths = [path for path in sorted(package.texts) if path.startswith(FIELDS)]
    return [server_args] + [
        ClassRef(package.scope(path), node)
        for path in paths
        for node in package.body(path)
        if isinstance(node, ast.ClassDef)
    ]


def _fields(ref: ClassRef) -> Iterator[Option]:
    scope = ref.scope.inside(ref.node)
    for node in ref.node.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        annotation = node.annotation
        if not isinstance(annotation, ast.Subscript) or dotted(annotation.value) not in ("A", "Annotated"):
            continue
        types = arguments(annotation)
        described = [extra for extra in types[1:] if not isinstance(extra, ast.Call) or dotted(extra.func) == "Arg"]
        if described:
            yield from _field(node.target.id, types[0], described[0], scope)


def _field(name: str, inner: ast.expr, described: ast.expr, scope: Scope) -> Iterator[Option]:
    """As `add_cli_args_from_dataclass` of sglang.srt.arg_groups.arg_utils decides it."""
    given: dict[str | None, ast.expr] = {"help": described}
    if isinstance(described, ast.Call):
        given = {keyword.arg: keyword.value for keyword in described.keywords}
        if described.args:
            given["help"] = described.args[0]
    if scope.value(given.get("no_cli"), False):
        return
    cli_name = scope.value(given.get("cli_name")) or "--" + name.replace("_", "-")
    aliases = scope.value(given.get("aliases"))
    flags = tuple(flag for flag in [cli_name, *(aliases if isinstance(aliases, list) else [])] if _is_flag(flag))
    if not flags:
        return
    if "action" in given:
        kwargs = given.get("action_kwargs")
        if isinstance(kwargs, ast.Dict):
            keys = [scope.value(key) for key in kwargs.keys]
            given.update((key if isinstance(key, str) else None, value) for key, value in zip(keys, kwargs.values))
        yield _argument(flags, given, scope)
        return
    kind, choices, many = _of_type(inner, scope)
    if kind == "flag":
        yield Option(flags, kind, deprecated=_deprecated(given, scope))
        return
    if "type_parser" in given:
        kind, many = _KINDS.get(dotted(given["type_parser"]), "any"), False
    if choices is not None:
        # Where the type is a Literal, no number of values is asked for.
        choices = _choices(given["choices"], scope) if "choices" in given else choices
        yield _stored(flags, kind, choices, None, _deprecated(given, scope))
        return
    nargs = scope.value(given.get("nargs"), _UNTOLD) if "nargs" in given else ("+" if many else None)
    if kind == "any" and "type_parser" not in given:
        nargs = _UNTOLD
    yield _stored(flags, kind, _choices(given.get("choices"), scope), nargs, _deprecated(given, scope))


def _of_type(node: ast.expr, scope: Scope) -> tuple[str, list[Any] | None, bool]:
    """Kind, choices and whether it is a list, of a field's type."""
    members = union_members(node)
    if len(members) != 1:
        return "str", None, False
    (member,) = members
    name = dotted(member.value if isinstance(member, ast.Subscript) else member)
    if name == "bool":
        return "flag", None, False
    if isinstance(member, ast.Subscript) and name == "Literal":
        values = [scope.value(value) for value in arguments(member)]
        kinds = [_KINDS.get(type(value).__name__, "str") for value in values]
        return next(iter(kinds), "str"), values if None not in values else None, False
    if name in ("List", "list"):
        elements = [dotted(element) for element in arguments(member)]
        return next((element for element in elements if element in ("int", "float")), "str"), None, True
    if name in ("str", "int", "float"):
        return name, None, False
    # Dictionaries and classes are read as text; a bare name may stand for any of the above.
    return "str" if isinstance(member, ast.Subscript) else "any", None, False


def _argument(flags: tuple[str, ...], given: Mapping[str | None, ast.expr], scope: Scope) -> Option:
    """One call of `add_argument`."""
    deprecated = _deprecated(given, scope)
    action = given.get("action")
    name = scope.value(action) if isinstance(action, ast.Constant) else dotted(action)
    nargs = scope.value(given.get("nargs"), _UNTOLD) if "nargs" in given else None
    if None in given:  # **kwargs may say anything
        return Option(flags, "any", many=True, deprecated=deprecated)
    if name == "BooleanOptionalAction":
        negated = tuple(f"--no-{flag[2:]}" for flag in flags if flag.startswith("--"))
        return Option((*flags, *negated), "flag", deprecated=deprecated)
    if action is not None and name not in _STORE_ACTIONS:
        own = 0 if name in _FLAG_ACTIONS else _nargs_of(scope.value(action))
        nargs = nargs if "nargs" in given else own
    if nargs == 0:
        return Option(flags, "flag", deprecated=deprecated)
    kind = _KINDS.get(dotted(given["type"]), "any") if "type" in given else "str"
    return _stored(flags, kind, _choices(given.get("choices"), scope), nargs, deprecated)


def _nargs_of(action: Any) -> Any:
    """The number of values that an action class takes by itself, by the default of its `nargs`."""
    if not isinstance(action, ClassRef):
        return _UNTOLD
    init = _function_named("__init__", action)
    if init is None:
        return None
    named = init.node.args.args
    defaults = dict(zip([arg.arg for arg in reversed(named)], reversed(init.node.args.defaults)))
    return init.scope.value(defaults.get("nargs"), _UNTOLD) if "nargs" in defaults else None


def _stored(flags: tuple[str, ...], kind: str, choices: list[Any] | None, nargs: Any, deprecated: str) -> Option:
    # An option that may stand alone cannot be told apart from one whose value was forgotten.
    if nargs is _UNTOLD or (nargs == "?" and (kind != "str" or choices is not None)):
        return Option(flags, "any", many=nargs != "?", deprecated=deprecated)
    many = nargs in _MANY or isinstance(nargs, int)
    words = None if choices is None or kind == "any" else tuple(dict.fromkeys(map(str, choices)))
    return Option(flags, kind, words, many, deprecated)


def _choices(node: ast.expr | None, scope: Scope) -> list[Any] | None:
    value = scope.value(node)
    values = list(value) if isinstance(value, (list, dict)) else []
    return values if values and all(isinstance(item, (str, int, float)) for item in values) else None


def _deprecated(given: Mapping[str | None, ast.expr], scope: Scope) -> str:
    replacement = scope.text(given.get("new_flag"))
    if replacement:
        return f"use {replacement}"
    own = scope.text(given.get("error_message")) or scope.text(given.get("help"))
    if dotted(given.get("action")).startswith("Deprecated") or _DEPRECATED.match(own):
        return own[:_LONGEST] or "deprecated"
    return ""
