"""Texts of a description, quoted so that Python, a shell or Markdown shows them and does nothing else with them."""

from __future__ import annotations

import re
import shlex
from typing import Any

BACKTICKS = re.compile(r"`+")


def python_literal(value: Any) -> str:
    """A value as Python source in ASCII, on one line; a text in double quotes where it holds none."""
    source = ascii(value)
    return source if not isinstance(value, str) or '"' in source else f'"{source[1:-1]}"'


def shell_word(text: str) -> str:
    """A text as one word of bash, on one line.

    Args:
        text: without NUL, which no word can hold.
    """
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(_escaped(char) for char in text)
    return f"$'{escaped}'"


def one_line(text: str) -> str:
    """A text without line breaks and other control characters, for a comment."""
    return "".join(char if char.isprintable() else "?" for char in text)


def code_span(text: str) -> str:
    """A text as a code span of Markdown; the empty one as `''`."""
    plain = one_line(text) or "''"
    fence = "`" * (1 + max(map(len, BACKTICKS.findall(plain)), default=0))
    padded = plain.startswith("`") or plain.endswith("`") or (plain[0] == plain[-1] == " " and plain.strip() != "")
    pad = " " if padded else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def code_cell(text: str) -> str:
    """A code span in a cell of a table, where a bar would end the cell."""
    return code_span(text).replace("|", "\\|")


def _escaped(char: str) -> str:
    """A character within `$'…'`: of what does not print, the bytes."""
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode())
