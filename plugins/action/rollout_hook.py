"""Runs the hooks around a host (see M(deployer.sglang.rollout_hook)); those around a batch have the same way."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils import hooks

TIMEOUT = 600  # seconds


class ActionModule(ActionBase):
    """Nothing runs on the host."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        return run_point(
            dict(self._task.args), [str(variables["inventory_hostname"])], variables, self._task.check_mode
        )


def run_point(
    given: Mapping[str, Any], hosts: Sequence[str], variables: Mapping[str, Any], check: bool
) -> dict[str, Any]:
    """Run the hooks of one point, and say as a task's result what came of it.

    Args:
        given: the options of M(deployer.sglang.rollout_hook).
        hosts: that they are about.
        variables: of the task.
        check: only say what would run.
    """
    entries, point = list(given.get("hooks") or ()), str(given.get("point"))
    mistakes = hooks.hook_problems({point: entries})
    if mistakes:
        return {"failed": True, "changed": False, "msg": "\n".join(mistakes)}
    around = _around(variables)
    if check:
        lines = [shlex.join(hooks.command_of(entry, hosts, around)) for entry in entries]
        result = {"changed": False, "would_run": lines}
        for line in lines:  # the result of a task that changes nothing is not shown
            Display().display(f"{point} would run: {line}")
        return result
    told = hooks.variables_of(point, hosts, str(given.get("initiator") or ""), str(given.get("outcome") or ""))
    try:
        hooks.run_hooks(entries, point, hosts, around, told, float(given.get("timeout") or TIMEOUT))
    except DeployError as error:
        return {"failed": True, "changed": False, "msg": _failure(error, point, str(given.get("outcome") or ""))}
    return {"changed": False}


def _failure(error: DeployError, point: str, outcome: str) -> str:
    after = {
        "committed": "the release serves; only the hook failed",
        "unchanged": "the release serves, as before; only the hook failed",
        "after_batch": "what the hosts serve stays as it is; only the hook failed",
    }
    meaning = "nothing was touched" if point.startswith("before_") else after.get(outcome) or after.get(point, "")
    first = f"{error.problem} ({meaning})" if meaning else error.problem
    return str(DeployError(first, error.fix, error.detail))


def _around(variables: Mapping[str, Any]) -> hooks.Around:
    """What this ansible-playbook was run with."""
    given = context.CLIARGS
    words = [word for one in given.get("vault_ids") or () for word in ("--vault-id", str(one))]
    for name, option in (
        ("connection_password_file", "--connection-password-file"),
        ("become_password_file", "--become-password-file"),
    ):
        words += [option, str(given[name])] if given.get(name) else []
    inventory = [str(one) for one in given.get("inventory") or ()]
    return hooks.Around(inventory, variables.get("inventory_dir"), words)
