"""Services that serve, and not as they should: what status, the client kit and compare say."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.deployer.sglang.plugins.module_utils import drift, journal, status
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.service_metrics import load_of
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from ansible_collections.deployer.sglang.plugins.plugin_utils.client_kit import render_kit
from deployer.api.comparisons import compare, load_file, measure
from deployer.runs.results import HostResult, Summary
from deployer.views.comparison import show_parity
from deployer.views.status import status_details
from tests.documented.printed.cutting_over import BAD, GOOD
from tests.documented.printed.terminal import as_deployed, printed_by
from tests.documented.printed.terminal import status as shown
from tests.doubles.chat_server import Behaviour, chat_server
from tests.doubles.released_host import SERVICE, ReleasedHost
from tests.unit.client_kit.test_programs import FACTS, run
from tests.unit.deployer.views.test_status import service

if TYPE_CHECKING:
    from tests.documented.printed.scenarios import Stage

_RECORDED = Path(__file__).parents[2] / "recordings" / "compare"
_DROP_IN = "/etc/systemd/system/inference-code2sql.service.d/nice.conf"
# As SGLang 0.5.23 answers, under more than it can do.
_BUSY = """
sglang:num_running_reqs{model_name="code2sql"} 48.0
sglang:num_queue_reqs{model_name="code2sql"} 211.0
sglang:gen_throughput{model_name="code2sql"} 1190.2
sglang:token_usage{model_name="code2sql"} 0.99
"""


def status_interrupted(stage: Stage) -> str:
    host = stage.host()
    journal.enter(host.folder, "gate", **{"from": GOOD, "to": BAD, "initiator": "mia@ops1"})
    try:
        return _said(_seen(host))
    finally:
        journal.finish(host.folder)


def status_hangs(stage: Stage) -> str:
    host = stage.host()
    stage.monkeypatch.setattr(status, "PROBE_PATIENCE", 0.5)
    pid = host.run.main_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        return as_deployed(_said(_seen(host)), host)
    finally:
        os.kill(pid, signal.SIGCONT)


def status_stopped(stage: Stage) -> str:
    host = ReleasedHost(stage.folder)
    host.stage(GOOD)
    host.cut_over(GOOD)
    pid = host.run.main_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not host.run.running, 10)
    return _said(_seen(host))


def status_other_release(stage: Stage) -> str:
    host = stage.host()
    link = host.folder.link("current")
    host.stage(BAD)
    os.unlink(link)
    os.symlink(os.path.join("releases", BAD), link)
    try:
        return _said(_seen(host))
    finally:
        os.unlink(link)
        os.symlink(os.path.join("releases", GOOD), link)


def status_drift(stage: Stage) -> str:
    host = stage.host()
    changes = {"ActiveState": "active", "UnitFileState": "enabled", "DropInPaths": _DROP_IN, "NeedDaemonReload": "no"}
    stage.monkeypatch.setattr(drift, "_unit_text", lambda path: None)
    stage.monkeypatch.setattr(drift, "drop_ins", lambda unit, paths: [_DROP_IN])
    staged = status.load_release(host.folder.release(GOOD))
    found = drift.unit_drift(host.folder, staged, changes)
    return _said({"service": SERVICE, "state": "serving", "drift": [one.as_dict() for one in found]})


def status_restarted(stage: Stage) -> str:
    unit = {"kind": "systemd", "name": "inference-code2sql.service", "healthy": True, "state": "", "restarts": 14}
    return _said(service(unit=unit))


def status_busy(stage: Stage) -> str:
    return shown(service(load=load_of(_BUSY).as_dict()))


def status_without_metrics(stage: Stage) -> str:
    return _said(_seen(stage.host()))


def answers_differ(stage: Stage) -> str:
    parity = compare(load_file(_RECORDED / "llamafactory.json"), load_file(_RECORDED / "sglang.json")).parity
    assert parity is not None
    return printed_by(lambda screen: show_parity(screen, parity))


def wrong_model_name(stage: Stage) -> str:
    return _kit(stage, "wrong-model", Behaviour())


def stream_is_cut(stage: Stage) -> str:
    return _kit(stage, "stream", Behaviour(cuts_streams=True))


def key_is_asked_for(stage: Stage) -> str:
    stage.monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    behaviour = Behaviour(key="sk-0123456789")
    kit = _kit(stage, "chat", behaviour)
    with chat_server(behaviour) as (url, _):
        try:
            measure(url)
        except DeployError as error:
            return kit + f"compare: {error}".replace(url, "http://gpu1:8001")
    raise AssertionError("it is let in")


def _seen(host: ReleasedHost) -> dict[str, Any]:
    return status.service_status(host.root, SERVICE, host.port)


def _said(found: dict[str, Any]) -> str:
    """What `status` prints below its table."""
    return "\n".join(status_details(Summary({"gpu1": HostResult("gpu1", services=(found,))})))


def _kit(stage: Stage, check: str, behaviour: Behaviour) -> str:
    for name, text in render_kit(FACTS).items():
        (stage.folder / name).write_text(text)
    with chat_server(behaviour) as (url, _):
        _, _, printed = run(stage.folder, "api", "--url", url, "--only", check)
    return "\n".join(line for line in printed.splitlines() if check in line).replace(url, "http://gpu1:8001") + "\n"
