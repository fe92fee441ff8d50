"""Texts that leave a host, without the secrets that the host knows of: those of adopted releases."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import HIDDEN, SHORTEST
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json


def secrets_of(release_folder: str) -> list[str]:
    """What no text about this release may show; empty for a described one, which can have no secrets.

    Args:
        release_folder: where the release lies.
    Returns:
        Values of variables and of command line words, the longest first. What is shorter than six characters stands
        everywhere by chance, and is not among them.
    """
    try:
        private = read_json(os.path.join(release_folder, PRIVATE_FILE))
    except (DeployError, OSError):
        return []
    if not isinstance(private, dict):
        return []
    values: set[str] = set()
    for name in ("variables", "argv"):
        part = private.get(name)
        for value in part.values() if isinstance(part, dict) else ():
            text = str(value)
            values |= {text, text.partition("=")[2]} if name == "argv" else {text}
            values |= set(text.splitlines())  # what is logged is looked at line by line
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text with every one of these values replaced."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
