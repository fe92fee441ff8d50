"""The controller's part of M(deployer.sglang.service_log): follow a host's logs, telling each line as it comes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.module_utils import log_reader, service_log
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils import host_program
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import ask

MODULE = "deployer.sglang.service_log"
WINDOW = 15.0  # seconds that a question waits on the host for something to be logged
RETRY = 3.0  # seconds until a host that was lost is asked again
LINES_ELSEWHERE = 500  # of a log that is another one than before, which may be old and long
TOLD_AT_ONCE = 128 * 1024  # bytes of lines in one message


class ActionModule(ActionBase):
    """Run once a host, for all its services."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module's documentation."""
        super().run(tmp, task_vars)
        given, variables = dict(self._task.args), task_vars or {}
        follow = boolean(given.pop("follow", False))
        path = str(given.pop("socket", "") or "")
        answer = self._module(given, {}, variables)
        if not follow or "logs" not in answer:
            return answer
        teller = Teller(path, str(variables.get("inventory_hostname", "")))
        with contextlib.suppress(Unheard):
            teller.tell(answer["logs"])
            self._follow(given, variables, answer, teller)
        return {"changed": False, "logs": []}

    def _follow(
        self, given: Mapping[str, Any], variables: dict[str, Any], first: Mapping[str, Any], teller: Teller
    ) -> None:
        """Ask on and on.

        Raises:
            Unheard: nobody listens any more.
        """
        interpreter = str(first["interpreter"])
        known = {str(one["service"]): dict(one) for one in first["logs"]}
        secrets = False
        while True:
            try:
                answers = self._ask(interpreter, known, given, secrets)
            except AnsibleConnectionFailure as error:
                teller.lost(str(error))
                with contextlib.suppress(AttributeError):  # not every connection has it
                    self._connection.reset()
                time.sleep(RETRY)
                continue
            if not answers:
                teller.lost("it gave no answer; python3 on the host may have been replaced or killed")
                time.sleep(RETRY)
                continue
            teller.found()
            teller.tell([one for one in answers if "lines" in one])
            secrets = secrets or any(one.get("secrets") for one in answers)
            moved = False
            for one in answers:
                kept = known[str(one["service"])]
                moved = moved or one["current"] != kept["current"]
                kept.update({name: one[name] for name in ("cursor", "current") if name in one})
            if moved:
                with contextlib.suppress(AnsibleConnectionFailure):
                    self._look_again(given, variables, known, teller)

    def _ask(
        self, interpreter: str, known: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], secrets: bool
    ) -> list[dict[str, Any]]:
        """What was logged since, as soon as something was; nothing when the host's answer is none.

        Raises:
            AnsibleConnectionFailure: the host cannot be reached.
        """
        wanted = {"level": str(given.get("level") or "info"), "holding": str(given.get("holding") or "")}
        orders = [{"source": one["source"], "cursor": one["cursor"], "wanted": wanted} for one in known.values()]
        arguments = {"orders": orders, "patience": WINDOW}
        if secrets:
            data = host_program.call(service_log, "follow_hiding", arguments)
        else:
            data = host_program.call(log_reader, "follow", arguments)
        done = self._low_level_execute_command(host_program.command(interpreter), in_data=data)
        answer = host_program.answer_of(str(done.get("stdout") or ""))
        return answer if isinstance(answer, list) else []

    def _look_again(
        self,
        given: Mapping[str, Any],
        variables: dict[str, Any],
        known: dict[str, dict[str, Any]],
        teller: Teller,
    ) -> None:
        """Another release is committed: where do the services log now, and what did they meanwhile?"""
        cursors = {name: one["cursor"] for name, one in known.items()}
        answer = self._module({**given, "lines": LINES_ELSEWHERE, "since": ""}, cursors, variables)
        for one in answer.get("logs") or ():
            known[str(one["service"])] = dict(one)
        teller.tell(answer.get("logs") or ())

    def _module(
        self, given: Mapping[str, Any], cursors: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        arguments = {**given, "cursors": cursors}
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        return answer


class Unheard(Exception):
    """The command that started the run is gone."""


class Teller:
    """Tells what a host has logged: the command that started the run; without one, whoever reads Ansible's output.

    The command answers every message: where it cannot print any more, as behind a pager, nothing is read that would get
    lost.

    Args:
        path: of the command's socket, '' for none.
        host: its name.
    """

    def __init__(self, path: str, host: str) -> None:
        self._path = path
        self._host = host
        self._is_lost = False
        self._problems: dict[str, str] = {}

    def tell(self, logs: Sequence[Mapping[str, Any]]) -> None:
        """What services have logged."""
        for one in logs:
            service, left_out, problem = (
                str(one["service"]),
                int(one.get("left_out") or 0),
                str(one.get("problem") or ""),
            )
            for lines in portions(one["lines"]):
                self._say(service, lines)
            new = problem if problem != self._problems.get(service, "") else ""
            self._problems[service] = problem
            if left_out or new:
                self._say(service, [], left_out, new)

    def lost(self, why: str) -> None:
        """The host cannot be asked; said once."""
        if not self._is_lost:
            self._is_lost = True
            first = why.strip().partition("\n")[0].rstrip(" :")
            self._say("", [], problem=f"lost, and tried again: {first}")

    def found(self) -> None:
        """The host answers again."""
        if self._is_lost:
            self._is_lost = False
            self._say("", [], problem="answers again")

    def _say(self, service: str, lines: Sequence[Mapping[str, Any]], left_out: int = 0, problem: str = "") -> None:
        message = {"host": self._host, "service": service, "lines": lines, "left_out": left_out, "problem": problem}
        if self._path:
            try:
                ask(self._path, {"log": message})
            except DeployError:
                raise Unheard from None
            return
        texts = [str(line["text"]) for line in lines] + [problem] * bool(problem)
        for text in texts:
            shown = "".join(char if char.isprintable() or char == "\t" else "?" for char in text)
            Display().display(f"{self._host} {service}: {shown}")


def portions(lines: Sequence[Mapping[str, Any]], most: int = TOLD_AT_ONCE) -> Iterator[list[Mapping[str, Any]]]:
    """The lines in order, so many at once that a message of them stays small."""
    portion: list[Mapping[str, Any]] = []
    size = 0
    for line in lines:
        own = len(json.dumps(line))
        if portion and size + own > most:
            yield portion
            portion, size = [], 0
        portion.append(line)
        size += own
    if portion:
        yield portion
