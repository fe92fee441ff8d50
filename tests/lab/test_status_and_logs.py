"""`status` and `logs` of a real SGLang, with what people do to a host behind the deployment's back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from demo.inputs import default_cache, make_inputs
from tests.lab.fleet import FOLDER, SERVICE, Finished, Fleet, Running

pytestmark = pytest.mark.lab

HOST = "gpu1"
UNIT = f"inference-{SERVICE}.service"
READY = "The server is fired up and ready to roll!"
SECRET = "ready to roll"  # stands in for a key that an adopted release would have logged
PRIVATE = f"{FOLDER}/releases/forgotten/private.json"
PLANTED = f"""
sed -i.saved 's/--max-running-requests 8/--max-running-requests 7/' {FOLDER}/current/launch.sh
mkdir -p /etc/systemd/system/{UNIT}.d
printf '[Service]\\nNice=1\\n' > /etc/systemd/system/{UNIT}.d/nice.conf
systemctl daemon-reload
systemctl disable --quiet {UNIT}
systemctl restart {UNIT}
"""
MENDED = f"""
[ ! -e {FOLDER}/current/launch.sh.saved ] || mv {FOLDER}/current/launch.sh.saved {FOLDER}/current/launch.sh
rm -rf /etc/systemd/system/{UNIT}.d {FOLDER}/releases/forgotten
systemctl daemon-reload
systemctl enable --quiet {UNIT}
systemctl restart {UNIT}
"""


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """gpu1 serves the baseline: SGLang with the model of seed 0."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("status-and-logs"))
    fleet.describe()
    done = fleet.deployer("rollout", HOST)
    assert done.status == 0, done.output
    yield fleet
    fleet.root(HOST, MENDED)
    assert fleet.answers_within(HOST, 300)


def state(done: Finished) -> dict[str, Any]:
    """The service, as `status --json` has it."""
    service: dict[str, Any] = done.outcome[HOST]["services"][0]
    return service


def lines(output: str) -> list[dict[str, Any]]:
    """What `logs --json` printed."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def shows(followed: Running, text: str) -> bool:
    """Whether a log that is followed has shown a text."""
    return text in followed.printed.read_text(errors="replace")


def test_a_service_that_serves_is_told_with_its_load(fleet: Fleet) -> None:
    fleet.chat(HOST)
    done = fleet.deployer("status", HOST, "--strict")
    found = state(done)
    assert done.status == 0, done.output
    assert (found["state"], found["drift"]) == ("serving", [])
    assert found["gate"] == {"passes": True, "detail": ""}
    assert (found["unit"]["healthy"], found["unit"]["restarts"]) == (True, 0)
    assert found["current"] == found["running_release"] == fleet.link(HOST, "current")
    assert (found["load"]["running"], found["load"]["queued"], found["load"]["note"]) == (0, 0, "")
    assert found["load"]["kv_usage"] is not None
    assert found["gpu_memory"] == []
    booted = float(fleet.root(HOST, "cut -d' ' -f1 /proc/uptime"))
    assert 0 <= found["uptime"] <= booted


def test_a_restart_behind_our_back_is_followed_and_told_as_drift(fleet: Fleet) -> None:
    # Somebody's release with a secret: whatever of this service has logged it, the line leaves the host without it.
    fleet.root(HOST, f"mkdir -p {FOLDER}/releases/forgotten")
    private = json.dumps({"argv": {}, "variables": {"HF_TOKEN": SECRET}})
    followed = fleet.begin("logs", HOST, "--follow", "--lines", "1")
    try:
        assert wait_until(lambda: shows(followed, '"text"'), 60)
        fleet.lab.hosts[HOST].ssh(f"sudo tee {PRIVATE} >/dev/null", stdin=private, check=True)
        fleet.root(HOST, PLANTED)
        assert fleet.answers_within(HOST, 300)
        assert wait_until(lambda: shows(followed, READY.replace(SECRET, "***")), 60)
    finally:
        followed.interrupt()
        ended = followed.finish()
    assert ended.status == 0, ended.output
    seen = lines(ended.output)
    assert {one["host"] for one in seen} == {HOST}
    assert any(one["text"].startswith("Stopped ") for one in seen)
    assert SECRET not in ended.output

    done = fleet.deployer("status", HOST)
    found = state(done)
    assert (found["state"], done.status) == ("serving", 0)
    assert [one["what"] for one in found["drift"]] == ["files", "unit", "unit", "process"]
    files, disabled, drop_in, process = found["drift"]
    assert "launch.sh was changed after it was staged" in files["detail"]
    assert disabled["fix"] == f"systemctl enable {UNIT} on the host"
    assert "nice.conf changes the unit" in drop_in["detail"]
    assert "it has 7 and lacks 8" in process["detail"]
    assert fleet.deployer("status", HOST, "--strict").status == 1


def test_lines_are_chosen_on_the_host(fleet: Fleet) -> None:
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    httpx.get(f"{fleet.url(HOST)}/v1/models?asked-by-a-test", timeout=60, trust_env=False).raise_for_status()
    requests = fleet.deployer("logs", HOST, "--grep", "get /v1/models?ASKED-by-a-test", "--since", begun)
    assert requests.status == 0
    assert [one["level"] for one in lines(requests.output)] == ["info"]
    grave = lines(fleet.deployer("logs", HOST, "--level", "warning", "--lines", "5").output)
    assert grave
    assert {one["level"] for one in grave} <= {"warning", "error"}
    assert fleet.deployer("logs", HOST, "--service", "another").status == 2


def test_a_host_that_cannot_be_reached_is_named_with_the_reason(fleet: Fleet) -> None:
    # Another address, too: the connection that is open to the host would be taken whatever the port.
    lost = ("ansible_host=127.0.0.1", "ansible_port=1", "ansible_ssh_retries=0")
    done = fleet.deployer("status", HOST, *(word for one in lost for word in ("-e", one)))
    assert done.status == 2
    assert done.outcome[HOST]["reachable"] is False
    assert "refused" in done.outcome[HOST]["failure"]
