"""No secret reaches a file of a run, or `--json`: canaries are planted in every place that one can come from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from deployer.api import change
from deployer.api.change import Change, carry_out
from deployer.runs import asking
from deployer.runs.redaction import Redaction, known_secrets
from deployer.runs.results import ADOPT, CUTOVER, PREFLIGHT
from deployer.runs.runner import Invocation, Run
from deployer.views.json_lines import JsonLines


def canary(name: str) -> str:
    return f"CANARY-{name}-0123456789"


def event(kind: str, action: str, role: str, **result: Any) -> dict[str, Any]:
    given = {"module_args": {"password": canary("module-argument"), "environment": {"X": canary("vaulted")}}}
    item = {"service": "s", "release": "r", "hub_token": canary("item")}
    data = {
        "host": "gpu1",
        "task": "a task",
        "role": role,
        "task_action": action,
        "task_args": f"password={canary('task-arguments')}",
        "res": {"invocation": given, "item": item, **result},
    }
    return {"event": kind, "event_data": data, "stdout": canary("stdout")}


SERVICE = {
    "service": "s",
    "role": "service",
    "current": None,
    "by_hand": "",
    "next": "n",
    "argv": ["python", "--api-key", canary("argument")],
    "variables": {"HF_TOKEN": canary("service-variable"), "HARMLESS": canary("harmless-name")},
}
FINDING = {
    "id": "x", "severity": "warning", "subject": "adopted", "fix": "f",
    "message": f"it was started with API_KEY={canary('finding')} and --api-key {canary('finding-option')}",
}  # fmt: skip
PLAN = {"services": [SERVICE], "findings": [FINDING], "checks": [], "exit_code": 1}
LOG = "\n".join([
    f"OPENAI_API_KEY={canary('log-assignment')}",
    f"Authorization: Bearer {canary('log-bearer')}",
    f"401 for {canary('extra-variable')} at https://me:{canary('log-url')}@hub/x",
    f"token {canary('environment')} is not valid",
])  # fmt: skip
EVENTS = [
    event("runner_on_ok", PREFLIGHT, "preflight", plan=PLAN, ansible_facts={"secret": canary("fact")}),
    event("runner_on_ok", ADOPT, "adopt", changed=True, services=[{"environment": {"DB": canary("adopted")}}]),
    event("runner_on_ok", "x.y.z", "release", changed=True, diff={
        "before": "", "after": f"export DB_PASSWORD={canary('diff')}\n", "after_header": "launch.sh"}),
    event("runner_item_on_ok", "x.y.z", "release", changed=True, stdout=canary("module-stdout")),
    event("runner_on_failed", "x.y.z", "model", censored="the output has been hidden due to no_log"),
    event("runner_on_failed", "x.y.z", "model",
          msg=f"no access with {canary('extra-variable')}\nsecond line: password={canary('message-line')}"),
    event("runner_on_failed", "x.y.z", "release", msg="", stderr=f"sudo: {canary('become-in-json')}: no"),
    event("runner_item_on_failed", CUTOVER, "cutover", service="s", outcome="restored", before="o", after="o",
          target="n", reason=f"it ended: --api-key={canary('reason')}", log=LOG, seconds={"gate": 1.0},
          failure={"kind": "crash", "evidence": LOG.splitlines()}, msg=LOG, warning=f"hf token={canary('warning')}"),
]  # fmt: skip


def test_no_canary_is_in_any_file_of_a_run_or_in_its_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "become"
    secret.write_text(canary("become-file"))
    monkeypatch.setenv("HF_TOKEN", canary("environment"))
    words = [
        *("-e", f"hub_token={canary('extra-variable')} harmless=1"),
        *(
            "-e",
            json.dumps({"ansible_become_password": canary("become-in-json"), "db": {"password": canary("nested")}}),
        ),
        *("--become-password-file", str(secret), "--vault-password-file", str(secret)),
    ]

    def played(name: str, invocation: Invocation, on_event: Any, cancelled: Any = None) -> Run:
        for one in EVENTS if name == "deploy" else ():
            on_event(one)
        return Run(2, f"what Ansible printed: {canary('output')}")

    for module in (change, asking):
        monkeypatch.setattr(module, "run_playbook", played)
    for check in (False, True):
        stream = io.StringIO()
        order = Change("rollout", Invocation(["a,"], extra_vars={}, arguments=words, check=check), verbose=True)
        result = carry_out(order, [JsonLines(stream)])
        assert "CANARY" not in stream.getvalue(), [x for x in stream.getvalue().splitlines() if "CANARY" in x]
        assert stream.getvalue().count("***") >= 5  # they were told of, and hidden
        assert (result.folder is None) == check
    files = sorted(path for path in (tmp_path / ".deployer").rglob("*") if path.is_file())
    assert {path.name for path in files} == {"events.jsonl", "plan.json", "run.json", "report.html"}
    for path in files:
        assert "CANARY" not in path.read_text(), path


def test_secrets_that_the_command_was_started_with_are_known() -> None:
    words = [
        "-e",
        "a_token=first1 b=second",
        '--extra-vars={"secret": {"any": ["third3"]}}',
        "-e",
        "@file",
        "-e",
        "x='",
    ]
    assert known_secrets(words, {"API_KEY": "fourth", "PATH": "/bin", "TOKEN_FILE": "/run/token"}) == {
        "first1", "third3", "fourth",
    }  # fmt: skip


def test_what_is_short_stands_everywhere_by_chance_and_longer_secrets_come_first() -> None:
    redacted = Redaction(["abc", "secret", "secret-and-more"])
    assert redacted("abc secret-and-more secret") == "abc *** ***"
    assert redacted({"a": None, "b": 1.5, "c": True}) == {"a": None, "b": 1.5, "c": True}


def test_extra_variables_are_secret_by_their_names_however_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "vars.yml").write_text("lb_password: in-a-file\nlb_port: 8001\n")
    words = [
        "-e",
        "{lb_password: as-yaml}",
        f"--extra-vars=@{tmp_path}/vars.yml",
        "-elb_password=joined",
        "-e",
        "lb_pass=short",
    ]
    words += ["-e", "ansible_become_pass=become-pass", "-e", "@nowhere.yml", "-e", "ansible_ssh_pass=ssh-pass"]
    found = known_secrets(
        words, {}, {"gateway": {"password": "from-the-api"}, "key": "line-one-1\nline-two-2", "api_key": "a\nb"}
    )
    assert found >= {"as-yaml", "in-a-file", "joined", "short", "become-pass", "ssh-pass", "from-the-api"}
    assert "8001" not in found
