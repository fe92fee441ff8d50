"""What may be removed from a host, and why the rest is kept: pure functions over a snapshot of the host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_VARIABLE

ENVIRONMENT = "environment"
MODEL = "model"
COMPILE_CACHE = "compile cache"
RELEASE = "release"
INCOMING = "incoming"
BUILD = "unfinished build"
STAGING = "unfinished release"
REMOVAL = "unfinished removal"
WHEEL_CACHE = "wheel cache"
CONDA_CACHE = "conda cache"

# What a process may have loaded, so that a process that cannot be read may have it loaded.
LOADED = (ENVIRONMENT, MODEL, COMPILE_CACHE)

WHY_REMOVED = {
    COMPILE_CACHE: "its environment is gone",
    INCOMING: "its transfer was not resumed",
    BUILD: "no build holds its lock",
    STAGING: "its staging was cut off",
    REMOVAL: "its removal was cut off",
}


@dataclass(frozen=True)
class Rules:
    """What the operator decides.

    Args:
        keep: releases of a service that are kept beside those that something names.
        min_age: seconds; what is younger may belong to a staging that is under way.
        prefixes: existing environments that the inventory names.
    """

    keep: int = 2
    min_age: float = 86400.0
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlacedRelease:
    """A release in its folder.

    Args:
        id: its id, which is the folder's name.
        path: the folder.
        staged_at: seconds since the epoch.
        text: of release.json. Whatever artifact's folder it names anywhere, an option's value included, it uses.
    """

    id: str
    path: str
    staged_at: float
    text: str


@dataclass(frozen=True)
class ServiceState:
    """A service's releases, and what names them.

    Args:
        name: the service.
        releases: those in its folder.
        links: current, previous, predecessor, adopted -> release id.
        committed_at: when `current` was pointed to its release, seconds since the epoch.
        transaction: ids of the releases that transaction.json names.
        busy: a cut-over holds the lock, and may be about to name any release.
    """

    name: str
    releases: tuple[PlacedRelease, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    committed_at: float | None = None
    transaction: tuple[str, ...] = ()
    busy: bool = False


@dataclass(frozen=True)
class Entry:
    """Something that may have to go.

    Args:
        path: where it is.
        kind: one of the constants above.
        token: the text by which a release or a process that uses it names it.
        written_at: seconds since the epoch.
        locked: somebody builds it, or receives it.
    """

    path: str
    kind: str
    token: str
    written_at: float
    locked: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What a host is at.

    Args:
        now: seconds since the epoch.
        services: every service that has a folder.
        entries: artifacts, what half-done work left, compile caches.
        left_alone: path -> why it is none of ours.
        held: token of an entry, or `release_token` -> the processes that use it, for people.
        unread: processes that cannot be read and could use an artifact, for people.
        building: an environment is being built.
    """

    now: float
    services: tuple[ServiceState, ...] = ()
    entries: tuple[Entry, ...] = ()
    left_alone: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    building: bool = False


@dataclass(frozen=True)
class Row:
    """One thing and what is to become of it: `used_by` names releases and processes, `why` says it for people."""

    path: str
    kind: str
    why: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What goes, in the order in which it has to go, and what stays."""

    removed: tuple[Row, ...]
    kept: tuple[Row, ...]


def release_token(release_id: str) -> str:
    """What the environment of a process of this release has in it."""
    return f"{RELEASE_VARIABLE}={release_id}"


def kept_releases(service: ServiceState, keep: int, held: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The releases of a service that are kept -> why each is."""
    reasons: dict[str, list[str]] = {}
    for role, release in service.links.items():
        reasons.setdefault(release, []).append(role)
    for release in service.transaction:
        reasons.setdefault(release, []).append("named by transaction.json")
    for placed in service.releases:
        if service.busy:
            reasons.setdefault(placed.id, []).append("a cut-over is under way")
        if processes := held.get(release_token(placed.id)):
            reasons.setdefault(placed.id, []).append(f"run by {processes[0]}")
    # What is named already is left out first: a predecessor is staged after the release that it stands behind.
    rest = sorted((r for r in service.releases if r.id not in reasons), key=lambda r: (-r.staged_at, r.id))
    if rest and (service.committed_at is None or rest[0].staged_at >= service.committed_at):
        reasons[rest.pop(0).id] = ["staged after the current one"]
    for placed in rest[:keep]:
        reasons[placed.id] = [f"one of the {keep} newest others" if keep > 1 else "the newest other"]
    return {release: tuple(why) for release, why in reasons.items()}


