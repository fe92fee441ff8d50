"""What keeps a server alive: nobody, a systemd unit, or something that would start it again behind our back."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server

HAND = "hand"
UNIT = "unit"
REFUSED = "refused"

CONTAINER = re.compile(r"(^|[/:-])(docker|libpod|kubepods|containerd|cri-o|crio|lxc|garden|podman|machine\.slice)\b")
CONTAINER_NAMES = ("docker-proxy", "rootlessport", "slirp4netns", "conmon", "containerd-shim")
# These start again what ends. Beginnings of the kernel's short names.
RESTARTERS = (
    "circusd",
    "dinit",
    "forever",
    "god",
    "honcho",
    "immortal",
    "monit",
    "nodemon",
    "pm2",
    "runsv",
    "s6-supervise",
    "supervise",
    "supervisord",
)
# Units in which a person or a timer starts what is no part of them.
PLACES = re.compile(
    r"(ssh|sshd|cron|crond|cronie|atd|anacron|dropbear|telnetd|rc-local|gdm|gdm3|sddm|lightdm|xrdp|xrdp-sesman|"
    r"(ssh|sshd|getty|serial-getty|console-getty|container-getty|container-shell|dropbear)@.*|console-getty|"
    r"rescue|emergency|debug-shell)\.service"
)
USER_MANAGER = re.compile(r"user@(?P<uid>\d+)\.service")
TERMINALS = re.compile(r"(gnome-terminal|konsole|xfce4-terminal|kitty|vte|tmux|screen|app-.*terminal).*\.service")
TRANSPARENT = frozenset(("runuser", "setpriv", "su", "sudo"))  # between a unit's main process and its user's
SHOWN = ("LoadState", "MainPID", "Transient", "Type", "UnitFileState")

Show = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True)
class Supervision:
    """Who keeps a server alive.

    Args:
        kind: hand, unit or refused.
        unit: the system unit, where it is one.
        enabled: what systemd says of whether that unit starts at boot.
        problem: why it cannot be taken over; '' where it can.
        fix: what to do about it.
    """

    kind: str
    unit: str = ""
    enabled: str = ""
    problem: str = ""
    fix: str = ""


def supervision_of(server: Server) -> Supervision:
    """Read from control groups, namespaces and the processes above what keeps `server` alive."""
    above = procfs.ancestors_of(server.top_pid)
    names = [(pid, procfs.name_of(pid)) for pid in (*above, *server.listeners, server.top_pid)]
    contained = _container(server, [name for _, name in names])
    if contained:
        return _refused(
            f"it runs in a container ({contained})",
            "stop that container by its own means, such as docker stop, and see that nothing starts it again",
        )
    restarter = next((pid for pid, name in names if is_restarter(name, procfs.words_of(pid))), 0)
    if restarter:
        return _refused(
            f"{procfs.describe(restarter)} would start it again",
            "stop it there (supervisorctl stop, pm2 stop, sv down, …) so that it stays stopped",
        )
    found = placed(procfs.cgroups_of(server.top_pid)[:1], server, above, show_unit)
    if found.kind == HAND and _other_namespace(server.top_pid, "mnt"):
        return _refused(
            "it runs with a file system view of its own (a mount namespace)",
            "end it where it was started, and describe it as the predecessor instead",
        )
    return found


def placed(cgroups: Sequence[str], server: Server, above: Sequence[int], show: Show) -> Supervision:
    """What the control group says.

    Args:
        cgroups: systemd's path for the process, none where there is no systemd.
        server: what runs in it.
        above: the processes above what was started.
        show: properties of a unit, by name.
    """
    parts = [part for part in (cgroups[0] if cgroups else "").split("/") if part]
    units = [part for part in parts if part.endswith((".service", ".scope"))]
    unit = units[-1] if units else ""
    manager = next((found for part in parts if (found := USER_MANAGER.fullmatch(part))), None)
    if not unit or unit.endswith(".scope") or PLACES.fullmatch(unit) or unit == (manager and manager[0]):
        return Supervision(HAND)
    if manager is not None:
        if TERMINALS.fullmatch(unit):
            return Supervision(HAND)
        return _refused(
            f"it is {unit} of the user manager of {server.user.name}, which would start it again",
            f"as {server.user.name}: systemctl --user disable --now {unit}; then deploy",
        )
    return _unit(unit, server, above, show(unit))


def _unit(unit: str, server: Server, above: Sequence[int], shown: Mapping[str, str]) -> Supervision:
    """A system unit: taken over where the server is all that it is for."""
    if shown.get("Transient") == "yes":
        return _refused(
            f"it is {unit}, made by systemd-run, which cannot be started again once it is stopped",
            f"systemctl stop {unit}; then deploy, with what it ran described as the predecessor",
        )
    main = int(shown.get("MainPID") or 0)
    between = above[: above.index(main)] if main in above else ()
    through = all(procfs.name_of(pid) in TRANSPARENT for pid in (*between, main)) if main in above else False
    if main in server.family or through or (main == 0 and shown.get("Type") == "forking"):
        return Supervision(UNIT, unit, shown.get("UnitFileState", ""))
    return _refused(
        f"it runs inside of {unit}, whose main process is another one ({procfs.describe(main) if main else 'none'})",
        f"start it by hand or in a unit of its own, not from within {unit}",
    )


def is_restarter(name: str, words: Sequence[str]) -> bool:
    """True for a program that starts again what ends; by its short name, or by the script that an interpreter runs."""
    script = os.path.basename(words[1]) if len(words) > 1 and not words[1].startswith("-") else ""
    own = os.path.basename(words[0].split(":")[0]).split(" ")[0] if words else ""
    known = {one.lower() for one in (name, own, script) if one}
    return any(one == other or re.match(rf"{re.escape(other)}[\s.:]", one) for one in known for other in RESTARTERS)


def show_unit(unit: str) -> dict[str, str]:
    """Properties of a unit; empty where systemd does not answer."""
    try:
        done = subprocess.run(
            ["systemctl", "show", "--property", ",".join(SHOWN), unit],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _container(server: Server, names: Sequence[str]) -> str:
    """What shows that it runs in a container; '' when nothing does. A host that is one itself has none of its own."""
    proxy = next((name for name in names if name.startswith(CONTAINER_NAMES)), "")
    if proxy:
        return proxy
    host = {path.rstrip("/") for path in (*procfs.cgroups_of(1), *procfs.cgroups_of(os.getpid()))}
    for path in procfs.cgroups_of(server.engine_pid):
        outer = max((one for one in host if path.startswith(f"{one}/") or path == one), key=len, default="")
        if CONTAINER.search(path[len(outer) :]):
            return f"control group {path}"
    return "a pid namespace of its own" if _other_namespace(server.engine_pid, "pid") else ""


def _other_namespace(pid: int, kind: str) -> bool:
    """True where a process has another namespace than PID 1, or, where that cannot be read, than this process."""
    host = procfs.link_of(1, f"ns/{kind}") or procfs.link_of(os.getpid(), f"ns/{kind}")
    own = procfs.link_of(pid, f"ns/{kind}")
    return bool(host and own) and own != host


def _refused(problem: str, fix: str) -> Supervision:
    return Supervision(REFUSED, problem=problem, fix=fix)
