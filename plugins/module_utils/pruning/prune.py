"""Pruning a host: decide under locks, hide what goes, and remove it when the locks are given back."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.pruning import disk, rules
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.processes import Uses, find_uses
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import (
    Decision,
    Row,
    Rules,
    Snapshot,
    decide,
    notes,
    release_token,
)
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.survey import survey, take_inventory
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store


@dataclass(frozen=True)
class Removal:
    """A row that goes, and where it lies until it is gone."""

    row: Row
    place: str


@dataclass(frozen=True)
class Report:
    """What goes, the wheels that go with it, and what stays, each with its bytes."""

    removed: Mapping[Removal, int]
    wheels: Mapping[str, int]
    kept: Mapping[Row, int]


def prune(
    root: str, wanted: Rules, described: Collection[str] | None = None, check: bool = False, now: float | None = None
) -> dict[str, Any]:
    """Remove from this host what no kept release needs.

    Args:
        root: the deployment's root folder.
        wanted: the rules.
        described: the services that the inventory describes; None when that is not known.
        check: only say what would go.
        now: seconds since the epoch; the time now by default.
    Returns:
        `changed`, `removed`, `kept`, `left_alone`, `freed`, `notes` and `failed_paths`, as the module documents them.
    Raises:
        DeployError: what is in use cannot be known.
    """
    now = time.time() if now is None else now
    # An inventory may name by a link what lies here.
    wanted = replace(wanted, prefixes=tuple({*wanted.prefixes, *map(os.path.realpath, wanted.prefixes)}))
    try:
        with contextlib.ExitStack() as alone:
            if not check and os.path.isdir(root):
                busy = "another pruning of this host is under way"
                alone.enter_context(exclusive_lock(os.path.join(root, ".prune.lock"), patience=0, busy=busy))
            snapshot, report, failed = _pruned(root, wanted, check, now)
    except OSError as error:
        raise DeployError(
            f"{error.filename or root}: {error.strerror or error}",
            "prune as the user who deploys to this host, or as root",
        ) from error
    return _as_result(root, snapshot, report, failed, notes(snapshot, described))


def _pruned(root: str, wanted: Rules, check: bool, now: float) -> tuple[Snapshot, Report, dict[str, str]]:
    """Decide, act and measure; what could not be removed is last, with the reason."""
    uses = _uses(root)
    with contextlib.ExitStack() as locks:
        snapshot = survey(root, locks, now, create_locks=not check)
        snapshot = replace(snapshot, held=uses.held, unread=uses.unread)
        decision = decide(snapshot, wanted)
        going, failed = _in_sight(decision) if check else _hidden(decision)
    report = _measured(root, snapshot, decision, going, now - wanted.min_age)
    if not check:
        failed = {**failed, **_removed(root, report, now - wanted.min_age)}
    return snapshot, report, failed


def trim_wheel_cache(root: str, before: float | None = None) -> list[str]:
    """Remove the wheels of which no file is linked into an environment; nothing while an environment is being built.

    Args:
        root: the deployment's root folder.
        before: seconds since the epoch; what was unpacked later stays. By default nothing is too young.
    Returns:
        The folders that were removed.
    """
    cache = _wheel_cache(root)
    if not os.path.isdir(cache) or os.path.islink(cache):
        return []
    with contextlib.suppress(DeployError), exclusive_lock(_builds_lock(root), patience=0):
        return disk.trim_wheels(cache, time.time() if before is None else before)
    return []


def _uses(root: str) -> Uses:
    """The processes that use what is there. They are looked at first: that takes longer than a lock should be held."""
    entries = take_inventory(root).entries
    tokens = {entry.token: entry.path for entry in entries}
    return find_uses(root, {**tokens, **{release_token(name): "" for name in _release_ids(root)}})


def _release_ids(root: str) -> list[str]:
    names = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for service in os.listdir(os.path.join(root, "services")):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                names += os.listdir(os.path.join(root, "services", service, "releases"))
    return names


def _in_sight(decision: Decision) -> tuple[list[Removal], dict[str, str]]:
    return [Removal(row, row.path) for row in decision.removed], {}


def _hidden(decision: Decision) -> tuple[list[Removal], dict[str, str]]:
    """Hide what goes; beside it, what could not be hidden -> why."""
    going, failed = [], {}
    for row in decision.removed:
        try:
            going.append(Removal(row, disk.hide(row.path)))
        except OSError as error:
            failed[row.path] = error.strerror or str(error)
    return going, failed


def _measured(root: str, snapshot: Snapshot, decision: Decision, going: Iterable[Removal], before: float) -> Report:
    seen: Counter[disk.Inode] = Counter()
    removed = {one: disk.frees(one.place, seen) for one in going}
    wheels = [] if snapshot.building else disk.unused_wheels(_wheel_cache(root), seen, before)
    kept = {row: disk.usage(row.path) for row in decision.kept}
    pointers = disk.pointers_to(_wheel_cache(root), wheels)
    sizes = {wheel: disk.frees(wheel, seen) + sum(map(disk.usage, pointers[wheel])) for wheel in wheels}
    return Report(removed, sizes, kept)


def _removed(root: str, report: Report, before: float) -> dict[str, str]:
    """Remove what was hidden, and the wheels; what could not be removed -> why."""
    failed = {}
    for one in report.removed:
        try:
            disk.remove(one.place)
        except OSError as error:
            failed[one.row.path] = f"{error.filename or one.place}: {error.strerror or error}"
    try:
        gone = trim_wheel_cache(root, before) if report.wheels else []
    except OSError as error:
        return {**failed, _wheel_cache(root): f"{error.filename}: {error.strerror or error}"}
    return {**failed, **{wheel: "an environment is being built" for wheel in report.wheels if wheel not in gone}}


def _as_result(
    root: str, snapshot: Snapshot, report: Report, failed: Mapping[str, str], remarks: list[str]
) -> dict[str, Any]:
    removed = [_as_dict(one.row, size) for one, size in report.removed.items() if one.row.path not in failed]
    wheels = {} if _wheel_cache(root) in failed else {w: s for w, s in report.wheels.items() if w not in failed}
    if wheels:
        why = f"{len(wheels)} unpacked wheel{'s' * (len(wheels) > 1)} of which no environment has a file"
        removed.append(_as_dict(Row(_wheel_cache(root), rules.WHEEL_CACHE, why), sum(wheels.values())))
    kept = [_as_dict(row, size) for row, size in report.kept.items()]
    return {
        "changed": bool(removed),
        "removed": removed,
        "kept": kept + _shared_caches(root, report.wheels),
        "left_alone": [{"path": path, "why": why} for path, why in sorted(snapshot.left_alone.items())],
        "freed": sum(row["bytes"] for row in removed),
        "notes": remarks,
        "failed_paths": [
            {"path": path, "why": why} for path, why in sorted(failed.items()) if path not in report.wheels
        ],
    }


def _shared_caches(root: str, going: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows for what builds share, without the wheels that nothing uses."""
    rows = []
    for name, kind in (("wheels", rules.WHEEL_CACHE), ("conda", rules.CONDA_CACHE)):
        path = os.path.join(root, "cache", name)
        if os.path.isdir(path) and not os.path.islink(path):
            row = Row(path, kind, "environments share its files, and the next one is built from it")
            there = sum(size for wheel, size in going.items() if wheel.startswith(path) and os.path.exists(wheel))
            rows.append(_as_dict(row, max(0, disk.usage(path) - there)))
    return rows


def _as_dict(row: Row, size: int) -> dict[str, Any]:
    return {"path": row.path, "kind": row.kind, "bytes": size, "why": row.why, "used_by": list(row.used_by)}


def _wheel_cache(root: str) -> str:
    return str(Caches(Path(Store(root).shared_caches)).wheels)


def _builds_lock(root: str) -> str:
    return str(Caches(Path(Store(root).shared_caches)).lock)
