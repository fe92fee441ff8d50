"""The controller's part of M(deployer.sglang.rollout_lock): who this run is, and whether a holder is gone."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import Holder, describe
from ansible_collections.deployer.sglang.plugins.plugin_utils import controller

MODULE = "deployer.sglang.rollout_lock"


class ActionModule(ActionBase):
    """One round trip; two where a dead run's lock is taken over."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        given = dict(self._task.args)
        variables = task_vars or {}
        host = str(variables.get("inventory_hostname", ""))
        own = controller.holder(
            str(given.get("initiator") or ""),
            str(given.get("what") or "rollout"),
            time.time(),
            str(given.get("run") or ""),
            int(given.get("pid") or 0),
        )
        told = {**given, "run": own.run, "holder": own.as_dict()}
        answer = self._module(told, variables)
        if not answer.get("held") or given.get("state") != "acquired":
            return _said(answer)
        other = Holder.from_dict(answer["holder"])
        if other.run and controller.is_gone(other) and not self._task.check_mode:
            answer = self._module({**told, "replaces": other.run}, variables)
            if not answer.get("held"):
                return _said({**answer, "took_over": describe(other, time.time())})
        return _refused(_said(answer), host, variables, self._task.check_mode)

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        return answer


def _said(answer: Mapping[str, Any]) -> dict[str, Any]:
    holder = answer.get("holder")
    return {**answer, "text": describe(holder, time.time()) if holder else ""}


def _refused(answer: dict[str, Any], host: str, variables: Mapping[str, Any], check: bool) -> dict[str, Any]:
    if check:
        return {**answer, "warnings": [*answer.get("warnings", []), f"{host} is locked: {answer['text']}"]}
    sources = [str(one) for one in variables.get("ansible_inventory_sources") or ()]
    release = " ".join(
        ["python -m deployer lock release", *(f"-i {shlex.quote(one)}" for one in sources), f"-l {host}"]
    )
    fix = f"wait until it has ended; if it is no more, {release}"
    return {**answer, "failed": True, "msg": f"{host} is locked: {answer['text']}. Fix: {fix}"}
