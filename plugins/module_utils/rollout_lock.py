"""The advisory lock of a rollout: a file on every host that says who is at work there, since when, from where."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import audit
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    exclusive_lock,
    pretty_json,
    read_text,
    sync_directory,
    write_file,
)

FILE = "rollout.json"
PATIENCE = 30.0  # seconds; a lock that is older is none of a race
LOOK_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Holder:
    """Who holds the lock.

    Args:
        run: id of the rollout, the same on all of its hosts.
        who: as `mia@ops1`.
        controller: name of the machine that it runs from.
        what: as `rollout of code2sql`.
        since: when the run began, seconds since the epoch by the controller's clock.
        machine, boot, namespace: tell whether processes of that controller can be looked for.
        processes: id and start time of each process that carries the run.
    """

    run: str
    who: str = ""
    controller: str = ""
    what: str = ""
    since: float = 0.0
    machine: str = ""
    boot: str = ""
    namespace: str = ""
    processes: tuple[tuple[int, int], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The holder as JSON has it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> Holder:
        """The holder that `as_dict` gave; one of which nothing is known where it is something else."""
        try:
            known = {one.name: value[one.name] for one in dataclasses.fields(cls)}
            known["since"] = float(known["since"])
            known["processes"] = tuple((int(pid), int(start)) for pid, start in known["processes"])
            texts = {key: str(text) for key, text in known.items() if key not in ("since", "processes")}
            return cls(**{**known, **texts})
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls(run="")


def path_of(root: str) -> str:
    """Where the lock lies."""
    return os.path.join(root, FILE)


def holder_of(root: str) -> Holder | None:
    """Who holds the lock; None when nobody does. A lock that cannot be read is held, by a run without an id."""
    try:
        text = read_text(path_of(root))
        return None if text is None else Holder.from_dict(json.loads(text))
    except (ValueError, RecursionError):
        return Holder(run="")


def acquire(root: str, wanted: Holder, replaces: str = "", on_wait: Callable[[], None] = lambda: None) -> Holder | None:
    """Take the lock.

    Two runs that race each other for several hosts would each get some and both give up. So the one whose id comes
    first waits for a moment where the other was faster: that one gives way as soon as it meets a lock of the first.

    Args:
        root: the deployment's root folder; it is made where there is none.
        wanted: who asks.
        replaces: the run of a holder that is known to be gone.
        on_wait: called at every look while it waits.
    Returns:
        None when it is taken, or was held by this run already; otherwise who holds it.
    Raises:
        DeployError: the file cannot be written.
    """
    deadline = time.monotonic() + PATIENCE  # whatever the clock says
    while True:
        holder = _try(root, wanted, replaces)
        if holder is None or holder.run < wanted.run or _age(root) > PATIENCE or time.monotonic() > deadline:
            return holder
        on_wait()
        time.sleep(LOOK_EVERY)


def release(root: str, run: str, initiator: str, force: bool = False) -> Holder | None:
    """Give the lock back; who held it, None where it was not held by this run.

    Args:
        root: the deployment's root folder.
        run: id of the rollout.
        initiator: who asks, for the audit.
        force: whoever holds it.
    """
    if not os.path.isdir(root):
        return None
    with _serialised(root):
        holder = holder_of(root)
        if holder is None or not (force or holder.run == run):
            return None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path_of(root))
        sync_directory(root)
    what = "lock broken" if force and holder.run != run else "lock released"
    audit.record(root, what=what, initiator=initiator, run=holder.run, of=holder.who, doing=holder.what)
    return holder


def describe(holder: Mapping[str, Any] | Holder, now: float) -> str:
    """A holder for people, on one line and without control characters.

    Args:
        holder: who.
        now: seconds since the epoch.
    """
    one = holder if isinstance(holder, Holder) else Holder.from_dict(holder)
    if not one.run:
        return "a lock that cannot be read"
    pids = ", ".join(str(pid) for pid, _ in one.processes)
    minutes = max(0, int(now - one.since)) // 60
    began = time.localtime(min(max(one.since, 0.0), 2.0**33))
    today = time.strftime("%F", began) == time.strftime("%F", time.localtime(now))
    since = time.strftime("%H:%M" if today else "%F %H:%M", began)
    text = (
        f"{one.what or 'rollout'} by {one.who or 'somebody'} since {since}"
        f" ({minutes} min), from {one.controller or 'an unknown controller'}" + (f" pid {pids}" if pids else "")
    )
    return "".join(char if char.isprintable() else "?" for char in text)


def _try(root: str, wanted: Holder, replaces: str) -> Holder | None:
    try:
        os.makedirs(root, mode=0o755, exist_ok=True)
        with _serialised(root):
            holder = holder_of(root)
            if holder is not None and holder.run not in (wanted.run, replaces or wanted.run):
                return holder
            write_file(path_of(root), pretty_json(wanted.as_dict()))
    except OSError as error:
        raise DeployError(f"{path_of(root)} cannot be written: {error}", "free space, or use another user") from None
    if holder is None or holder.run != wanted.run:
        what = "lock taken over" if holder is not None else "lock taken"
        audit.record(root, what=what, initiator=wanted.who, run=wanted.run, doing=wanted.what)
    return None


def _age(root: str) -> float:
    """Seconds since the lock was taken, by the host's clock."""
    try:
        return abs(time.time() - os.stat(path_of(root)).st_mtime)
    except FileNotFoundError:
        return 0.0


def _serialised(root: str) -> contextlib.AbstractContextManager[int]:
    """One look at the file, and what follows from it, at a time."""
    return exclusive_lock(os.path.join(root, ".rollout.lock"), patience=10, busy="the lock's file is in use")
