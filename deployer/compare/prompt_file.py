"""The file in which a user names what servers are asked."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import LINES, Prompts, parse_prompts

LARGEST_FILE = 16 * 1024 * 1024  # bytes


def read_prompts(path: Path) -> Prompts:
    """A user's file, as `parse_prompts` has it.

    Raises:
        DeployError: it cannot be read, is empty, or a line is no prompt.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DeployError(f"{path} is larger than {LARGEST_FILE // 2**20} MiB", "take a sample of it")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path} cannot be read: {error}", LINES) from error
    return parse_prompts(str(path), text)
