"""What a service on this host is at: releases, process, health, load, drift, and a cut-over that was cut off."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils import drift, gpu_probe, journal, probes
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import Subject, answers
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed
from ansible_collections.deployer.sglang.plugins.module_utils.engines import readiness_of
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import describe_listeners, foreign_listeners
from ansible_collections.deployer.sglang.plugins.module_utils.release import Release, StagedRelease, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.service_metrics import PATH as METRICS_PATH
from ansible_collections.deployer.sglang.plugins.module_utils.service_metrics import (
    Load,
    Scrape,
    read_load,
    scrape_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import UNIT_KIND, supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.by_hand import BY_HAND, read_marks
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import systemctl

PROBE_PATIENCE = 30.0  # seconds for the gate's probes: one whole look at a /health that generates, and a moment
GPU_PATIENCE = 20.0  # seconds for nvidia-smi, beside them
HOST_PATIENCE = 60.0  # seconds for everything: what hangs then is said, and left
FINISHED_BY = "the next rollout or rollback of the service brings it to its end"
SHOWN = ("ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "DropInPaths", "NeedDaemonReload")

Found = TypeVar("Found")


class Asked(Generic[Found]):
    """Something that is found out beside other things, and given up when it takes too long.

    Args:
        ask: finds it out; what it raises is kept, and raised by `answer`.
    """

    def __init__(self, ask: Callable[[], Found]) -> None:
        self._answer: list[Found] = []
        self._error: list[BaseException] = []
        # A daemon: one that hangs in the kernel must not keep the module from ending.
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._begun = time.monotonic()
        self._thread.start()

    def answer(self, patience: float) -> Found | None:
        """What was found out; None when it was not within `patience` seconds of having been asked."""
        self._thread.join(max(0.0, self._begun + patience - time.monotonic()))
        if self._error:
            raise self._error[0]
        return self._answer[0] if self._answer else None

    def _run(self, ask: Callable[[], Found]) -> None:
        try:
            self._answer.append(ask())
        except BaseException as error:
            self._error.append(error)


def host_status(
    root: str, services: Sequence[Mapping[str, Any]], patience: float = HOST_PATIENCE, address: str = ""
) -> list[dict[str, Any]]:
    """The state of every service of this host, all looked at beside each other.

    Args:
        root: the deployment's root folder.
        services: each with `name` and `port`.
        address: the host's own, as others reach it.
        patience: seconds after which a service that cannot be told is failing.
    """
    usage = _once(gpu_probe.read_usage)
    asked = [
        Asked(lambda one=one: service_status(root, one["name"], one["port"], usage, address))  # type: ignore[misc]
        for one in services
    ]
    states = []
    for one, wanted in zip(services, asked):
        hung = f"what it is at could not be told within {patience:g} s: see the disk and systemd of the host"
        lost = {"service": one["name"], "port": one["port"], "current": None, "state": "failing", "detail": hung}
        try:
            states.append(wanted.answer(patience) or {**lost, "drift": []})
        except (DeployError, OSError) as error:
            states.append({**lost, "detail": str(error), "drift": []})
        except Exception as error:  # whatever is odd about one service, the others are told of
            odd = f"what it is at cannot be told: {type(error).__name__}: {error}"
            states.append({**lost, "detail": odd, "drift": []})
    return states


def service_status(
    root: str,
    service: str,
    port: int,
    usage: Callable[[], tuple[Gpu, ...]] = gpu_probe.read_usage,
    address: str = "",
) -> dict[str, Any]:
    """The state of `service`, read and probed now; nothing is changed.

    Args:
        root: the deployment's root folder.
        service: the service's name.
        port: as the inventory has it, for a host where nothing was deployed yet.
        usage: reads the host's GPUs; asked where the service has any.
        address: the host's own, as others reach it.
    Returns:
        `state` is serving, failing (the process runs and does not answer), stopped, changing (a cut-over is under way),
        interrupted (one was cut off), or absent; beside it what is known.
    """
    folder = Store(root).service(service)
    current = committed(folder, None)
    known: dict[str, Any] = {
        "service": service,
        "port": port,
        "current": current,
        **{role: folder.release_of(role) for role in ("previous", "predecessor", "adopted")},
        "drift": [],
    }
    unfinished = _unfinished(folder)
    if current is None:
        nothing = Scrape(problem="nothing was deployed").as_dict()
        return {**known, "state": unfinished or "absent", "detail": describe_listeners(port), "metrics": nothing}
    place = folder.release(current)
    differs = drift.files_drift(place) + drift.current_drift(folder, current)
    known["drift"] = [one.as_dict() for one in differs]
    try:
        staged = load_release(place)
    except DeployError as error:
        return {**known, "state": unfinished or "failing", "detail": str(error)}
    release = staged.release
    supervisor = supervisor_for(release.supervisor, service, folder)
    run = supervisor.state()
    gpus = Asked(usage) if release.gpus else None
    url = probes.base_url(release.host, release.port)
    load = Asked(lambda: read_load(url, release.engine)) if run.running else None
    unit, shown = _unit(folder, release, run)
    state, detail, gate = _seen(staged, supervisor, run)
    if state == "serving" and unit["healthy"] is False:  # being stopped, it still answers
        state, detail = "failing", f"{unit['name'] or 'its process'} is {unit['state']}"
    if not unfinished and unit["kind"] != BY_HAND:  # a cut-over is yet to see to these
        differs += _unit_drift(folder, staged, shown) + drift.process_drift(folder, staged, run)
    uptime = _uptime(run.start_time) if run.running else None
    known.update(
        engine=release.engine,
        environment=os.path.basename(release.environment.path),
        model=os.path.basename(release.model.path),
        served_name=release.served_name,
        port=release.port,
        gpus=list(release.gpus),
        running_release=run.release,
        pid=run.main_pid,
        uptime=uptime,
        since=None if uptime is None else _moment(time.time() - uptime),
        gate=gate,
        unit=unit,
        metrics=scrape_of(release.engine, release.argv, release.host, release.port, address).as_dict(),
        load=_told_load(load).as_dict(),
        gpu_memory=_gpu_memory(release.gpus, run.pids, gpus.answer(GPU_PATIENCE) if gpus else ()),
        drift=[one.as_dict() for one in differs],
    )
    if unfinished:
        serves = f"release {current} {'answers' if state == 'serving' else f'does not answer: {detail}'}"
        said = f"{_progress(journal.unfinished(folder) or {})}; {serves}"
        fix = f". Fix: {FINISHED_BY}" if unfinished == "interrupted" else ""
        return {**known, "state": unfinished, "detail": said + fix}
    return {**known, "state": state, "detail": detail}


def _told_load(asked: Asked[Load] | None) -> Load:
    if asked is None:
        return Load(note="its process does not run")
    return asked.answer(PROBE_PATIENCE) or Load(note=f"{METRICS_PATH} was not answered within {PROBE_PATIENCE:g} s")


def _seen(staged: StagedRelease, supervisor: Supervisor, run: RunState) -> tuple[str, str, dict[str, Any]]:
    """The state of the committed release, what is to be said of it, and what the gate's probes say, asked now."""
    if not run.running:
        return "stopped", _why_stopped(run.exit, staged.release.port), {"passes": False, "detail": "nothing to ask"}
    if run.release != staged.id:
        detail = f"the process runs release {run.release}, not {staged.id}"
        return "failing", detail, {"passes": False, "detail": detail}
    url = probes.base_url(staged.release.host, staged.release.port)
    hangs = f"{url}{readiness_of(staged.release.engine)} hangs: no answer within {PROBE_PATIENCE:g} s"
    probed = Asked(lambda: _probed(Subject(staged, supervisor), run)).answer(PROBE_PATIENCE)
    detail = hangs if probed is None else probed
    return ("failing" if detail else "serving"), detail, {"passes": not detail, "detail": detail}


