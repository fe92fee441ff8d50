"""Before anything is changed: hosts that are not reached, and inventories with mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.deployer.sglang.plugins.filter.services import service_problems
from deployer.runs.problems import of_run
from tests.documented.printed.terminal import ended, watched

if TYPE_CHECKING:
    from tests.documented.printed.scenarios import Stage

_RECORDINGS = Path(__file__).parents[2] / "recordings" / "ansible"
_PLAN = "Plan the launch"
# What the recordings have, and what a reader would have there.
_INSTEAD = {
    "[127.0.0.1]:22221": "gpu1",
    "[127.0.0.1]:22222": "gpu1",
    "127.0.0.1": "10.0.0.5",
    "255.255.255.255": "10.0.9.9",
    "gpu1.no-such-host.invalid": "gpu3.example.com",
    "/home/me/known2:1": "/home/me/.ssh/known_hosts:1",
    "/home/me/known2": "/home/me/.ssh/known_hosts",
    "/home/me/open": "/home/me/.ssh/id_ed25519",
    "/usr/bin/python9": "/usr/bin/python3",
    "probe-free": "ops",
    "probe-plain": "ops",
    "22299": "22",
    "22333": "22",
}


def host_not_reached(stage: Stage) -> str:
    return _hosts(gpu1="refused", gpu2="timeout", gpu3="unresolved", gpu4="no-route")


def login_refused(stage: Stage) -> str:
    return _hosts(gpu1="wrong-key", gpu2="open-key")


def host_key_unknown(stage: Stage) -> str:
    return _hosts(gpu1="unknown-key")


def host_key_changed(stage: Stage) -> str:
    return _hosts(gpu1="changed-key")


def sudo(stage: Stage) -> str:
    return _hosts(gpu1="sudo-missing-password", gpu2="sudo-wrong-password", gpu3="not-in-sudoers")


def no_python(stage: Stage) -> str:
    return _hosts(gpu1="no-python", gpu2="old-python")


def no_inventory(stage: Stage) -> str:
    return _run("no-inventory")


def no_group(stage: Stage) -> str:
    return _run("no-group")


def limit_matches_nothing(stage: Stage) -> str:
    return _run("limit-nothing", "nope")


def inventory_no_yaml(stage: Stage) -> str:
    return _run("strict-bad.yml")


def undefined_variable(stage: Stage) -> str:
    return _hosts(gpu1="template-in-services")


def vault_password(stage: Stage) -> str:
    return _run("vault-no-password")


def description_mistakes(stage: Stage) -> str:
    service: dict[str, Any] = {
        "name": "code2sql",
        "prot": 8001,
        "model": {"name": "code2sql", "source": "/data/saves/qwen3-14b-ft"},
        "gpus": [6, 7],
        "engine": "sglang",
        "environment": "sglan",
    }
    found = service_problems([service], {"sglang": {"lock": "environments/sglang"}})
    task = "Ensure the service description has no mistakes"
    return watched(ended("gpu1", task, {"msg": "\n".join(found)}, action="ansible.builtin.assert", role="validate"))


def _hosts(**cases: str) -> str:
    recorded = json.loads((_RECORDINGS / "hosts.json").read_text())
    told = []
    for host, case in cases.items():
        text = json.dumps(recorded[case])
        for before, after in _INSTEAD.items():
            text = text.replace(before, after)
        lost = "via ssh" in text
        told.append(ended(host, _PLAN, json.loads(text), "unreachable" if lost else "failed"))
    return watched(*told)


def _run(case: str, limit: str = "") -> str:
    recorded = json.loads((_RECORDINGS / "runs.json").read_text())[case]
    return f"rollout: {of_run(recorded['output'], recorded['status'], limit).line()}"
