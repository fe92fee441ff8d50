"""The controller's part of M(deployer.sglang.environment): read the lock, send the bundle that the host misses."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.push import PushAction
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import check_bundle, controller_path

MODULE = "deployer.sglang.environment"


class ActionModule(PushAction):
    """Run once a host and environment."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the bundle of the lock and build it there; or look at the prefix."""
        super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if value}
        if "lock" not in arguments:
            return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
        try:
            lock = controller_path(str(arguments["lock"]), (task_vars or {}).get("inventory_dir"))
            bundle = os.path.join(lock, "bundle")
            check_bundle(lock)
            arguments["digest"] = lock_digest(lock)
            arguments["manifest"] = cached_manifest(bundle, ()).as_dict()
            answer = self.push(MODULE, arguments, list_files(bundle, ()), task_vars or {})
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": f"environment {arguments.get('name')}: {error}"}
        except OSError as error:
            message = f"{error}. Fix: make it readable for the user who runs Ansible"
            return {"failed": True, "changed": False, "msg": message}
        if self._task.diff and answer.get("changed"):
            answer["diff"] = {"before": "", "after": f"{answer['path']}\n", "after_header": "environment"}
        answer.pop("missing", None)  # the bundle's file names are nobody's concern
        return answer
