"""What a service on this host is at: releases, process, health, and a cut-over that was cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal, probes
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.gate import Subject, answers
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import describe_listeners
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for


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
    known: dict[str, Any] = {
        "service": service,
        "port": port,
        "current": folder.release_of("current"),
        "previous": folder.release_of("previous"),
        "predecessor": folder.release_of("predecessor"),
    }
    if known["current"] is None:
        return {**known, "state": _unfinished(folder) or "absent", "detail": describe_listeners(port)}
    staged = load_release(folder.release(known["current"]))
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
    unfinished = _unfinished(folder)
    if unfinished:
        return {**known, "state": unfinished, "detail": _progress(journal.unfinished(folder) or {})}
    if not run.running:
        return {**known, "state": "stopped", "detail": _why_stopped(run.exit, staged.release.port)}
    subject = Subject(staged, supervisor)
    if run.release != staged.id:
        return {**known, "state": "failing", "detail": f"the process runs release {run.release}, not {staged.id}"}
    if not answers(subject):
        path = engine_named(staged.release.engine).readiness
        return {
            **known,
            "state": "failing",
            "detail": f"{subject.url}{path} does not answer from the service's process",
        }
    try:
        probes.serves_model(subject.url, staged.release.served_name, probes.READINESS_TIMEOUT)
    except probes.ProbeError as error:
        return {**known, "state": "failing", "detail": str(error)}
    return {**known, "state": "serving", "detail": ""}


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
