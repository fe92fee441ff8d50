"""Waits for a host's relay, and shows how far the fleet is."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import tell
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import FleetProgress, size

ASK_EVERY = 1.0  # seconds at first; longer for a long transfer
ASK_SELDOM = 5.0
UNREACHABLE_AFTER = 90.0  # seconds; a network may come back, and the transfer goes on meanwhile
MUTE_AFTER = 120.0  # seconds in which a relay that lives writes nothing, though it should every second
REPORTED = ("received", "resumed", "linked", "sent", "lost", "started", "landed", "peak_memory", "files")


def wait_for_host(action: ActionBase, run: str, run_id: str, host: str, root: str, socket: str = "") -> dict[str, Any]:
    """Ask a host's relay how far it is until it has landed everything.

    Args:
        action: whose connection is used.
        run: folder of the run.
        run_id: its name.
        host: name in the inventory.
        root: the deployment's root folder.
        socket: of the command that started the run, which is told; '' for none.
    Returns:
        The task's result.
    Raises:
        DeployError: the transfer failed there, its process ended, or another run has taken its place.
        AnsibleConnectionFailure: the host has not been reachable for a while.
    """
    progress = FleetProgress(run)
    began = heard = spoke = time.monotonic()
    said: Any = None
    while True:
        try:
            report, alive = _ask(action, Store(root))
            if not alive:  # it may have written its last word in between
                report, _ = _ask(action, Store(root))
            heard = time.monotonic()
        except AnsibleConnectionFailure as error:
            if time.monotonic() - heard > UNREACHABLE_AFTER:
                raise AnsibleConnectionFailure(f"{host} was lost during the transfer: {error}") from error
            action._connection.reset()
            time.sleep(ASK_EVERY)
            continue
        if report and report.get("run") != run_id:
            raise DeployError("another run brings weights to this host", "wait until it has ended, and run again")
        if report.get("reports") != said:
            said, spoke = report.get("reports"), time.monotonic()
        if report:
            line = progress.note(host, report)
            if line:
                Display().display(line)
            tell(socket, "progress", told(host, report))
        state = report.get("state")
        if state == "landed":
            warnings = [f"{host} left {source}: {why}" for source, why in (report.get("lost") or {}).items()]
            return {"changed": True, "warnings": warnings, **{name: report.get(name) for name in REPORTED}}
        if state == "failed":
            error = report.get("error") or {}
            raise DeployError(str(error.get("problem")), str(error.get("fix")), str(error.get("detail") or ""))
        if not alive:
            raise DeployError("the relay on the host was ended by somebody", "run again: it resumes")
        if time.monotonic() - spoke > MUTE_AFTER:
            raise DeployError("the relay on the host says nothing any more", "see the disk of the host; run again")
        time.sleep(ASK_EVERY if time.monotonic() - began < 60 else ASK_SELDOM)


def told(host: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """How far a host is, as docs/events.md has it.

    Args:
        host: name in the inventory.
        report: what its relay wrote last.
    """
    done, total, rate = int(report["resumed"] + report["received"]), int(report["total"]), float(report["rate"])
    text = f"weights: {size(done)} of {size(total)}, {size(rate)}/s"
    amounts = {"done": done, "total": total, "unit": "bytes", "rate": rate}
    return {"host": host, "service": "", "phase": "model", **amounts, "text": text}


def _ask(action: ActionBase, store: Store) -> tuple[dict[str, Any], bool]:
    """What the relay wrote last, and whether its process lives; it learns thereby that somebody waits for it."""
    asked, said = shlex.quote(store.relay_asked), shlex.quote(store.relay)
    # No module: a transfer takes long, and this is asked all the time.
    pid = f"$(sed -n 's/^ *\"pid\": \\([0-9]*\\).*/\\1/p' {said})"
    command = f"touch {asked}; cat {said} && cat /proc/{pid}/stat"
    answer = action._low_level_execute_command(command)
    text, _, rest = str(answer.get("stdout") or "").rpartition("}")
    try:
        report = json.loads(text + "}")
    except ValueError:
        return {}, False
    fields = rest.rpartition(")")[2].split()  # proc(5): the start time is field 22
    return report, len(fields) > 19 and fields[19] == str(report.get("start_time"))
