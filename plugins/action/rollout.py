"""The steps between the batches of a rollout (see M(deployer.sglang.rollout)): all of it on the controller."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.action.rollout_hook import run_point
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.rollout import (
    batches_of,
    number_of,
    settings_problems,
    some,
    why_stop,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.controller import has_terminal
from ansible_collections.deployer.sglang.plugins.plugin_utils.hooks import hook_problems
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import ask

RESUME = "hosts that are done stay so; run it again to go on with the others"


class Stop(Exception):
    """No further batch is begun.

    Args:
        kind: as the module's `stopped`.
        message: why, for people.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ActionModule(ActionBase):
    """Nothing runs on a host."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        given, variables = dict(self._task.args), task_vars or {}
        step = given.get("step")
        if step == "checked":
            return _checked(given, self._task.check_mode)
        if step == "judged":
            return _judged(given)
        if step == "begun":
            return _begun(given, variables, self._task.check_mode)
        if step == "ended":
            hosts = [str(host) for host in given["batch"]]
            return run_point({**given, "point": "after_batch"}, hosts, variables, self._task.check_mode)
        return {"failed": True, "changed": False, "msg": f"rollout: step is {step!r}. Fix: see its documentation"}


def _checked(given: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Every mistake, before any host is contacted."""
    found = settings_problems(given.get("settings") or {})
    for one in given.get("hooks") or ():
        found += hook_problems(one)
    terminal = boolean(given.get("terminal") or False) if given.get("socket") else has_terminal()
    if boolean(given.get("confirm") or False) and not (check or terminal):
        found.append(
            "rollout_confirm: there is no terminal to ask at. Fix: run it in one, or leave the confirmation out"
        )
    lines = list(dict.fromkeys(found))
    return {"changed": False, **({"failed": True, "msg": "\n".join(lines)} if lines else {})}


def _judged(given: Mapping[str, Any]) -> dict[str, Any]:
    """Whether enough hosts are left to begin at all."""
    hosts = [str(host) for host in given["hosts"]]
    lost = [host for host in hosts if host not in set(given["left"])]
    why = why_stop([hosts], 0, lost, given.get("max_fail", 0))
    message = f"nothing is begun: {why}. Fix: mend them, or allow for them with rollout_max_fail"
    return {"changed": False, **({"failed": True, "stopped": "failures", "msg": message} if why else {})}


def _begun(given: Mapping[str, Any], variables: Mapping[str, Any], check: bool) -> dict[str, Any]:
    hosts, batch = ([str(host) for host in given[name]] for name in ("hosts", "batch"))
    lost = [host for host in hosts if host not in set(given["left"])]
    batches = batches_of(hosts, given["batches"])
    number = next((index for index, one in enumerate(batches) if set(batch) & set(one)), 0)
    result: dict[str, Any] = {"changed": False, "begun": True, "hosts": batch}
    try:
        why = why_stop(batches, number, lost, given.get("max_fail", 0))
        if why:
            raise Stop("failures", f"no further batch is begun: {why}. Fix: mend them, then run it again; {RESUME}")
        before = hosts[: hosts.index(batches[number][0])]
        question = {
            "batch": number + 1,
            "of": len(batches),
            "hosts": batch,
            "done": [host for host in before if host not in lost],
            "lost": lost,
            "allowed": number_of(given.get("max_fail", 0), len(hosts)) or 0,
            "later": sum(len(one) for one in batches[number + 1 :]),
            "pause": int(given.get("pause") or 0) if number else 0,
            "confirm": boolean(given.get("confirm") or False) and number > 0,
        }
        if not check:
            _permission(question, str(given.get("socket") or ""))
    except Stop as stop:
        return {**result, "begun": False, "stopped": stop.kind, "failed": True, "msg": str(stop)}
    hook = run_point({**given, "point": "before_batch"}, batch, variables, check)
    if hook.get("failed"):
        return {**result, **hook, "begun": False, "stopped": "hook"}
    return {**result, **hook}


def _permission(question: Mapping[str, Any], socket: str) -> None:
    """Wait, and ask, whether the batch may be begun.

    Raises:
        Stop: it may not.
    """
    if socket:
        try:
            answer = ask(socket, question)
        except DeployError as error:
            raise Stop("alone", f"no further batch is begun: {error}") from None
        if not answer.get("go"):
            raise Stop("request", f"no further batch is begun: {answer.get('why') or 'stopped on request'}; {RESUME}")
        return
    try:
        if question["pause"]:
            _wait(int(question["pause"]))
        if question["confirm"] and not _confirmed(question):
            raise Stop("request", f"no further batch is begun: it was not confirmed; {RESUME}")
    except AnsiblePromptInterrupt:
        raise Stop("request", f"no further batch is begun: interrupted; {RESUME}") from None


def _wait(seconds: int) -> None:
    try:
        Display().prompt_until(f"[{seconds} s until the next batch; Enter goes on at once]\r", True, seconds)
    except AnsiblePromptNoninteractive:
        time.sleep(seconds)


def _confirmed(question: Mapping[str, Any]) -> bool:
    hosts = some(question["hosts"])
    text = f"[batch {question['batch']} of {question['of']}: {hosts}]\n"
    text += f"{len(question['done'])} done, {len(question['lost'])} lost, {question['later']} after this batch\n"
    try:
        answer = Display().prompt_until(f"{text}Begin it? Type yes, or no to stop here:")
    except AnsiblePromptNoninteractive:
        raise Stop("request", "no further batch is begun: there is no terminal to ask at") from None
    return answer.decode(errors="replace").strip().lower() in ("y", "yes")
