"""Which words and environment variables of a process are secrets: they stand in no file that others can read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    CREDENTIALS,
    SECRET,
    SECRET_VARIABLE,
)

HIDDEN = "***"
NO_SECRETS = ("PWD", "SSH_AUTH_SOCK")  # named like one
# Named otherwise than what a description would have to hide: a webhook's address is its key.
ALSO_SECRET = re.compile(r"webhook|(^|_)(pat|jwt|dsn|cookie)(_|$)|connection_string", re.IGNORECASE)
SHORTEST = 6  # characters of a secret that is looked for in other places: shorter ones stand everywhere by chance
# Keys that are known by their form: OpenAI and its like, Hugging Face, GitHub, AWS, Slack, GitLab; JSON web tokens.
TOKEN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[a-z]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|xox[a-z]-[\w-]{10,}"
    r"|glpat-[\w-]{16,}|eyJ[\w-]{10,2000}\.[\w-]{5,8000}\.[\w-]+)"
)
BEARER = re.compile(r"\b(?P<kind>bearer|basic)\s+(?P<value>[^\s'\"]+)", re.IGNORECASE)
URL = re.compile(r"(?P<scheme>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/@\s]{0,2000}:[^/@\s]{0,2000}@")
# NAME=value and --name value inside of one word, as in `sh -c "API_KEY=… python …"`.
VALUE = r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s'\";&|]+)"
ASSIGNED = re.compile(rf"(?<![\w-])(?P<name>[A-Za-z_]\w*)(?P<between>=){VALUE}")
OPTION = re.compile(rf"(?<!\S)--(?P<name>[A-Za-z][\w-]*)(?P<between>=|\s+){VALUE}")


def secret_variables(variables: Mapping[str, str]) -> frozenset[str]:
    """Names of the environment variables whose values are secrets, or hold one."""
    named = {name for name, value in variables.items() if value and _is_secret_variable(name, value)}
    values = _long(secret_values(variables, named))
    return frozenset(named | {name for name, value in variables.items() if any(one in value for one in values)})


def secret_values(variables: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """What may not stand anywhere else, of these secret variables; the path of a file with a secret is none."""
    return [variables[name] for name in names if not os.path.isabs(variables[name])]


def shown_argv(argv: Sequence[str], secrets: Sequence[str] = ()) -> list[str]:
    """The words of a command line with every secret in them replaced; what is none is unchanged.

    Args:
        argv: the words.
        secrets: values that are known to be secret, wherever they stand.
    """
    known = _long(secrets)
    shown: list[str] = []
    secret_follows = first = False
    for word in argv:
        if secret_follows and not word.startswith("--" if first else "-"):  # of an option that takes several, every one
            known += _long([word])
            shown.append(HIDDEN)
            first = False
            continue
        shown.append(shown_text(word))
        name = word[2:] if word.startswith("--") and "=" not in word else ""
        secret_follows = first = bool(name) and is_secret_option(name)
    for secret in known:
        shown = [word.replace(secret, HIDDEN) for word in shown]
    return shown


def shown_text(text: str) -> str:
    """A text with the secrets in it replaced."""
    text = OPTION.sub(lambda found: _hide(found, "--") if _gives_secret(found) else found[0], text)
    text = ASSIGNED.sub(lambda found: _hide(found, "") if SECRET_VARIABLE.search(found["name"]) else found[0], text)
    text = URL.sub(lambda found: f"{found['scheme']}{HIDDEN}@", text)
    text = BEARER.sub(lambda found: f"{found['kind']} {HIDDEN}", text)
    return TOKEN.sub(HIDDEN, text)


def is_secret_option(name: str) -> bool:
    """True for an option of an engine that takes a secret."""
    return SECRET.search(name.replace("-", "_")) is not None


def _gives_secret(found: re.Match[str]) -> bool:
    """False for `--become-password-file FILE` as well, with which we say what to give."""
    advised = found["name"].endswith("-file") and found["value"].rstrip(",.") == "FILE"
    return is_secret_option(found["name"]) and not advised


def _is_secret_variable(name: str, value: str) -> bool:
    if name in NO_SECRETS:
        return False
    if SECRET_VARIABLE.search(name) or ALSO_SECRET.search(name):
        return True
    return bool(CREDENTIALS.search(value)) or shown_text(value) != value


def _hide(found: re.Match[str], prefix: str) -> str:
    return f"{prefix}{found['name']}{found['between']}{HIDDEN}"


def _long(values: Iterable[str]) -> list[str]:
    """The values that are long enough to be looked for, the longest first, so that none hides a part of another."""
    return sorted({one for one in values if len(one) >= SHORTEST}, key=len, reverse=True)
