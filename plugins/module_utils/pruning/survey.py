"""Reading what a host is at: services, releases, artifacts, locks. Nothing is changed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import RECORD, UNFINISHED
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock, read_text
from ansible_collections.deployer.sglang.plugins.module_utils.pruning import rules
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import (
    Entry,
    PlacedRelease,
    ServiceState,
    Snapshot,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    GATE_FILE,
    HANDOVER_FILE,
    RELEASE_FILE,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE

LINKS = ("current", "previous", "predecessor", "adopted")
ARTIFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}")
WORK = re.compile(r"\.(?P<name>.+)\.(build|replaced)")  # beside an environment that is built, or built again
ARRIVING = re.compile(r"[0-9a-f]{64}(\.landing)?")
SHORT_DIGEST = re.compile(r"[0-9a-f]{12}")
HIDDEN = re.compile(r"\..+\.removing(\.\d+)?")  # see disk.hide
LOCK = re.compile(r"\..+\.lock")
SHARED_CACHES = ("wheels", "conda", "sources")
NOTES = re.compile(
    r"hashes\.json|relay\.json(\.asked)?|\.relay\.json\.part|seed-[0-9a-f]+\.json"
)  # what the deployment knows of weights and transfers: small
OF_TRANSFERS = (rules.INCOMING, rules.MODEL)  # what a relay that runs writes to, and links from
NO_NAME_OF_OURS = "it is not named as an artifact of the deployment is"
LINKED = "it is a symbolic link, and none is followed"
PATIENCE = 2  # seconds; a look at the status holds a service's lock for a moment, a cut-over to its end


@dataclass
class Inventory:
    """What is at hand: entries, and what is none of ours with the reason."""

    entries: list[Entry] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)


def take_inventory(root: str) -> Inventory:
    """Everything below artifacts/, incoming/ and cache/.

    Raises:
        OSError: something cannot be read.
    """
    found = Inventory()
    for entry in _children(os.path.join(root, "artifacts"), found):
        if entry.name not in ("environments", "models"):
            found.left_alone[entry.path] = NO_NAME_OF_OURS
    for entry in _children(os.path.join(root, "artifacts", "environments"), found):
        _environment(entry, found)
    for entry in _children(os.path.join(root, "artifacts", "models"), found):
        _model(entry, found)
    for entry in _children(os.path.join(root, "incoming"), found):
        if ARRIVING.fullmatch(entry.name):
            found.entries.append(_entry(entry, rules.INCOMING, _newest(entry.path), f"incoming/{entry.name}"))
        else:
            _removal_or_left_alone(entry, found, NO_NAME_OF_OURS)
    for entry in _children(os.path.join(root, "cache"), found):
        if SHORT_DIGEST.fullmatch(entry.name):
            found.entries.append(_entry(entry, rules.COMPILE_CACHE, _written(entry.path), f"cache/{entry.name}"))
        elif entry.name not in SHARED_CACHES:
            _removal_or_left_alone(entry, found, NO_NAME_OF_OURS)
    for folder in _service_folders(root, found):
        for entry in _children(folder.releases, found):
            _beside_releases(entry, found)
    return found


def survey(root: str, held: contextlib.ExitStack, now: float, create_locks: bool) -> Snapshot:
    """The host as it is, without its processes.

    Args:
        root: the deployment's root folder.
        held: takes every lock that was free, so that what is decided stays true until they are given back.
        now: seconds since the epoch.
        create_locks: also take those that do not exist yet; False leaves the host as it is.
    Raises:
        DeployError: what a service uses cannot be known.
        OSError: something cannot be read.
    """
    services = tuple(_service(folder, held, create_locks) for folder in _service_folders(root, Inventory()))
    found = take_inventory(root)
    environments = os.path.join(root, "artifacts", "environments")
    locks = [path for path in _locks_in(environments) if _is_held(path, held, patience=0)]
    builds = _is_held(os.path.join(root, "cache", ".builds.lock"), held, patience=0)
    receiving = _is_held(Store(root).relay_lock, held, patience=0)
    entries = tuple(
        replace(entry, locked=_is_locked(entry, locks, held) or (receiving and entry.kind in OF_TRANSFERS))
        for entry in found.entries
    )
    return Snapshot(now, services, entries, found.left_alone, building=builds or bool(locks))


def _children(folder: str, found: Inventory) -> Iterator[os.DirEntry[str]]:
    """The folders in a folder but for links, by name; the rest is left alone, and locks and notes are passed over."""
    if os.path.islink(folder):
        found.left_alone[folder] = LINKED
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_symlink():
            found.left_alone[entry.path] = LINKED
        elif entry.is_dir(follow_symlinks=False):
            yield entry
        elif not LOCK.fullmatch(entry.name) and not NOTES.fullmatch(entry.name):
            found.left_alone[entry.path] = "it is no folder"


def _environment(entry: os.DirEntry[str], found: Inventory) -> None:
    work = WORK.fullmatch(entry.name)
    if work and ARTIFACT.fullmatch(work["name"]):
        # What was put aside to be built again is as good as the environment until there is another.
        token = work["name"] if entry.name.endswith(".replaced") else entry.name
        found.entries.append(_entry(entry, rules.BUILD, _written(entry.path), token))
        return
    if not ARTIFACT.fullmatch(entry.name):
        _removal_or_left_alone(entry, found, NO_NAME_OF_OURS)
    elif _is_file(os.path.join(entry.path, RECORD)):
        written = _written(os.path.join(entry.path, RECORD))
        found.entries.append(_entry(entry, rules.ENVIRONMENT, written))
    elif _is_file(os.path.join(entry.path, UNFINISHED)) or not os.listdir(entry.path):
        found.entries.append(_entry(entry, rules.BUILD, _written(entry.path)))
    else:
        found.left_alone[entry.path] = f"it has no {RECORD}"


def _model(entry: os.DirEntry[str], found: Inventory) -> None:
    if not ARTIFACT.fullmatch(entry.name):
        _removal_or_left_alone(entry, found, NO_NAME_OF_OURS)
    elif _is_file(os.path.join(entry.path, MANIFEST_FILE)):
        found.entries.append(_entry(entry, rules.MODEL, _written(os.path.join(entry.path, MANIFEST_FILE))))
    else:
        found.left_alone[entry.path] = f"it has no {MANIFEST_FILE}"


def _beside_releases(entry: os.DirEntry[str], found: Inventory) -> None:
    """What is in a releases folder and is no release."""
    if entry.name.startswith(".") and entry.name.endswith(".part"):
        found.entries.append(_entry(entry, rules.STAGING, _written(entry.path)))
    elif not _is_release(entry):
        _removal_or_left_alone(entry, found, f"it has no {RELEASE_FILE}")


def _removal_or_left_alone(entry: os.DirEntry[str], found: Inventory, why: str) -> None:
    if HIDDEN.fullmatch(entry.name):
        found.entries.append(_entry(entry, rules.REMOVAL, _written(entry.path)))
    else:
        found.left_alone[entry.path] = why


def _entry(entry: os.DirEntry[str], kind: str, written_at: float, token: str = "") -> Entry:
    return Entry(entry.path, kind, token or entry.name, written_at)


def _service_folders(root: str, found: Inventory) -> list[ServiceFolder]:
    """The services' folders.

    Raises:
        DeployError: a link stands where one is expected: what lies behind it may be in use.
    """
    services = os.path.join(root, "services")
    folders = [Store(root).service(entry.name) for entry in _children(services, found)]
    for path in (services, *(folder.releases for folder in folders)):
        if os.path.islink(path):
            raise _unknown_use(path, "it is a symbolic link", "put the folder itself there")
    links = [path for path, why in found.left_alone.items() if why == LINKED and os.path.dirname(path) == services]
    if links:
        raise _unknown_use(links[0], "it is a symbolic link", "put the folder itself there, or remove the link")
    return folders


def _service(folder: ServiceFolder, held: contextlib.ExitStack, create_locks: bool) -> ServiceState:
    busy = (create_locks or os.path.exists(folder.lock)) and _is_held(folder.lock, held, PATIENCE, create_locks)
    children = list(_children(folder.releases, Inventory()))
    releases = tuple(_release(entry.path) for entry in children if _is_release(entry))
    links = {role: release for role in LINKS if (release := _named_by(folder, role)) is not None}
    transaction = _transaction(folder)
    there = {release.id for release in releases}
    for source, release in (*links.items(), *(("transaction.json", release) for release in transaction)):
        if release not in there:
            raise _unknown_use(
                os.path.join(folder.path, source),
                f"it names release {release}, which is not in {folder.releases}",
                f"deploy service {os.path.basename(folder.path)} again, or remove what names the release",
            )
    committed = os.lstat(folder.link("current")).st_mtime if "current" in links else None
    return ServiceState(os.path.basename(folder.path), releases, links, committed, transaction, busy)


def _named_by(folder: ServiceFolder, role: str) -> str | None:
    link = folder.link(role)
    if os.path.lexists(link) and not os.path.islink(link):
        raise _unknown_use(link, "it is no link to a release", "remove it")
    return folder.release_of(role)


def _transaction(folder: ServiceFolder) -> tuple[str, ...]:
    fix = "remove the file when no cut-over is under way, and deploy again"
    try:
        value = journal.unfinished(folder)
    except (DeployError, OSError) as error:
        reason = error.problem if isinstance(error, DeployError) else str(error)
        raise _unknown_use(folder.transaction, reason, fix) from None
    if value is None:
        if os.path.lexists(folder.transaction):
            raise _unknown_use(folder.transaction, "it holds no transaction", fix)
        return ()
    return tuple(str(value[key]) for key in ("from", "to") if value.get(key))


def _is_release(entry: os.DirEntry[str]) -> bool:
    """True for a folder that was a release, also where its release.json was lost."""
    there = os.path.lexists(os.path.join(entry.path, RELEASE_FILE))
    return not entry.name.startswith(".") and (there or bool(SHORT_DIGEST.fullmatch(entry.name)))


def _release(path: str) -> PlacedRelease:
    """What is needed of a release: not all of it, so that one that another version staged can be read as well.

    Raises:
        DeployError: what it uses cannot be known.
    """
    file = os.path.join(path, RELEASE_FILE)
    try:
        text = read_text(file) or ""
        value = json.loads(text)
        used = [str(value["environment"]["path"]), str(value["model"]["path"])]
        problem = "" if value["id"] == os.path.basename(path) else f"it is that of release {value['id']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"it is missing or damaged ({type(error).__name__}: {error})"
    if problem:
        fix = f"deploy again, which writes a release that is in use anew; where nothing uses it, remove {path}"
        raise _unknown_use(file, problem, fix)
    # A prefix of the user's own may be a link to an environment of ours.
    text = "\n".join([text, *map(os.path.realpath, used)])
    return PlacedRelease(os.path.basename(path), path, _staged_at(path), text)


def _staged_at(path: str) -> float:
    """When a release was staged last: a release that is staged again with another gate has that written anew."""
    files = [os.path.join(path, name) for name in (RELEASE_FILE, GATE_FILE, HANDOVER_FILE)]
    return max(_written(file) for file in files if os.path.lexists(file))


def _unknown_use(path: str, why: str, fix: str) -> DeployError:
    return DeployError(f"{path}: {why}; what is in use is not known, so nothing on this host is pruned", fix)


def _locks_in(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(folder, name) for name in sorted(names) if LOCK.fullmatch(name)]


def _is_locked(entry: Entry, held_builds: list[str], held: contextlib.ExitStack) -> bool:
    folder, name = os.path.split(entry.path)
    work = WORK.fullmatch(name)
    lock = os.path.join(folder, f".{work['name'] if work else name}.lock")
    if os.path.basename(folder) == "environments":
        return lock in held_builds
    return _is_held(lock, held, patience=0)


def _is_held(path: str, held: contextlib.ExitStack, patience: float, create: bool = False) -> bool:
    """True when somebody else has the lock; when nobody has, `held` has it now."""
    if not create and not os.path.lexists(path):
        return False
    try:
        held.enter_context(exclusive_lock(path, patience))
    except (DeployError, PermissionError):
        return True
    return False


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _written(path: str) -> float:
    return os.lstat(path).st_mtime


def _newest(folder: str) -> float:
    """When anything in a folder was written last."""
    newest = _written(folder)
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in folders + files:
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mtime)
    return newest
