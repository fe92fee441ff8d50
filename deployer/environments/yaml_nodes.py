"""YAML with line numbers: a file that people write, read node by node so that every mistake has its place.

Scalars stay the text that was written: `3.10` is no number, `no` no boolean.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Node = yaml.nodes.Node


@dataclass(frozen=True)
class Document:
    """A YAML file whose root is a mapping.

    Attributes:
        source: the file's name in errors.
        root: its root node; None for an empty file.
    """

    source: str
    root: Node | None

    def error(self, node: Node | None, problem: str, fix: str) -> DeployError:
        """The error that names file, line and problem."""
        return self.error_at(self.line(node) if node is not None else 0, problem, fix)

    def error_at(self, line: int, problem: str, fix: str) -> DeployError:
        """The error that names file, line (0 for none) and problem."""
        place = f" line {line}" if line else ""
        return DeployError(f"{self.source}{place}: {one_line(problem)}", fix=one_line(fix))

    def unknown_key(self, node: Node, name: str, known: Collection[str]) -> DeployError:
        """The error for a key that is not among the known ones, with the one that was perhaps meant."""
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        return self.error(node, f"{name} is not a known key", f"{hint}the keys are {', '.join(known)}")

    @staticmethod
    def line(node: Node) -> int:
        """The line that a node starts at, from 1."""
        return int(node.start_mark.line) + 1

    @staticmethod
    def is_mapping(node: Node) -> bool:
        """Whether a node is a mapping."""
        return isinstance(node, yaml.MappingNode)

    def mapping(self, node: Node | None, what: str) -> Iterator[tuple[str, Node, Node]]:
        """Key, key node and value node of each entry of a mapping; nothing for a missing or empty node.

        Raises:
            DeployError: it is no mapping, a key is no text, or a key stands there twice.
        """
        if node is None or self.is_empty(node):
            return
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} is not a mapping", "write `key: value` lines")
        seen = set()
        for key_node, value in node.value:
            key = self.text(key_node, f"a key of {what}")
            if key in seen:
                raise self.error(key_node, f"{key} stands there twice", "keep one of them")
            seen.add(key)
            yield key, key_node, value

    def sequence(self, node: Node, what: str) -> list[Node]:
        """The items of a list; none for an empty node.

        Raises:
            DeployError: it is no list.
        """
        if self.is_empty(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{what} is not a list", "write one `- …` line for each")
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        """The text of a scalar, without surrounding space.

        Raises:
            DeployError: it is no single value.
        """
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"{what} is not a single value", "write it as one word, in quotes where needed")
        return str(node.value).strip()

    @staticmethod
    def is_empty(node: Node) -> bool:
        """Whether a node is `key:` with nothing behind it, `~` or `null`."""
        return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("", "~", "null")


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        DeployError: it cannot be read, or is no YAML; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}", fix="check its name and its mode") from error
    except UnicodeDecodeError as error:
        raise DeployError(f"{path} is not UTF-8 text (byte {error.start})", fix="save it as UTF-8") from error
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """Parse the text of a YAML file; `source` names it in errors.

    Raises:
        DeployError: it is no YAML; names file and line.
    """
    try:
        return Document(source, yaml.compose(text, Loader=yaml.BaseLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise DeployError(
            f"{source}{line} is not YAML: {one_line(str(error.problem or error.context))}",
            fix="check indentation, quotes and colons there",
        ) from None
    except yaml.YAMLError as error:
        raise DeployError(f"{source} is not YAML: {one_line(str(error))}", fix="save it as plain text") from None
    except RecursionError:
        raise DeployError(f"{source} is nested too deeply", fix="it needs lists of plain lines only") from None


def one_line(text: str) -> str:
    """Text as one printable line."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
