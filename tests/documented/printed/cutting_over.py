"""Cut-overs that do not go well, with real processes: what the log of a release says is an engine's own words."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.deployer.sglang.plugins.action import cutover as cutover_action
from ansible_collections.deployer.sglang.plugins.action.rollout_lock import _refused, _said
from ansible_collections.deployer.sglang.plugins.module_utils.adoption import adopt, supervision
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import LAUNCH_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import Holder
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.modules.cutover import by_hand
from deployer.api.change import FIRST_CTRL_C, SECOND_CTRL_C
from deployer.runs.events import Event
from deployer.runs.outcome import ChangeResult, meaning
from deployer.runs.results import CUTOVER, LOCK, NOT_RESTORED, RESTORED, HostResult, Summary
from deployer.runs.watch import Watch
from deployer.views.ending import print_ending
from tests.documented.printed.terminal import as_deployed, cut_over, ended, events, printed_by, watched
from tests.doubles.released_host import SERVICE, ReleasedHost
from tests.unit.deployer.runs.recorded import broadcast

if TYPE_CHECKING:
    from tests.documented.printed.scenarios import Stage

GOOD, BAD = "0226b3adf63f", "ecdf5ae96975"
_SWITCH = "Ensure each service serves the release asked for"
_INVENTORY = {"ansible_inventory_sources": ["fleet/hosts.yml"]}


def failed_out_of_memory(stage: Stage) -> str:
    line = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.52 GiB. GPU 6 has 79.11 GiB, 0.94 GiB is free."
    )
    return _ends(stage.host(), line, 1)


def failed_port(stage: Stage) -> str:
    line = "ERROR: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8001): address already in use"
    return _ends(stage.host(), line, 1)


def failed_flag(stage: Stage) -> str:
    return _ends(stage.host(), "launch_server.py: error: unrecognized arguments: --max-runing-requests 100", 2)


def failed_weights(stage: Stage) -> str:
    line = "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata"
    return _ends(stage.host(), line, 1)


def failed_cuda(stage: Stage) -> str:
    line = "RuntimeError: The NVIDIA driver on your system is too old (found version 12020)."
    return _ends(stage.host(), line, 1)


def failed_nccl(stage: Stage) -> str:
    return _ends(stage.host(), "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690", 1)


def failed_crash(stage: Stage) -> str:
    return _ends(stage.host(), "ModuleNotFoundError: No module named 'sgl_kernel'", 1)


def failed_timeout(stage: Stage) -> str:
    return _fails(stage.host(), "hang-loading", progress_timeout=1)


def failed_identity(stage: Stage) -> str:
    return _fails(stage.host(), "wrong-name")


def failed_generation(stage: Stage) -> str:
    return _fails(stage.host(), "none", generations=[{"prompt": "How many rows?", "pattern": "(?i)select count"}])


def restored(stage: Stage) -> str:
    cutover = {"outcome": "restored", "service": SERVICE, "before": GOOD, "after": GOOD, "target": BAD}
    return _ending(RESTORED, HostResult("gpu1", cutovers=(cutover,), failure="x"))


def not_restored(stage: Stage) -> str:
    host = ReleasedHost(stage.folder / "process")
    host.stage(GOOD)
    host.cut_over(GOOD)
    write_file(os.path.join(host.folder.release(GOOD), LAUNCH_FILE), "#!/bin/sh\nexit 3\n", 0o755)
    _staged(host, "RuntimeError: CUDA error: device-side assert triggered", 1)
    outcome = host.cut_over(BAD)
    kept = ReleasedHost(stage.folder / "systemd")  # the same release, as systemd keeps it
    kept.stage(GOOD, supervisor="systemd")
    said = as_deployed(by_hand(kept.order(BAD), outcome), kept)
    printed = cut_over("gpu1", outcome, by_hand=said)
    last = {"service": SERVICE, **outcome.as_dict()}
    printed += _ending(NOT_RESTORED, HostResult("gpu1", cutovers=(last,), failure="x"))
    return as_deployed(printed, host)


def locked(stage: Stage) -> str:
    held = {"held": True, "holder": _holder().as_dict()}
    answer = _refused(_said(held), "gpu1", _INVENTORY, check=False)
    return watched(ended("gpu1", "Take the lock", answer, action=LOCK, role="rollout_lock"))


def lock_taken_over(stage: Stage) -> str:
    result = {"changed": False, "took_over": _said({"holder": _holder().as_dict()})["text"]}
    return watched(ended("gpu1", "Take the lock", result, "ok", LOCK, "rollout_lock"))


def outcome_not_known(stage: Stage) -> str:
    return _ending(NOT_RESTORED, HostResult("gpu1", cutover_unknown=True, failure="x"))


def host_not_heard_of(stage: Stage) -> str:
    return watched(
        ended("gpu1", _SWITCH, cutover_action._lost(SERVICE, cutover_action.FORGOTTEN), action=CUTOVER, item=True)
    )


def ctrl_c_once(stage: Stage) -> str:
    return events(Event("interrupted", {"count": 1, "text": FIRST_CTRL_C, "hosts": {}}))


def ctrl_c_twice(stage: Stage) -> str:
    watch = Watch(broadcast([]))
    for host, task, role in (("gpu1", _SWITCH, "cutover"), ("gpu2", "Ensure the releases are staged", "release")):
        watch.on_event(ended(host, task, {}, "start", CUTOVER if role == "cutover" else "x", role))
    watch.told("state", {"host": "gpu1", "service": SERVICE, "state": "gate", "seconds": 20, "serving": "none"})
    return events(Event("interrupted", {"count": 2, "text": SECOND_CTRL_C, "hosts": watch.by_itself()}))


def nothing_to_go_back_to(stage: Stage) -> str:
    host = stage.host()
    return _refused_target(host, "@previous")


def nothing_was_adopted(stage: Stage) -> str:
    return _refused_target(stage.host(), "@adopted")


def release_changed(stage: Stage) -> str:
    host = ReleasedHost(stage.folder)
    host.stage(BAD)
    write_file(os.path.join(host.folder.release(BAD), LAUNCH_FILE), "#!/bin/sh\nexit 3\n", 0o755)
    return _refused_target(host, BAD)


def adopted_in_a_container(stage: Stage) -> str:
    stage.monkeypatch.setattr(supervision.procfs, "cgroups_of", _group("/system.slice/docker-0123456789ab.scope"))
    return _not_adopted(stage, supervision.supervision_of(_server()))


def adopted_user_unit(stage: Stage) -> str:
    group = "/user.slice/user-1000.slice/user@1000.service/app.slice/llm.service"
    return _not_adopted(stage, supervision.placed([group], _server(), [1], lambda unit: {}))


def adopted_supervisord(stage: Stage) -> str:
    stage.monkeypatch.setattr(supervision.procfs, "cgroups_of", _group("/"))
    stage.monkeypatch.setattr(supervision.procfs, "ancestors_of", lambda pid: (811, 1))
    names = {811: "supervisord"}
    stage.monkeypatch.setattr(supervision.procfs, "name_of", lambda pid: names.get(pid, "python3"))
    stage.monkeypatch.setattr(supervision.procfs, "words_of", lambda pid: [names.get(pid, "python3")])
    stage.monkeypatch.setattr(supervision.procfs, "describe", lambda pid: f"pid {pid} of root: {names[pid]}")
    return _not_adopted(stage, supervision.supervision_of(_server()))


def _staged(host: ReleasedHost, line: str, status: int) -> None:
    code = f"import sys; print({line!r}, flush=True); sys.exit({status})"
    host.stage(BAD, argv=(sys.executable, "-c", code))


def _ends(host: ReleasedHost, line: str, status: int) -> str:
    """The cut-over to a release that logs a line and ends."""
    _staged(host, line, status)
    return as_deployed(cut_over("gpu1", host.cut_over(BAD)), host)


def _fails(host: ReleasedHost, fault: str, **gate: Any) -> str:
    """The cut-over to a release with a fault of the double's."""
    host.stage(BAD, fault)
    host.gate(BAD, ready_timeout=1, request_timeout=2, **gate)
    return as_deployed(cut_over("gpu1", host.cut_over(BAD)), host)


