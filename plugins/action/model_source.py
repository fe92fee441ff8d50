"""The controller's part of M(deployer.sglang.model_source): ask once a run, and keep the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    CREDENTIALS,
    SECRET_VARIABLE,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.addresses import connected_addresses
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import once_a_run
from ansible_collections.deployer.sglang.plugins.plugin_utils.manifests import remember_manifest

MODULE = "deployer.sglang.model_source"
NOT_IN_THE_NAME = ("variables",)


class ActionModule(ActionBase):
    """Run for every host that needs the answer, and on the one that has the model."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, unless another process of this run has."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        host = str(self._task.delegate_to or variables["inventory_hostname"])
        told = {key: value for key, value in self._task.args.items() if key not in NOT_IN_THE_NAME}
        name = f"{host} {self._task.check_mode} {sorted(map(str, told.items()))}"
        try:
            known = (variables.get("groups") or {}).get("all") or [host]
            if host not in known:
                raise DeployError(
                    f"model {self._task.args.get('name')}: {host} is no host of the inventory",
                    "name the host in model.source, or in model.fetch_on, as the inventory does",
                )
            answer = once_a_run(name, lambda: self._ask(host, variables))
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return answer

    def _ask(self, host: str, variables: dict[str, Any]) -> dict[str, Any]:
        told = secrets_apart(self._task.args)
        answer = self._execute_module(module_name=MODULE, module_args=told, task_vars=variables)
        if answer.get("failed") and answer.get("msg"):
            return {**answer, "msg": f"on {host}: {answer['msg']}"}
        manifest = answer.pop("manifest", None)
        if answer.get("failed") or manifest is None:
            return answer
        remember_manifest(Manifest.from_dict(manifest))
        address = answer.get("address") or connected_addresses(self, variables)[1]
        return {**answer, "host": host, "address": address}


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable holds what nobody else is to see."""
    named = SECRET_VARIABLE.search(name) or name.upper().endswith("AUTHORIZATION")
    return bool(named or CREDENTIALS.search(value))


def secrets_apart(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the module takes them: Ansible hides every value of a secret option, a plain 1 among them."""
    variables = {str(key): str(value) for key, value in (arguments.get("variables") or {}).items()}
    secret = {key: value for key, value in variables.items() if is_secret(key, value)}
    plain = {key: value for key, value in variables.items() if key not in secret}
    return {**arguments, "variables": plain, "secrets": secret}
