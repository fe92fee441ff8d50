"""YAML with comments, written from plain values: PyYAML writes the scalars, and knows no comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

WIDTH = 80  # of a terminal that nobody has widened, and of yamllint by default
SHORT = 2  # entries of a mapping that may stand in one line
LONGEST = 300  # characters of a word of a host in a comment
_LONG_LINE = "# yamllint disable-line rule:line-length"

Comments = Mapping[str, Sequence[str]]


def scalar(value: Any) -> str:
    """A scalar, or a list of them in one line, as YAML that reads back to the same."""
    value = dict(value) if isinstance(value, Mapping) else value
    text: str = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def comment(text: str, indent: int = 0) -> list[str]:
    """A text as lines of a comment; what no terminal or parser should meet is replaced."""
    words = ("".join(char if char.isprintable() else "?" for char in word) for word in text.split())
    clean = " ".join(word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…" for word in words)
    begin = " " * indent + "# "
    return textwrap.wrap(
        clean,
        WIDTH,
        initial_indent=begin,
        subsequent_indent=begin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def entry(key: str, value: Any, indent: int = 0, comments: Comments | None = None, path: str = "") -> list[str]:
    """A key and its value, as lines.

    Args:
        key: of a mapping.
        value: plain data.
        indent: of the key, in spaces.
        comments: dotted path -> texts, that stand above that key.
        path: of the key.
    """
    said = comments or {}
    where = f"{path}.{key}" if path else key
    lines = [line for text in said.get(where, ()) for line in comment(text, indent)]
    begin = f"{' ' * indent}{scalar(key)}:"
    if isinstance(value, Mapping) and value and not _fits(begin, value, said, where):
        return [*lines, begin, *mapping(value, indent + 2, said, where)]
    if isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value):
        return [*lines, begin, *(line for one in value for line in item(one, indent + 2))]
    line = f"{begin} {scalar(value)}"
    return [*lines, *([" " * indent + _LONG_LINE] if len(line) > WIDTH else []), line]


def _fits(begin: str, value: Mapping[str, Any], comments: Comments, path: str) -> bool:
    """Whether a mapping can stand in the line of its key: a short one, without comments."""
    flat = len(value) <= SHORT and not any(isinstance(one, (Mapping, list)) for one in value.values())
    said = any(key.startswith(f"{path}.") for key in comments)
    return flat and not said and len(f"{begin} {scalar(value)}") <= WIDTH


def mapping(value: Mapping[str, Any], indent: int = 0, comments: Comments | None = None, path: str = "") -> list[str]:
    """A mapping in block style, as lines."""
    return [line for key, one in value.items() for line in entry(key, one, indent, comments, path)]


def item(value: Any, indent: int = 0, comments: Comments | None = None) -> list[str]:
    """An item of a list; the comments of its first key stand above it."""
    if not isinstance(value, Mapping) or not value:
        return [f"{' ' * indent}- {scalar(value)}"]
    lines = mapping(value, indent + 2, comments)
    first = next(at for at, line in enumerate(lines) if not line.lstrip().startswith("#"))
    above = [line[2:] if line.startswith(" " * (indent + 2)) else line for line in lines[:first]]
    return [*above, f"{' ' * indent}- {lines[first][indent + 2 :]}", *lines[first + 1 :]]
