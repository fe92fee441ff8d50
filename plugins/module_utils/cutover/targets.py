"""Which release a cut-over is to bring: by its id, or by what it is to this host."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import point_link
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder

PREVIOUS = "@previous"  # what served before; the predecessor where nothing did
ADOPTED = "@adopted"  # what somebody else had started, and the deployment took over
PREDECESSOR = "@predecessor"  # what the description says of the way back
ALIASES = {"previous": PREVIOUS}
SHORTEST = 4  # characters by which a release may be named
FIX = "see `deployer history` for what this host keeps, or deploy the release that you want"


def resolve(folder: ServiceFolder, target: str) -> str:
    """The id of the release that `target` names.

    Args:
        folder: of the service.
        target: a release's id or the beginning of one, or a word above.
    Raises:
        DeployError: there is none, or more than one.
    """
    target = ALIASES.get(target, target)
    if target == PREVIOUS:
        return _previous(folder)
    if target.startswith("@"):
        found = folder.release_of(target[1:]) if target in (ADOPTED, PREDECESSOR) else None
        if found is None or not _kept(folder, found):
            known = f"one of {PREVIOUS}, {ADOPTED}, {PREDECESSOR}"
            fix = FIX if target in (ADOPTED, PREDECESSOR) else f"use {known}, or an id"
            raise DeployError(f"there is no release {target} on this host", fix)
        return found
    kept = releases(folder)
    if target in kept:
        return target
    matching = [one for one in kept if one.startswith(target)] if len(target) >= SHORTEST else []
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise DeployError(f"{target} is the beginning of {', '.join(matching)}", "give more of the id")
    raise DeployError(f"there is no release {target!r} on this host", FIX)


def releases(folder: ServiceFolder) -> list[str]:
    """The ids of all releases that are kept, in order of their names."""
    try:
        names = os.listdir(folder.releases)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith(".") and _kept(folder, name))


def committed(folder: ServiceFolder, running: str | None) -> str | None:
    """The release that is committed: what `current` names; where somebody removed that link, what must have been.

    Args:
        folder: of the service.
        running: the release that the service's process says it is.
    """
    current = folder.release_of("current")
    if current is not None and _kept(folder, current):
        return current
    last = [entry["to"] for entry in journal.entries(folder) if _has_committed(entry)]
    if running is not None and running not in last:
        running = None  # it runs and never proved itself: a candidate that a cut-over left
    for one in (running, *reversed(last)):
        if one is not None and _kept(folder, one):
            return str(one)
    return current


def mend_current(folder: ServiceFolder, running: str | None) -> str | None:
    """As `committed`, and the link names it again afterwards."""
    found = committed(folder, running)
    if found is not None and found != folder.release_of("current"):
        point_link(folder.link("current"), os.path.join("releases", found))
        journal.append(folder, event="mended", to=found, reason="current named no release that is kept")
    return found


def _has_committed(entry: dict[str, object]) -> bool:
    by_cutover = entry.get("event") == "ended" and entry.get("outcome") in ("committed", "unchanged")
    return by_cutover or entry.get("event") in ("adopted", "mended")


def _previous(folder: ServiceFolder) -> str:
    current = folder.release_of("current")
    unfinished = journal.unfinished(folder)
    if current is not None and unfinished is not None and unfinished.get("to") != current:
        return current  # what was cut off never served: what served before it is what is committed
    for role in ("previous", "predecessor"):
        found = folder.release_of(role)
        if found is not None and found != current:
            return found
    raise DeployError(
        "there is no earlier release on this host, and no predecessor was staged",
        "describe predecessor: in the service and deploy, or deploy the release that you want",
    )


def _kept(folder: ServiceFolder, release_id: str) -> bool:
    return os.path.isfile(os.path.join(folder.release(release_id), RELEASE_FILE))
