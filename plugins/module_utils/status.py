"""What a service on this host is at: releases, process, health, and a cut-over that was cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal, probes
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import Subject, answers
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed
from ansible_collections.deployer.sglang.plugins.module_utils.engines import readiness_of
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import describe_listeners
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor


def service_status(root: str, service: str, port: int) -> dict[str, Any]:
    """The state of `service`, read and probed now; nothing is changed.

    Args:
        root: the deployment's root folder.
        service: the service's name.
        port: as the inventory has it, for a host where nothing was deployed yet.
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
    }
    unfinished = _unfinished(folder)
    if current is None:
        return {**known, "state": unfinished or "absent", "detail": describe_listeners(port)}
    try:
        staged = load_release(folder.release(current))
    except DeployError as error:
        return {**known, "state": unfinished or "failing", "detail": str(error)}
    supervisor = supervisor_for(staged.release.supervisor, service, folder)
    run = supervisor.state()
    known.update(
        engine=staged.release.engine,
        environment=os.path.basename(staged.release.environment.path),
        model=os.path.basename(staged.release.model.path),
        served_name=staged.release.served_name,
        port=staged.release.port,
        gpus=list(staged.release.gpus),
        running_release=run.release,
        pid=run.main_pid,
        uptime=_uptime(run.start_time) if run.running else None,
    )
    state, detail = _seen(staged, supervisor, run)
    if folder.release_of("current") != current:
        mended = "current names no release that is kept: the next deployment mends it"
        detail = "; ".join(filter(None, (detail, mended)))
    if unfinished:
        serves = f"release {current} {'answers' if state == 'serving' else f'does not answer: {detail}'}"
        return {**known, "state": unfinished, "detail": f"{_progress(journal.unfinished(folder) or {})}; {serves}"}
    return {**known, "state": state, "detail": detail}


def _seen(staged: StagedRelease, supervisor: Supervisor, run: RunState) -> tuple[str, str]:
    """The state of the committed release and what is to be said of it, probed now."""
    if not run.running:
        return "stopped", _why_stopped(run.exit, staged.release.port)
    if run.release != staged.id:
        return "failing", f"the process runs release {run.release}, not {staged.id}"
    subject = Subject(staged, supervisor)
    if not answers(subject):
        path = readiness_of(staged.release.engine)
        return "failing", f"{subject.url}{path} does not answer from the service's process"
    if staged.release.served_name:
        try:
            probes.serves_model(subject.url, staged.release.served_name, probes.READINESS_TIMEOUT)
        except probes.ProbeError as error:
            return "failing", str(error)
    return "serving", ""


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
    """Seconds since a process started, from its start time in clock ticks since boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK"))