def _probed(subject: Subject, run: RunState) -> str:
    """Why the release's process does not serve; '' when it does: the gate's own probes, but for a generation."""
    release = subject.staged.release
    if not answers(subject):
        said = f"{subject.url}{readiness_of(release.engine)} does not answer from the service's process"
        others = foreign_listeners(release.port, run.pids)
        return f"{said}; port {release.port} is held by {others}" if others else said
    if release.served_name:
        try:
            probes.serves_model(subject.url, release.served_name, probes.READINESS_TIMEOUT)
        except probes.ProbeError as error:
            return str(error)
    return ""


def _unit(folder: ServiceFolder, release: Release, run: RunState) -> tuple[dict[str, Any], dict[str, str]]:
    """What keeps the process says of it: for people and programs; and as systemd has it, where it is systemd.

    Returns:
        `kind` (systemd, process, hand), `name`, `healthy`, `state` for people, `restarts` (None where nobody counts).
    """
    marks = read_marks(folder)
    by_hand = marks is not None and marks["by"] == BY_HAND and run.main_pid in (marks["pid"], marks["top_pid"])
    if by_hand and run.running:
        return _kept_by(BY_HAND, "", True, "started by hand"), {}
    if release.supervisor == "process":
        return _kept_by("process", "", run.running, "running" if run.running else run.exit or "not running"), {}
    name = release.supervisor[len(UNIT_KIND) :] if release.supervisor.startswith(UNIT_KIND) else release.unit
    shown = _show(name)
    state = f"{shown['ActiveState']} ({shown['SubState']})"
    if shown["Result"] not in ("success", ""):
        state += f", {shown['Result']}"
    if not shown["ActiveState"]:
        return _kept_by("systemd", name, None, "systemd does not say"), shown
    healthy = (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    restarts = int(shown["NRestarts"]) if shown["NRestarts"].isdigit() else None
    return _kept_by("systemd", name, healthy, state, restarts), shown


def _kept_by(kind: str, name: str, healthy: bool | None, state: str, restarts: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "name": name, "healthy": healthy, "state": state, "restarts": restarts}


def _show(unit: str) -> dict[str, str]:
    """What systemd says of a unit; nothing where there is no systemd, which its supervisor says where it matters."""
    try:
        text = systemctl("show", "--property", ",".join(SHOWN), unit)
    except DeployError:
        text = ""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: found.get(name, "") for name in SHOWN}