def decide(snapshot: Snapshot, rules: Rules) -> Decision:
    """What may go from the host: never what a kept release names, a process uses or somebody is making."""
    rows: list[tuple[bool, Row]] = []
    users: list[tuple[str, str]] = []  # a text that may name entries, and who is the user then
    former: list[tuple[str, str]] = []
    for service in snapshot.services:
        kept = kept_releases(service, rules.keep, snapshot.held)
        for release in service.releases:
            why = ", ".join(kept.get(release.id, ()))
            name = f"release {release.id} of {service.name}"
            rows.append((not why, Row(release.path, RELEASE, why or _superseded(rules.keep))))
            (users if why else former).append((release.text, f"{name} ({why})" if why else name))
    users += [(prefix, f"inference_environments, as prefix {prefix}") for prefix in rules.prefixes]
    for entry in snapshot.entries:
        if entry.kind != COMPILE_CACHE:
            rows.append(_judged(entry, _reasons(entry, users, snapshot, rules), former))
    gone = {row.path for goes, row in rows if goes}
    environments = [entry for entry in snapshot.entries if entry.kind == ENVIRONMENT and entry.path not in gone]
    names = [(entry.token, f"environment {entry.token}") for entry in environments]
    names += [(path, f"{path}, which is left alone") for path in snapshot.left_alone]
    for entry in snapshot.entries:
        if entry.kind == COMPILE_CACHE:
            digest = entry.token.rpartition("/")[2]
            owners = [name for text, name in names if digest in text]
            reasons = _reasons(entry, users, snapshot, rules)
            rows.append(_judged(entry, _Reasons((*owners, *reasons.users), reasons.others), former))
    return Decision(tuple(row for goes, row in rows if goes), tuple(row for goes, row in rows if not goes))


def notes(snapshot: Snapshot, described: Collection[str] | None) -> list[str]:
    """What the operator has to know beside the lists.

    Args:
        snapshot: of the host.
        described: the services that the inventory describes; None when that is not known.
    """
    lines = []
    for service in snapshot.services:
        if described is not None and service.name not in described and service.releases:
            folder = os.path.dirname(os.path.dirname(service.releases[0].path))
            lines.append(
                f"service {service.name} is not described any more, and what it uses is kept. To retire it: "
                f"systemctl disable --now inference-{service.name} (or end its process), remove {folder}, prune again"
            )
    if snapshot.unread:
        more = f" and {len(snapshot.unread) - 1} more" if len(snapshot.unread) > 1 else ""
        lines.append(
            f"{snapshot.unread[0]}{more} cannot be read and may use any environment, model or compile cache: all are "
            "kept. To prune them: run this as root, or close the deployment's root folder to other users (chmod o-x)"
        )
    return lines


def duration(seconds: float) -> str:
    """Seconds for people: `1 day`, `36 hours`, `5 minutes`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}" + ("s" if seconds != size else "")
    return f"{seconds:g} seconds"


@dataclass(frozen=True)
class _Reasons:
    """Why an entry is kept: who uses it, and what else speaks for it."""

    users: tuple[str, ...]
    others: tuple[str, ...]


def _reasons(entry: Entry, users: Iterable[tuple[str, str]], snapshot: Snapshot, rules: Rules) -> _Reasons:
    found = [user for text, user in users if entry.token in text]
    found += snapshot.held.get(entry.token, ())
    others = []
    if entry.locked:
        others.append("its lock is held")
    if entry.kind != REMOVAL and snapshot.now - entry.written_at < rules.min_age:
        others.append(f"younger than {duration(rules.min_age)}")
    if entry.kind in LOADED and snapshot.unread:
        others.append(f"{snapshot.unread[0]} cannot be read and may use it")
    return _Reasons(tuple(found), tuple(others))


def _judged(entry: Entry, reasons: _Reasons, former: Iterable[tuple[str, str]]) -> tuple[bool, Row]:
    """Whether an entry goes, and its row."""
    if reasons.users or reasons.others:
        return False, Row(entry.path, entry.kind, "; ".join((*reasons.users, *reasons.others)), reasons.users)
    why = WHY_REMOVED.get(entry.kind, "no kept release uses it")
    last = [user for text, user in former if entry.token in text]
    if entry.kind in (ENVIRONMENT, MODEL) and last:
        why += f"; {last[0]} did" + (f" and {len(last) - 1} more" if len(last) > 1 else "")
    return True, Row(entry.path, entry.kind, why)


def _superseded(keep: int) -> str:
    return f"nothing names it, and it is older than the {keep} newest others" if keep else "nothing names it"
