"""Takes secrets out of what is told, written down or shown: those that are known, and those that look like one."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import (
    ALSO_SECRET,
    HIDDEN,
    SHORTEST,
    is_secret_option,
    secret_values,
    secret_variables,
    shown_text,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import SECRET_VARIABLE

PASS = re.compile(r"(^|_)pass(wd|phrase)?$", re.IGNORECASE)


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


def known_secrets(
    words: Sequence[str], variables: Mapping[str, str], extra: Mapping[str, Any] | None = None
) -> set[str]:
    """Secrets that the command was started with.

    Args:
        words: for ansible-playbook, with their `-e`.
        variables: environment variables of this process.
        extra: extra variables that are given beside the words.
    Returns:
        Values of extra variables and of environment variables that are named like a secret, or hold one.
    """
    found = set(secret_values(variables, secret_variables(variables)))
    given = [after for word, after in zip(words, words[1:], strict=False) if word in ("-e", "--extra-vars")]
    given += [word.partition("=")[2] for word in words if word.startswith("--extra-vars=")]
    given += [word[2:] for word in words if word.startswith("-e") and len(word) > 2]
    for name, value in itertools.chain(_leaves("", extra or {}), *map(_assigned, given)):
        if _is_secret(name):
            found |= {value, *value.splitlines()}
    return found


def _is_secret(name: str) -> bool:
    """True for an extra variable that is named like a secret, Ansible's own `…_pass` among them."""
    return any(pattern.search(name) for pattern in (SECRET_VARIABLE, ALSO_SECRET, PASS)) or is_secret_option(name)


def _assigned(text: str) -> Iterator[tuple[str, str]]:
    """The names and values of extra variables: key=value, JSON, YAML, or a file of either that can be read."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError):  # Ansible will say so
            return
    elif text[:1] not in "{[":
        try:
            words = shlex.split(text)
        except ValueError:  # a quotation that does not end
            words = text.split()
        for word in words:
            name, _, value = word.partition("=")
            if value:
                yield name, value
        return
    try:
        yield from _leaves("", yaml.safe_load(text))
    except yaml.YAMLError:  # encrypted, or no YAML
        return


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            # What stands below a name that is a secret's is secret, whatever its own name is.
            yield from _leaves(name if _is_secret(name) else str(key), one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(name, one)
    elif value is not None:
        yield name, str(value)
