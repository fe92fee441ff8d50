"""The ```text blocks of a page, and whether one shows what was printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

BLOCK = re.compile(
    r"(?:^<!-- printed: (?P<name>[a-z0-9-]+) -->\n)?^```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LEFT_OUT = "…"  # a line of its own: what is printed there is not shown
# What is another one in each run, and what stands for it.
VARIES = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA256"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "RELEASE"),
    (re.compile(r"\((?:[a-z]+ [\d.]+ s ?)+\)"), "(TIMES)"),  # of the states of a cut-over
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"), "MOMENT"),
    (re.compile(r"\b(?:(?:\d{4}-)?\d{2}-\d{2} )?\d{2}:\d{2}\b"), "MOMENT"),
    (re.compile(r"\bpids? \d+(?:, \d+)*"), "PID"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:s|min)\b"), "SECONDS"),
)


@dataclass(frozen=True)
class Block:
    """What a page says is printed.

    Args:
        name: of the scenario; '' where none is named.
        text: as it stands in the page.
    """

    name: str
    text: str


def blocks(page: str) -> list[Block]:
    """All of them, in the page's order."""
    return [Block(found["name"] or "", found["text"]) for found in BLOCK.finditer(page)]


def shows(text: str, printed: str) -> bool:
    """Whether a block shows what was printed, ids, times, and how lines are broken aside.

    Args:
        text: of the block; where it has a line `…`, anything may have been printed.
        printed: by the scenario.
    """
    parts = [_same(part) for part in re.split(rf"^ *{LEFT_OUT}$", text, flags=re.MULTILINE)]
    return re.fullmatch(".*".join(re.escape(part) for part in parts), _same(printed)) is not None


def _same(text: str) -> str:
    text = " ".join(text.split())
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text
