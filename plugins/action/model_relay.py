"""The controller's part of M(deployer.sglang.model_relay): open a run, hand out its orders, wait, and close it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import SOCKET_VARIABLE
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.opening import (
    close_run,
    open_run,
    order_for,
    remember_port,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.waiting import wait_for_host

MODULE = "deployer.sglang.model_relay"


class ActionModule(ActionBase):
    """One state, one thing to do."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        given = dict(self._task.args)
        variables = task_vars or {}
        state = given.get("state")
        try:
            if state == "opened":
                return _opened(given)
            if state in ("seeding", "started"):
                host = str(given.get("host") or variables["inventory_hostname"])
                told = order_for(given["run"], host, seed=state == "seeding")
                answer = self._module({"state": state, "root": given["root"], **secrets_apart(told)}, variables)
                if state == "seeding" and "port" in answer:
                    remember_port(given["run"], host, int(answer["port"]))
                return answer
            if state == "finished":
                host = str(variables["inventory_hostname"])
                socket = str(variables.get(SOCKET_VARIABLE) or "")
                return wait_for_host(self, given["run"], given["run_id"], host, given["root"], socket)
            if state == "closed":
                told = {"state": state, "root": given["root"], "run_id": given["run_id"]}
                answer = self._module(told, variables)
                close_run(str(given["run"]))
                return answer
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return {"failed": True, "changed": False, "msg": f"model_relay: state is {state!r}. Fix: see its documentation"}

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)


def secrets_apart(told: Mapping[str, Any]) -> dict[str, Any]:
    """An order as the module takes it: Ansible hides every value of a secret option wherever it stands in a result."""
    order = dict(told["order"])
    return {**told, "token": order.pop("token"), "key": order.pop("key"), "order": order}


def _opened(given: Mapping[str, Any]) -> dict[str, Any]:
    limits = {name: given.get(name) for name in ("streams", "rate", "floor", "patience")}
    run = open_run(given["results"], limits, str(given.get("controller_address") or ""), int(given["port"]))
    return {"changed": False, **run}
