"""The place of an environment while it is built: whose it is, what a killed build left in it, what is put aside for it.

    <prefix>/                 marked with `.building` until `environment.json` is there
    .<name>.build/            the workspace
    .<name>.replaced/         a finished environment that is being built again
    .<name>.lock              held by the build

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import RECORD, UNFINISHED
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import describe, processes_in


def _make_folders(folder: Path) -> None:
    """`mkdir -p` with mode 0755, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


@contextmanager
def exclusive(prefix: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the build lock of `prefix`; yields its file descriptor. Waits while another build holds it."""
    _make_folders(prefix.parent)
    path = prefix.parent / f".{prefix.name}.lock"
    with exclusive_lock(str(path), on_wait=on_wait) as fd:
        yield fd


def is_recorded(prefix: Path) -> bool:
    """Whether a finished environment is there."""
    return (prefix / RECORD).is_file() and not prefix.is_symlink()


def _aside(prefix: Path) -> Path:
    return prefix.parent / f".{prefix.name}.replaced"


def tidy(prefix: Path) -> None:
    """Bring order into what an interrupted build left: room is needed, and an environment that was put aside is back.

    Raises:
        DeployError: something that no build of ours made is at `prefix`.
    """
    work, aside = prefix.parent / f".{prefix.name}.build", _aside(prefix)
    shutil.rmtree(work, ignore_errors=True)
    if os.path.lexists(prefix) and not is_recorded(prefix):
        ours = (prefix / UNFINISHED).is_file() or (prefix.is_dir() and not any(prefix.iterdir()))
        if prefix.is_symlink() or not ours:
            raise DeployError(
                f"{prefix} exists and is no environment of the deployer's",
                fix="move it away, or use it as it is with `prefix:` in inference_environments",
            )
        _remove(prefix, work)
    if aside.is_dir() and not aside.is_symlink():
        if is_recorded(prefix):
            _remove(aside, work)
        else:
            aside.rename(prefix)
    if is_recorded(prefix):
        (prefix / UNFINISHED).unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _remove(folder: Path, work: Path) -> None:
    """Remove a folder that may be half removed by a kill: it loses its name first."""
    work.mkdir(mode=0o755, exist_ok=True)
    folder.rename(work / "leftover")
    shutil.rmtree(work / "leftover")


@contextmanager
def workspace(prefix: Path) -> Iterator[Path]:
    """An empty folder beside the prefix; it is gone afterwards."""
    work = prefix.parent / f".{prefix.name}.build"
    work.mkdir(mode=0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def put_aside(prefix: Path, work: Path) -> Iterator[None]:
    """Make room for a build at `prefix`; a finished environment there is kept beside, and back when the build fails.

    Raises:
        DeployError: a process runs from it.
    """
    if is_recorded(prefix):
        refuse_in_use(prefix)
        prefix.rename(_aside(prefix))
    try:
        yield
    except BaseException:
        # Half an environment is of no use, and may be what fills the disk.
        if (prefix / UNFINISHED).is_file() and not is_recorded(prefix):
            shutil.rmtree(prefix, ignore_errors=True)
        if _aside(prefix).is_dir() and not os.path.lexists(prefix):
            _aside(prefix).rename(prefix)
        raise
    if _aside(prefix).is_dir():
        _remove(_aside(prefix), work)


def fresh_prefix(prefix: Path, work: Path) -> None:
    """An empty prefix that is marked as unfinished, in place of an attempt before."""
    if (prefix / UNFINISHED).is_file():
        _remove(prefix, work)
    # Marked before it gets its name: there is no moment at which a leftover could not be told from a user's folder.
    (work / "prefix").mkdir(mode=0o755)
    (work / "prefix" / UNFINISHED).touch()
    (work / "prefix").rename(prefix)


def refuse_in_use(prefix: Path) -> None:
    """Refuse to build an environment again from which a process runs.

    Raises:
        DeployError: naming the process.
    """
    if users := [describe(pid) for pid in processes_in(str(prefix))]:
        raise DeployError(
            f"{prefix} is in use by {users[0]}",
            fix="end the service on this host first, or lock again: a new lock is built beside it",
            detail="\n".join(users[1:]),
        )
