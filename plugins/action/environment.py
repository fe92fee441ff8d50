"""The controller's part of M(deployer.sglang.environment): read the locks, send the bundles that the host misses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import expected_files, load_lock
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import EVERYTHING
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.push import PushAction
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import check_bundle, controller_path

MODULE = "deployer.sglang.environment"


class ActionModule(PushAction):
    """Run once a host, for all its environments: one round trip where all of them are there."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the bundles of locks and build them there; look at prefixes."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        try:
            locks = {}
            for one in arguments.get("environments") or []:
                if one.get("lock"):
                    locks[one["name"]] = controller_path(str(one["lock"]), variables.get("inventory_dir"))
            wanted = [described(one, locks.get(one["name"])) for one in arguments.get("environments") or []]
            answer = self._phase(MODULE, {**arguments, "environments": wanted, "phase": "query"}, variables)
            if answer.get("failed") or "environments" not in answer:
                return answer
            found = []
            for one, there in zip(wanted, answer["environments"]):
                if there["missing"]:
                    files = list_files(os.path.join(locks[one["name"]], "bundle"), EVERYTHING)
                    single = {**arguments, "environments": [one]}
                    there = self.bring(there, MODULE, single, files, variables)
                    if there.get("failed"):
                        return there
                found.append({key: value for key, value in there.items() if key not in ("missing", "incoming")})
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        except OSError as error:
            message = f"{error}. Fix: make it readable for the user who runs Ansible"
            return {"failed": True, "changed": False, "msg": message}
        built = [one["path"] for one in found if one.get("changed")]
        diff = {"before": "", "after": "".join(f"{path}\n" for path in built), "after_header": "environments"}
        return {"changed": bool(built), "environments": found, **({"diff": diff} if self._task.diff and built else {})}

    def _phase(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """An answer about one environment is that environment's."""
        answer = super()._phase(module, arguments, task_vars)
        if arguments["phase"] == "query" or answer.get("failed") or "environments" not in answer:
            return answer
        return {"changed": answer["changed"], **answer["environments"][0]}


def described(environment: Mapping[str, Any], lock: str | None) -> dict[str, Any]:
    """An environment as the module takes it: with what the controller knows of its lock and bundle.

    Args:
        environment: name, and lock or prefix, of the task.
        lock: the lock's folder on this controller; None for a prefix.

    Raises:
        DeployError: the bundle is missing, incomplete, or not what is locked.
    """
    given = {key: value for key, value in environment.items() if value}
    if lock is None:
        return given
    try:
        check_bundle(lock)
        locked = load_lock(lock)
        bundle = os.path.join(lock, "bundle")
        manifest = cached_manifest(bundle, EVERYTHING)
        refuse_damage(lock, manifest)
    except DeployError as error:
        raise DeployError(f"environment {given['name']}: {error.problem}", error.fix, error.detail) from error
    return {**given, "digest": locked.digest, "manifest": manifest.as_dict()}


def refuse_damage(lock: str, manifest: Manifest) -> None:
    """Refuse a bundle in which a file is not what the lock names, before it is sent.

    Raises:
        DeployError: naming file, wanted and got.
    """
    bundle = Path(lock, "bundle")
    hashes = {entry.path: entry.sha256 for entry in manifest.files}
    for path, digests in expected_files(bundle, load_lock(lock)):
        got = hashes.get(str(path.relative_to(bundle)), "")
        if got not in digests:
            raise DeployError(
                f"{path} is damaged: sha256 wanted {' or '.join(sorted(digests))}, got {got or 'no file'}",
                f"remove it and fetch it again: python -m deployer bundle {lock}",
            )
