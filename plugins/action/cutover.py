"""The controller's part of M(deployer.sglang.cutover): begin it, show how far it is, and bring its result back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.plugin_utils import cutover_watch
from ansible_collections.deployer.sglang.plugins.plugin_utils.cutover_watch import Seen
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import SOCKET_VARIABLE, tell

MODULE = "deployer.sglang.cutover"
STATUS = "ansible.legacy.async_status"
FORGOTTEN = "the host has forgotten this job, as after a power cut. It finishes or restores by itself"
ENDED = "the module was ended on the host before it had answered. The host finishes or restores by itself"
SOON = 0.5  # seconds after which it is looked for the first time: where there is nothing to do, that is the end


class ActionModule(ActionBase):
    """One transaction, which the host carries out by itself as a job of Ansible's."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        given, variables = dict(self._task.args), task_vars or {}
        every, patience = float(given.pop("look_every", 2)), float(given.pop("patience", 900))
        if not self._task.async_val:
            return self._module(MODULE, given, variables)
        started = self._execute_module(module_name=MODULE, module_args=given, task_vars=variables, wrap_async=True)
        if started.get("failed") or "ansible_job_id" not in started:
            return started
        watched = _Watched(variables, given)
        self._follow(watched, started, every, patience)
        job = {"jid": started["ansible_job_id"], "_async_dir": self.get_shell_option("async_dir")}
        result = self._module(STATUS, {**job, "mode": "status"}, variables)
        if not result.get("finished"):
            why = f"it is still under way after {self._task.async_val} s. The host comes to its end by itself"
            return {**result, **_lost(watched.service, why)}
        if result.get("msg") == "could not find job":
            return _lost(watched.service, FORGOTTEN)
        if "outcome" not in result and "outdata" in result:  # what Ansible says of a module that printed no result
            result = _lost(watched.service, ENDED)
        with contextlib.suppress(AnsibleConnectionFailure):
            self._module(STATUS, {**job, "mode": "cleanup"}, variables)
        self.cleanup(force=True)
        return result

    def _follow(self, watched: _Watched, started: Mapping[str, Any], every: float, patience: float) -> None:
        """Look until the job is over, or its time.

        Raises:
            AnsibleConnectionFailure: the host was not heard of for longer than `patience`.
        """
        command = cutover_watch.command(watched.folder, str(started["results_file"]))
        heard = time.monotonic()
        pause = SOON
        while time.monotonic() - watched.began < self._task.async_val:
            time.sleep(min(pause, every))
            pause *= 2
            why = "it did not answer"
            try:
                seen = cutover_watch.parse(str(self._low_level_execute_command(command).get("stdout") or ""))
            except AnsibleConnectionFailure as error:
                seen, why = None, str(error)
                with contextlib.suppress(AttributeError):  # not every connection has it
                    self._connection.reset()
            if seen is not None:
                heard = time.monotonic()
                watched.note(seen)
                if seen.over:
                    return
            elif time.monotonic() - heard > patience:
                lost = (
                    f"{watched.host} was not heard of for {patience:.0f} s while it was cutting over {watched.service}"
                )
                raise AnsibleConnectionFailure(f"{lost}. It finishes or restores by itself: {why}")

    def _module(self, name: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_name=name, module_args=arguments, task_vars=variables)
        return answer


def _lost(service: str, why: str) -> dict[str, Any]:
    """The result where a cut-over's end was not seen."""
    return {"failed": True, "msg": f"{service}: {why}. Fix: python -m deployer status"}


class _Watched:
    """One service's cut-over: tells the command that started the run, or says at each state what it is at."""

    def __init__(self, variables: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.host = str(variables.get("inventory_hostname", ""))
        self.service = str(given.get("service"))
        self.folder: ServiceFolder = Store(str(given.get("root"))).service(self.service)
        self.began = time.monotonic()
        self._socket = str(variables.get(SOCKET_VARIABLE) or "")
        self._told: tuple[str, Mapping[str, Any]] = ("", {})

    def note(self, seen: Seen) -> None:
        """Tell what is new."""
        if seen.over or not seen.state:
            return
        before, self._told = self._told, (seen.state, seen.loading)
        seconds = round(time.monotonic() - self.began, 1)
        told = {"host": self.host, "service": self.service}
        if seen.state != before[0]:
            client = cutover_watch.serving(seen.transaction)
            tell(self._socket, "state", {**told, "state": seen.state, "seconds": seconds, "serving": client})
            if not self._socket:
                Display().display(f"{self.host} {cutover_watch.text_of(self.service, seen, seconds)}")
        if seen.state in cutover_watch.LOADS and seen.loading and seen.loading != before[1]:
            how_far = {key: seen.loading.get(key) for key in ("done", "total", "unit", "text")}
            tell(self._socket, "progress", {**told, "phase": "cutover", **how_far})
