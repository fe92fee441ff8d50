"""What is wrong with a description: collected, so that one run names all of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

# All of these end up in paths, units and scripts: no space, quote, % or line break may pass.
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?")
HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")


class Problems:
    """Collects what is wrong, so that one run names all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, key: str, problem: str, fix: str) -> None:
        self.found.append(f"{key}: {problem}. Fix: {fix}")

    def forget(self, keys: Sequence[str]) -> None:
        """Leave out what was said of these keys: it is said of where they were inherited from."""
        self.found = [line for line in self.found if not line.startswith(tuple(keys))]

    def keys(self, where: str, value: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for key in value:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(allowed)}"
                self.add(f"{where}.{key}", "unknown key", hint)

    def mapping(self, where: str, value: Any) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            # Not the value: it may be a command line with a key in it.
            self.add(where, f"is {type(value).__name__}, and no mapping", "write a mapping of key: value")
            return {}
        return value

    def integer(self, where: str, value: Any, low: int, high: int) -> int:
        try:
            number = int(str(value))  # Ansible hands templated numbers on as text; 8001.9 is none
        except ValueError:
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:
            self.add(where, f"is {value!r}", f"give a whole number from {low} to {high}")
            return low
        return number

    def number(self, where: str, value: Any, low: float, high: float) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:  # not a number is in no range
            self.add(where, f"is {value!r}", f"give a number from {low} to {high}")
            return low
        return number

    def text(self, where: str, value: Any, pattern: re.Pattern[str], allowed: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.add(where, f"is {value!r}", f"use {allowed}")
            return ""
        return value

    def name(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.add(where, f"is {value!r}", "use lower-case letters, digits, '.', '_' and '-', at most 48")
            return "unnamed"
        return value
