"""What differs on a host from the release that is committed there: its files, its unit, its process."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import shown_argv, shown_text
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.redaction import redacted, secrets_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    RELEASE_VARIABLE,
    StagedRelease,
    verify_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import (
    CANDIDATE,
    COMMITTED,
    COMMITTED_RULES,
)

FILES, UNIT, PROCESS, CURRENT = "files", "unit", "process", "current"
SHOWN = 6  # words or names of a difference that are listed
LONGEST = 200  # characters of them
# A rollout that finds the release serving touches nothing, so its unit neither.
WRITE_UNIT = "at a good moment `systemctl stop {unit}` on the host, then deploy again: that writes the unit anew"
RESTART = "restart it at a good moment: `systemctl restart {unit}` on the host"
RESTART_PROCESS = "end its process at a good moment, and deploy again"


@dataclass(frozen=True)
class Drift:
    """One difference.

    Attributes:
        what: files, unit, process, or current.
        detail: what differs, in one line, without secrets.
        fix: what to do about it.
    """

    what: str
    detail: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        return asdict(self)


def files_drift(folder: str) -> list[Drift]:
    """The release's own files against their sums.

    Args:
        folder: of the release.
    """
    try:
        verify_release(folder)
    except DeployError as error:
        return [Drift(FILES, error.problem, error.fix)]
    except OSError as error:
        return [Drift(FILES, f"{folder} cannot be read: {error.strerror or error}", "see its rights and the disk")]
    return []


def current_drift(folder: ServiceFolder, committed: str) -> list[Drift]:
    """The link `current` against the release that is committed."""
    named = folder.release_of("current")
    if named == committed:
        return []
    said = f"names {named}, which is not kept" if named else "is missing, or no link"
    return [Drift(CURRENT, f"{folder.link('current')} {said}; committed is {committed}", "deploy again: that mends it")]


def unit_drift(folder: ServiceFolder, staged: StagedRelease, shown: Mapping[str, str]) -> list[Drift]:
    """The installed unit against the release's, with whatever else systemd reads for it.

    Args:
        folder: of the service.
        staged: the committed release, which systemd keeps.
        shown: UnitFileState, DropInPaths and NeedDaemonReload, as systemd has them.
    """
    unit = staged.release.unit
    path = os.path.join(COMMITTED, unit)
    found = []
    wanted = staged.unit + COMMITTED_RULES.format(launch=os.path.join(folder.release(staged.id), LAUNCH_FILE))
    installed = _unit_text(path)
    rewrite = WRITE_UNIT.format(unit=unit)
    if installed is None:
        found.append(Drift(UNIT, f"{path} is missing: the service does not start at boot", rewrite))
    elif installed != wanted:
        found.append(
            Drift(UNIT, f"{path} is not as the release has it: {_line_that_differs(wanted, installed)}", rewrite)
        )
    elif shown.get("UnitFileState") not in ("enabled", ""):
        state = shown["UnitFileState"]
        found.append(
            Drift(UNIT, f"{unit} is {state}: it does not start at boot", f"systemctl enable {unit} on the host")
        )
    for drop_in in drop_ins(unit, shown.get("DropInPaths", "")):
        fix = "remove it, or have what it says in the description of the service; then systemctl daemon-reload"
        found.append(Drift(UNIT, f"{drop_in} changes the unit", fix))
    candidate = os.path.join(CANDIDATE, unit)
    if os.path.exists(candidate):
        fix = f"remove it, then systemctl daemon-reload; {RESTART.format(unit=unit)}"
        found.append(
            Drift(UNIT, f"{candidate} of a release that was not committed stands before the unit in /etc", fix)
        )
    if shown.get("NeedDaemonReload") == "yes":
        found.append(
            Drift(UNIT, f"{unit} was changed on disk since systemd read it", "systemctl daemon-reload on the host")
        )
    return found


def _unit_text(path: str) -> str | None:
    """An installed unit, whatever somebody has written into it; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def adopted_unit_drift(staged: StagedRelease, unit: str, shown: Mapping[str, str]) -> list[Drift]:
    """A unit of the host's own that was adopted: whether it starts at boot as it did."""
    wanted, state = str(staged.release.adopted.get("enabled") or ""), shown.get("UnitFileState", "")
    if wanted in ("", state) or not state:
        return []
    return [Drift(UNIT, f"{unit} is {state}, and was {wanted} when it was adopted", "see to it on the host")]


