"""What all pages have in common: headings, code, links, and the commands that they name."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

FENCED = re.compile(r"^(?P<fence>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
MARKER = re.compile(r"^<!-- .+ -->$", re.MULTILINE)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")
# A comment may be translated; what a command ends with is no comment.
COMMENT = re.compile(r"(^|[ \t]+)#(?! exit code \d+$)\s.*$", re.MULTILINE)
ENDS = re.compile(r"\s(?:[|#;>]|&&|2>)(?:\s|$)|\$ |…")  # of what belongs to a command
DEPLOYER = re.compile(r"(?:\bpython3? -m |(?:^|(?<=`))\$? ?)deployer (?P<words>[a-z@-].*)")
PLAYBOOK = re.compile(r"\bansible-playbook .*?(?:deployer\.sglang\.|playbooks/)(?P<name>[a-z_]+)")
MAKE = re.compile(r"(?:^|\s)make (?P<target>[a-z][a-z-]*)(?=[\s`]|$)")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, and its text without comments."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page."""
    return [Block(one["language"], COMMENT.sub("", one["body"])) for one in FENCED.finditer(page)]


def markers(page: str) -> list[str]:
    """What a page says to the test that runs it."""
    return MARKER.findall(_without_code(page))


def headings(page: str) -> Counter[int]:
    """How many headings a page has of each level."""
    return Counter(len(one) for one in HEADING.findall(_without_code(page)))


def links(page: str) -> list[str]:
    """Where a page points to in this repository."""
    return LINK.findall(_without_code(page))


def deployer_commands(page: str) -> Iterator[list[str]]:
    """The words after `python -m deployer`, of every command that a page names; options of Ansible's own left out."""
    for line in _code_lines(page):
        if found := DEPLOYER.search(line):
            words = _words(ENDS.split(found["words"])[0])
            yield words[: words.index("--")] if "--" in words else words


def playbooks(page: str) -> set[str]:
    """The names of the playbooks that a page has run."""
    return {found["name"] for line in _code_lines(page) for found in PLAYBOOK.finditer(line)}


def make_targets(page: str) -> set[str]:
    """The targets that a page has made."""
    return {found["target"] for line in _code_lines(page) for found in MAKE.finditer(line)}


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an apostrophe of prose
        return text.split()


def _code_lines(page: str) -> Iterator[str]:
    """Lines of blocks, one that goes on in the next joined to it, and code within the text."""
    for one in FENCED.finditer(page):
        if one["language"] in ("", "sh", "console", "bash"):
            yield from re.sub(r"\\\n\s*", "", one["body"]).splitlines()
    yield from INLINE.findall(_without_code(page))


def _without_code(page: str) -> str:
    return FENCED.sub("", page)