def _unit_drift(folder: ServiceFolder, staged: StagedRelease, shown: Mapping[str, str]) -> list[drift.Drift]:
    supervisor = staged.release.supervisor
    if supervisor == "systemd":
        return drift.unit_drift(folder, staged, shown)
    if supervisor.startswith(UNIT_KIND):
        return drift.adopted_unit_drift(staged, supervisor[len(UNIT_KIND) :], shown)
    return []


def _gpu_memory(
    wanted: Sequence[str], pids: frozenset[int], gpus: tuple[Gpu, ...] | None
) -> list[dict[str, Any]] | None:
    """Memory of a service's GPUs in bytes, and what of it is the service's; None where it could not be read.

    Args:
        wanted: indices or UUIDs.
        pids: the service's processes.
        gpus: of the host; None where nvidia-smi did not answer.
    """
    if not wanted:
        return []
    if gpus is None:
        return None
    return [
        {
            "gpu": str(gpu.index),
            "uuid": gpu.uuid,
            "total": gpu.memory_total,
            "used": gpu.memory_used,
            "service": sum(process.memory for process in gpu.processes if process.pid in pids),
        }
        for gpu in gpus
        if str(gpu.index) in wanted or gpu.uuid in wanted
    ] or None


def _once(read: Callable[[], Found]) -> Callable[[], Found]:
    """`read`, which is called at most once, however many ask."""
    lock = threading.Lock()
    found: list[Found] = []

    def shared() -> Found:
        with lock:
            if not found:
                found.append(read())
            return found[0]

    return shared


def _progress(transaction: Mapping[str, Any]) -> str:
    """A cut-over that is not over, for people."""
    releases = f"{transaction.get('from') or 'none'} → {transaction.get('to')}"
    return (
        f"{releases}, at {transaction.get('state')} since {transaction.get('time')}, by {transaction.get('initiator')}"
    )


def _why_stopped(ended: str, port: int) -> str:
    listeners = describe_listeners(port)
    other = f"; port {port} is held by {listeners}" if listeners else ""
    return (ended or "its process does not run") + other


def _unfinished(folder: ServiceFolder) -> str:
    """'changing' while a cut-over holds the lock, 'interrupted' when one ended without an end, '' otherwise."""
    if journal.unfinished(folder) is None:
        return ""
    try:
        with exclusive_lock(folder.lock, patience=0):
            return "interrupted" if journal.unfinished(folder) is not None else ""
    except DeployError:
        return "changing"


def _uptime(start_ticks: int) -> int:
    """Seconds since a process started, from its start time in clock ticks since boot: no clock was set meanwhile."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK"))


def _moment(seconds: float) -> str:
    """A time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
