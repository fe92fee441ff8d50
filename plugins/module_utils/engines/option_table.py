"""The command-line options that an installed engine version knows: as data, and whether a value fits one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

_SIZE = re.compile(r"\d+(\.\d+)?[kMGT]|\d+[KMGT]i")
_TRUE_OR_FALSE = ("true", "false")
# What `transformers.hf_argparser.string_to_bool` takes.
_TRUTHS = ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0")
_NEAR = 0.7  # of 1: below it difflib offers names that nobody meant
_SHOWN = 60  # characters of a value in a message


def _size(word: str) -> Any:
    return word.strip() if _SIZE.fullmatch(word.strip()) else int(word)


def _truth(word: str) -> str:
    if word.lower() not in _TRUTHS:
        raise ValueError(word)
    return word


_READERS: dict[str, Callable[[str], Any]] = {"int": int, "size": _size, "float": float, "bool": _truth, "str": str}
_WANTS = {
    "int": "a whole number",
    "size": "a whole number, or one such as 128k or 128Ki",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
}
KINDS = (*_READERS, "flag", "any")


@dataclass(frozen=True)
class Option:
    """One option of an engine's command line.

    Args:
        flags: as on the command line, in declared order: `--tp-size`, `--tensor-parallel-size`.
        kind: "int", "float", "str"; "size", a whole number that may end in k, M, Ki …; "flag", which stands alone;
            "bool", which the word true or false follows; "any", whose values are not checked.
        choices: the values it takes, where the source says so.
        many: whether several values may follow it.
        deprecated: '' or one line that says what to use instead.
    """

    flags: tuple[str, ...]
    kind: str
    choices: tuple[str, ...] | None = None
    many: bool = False
    deprecated: str = ""

    def problem(self, value: Any) -> str:
        """'' when the inventory's value fits, otherwise one line that says why it does not."""
        if value is None:
            return "has no value"
        if self.kind == "flag":
            word = str(value).lower() if isinstance(value, (bool, str)) else ""
            return "" if word in _TRUE_OR_FALSE else "stands alone: write true or false"
        if isinstance(value, (list, tuple)):
            if not self.many:
                return "takes one value, got a list"
            return next((problem for item in value if (problem := self._item_problem(item))), "")
        return self._word_problem(value)

    def _item_problem(self, item: Any) -> str:
        # An item becomes one word by str(), which is JSON for none of these.
        if item is None or isinstance(item, (list, tuple, Mapping)):
            return f"takes single values in its list, got {_shown(item)}: write JSON as text"
        return self._word_problem(item)

    def _word_problem(self, value: Any) -> str:
        if self.kind == "any":
            return ""
        is_bool, is_mapping = isinstance(value, bool), isinstance(value, Mapping)
        if (is_bool and self.kind not in ("bool", "str")) or (is_mapping and self.kind != "str"):
            return f"wants {_WANTS[self.kind]}, got {_shown(value)}"
        try:
            word = str(value).lower() if is_bool else str(value)
            read = _READERS[self.kind](word)
        except ValueError:
            return f"wants {_WANTS[self.kind]}, got {_shown(value)}"
        if self.choices is not None and read not in map(self._choice, self.choices):
            return f"takes one of {', '.join(self.choices)}, got {_shown(value)}"
        return ""

    def _choice(self, text: str) -> Any:
        try:
            return _READERS[self.kind](text)
        except ValueError:
            return text


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number that is too long"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def snake_case(flag: str) -> str:
    """A flag as the inventory names it: `--tp-size` is `tp_size`."""
    return flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class OptionTable:
    """The options of one version of an engine."""

    engine: str
    version: str
    options: tuple[Option, ...]

    @cached_property
    def _by_name(self) -> dict[str, Option]:
        return {snake_case(flag): option for option in reversed(self.options) for flag in option.flags}

    def find(self, name: str) -> Option | None:
        """The option, by any of its flags: snake_case or kebab-case, with or without leading dashes."""
        return self._by_name.get(snake_case(name))

    def nearest(self, name: str) -> str:
        """The known flag that is spelled most alike, in snake_case; '' when none is near."""
        return next(iter(difflib.get_close_matches(snake_case(name), self._by_name, 1, _NEAR)), "")

    def problem(self, name: str, value: Any) -> str:
        """Why this version does not take the option or its value.

        Args:
            name: as `find` takes it.
            value: from the inventory; numbers and booleans may be text that Ansible templated.
        Returns:
            '' when it fits, otherwise one line that goes on after the option's name.
        """
        option = self.find(name)
        if option is not None:
            return option.problem(value)
        near = self.nearest(name)
        return f"is no option of {self.engine} {self.version}" + (f", did you mean {near}?" if near else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an option is a row without the defaults at its end."""
        return {"engine": self.engine, "version": self.version, "options": [_row(option) for option in self.options]}

    @classmethod
    def from_dict(cls, data: Any) -> OptionTable:
        """What `as_dict` gave.

        Raises:
            DeployError: it is something else.
        """
        try:
            options = tuple(_option(*row) for row in data["options"])
            engine, version = data["engine"], data["version"]
            if not isinstance(engine, str) or not isinstance(version, str):
                raise TypeError("engine and version are text")
        except (TypeError, KeyError, ValueError) as error:
            raise DeployError(
                f"this is no table of options: {error}", "deploy with the same version of this package everywhere"
            ) from None
        return cls(engine, version, options)


def _row(option: Option) -> list[Any]:
    choices = None if option.choices is None else list(option.choices)
    row: list[Any] = [" ".join(option.flags), option.kind, choices, option.many, option.deprecated]
    while not row[-1] and row[-1] != []:  # choices that are an empty list are not the default
        row.pop()
    return row


def _option(flags: str, kind: str, choices: Any = None, many: bool = False, deprecated: str = "") -> Option:
    listed = [] if choices is None else choices
    texts = [flags, kind, deprecated, *listed]
    known = all(isinstance(text, str) for text in texts) and kind in KINDS
    if not known or not isinstance(listed, list) or not isinstance(many, bool):
        raise ValueError(f"unknown row for {flags!r}")
    return Option(tuple(flags.split()), kind, None if choices is None else tuple(choices), many, deprecated)


def one_option_a_flag(options: list[Option]) -> tuple[Option, ...]:
    """The options with each set of flags once; a flag that is declared in two ways, in two branches, is not checked."""
    merged: dict[tuple[str, ...], Option] = {}
    for option in options:
        known = merged.setdefault(option.flags, option)
        if known != option:
            merged[option.flags] = Option(option.flags, "any", many=True, deprecated=option.deprecated)
    return tuple(merged.values())
