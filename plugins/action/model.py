"""The controller's part of M(deployer.sglang.model): hash the source, send what the host misses."""

from __future__ import annotations

from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import NOT_THE_MODEL, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.models import check_source
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.push import PushAction
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path


class ActionModule(PushAction):
    """Run once a host and model."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check and hash the source, then bring what is missing."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source = controller_path(str(arguments.get("source", "")), (task_vars or {}).get("inventory_dir"))
        try:
            files = list_files(source)
            check_source(files, source)
            manifest = cached_manifest(source, NOT_THE_MODEL)
            arguments["manifest"] = manifest.as_dict()
            answer = self.push("deployer.sglang.model", arguments, files, task_vars or {})
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": f"model {arguments.get('name')}: {error}"}
        except OSError as error:
            message = f"{error}. Fix: make it readable for the user who runs Ansible"
            return {"failed": True, "changed": False, "msg": message}
        if self._task.diff and answer.get("missing"):
            after = "".join(f"{path}\n" for path in answer["missing"])
            answer["diff"] = {"before": "", "after": after, "after_header": str(answer.get("path"))}
        return answer
