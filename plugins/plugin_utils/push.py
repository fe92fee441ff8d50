"""Sending an artifact's files to a host over Ansible's connection: what the actions `model` and `environment` share."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.incoming import PACK

# A file of its own costs a round trip; below this size it travels with others in one.
SMALL = 16 * 1024 * 1024


class PushAction(ActionBase):
    """An action whose module asks for files: query, then prepare, send, and land.

    The module answers each phase with `missing`, the paths that it still needs, and `incoming`, where it wants them.
    """

    def bring(
        self,
        answer: dict[str, Any],
        module: str,
        arguments: dict[str, Any],
        files: Mapping[str, str],
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """Bring what an answer to the query misses; in check mode only say so.

        Args:
            answer: of the module to the query.
            module: its full name.
            arguments: for every phase.
            files: path in the artifact -> path on the controller.
            task_vars: as Ansible hands them to the action.
        Returns:
            The result of the task.
        """
        missing = answer.get("missing", [])
        if answer.get("failed") or not missing:
            return answer
        if self._task.check_mode:
            return {**answer, "changed": True}
        uploader = self._login_user()
        answer = self._phase(module, {**arguments, "phase": "prepare", "uploader": uploader}, task_vars)
        if answer.get("failed"):
            return answer
        self._send(answer["missing"], files, answer["incoming"])
        return {**self._phase(module, {**arguments, "phase": "land"}, task_vars), "missing": missing}

    def _phase(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)

    def _login_user(self) -> int:
        """The numeric id of the user whom files arrive as, who need not be the one whom tasks become."""
        answer = self._low_level_execute_command("id -u", sudoable=False)
        text = answer.get("stdout", "").strip().splitlines()
        if answer.get("rc") != 0 or not text or not text[-1].isdigit():
            raise DeployError("the login user of the host could not be asked for its id", "see the host with ssh")
        return int(text[-1])

    def _send(self, missing: Sequence[str], files: Mapping[str, str], folder: str) -> None:
        """Small files in one tar, the others one by one; the module unpacks and verifies all of them."""
        small = [path for path in missing if os.path.getsize(files[path]) < SMALL]
        if small:
            with tempfile.NamedTemporaryFile(prefix="sglang-deployer-", suffix=".tar") as pack:
                with tarfile.open(fileobj=pack, mode="w") as archive:
                    for path in small:
                        archive.add(files[path], arcname=path, recursive=False)
                pack.flush()
                self._connection.put_file(pack.name, os.path.join(folder, PACK))
        for path in missing:
            if path not in small:
                self._connection.put_file(files[path], os.path.join(folder, path))
