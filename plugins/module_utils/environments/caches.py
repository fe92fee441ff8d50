"""What builds on one host share: unpacked packages that environments link from, so that the second costs little disk.

    <root>/cache/wheels/            uv's, with byte code beside the sources
    <root>/cache/conda/<backend>/   unpacked conda packages

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock

# The time that every wheel has where uv sees it: it takes a wheel for known by path and time.
WHEELHOUSE = ".wheelhouse"
LONG_AGO = 315532800  # 1980-01-01, as in zip files without a time


@dataclass(frozen=True)
class Caches:
    """The shared caches below `folder`.

    Args:
        folder: a build with a folder of its own shares nothing.
        lasting: whether another build comes after this one; the wheels' own times are changed for it.
    """

    folder: Path
    lasting: bool = True

    @property
    def wheels(self) -> Path:
        """uv's cache."""
        return self.folder / "wheels"

    def conda(self, backend: str) -> Path:
        """Unpacked conda packages, as `backend` keeps them."""
        return self.folder / "conda" / backend

    @property
    def lock(self) -> Path:
        """Held by the build that links out of them, and by whoever removes from them."""
        return self.folder / ".builds.lock"

    def filled(self) -> bool:
        """Whether an earlier build left anything in them."""
        return any(path.is_dir() for path in (self.wheels, self.folder / "conda"))

    @contextlib.contextmanager
    def in_use(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[int]:
        """Have them alone; builds of one host take turns. Yields the lock's descriptor.

        Args:
            on_wait: called once when another build has them.
        """
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with exclusive_lock(str(self.lock), on_wait=on_wait) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def wheelhouse(self, wheels: Iterable[Path]) -> Iterator[Path]:
        """A folder with these wheels, for as long as uv needs them: at one path for all bundles, so that uv knows them.

        Whoever uses it has the caches alone.
        """
        house = self.folder / WHEELHOUSE
        shutil.rmtree(house, ignore_errors=True)
        house.mkdir(mode=0o755)
        try:
            for wheel in wheels:
                place = house / wheel.name
                try:
                    os.link(wheel, place)
                except OSError:  # another file system
                    shutil.copyfile(wheel, place)
                if self.lasting:
                    os.utime(place, (LONG_AGO, LONG_AGO))
            yield house
        finally:
            shutil.rmtree(house, ignore_errors=True)

    def forget_interrupted(self) -> None:
        """Remove the second names that a killed build left of a bundle's wheels; waits for what it started.

        What arrives on a host is refused where it has a name elsewhere.
        """
        if (self.folder / WHEELHOUSE).is_dir():
            with self.in_use():
                shutil.rmtree(self.folder / WHEELHOUSE, ignore_errors=True)

    def discard(self) -> None:
        """Remove what is in them, unless a build uses them; what environments have linked stays theirs."""
        with contextlib.suppress(DeployError, FileNotFoundError), exclusive_lock(str(self.lock), patience=0):
            for folder in (self.wheels, self.folder / "conda"):
                shutil.rmtree(folder, ignore_errors=True)
