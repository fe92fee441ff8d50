"""Passwords that are typed: handed to ansible-playbook in memory, never in its arguments or a file on a disk."""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import typer

MEMORY = Path("/dev/shm")


@functools.cache
def handed_over(prompt: str) -> str:
    """Ask at the terminal, once in the life of this process, and give the path of a file that has the answer.

    The file is in memory where the system has such a file system, only its user can read it, and it is removed when
    this process ends. (A file descriptor would not do: Ansible opens what its links lead to.)

    Args:
        prompt: what is asked.

    Raises:
        typer.BadParameter: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"asked for the {prompt.rstrip(': ')}, and there is no terminal to type it at. Fix: give it in a file: "
            "--become-password-file, --connection-password-file or --vault-password-file"
        )
    typed = getpass.getpass(prompt, stream=sys.stderr)
    path = _folder() / prompt.split()[0].lower()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f"{typed}\n")
    return str(path)


@functools.cache
def _folder() -> Path:
    """A private folder that is removed when this process ends."""
    base = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
    folder = tempfile.mkdtemp(prefix="sglang-deployer-", dir=base)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for number in (signal.SIGHUP, signal.SIGTERM):  # which would end this process without that
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)
    return Path(folder)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