def drop_ins(unit: str, loaded: str) -> list[str]:
    """Files that add to this unit alone: those that systemd has read, and those that it has yet to read.

    Args:
        unit: its name.
        loaded: DropInPaths.
    """
    folders = (COMMITTED, CANDIDATE, "/etc/systemd/system.control", "/run/systemd/system")
    found = {path for path in loaded.split() if os.path.basename(os.path.dirname(path)) != "service.d"}
    for folder in folders:
        found.update(glob.glob(os.path.join(glob.escape(folder), f"{unit}.d", "*.conf")))
    return sorted(found)


def process_drift(folder: ServiceFolder, staged: StagedRelease, run: RunState) -> list[Drift]:
    """The running process against the release: which one it is, its program, its words, its environment variables.

    Args:
        folder: of the service.
        staged: the committed release.
        run: what runs, by its supervisor.
    """
    pid = run.main_pid
    if pid is None or run.release is None:
        return []
    restart = RESTART.format(unit=staged.release.unit) if staged.release.supervisor == "systemd" else RESTART_PROCESS
    if run.release != staged.id:
        detail = f"pid {pid} runs release {run.release}, committed is {staged.id}"
        return [Drift(PROCESS, detail, f"deploy again; or {restart}")]
    try:
        environ = procfs.environment_of(pid)
    except OSError:
        return []  # gone meanwhile, or another user's
    if not any(entry.startswith(f"{RELEASE_VARIABLE}=") for entry in environ):
        return []  # started by hand and adopted: the record is of this very process
    place = folder.release(staged.id)
    argv, variables = _wanted(place, staged)
    secrets = secrets_of(place)
    details = [
        _program(staged, procfs.link_of(pid, "exe")),
        _words(argv, procfs.words_of(pid), secrets),
        _variables(variables, environ),
    ]
    return [Drift(PROCESS, f"pid {pid} {detail}", restart) for detail in details if detail]


def _wanted(place: str, staged: StagedRelease) -> tuple[list[str], dict[str, str]]:
    """The words and variables that the release's launch script starts, those of its private file among them."""
    argv, variables = list(staged.release.command(staged.id)), dict(staged.release.variables)
    private = read_json(os.path.join(place, PRIVATE_FILE)) if staged.release.adopted else None
    if isinstance(private, dict):
        words, hidden = private.get("argv"), private.get("variables")
        if isinstance(words, dict):
            argv = [str(words.get(str(at), word)) for at, word in enumerate(argv)]
        if isinstance(hidden, dict):
            variables.update(hidden)
    return argv, variables


def _program(staged: StagedRelease, found: str) -> str:
    adopted = staged.release.adopted
    # What is adopted may be a script, whose program is its interpreter.
    wanted = str(adopted.get("executable") or "") if adopted else os.path.realpath(staged.release.argv[0])
    if not found or not wanted:
        return ""
    if found.endswith(" (deleted)"):
        return f"runs {found[: -len(' (deleted)')]}, which was removed or replaced since it started"
    return f"runs {found}, the release {wanted}" if os.path.realpath(wanted) != os.path.realpath(found) else ""


def _words(wanted: list[str], found: list[str], secrets: Iterable[str]) -> str:
    if not found or found == wanted:
        return ""
    known = list(secrets)
    shown_wanted, shown_found = shown_argv(wanted, known), shown_argv(found, known)
    more = [word for word in shown_found if word not in shown_wanted]
    less = [word for word in shown_wanted if word not in shown_found]
    parts = [f"has {_listed(more)}"] * bool(more) + [f"lacks {_listed(less)}"] * bool(less)
    said = " and ".join(parts) or "has them in another order, or other secrets among them"
    return redacted(f"was started with other words than the release's: it {said}", known)


def _variables(wanted: Mapping[str, str], entries: Iterable[str]) -> str:
    """Names alone: a value may be a secret."""
    pairs = (entry.partition("=") for entry in entries)
    found = {name: value for name, _, value in pairs if name != RELEASE_VARIABLE}
    names = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    return f"has other environment variables than the release: {_listed(names)}" if names else ""


def _listed(words: list[str]) -> str:
    text = " ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _line_that_differs(wanted: str, found: str) -> str:
    lines, others = wanted.splitlines(), found.splitlines()
    more = [line for line in others if line.strip() and line not in lines]
    less = [line for line in lines if line.strip() and line not in others]
    if more:
        return f"it has {_listed(_without_secrets(more[:1]))!r}"
    return f"it lacks {_listed(_without_secrets(less[:1]))!r}" if less else "its lines are in another order"


def _without_secrets(lines: list[str]) -> list[str]:
    """Lines of a unit, of which one may set environment variables."""
    parts = (line.partition("Environment=") for line in lines)
    return [f"{shown_text(before)}{setting}{shown_text(value)}" for before, setting, value in parts]