def _ending(code: int, host: HostResult) -> str:
    summary = Summary({host.host: host})
    result = ChangeResult(code, meaning(summary, code), summary)
    return printed_by(lambda screen: print_ending(result, screen))


def _refused_target(host: ReleasedHost, target: str) -> str:
    try:
        host.cut_over(target)
    except DeployError as error:
        result = {"service": SERVICE, "outcome": "refused", "before": GOOD, "after": GOOD, "target": target}
        more = {"reason": str(error), "failure": {}, "seconds": {}, "msg": f"{SERVICE}: {error}"}
        told = ended("gpu1", _SWITCH, {**result, **more}, action=CUTOVER, role="cutover", item=True)
        return as_deployed(watched(told), host)
    raise AssertionError(f"there is {target}")


def _holder() -> Holder:
    return Holder(
        "0123456789ab", "mia@ops1", "ops1", f"rollout of {SERVICE}", time.time() - 720, processes=((4711, 1),)
    )


def _server() -> Server:
    values: dict[str, Any] = dict.fromkeys(Server.__dataclass_fields__)
    user = type("User", (), {"name": "me", "uid": 1000})()
    known = {"top_pid": 26120, "engine_pid": 26120, "listeners": (26120,), "user": user, "family": frozenset({26120})}
    return Server(**{**values, **known})


def _group(path: str) -> Any:
    return lambda pid: (path if pid == 26120 else "/init.scope",)


def _not_adopted(stage: Stage, found: supervision.Supervision) -> str:
    """What adopt says of a server that is kept so."""
    stage.monkeypatch.setattr(adopt, "find_server", lambda port: _server())
    stage.monkeypatch.setattr(adopt, "supervision_of", lambda server: found)
    stage.monkeypatch.setattr(adopt.procfs, "describe", lambda pid: f"pid {pid} of me: uv run python")
    root = str(stage.folder)
    try:
        adopt.adopt(Store(root).service(SERVICE), SERVICE, 8001, root, "systemd", "mia@ops1")
    except DeployError as error:
        return f"gpu1: {error}"
    raise AssertionError("it was adopted")
