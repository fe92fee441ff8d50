"""The folders that migrations are kept in, each readable by its user alone, and the lock that one walk holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from deployer.migration.state import State, dumped, fleet_id, loaded
from deployer.runs.journal import ID, new_folder, new_id
from deployer.wording import printable

FOLDER = Path(".deployer") / "migrations"
STATE = "state.json"
PRIVATE = 0o600


@dataclass(frozen=True)
class Kept:
    """A migration's folder, and its state as it was read or written last."""

    folder: Path
    state: State

    def save(self, state: State) -> None:
        """Write the state; also after a power cut either this one is there or the one before.

        Raises:
            OSError: it cannot be written.
        """
        write_file(str((self.folder / STATE).absolute()), dumped(state), PRIVATE)


def begun(state: State, base: Path | None = None) -> Kept:
    """A folder for a new migration.

    Args:
        state: its id is replaced by that of the folder.
        base: that migrations go below.

    Raises:
        DeployError: it cannot be made.
    """
    base = FOLDER if base is None else base
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = new_folder(base, new_id("migration"))
        kept = Kept(folder, replace(state, id=folder.name))
        kept.save(kept.state)
    except OSError as error:
        raise DeployError(
            f"the state of this migration cannot be written in {base.absolute()}: {error.strerror or error}",
            "make room, or start it from a folder of your own",
        ) from None
    return kept


def kept_migrations(base: Path | None = None) -> list[Kept]:
    """All of which there is a state, the newest first.

    Raises:
        DeployError: one cannot be read.
    """
    base = FOLDER if base is None else base
    try:
        folders = sorted((one for one in base.iterdir() if ID.fullmatch(one.name)), reverse=True)
    except OSError:
        return []
    return [_read(folder) for folder in folders if (folder / STATE).exists()]


def newest_of(fleet: str, base: Path | None = None) -> Kept | None:
    """The migration of some hosts that is under way, or else their newest; None where there is none.

    A clock that was set back may have one that is under way look older than one that is done.

    Args:
        fleet: as `fleet_id` has it; '' for the newest of any.
        base: that migrations lie below.
    """
    every = [one for one in kept_migrations(base) if fleet in ("", fleet_id(one.state.sources, one.state.limit))]
    return next((one for one in every if not one.state.ended), every[0] if every else None)


@contextmanager
def locked(fleet: str, who: str, base: Path | None = None) -> Iterator[None]:
    """Nobody else walks the migration of the same hosts from this folder meanwhile.

    The kernel gives the lock back when its holder ends, however that happens.

    Args:
        fleet: as `fleet_id` has it.
        who: walks it: `user@host`.
        base: that migrations lie below.

    Raises:
        DeployError: somebody else does; or the lock cannot be taken.
    """
    base = FOLDER if base is None else base
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(base / f".lock-{fleet}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    except OSError as error:
        raise DeployError(
            f"{base.absolute()} cannot be written: {error.strerror or error}", "start it from a folder of your own"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeployError(
                f"this migration is being walked already, by {_holder(descriptor)}",
                "wait until that has ended, or end it; `migrate --status` says how far it is",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{who}, pid {os.getpid()}, since {_now()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return printable(os.pread(descriptor, 400, 0).decode(errors="replace")) or "somebody"
    return "somebody"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _read(folder: Path) -> Kept:
    path = folder / STATE
    try:
        return Kept(folder, loaded(path.read_bytes(), str(path)))
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror or error}", "give it back to your user") from None
