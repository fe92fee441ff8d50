"""What builds on one host share: unpacked packages that environments link from, so that the second costs little disk.

    <root>/cache/wheels/            uv's, with byte code beside the sources
    <root>/cache/conda/<backend>/   unpacked conda packages

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Caches:
    """The shared caches below `folder`; a build with a folder of its own shares nothing."""

    folder: Path

    @property
    def wheels(self) -> Path:
        """uv's cache."""
        return self.folder / "wheels"

    def conda(self, backend: str) -> Path:
        """Unpacked conda packages, as `backend` keeps them."""
        return self.folder / "conda" / backend

    def filled(self) -> bool:
        """Whether an earlier build left anything in them."""
        return any(path.is_dir() for path in (self.wheels, self.folder / "conda"))

    @property
    def lock(self) -> Path:
        """Held by builds, shared; by whoever removes from the caches, alone."""
        return self.folder / ".builds.lock"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep the caches from being removed from while a build links out of them; yields the lock's descriptor."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _held(self.lock, fcntl.LOCK_SH) as descriptor:
            yield descriptor

    def discard(self) -> None:
        """Remove what is in them, when no build uses them; what environments have linked stays theirs."""
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _held(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for folder in (self.wheels, self.folder / "conda"):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(path: Path, how: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)
