"""Takes over what serves a service's port: it becomes the service's current release, and nothing is done to it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal, probes, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.asking import answers, served_names
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import (
    PRIVATE_FILE,
    Private,
    Record,
    record_of,
    unwritable,
)
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server, find_server
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.supervision import (
    HAND,
    UNIT,
    Supervision,
    supervision_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import UNKNOWN
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    point_link,
    pretty_json,
    read_text,
    sync_directory,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import GATE_FILE, LAUNCH_FILE, files_of
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.by_hand import ADOPTED_FILE, read_marks
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import SystemdSupervisor

LINK = "adopted"
TRIES = 3  # SGLang's /health gives a false 503 under a long prefill (sglang issue 22511)


@dataclass(frozen=True)
class Adoptable:
    """What listens on a service's port and is none of the deployment's.

    Args:
        engine: llamafactory, sglang, vllm or unknown.
        who: pid, user and the beginning of its command, for people.
        pids: all of its processes.
        gpus: indices and UUIDs, as its environment has them.
        served_name: that clients send; '' where it tells none.
        user: who runs it.
        started: when, in UTC.
        log: the file that it writes to, or what its output is instead.
        supervision: hand, unit (with the unit's name) or refused.
        problem: why it cannot be adopted; '' where it can.
        fix: what to do about that.
        automatic: True where a rollout may adopt it by itself, unless there is a problem.
    """

    engine: str
    who: str
    pids: frozenset[int]
    gpus: tuple[str, ...] = ()
    served_name: str = ""
    user: str = ""
    started: str = ""
    log: str = ""
    supervision: str = ""
    problem: str = ""
    fix: str = ""
    automatic: bool = False


def look(port: int, ours: Iterable[int]) -> Adoptable | None:
    """What would be adopted; None where nothing listens on `port`, or only `ours`. Changes nothing.

    Args:
        port: of the service.
        ours: processes of the deployment's own.
    """
    family = frozenset(ours)
    who = procfs.foreign_listeners(port, family)
    if not who:
        return None
    try:
        server = find_server(port, family)
    except DeployError as error:
        return Adoptable(UNKNOWN, who, _pids_on(port, family), problem=error.problem, fix=error.fix)
    if server is None:
        return None
    supervision = supervision_of(server)
    problem = _problem(server, supervision)
    names = served_names(server, probes.READINESS_TIMEOUT)
    engine = server.recognised.engine
    return Adoptable(
        engine=engine,
        who=procfs.describe(server.top_pid),
        pids=server.family,
        gpus=tuple(one for one in server.gpus.split(",") if one),
        served_name=_served_name(server, names),
        user=server.user.name,
        started=server.started,
        log=server.stdout.path or server.stdout.kind,
        supervision=f"unit {supervision.unit}" if supervision.kind == UNIT else supervision.kind,
        problem=problem.problem if problem else "",
        fix=problem.fix if problem else "",
        automatic=engine != UNKNOWN or names is not None,
    )


def adopt(
    folder: ServiceFolder,
    service: str,
    port: int,
    root: str,
    supervisor: str,
    initiator: str,
    any_command: bool = False,
) -> str:
    """Make what serves `port` the current release of `service`; the caller holds the service's lock.

    Whatever interrupts this, doing it again comes to the same. Nothing that runs is touched.

    Args:
        folder: of the service; it is made where it is missing.
        service: its name.
        port: its port.
        root: the deployment's root folder.
        supervisor: systemd or process: what keeps it once a rollback has started it.
        initiator: who asked for it, for the journal.
        any_command: also adopt what is no engine that is known and does not speak the OpenAI API.
    Returns:
        The release's id.
    Raises:
        DeployError: nothing serves there, it does not answer, or it cannot be taken over.
    """
    server = find_server(port)
    if server is None:
        raise DeployError(f"service {service}: nothing listens on port {port}", "there is nothing to adopt: deploy")
    who = f"service {service}, port {port}, {procfs.describe(server.top_pid)}"
    supervision = supervision_of(server)
    problem = _problem(server, supervision)
    if problem is not None:
        raise DeployError(f"{who}: {problem.problem}", problem.fix)
    names = served_names(server, probes.READINESS_TIMEOUT)
    if server.recognised.engine == UNKNOWN and names is None and not any_command:
        raise DeployError(
            f"{who}: it is no engine that is known, and does not list models at /v1/models",
            "if it is what the service is to replace, adopt it with any_command (playbook adopt); otherwise end it",
        )
    answers(server, TRIES)
    # The gate has no key: of a server that asks for one it sees that it answers, and no more.
    open_names = served_names(server, probes.READINESS_TIMEOUT, key=False)
    record = record_of(server, supervision, service, root, supervisor, _served_name(server, open_names))
    return _take_over(folder, server, supervision, record, initiator)


def adopted_marks(server: Server, release_id: str, supervision: Supervision) -> dict[str, Any]:
    """Which processes a release was when it was adopted: what adopted.json holds. Nothing in it is secret."""
    family = {pid: procfs.start_time_of(pid) for pid in sorted(server.family)}
    return {
        "release": release_id,
        "by": supervision.kind,
        "unit": supervision.unit,
        "pid": server.engine_pid,
        "start_time": server.start_time,
        "boot_id": server.boot_id,
        "engine_pid": server.engine_pid,
        "top_pid": server.top_pid,
        "top_start_time": server.top_start_time,
        "family": [[pid, start] for pid, start in family.items() if start],
        "uid": server.user.uid,
        "log": server.stdout.path,
        "started": server.started,
    }


def _take_over(folder: ServiceFolder, server: Server, supervision: Supervision, record: Record, initiator: str) -> str:
    identifier = record.staged.id
    marks = adopted_marks(server, identifier, supervision)
    path = os.path.join(folder.path, ADOPTED_FILE)
    known = read_marks(folder) or {}
    same = all(known.get(key) == marks[key] for key in ("release", "pid", "start_time", "boot_id"))
    before = folder.release_of("current")
    os.makedirs(folder.releases, mode=0o755, exist_ok=True)
    _write_release(record, server, folder)
    if record.staged.release.supervisor == "systemd":
        systemd = SystemdSupervisor(record.staged.release.unit)
        if not systemd.state().pids & server.family:
            # It serves nothing here, and would start this a second time as soon as its unit says so.
            systemd.request_stop(record.staged.release.stop_timeout)
        systemd.install(record.staged)
    if folder.release_of(LINK) != identifier:
        point_link(folder.link(LINK), os.path.join("releases", identifier))
    if before != identifier:
        if before is not None:
            point_link(folder.link("previous"), os.path.join("releases", before))
        point_link(folder.link("current"), os.path.join("releases", identifier))
    if not same or before != identifier:
        entry = {"from": before, "to": identifier, "initiator": initiator, "who": procfs.describe(server.top_pid)}
        journal.append(folder, event="adopted", **entry)
    # Last: from here on these processes are the service's own, and are not looked at for adoption again.
    if not same:
        write_file(path, pretty_json(marks))
    return identifier


def _problem(server: Server, supervision: Supervision) -> DeployError | None:
    """Why it could not be started again just so; None where it could."""
    if supervision.problem:
        return DeployError(supervision.problem, supervision.fix)
    if supervision.kind != HAND:
        return None
    by_itself = "end it, and describe how it is run as the predecessor of the service"
    if server.hidden:
        return DeployError(server.hidden, by_itself)
    if not os.path.exists(server.program) and not os.path.exists(server.executable):
        return DeployError(f"its program {server.program} is not there any more", by_itself)
    if not os.path.isdir(server.cwd) and os.access(os.path.dirname(server.cwd), os.X_OK):
        return DeployError(f"its working folder {server.cwd} is not there any more", by_itself)
    if unwritable(server):
        return DeployError(f"the path {unwritable(server)!r} is no UTF-8, or holds control characters", by_itself)
    if os.geteuid() not in (0, server.user.uid):
        return DeployError(f"it runs as {server.user.name}", "deploy to this host as root (ansible_become)")
    return None


def _served_name(server: Server, names: list[str] | None) -> str:
    """The name that clients send: of several the one that its command gives."""
    if not names:
        return ""
    given = server.recognised.served_name
    return given if given in names else names[0]


def _pids_on(port: int, ours: frozenset[int]) -> frozenset[int]:
    return frozenset(procfs.holders(procfs.listening_inodes(port)) - ours)


def _write_release(record: Record, server: Server, folder: ServiceFolder) -> None:
    """Write the release's folder beside its place and rename it there; what is there already is mended file by file."""
    target = folder.release(record.staged.id)
    texts = {**files_of(record.staged), GATE_FILE: pretty_json(dataclasses.asdict(Gate()))}
    there = os.path.isdir(target)
    place = target if there else os.path.join(folder.releases, f".{record.staged.id}.part")
    if not there:
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place, 0o755)
    for name, text in texts.items():
        if not there or (name != GATE_FILE and read_text(os.path.join(place, name)) != text):
            write_file(os.path.join(place, name), text, 0o755 if name == LAUNCH_FILE else 0o644)
    _write_private(os.path.join(place, PRIVATE_FILE), record.private, server)
    if not there:
        os.rename(place, target)
        sync_directory(folder.releases)


def _write_private(path: str, private: Private, server: Server) -> None:
    """Write what only the service's user may read: nobody else can, at any time."""
    if read_text(path) == private.text and os.stat(path).st_uid == server.user.uid:
        return
    descriptor, partial = tempfile.mkstemp(prefix=".", suffix=".part", dir=os.path.dirname(path))  # mode 0600
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(private.text)
        if os.geteuid() == 0:
            os.fchown(stream.fileno(), server.user.uid, server.user.gid)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
    sync_directory(os.path.dirname(path))
