"""Takes secrets out of what is told, written down or shown: those that are known, and those that look like one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import (
    HIDDEN,
    SHORTEST,
    is_secret_option,
    secret_values,
    secret_variables,
    shown_text,
)


class Redaction:
    """What no event may hold. Modules hide what they were given as a secret; this is for what comes around them.

    Args:
        secrets: values that are known to be secret; what is shorter than six characters stands everywhere by chance.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({one for one in secrets if len(one) >= SHORTEST}, key=len, reverse=True)

    def __call__(self, value: Any) -> Any:
        """The same value, JSON or less, with every secret in its texts replaced."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
            return shown_text(value)
        if isinstance(value, Mapping):
            return {str(key): self(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(one) for one in value]
        return value


def known_secrets(words: Sequence[str], variables: Mapping[str, str]) -> set[str]:
    """Secrets that the command was started with.

    Args:
        words: for ansible-playbook, with their `-e`.
        variables: environment variables of this process.
    Returns:
        Values of extra variables and of environment variables that are named like a secret, or hold one.
    """
    found = set(secret_values(variables, secret_variables(variables)))
    given = [after for word, after in zip(words, words[1:], strict=False) if word in ("-e", "--extra-vars")]
    given += [word.partition("=")[2] for word in words if word.startswith("--extra-vars=")]
    for text in given:
        found |= {value for name, value in _assigned(text) if is_secret_option(name)}
    return found


def _assigned(text: str) -> Iterator[tuple[str, str]]:
    """The names and values of extra variables, as JSON or as key=value; a file is not looked into."""
    try:
        yield from _leaves("", json.loads(text))
        return
    except ValueError:
        pass
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation that does not end
        words = text.split()
    for word in words:
        name, _, value = word.partition("=")
        if value:
            yield name, value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            # What stands below a name that is a secret's is secret, whatever its own name is.
            yield from _leaves(name if is_secret_option(name) else str(key), one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(name, one)
    elif value is not None:
        yield name, str(value)
