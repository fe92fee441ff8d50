"""Programs for a host's Python that are sent along with what they are to do: a call of module_utils without a module.

Ansible packs, sends and unpacks a module for every run; for what is asked every second that is most of the work.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import shlex
import types
from collections.abc import Mapping
from typing import Any

HOME = "ansible_collections.deployer.sglang.plugins.module_utils"
# Reads one JSON object: the modules' sources, which function to call, and its arguments; prints what it returns.
START = """
import importlib, importlib.abc, importlib.util, json, sys

sent = json.load(sys.stdin)
sources = sent["sources"]
packages = {name.rpartition(".")[0] for name in sources}
packages |= {".".join(name.split(".")[:depth]) for name in packages for depth in range(1, name.count(".") + 1)}


class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in sources or name in packages:
            return importlib.util.spec_from_loader(name, self, is_package=name in packages)

    def exec_module(self, module):
        exec(compile(sources.get(module.__name__, ""), module.__name__, "exec"), module.__dict__)


sys.meta_path.insert(0, Sent())
function = getattr(importlib.import_module(sent["module"]), sent["function"])
print(json.dumps({"answer": function(**sent["arguments"])}))
"""


def command(interpreter: str) -> str:
    """The command line that takes `call` as its standard input.

    Args:
        interpreter: the host's Python.
    """
    return f"{shlex.quote(interpreter)} -I -S -c {shlex.quote(START)}"


def call(module: types.ModuleType, function: str, arguments: Mapping[str, Any]) -> bytes:
    """What `command` reads.

    Args:
        module: one of module_utils, with nothing but the standard library and others of module_utils behind it.
        function: in it; takes and returns JSON.
        arguments: by name.
    """
    told = {"sources": sources(module.__name__), "module": module.__name__, "function": function}
    return json.dumps({**told, "arguments": arguments}).encode()


def answer_of(output: str) -> Any:
    """What the function returned; None where the command printed no such thing."""
    for line in reversed(output.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "answer" in value:
            return value["answer"]
    return None


@functools.cache
def sources(name: str) -> dict[str, str]:
    """The sources of a module of module_utils and of all that it imports from there, by name."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        module = importlib.import_module(one)
        found[one] = text_of(module)
        waiting += imported(found[one])
    return found


def imported(text: str) -> list[str]:
    """The modules of module_utils that a source imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(HOME):
            base = str(node.module)
            below = [f"{base}.{alias.name}" for alias in node.names]
            modules = [one for one in below if _is_module(one)]
            names += [*modules, *([base] if base != HOME else [])]
    return names


def text_of(module: types.ModuleType) -> str:
    """A module's source, whoever loaded it: Ansible's loader of collections gives bytes."""
    loader: Any = getattr(module.__spec__, "loader", None)
    text = loader.get_source(module.__name__) if hasattr(loader, "get_source") else None
    text = inspect.getsource(module) if text is None and getattr(module, "__file__", None) else text
    return text.decode() if isinstance(text, bytes) else str(text or "")


def _is_module(name: str) -> bool:
    try:
        return isinstance(importlib.import_module(name), types.ModuleType)
    except ModuleNotFoundError:
        return False
