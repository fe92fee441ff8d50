"""What a run came to, folded from Ansible's events: pure functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployer.runs.service_answers import services_of

DONE = 0  # every host is where it should be
RESTORED = 1  # something failed, and what served before serves there
REFUSED = 2  # refused before anything changed
NOT_RESTORED = 3  # something failed, and on some host nothing is known to serve
STOPPED = 4  # the operator ended it between two batches: what was begun is done, the rest is as before

CUTOVER = "deployer.sglang.cutover"
ADOPT = "deployer.sglang.adopt"
PREFLIGHT = "deployer.sglang.preflight"
STATUS = "deployer.sglang.status"
ENVIRONMENTS = "deployer.sglang.conda_env_info"
RELAY = "deployer.sglang.model_relay"
VERIFY = "deployer.sglang.environment_verify"
MODEL_VERIFY = "deployer.sglang.model_verify"
PRUNE = "deployer.sglang.prune"
HISTORY = "deployer.sglang.history"
CLIENT = "deployer.sglang.client_kit"
MEASURE = "deployer.sglang.measure"
LOCK = "deployer.sglang.rollout_lock"
ROLLOUT = "deployer.sglang.rollout"
# Modules whose whole result is what was asked for, and what is in it unless the module did not come to an end.
REPORTING = {
    ENVIRONMENTS: "environments",
    VERIFY: "environments",
    MODEL_VERIFY: "models",
    PRUNE: "removed",
    ADOPT: "services",
    HISTORY: "history",
    CLIENT: "kits",
    MEASURE: "measured",
    LOCK: "holder",
}
DESCRIPTION_CHECKS = ("ansible.builtin.assert", "ansible.builtin.validate_argument_spec")
WEIGHTS = "weights: "  # what a line of a transfer's progress begins with (plugin_utils/relay/progress.py)
# What Ansible says of a module that was not run, or ended without a result: the reason is in its standard error.
NO_ANSWER = ("Module result deserialization failed", "The module interpreter", "MODULE FAILURE")
ANSIBLES_OWN = "Validating arguments against arg spec"  # before each role
STARTED = "runner_on_start"
ENDINGS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_item_on_ok", "runner_item_on_failed")


@dataclass(frozen=True)
class Step:
    """One thing that happened on one host.

    Args:
        host: as the inventory names it.
        task: name of the task.
        action: full name of the module.
        kind: started, ok, failed or unreachable.
        item: True for one round of a loop, whose sum follows as a step of its own.
        result: what the module returned.
        ignored: True when the playbook goes on in spite of it.
    """

    host: str
    task: str
    action: str
    kind: str
    item: bool
    result: Mapping[str, Any]
    ignored: bool = False

    @property
    def message(self) -> str:
        """What the module said; where it did not come to say anything, with what was said instead of it."""
        said = str(self.result.get("msg") or self.result.get("stderr") or "").strip()
        instead = str(self.result.get("module_stderr") or "").strip() if said.startswith(NO_ANSWER) else ""
        return "\n".join(filter(None, (said, instead)))


@dataclass(frozen=True)
class HostResult:
    """What a run came to on one host.

    `reports` has the results of REPORTING modules, by module. `cutover_settled`: a cut-over whose end was not seen is
    over, and every service serves.
    """

    host: str
    cutovers: tuple[Mapping[str, Any], ...] = ()
    services: tuple[Mapping[str, Any], ...] = ()
    plan: Mapping[str, Any] | None = None
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    changed: bool = False
    failure: str = ""
    failed_task: str = ""
    unreachable: bool = False
    cutover_unknown: bool = False
    cutover_unseen: bool = False  # of one service of several no outcome came
    cutover_settled: bool = False
    described_wrongly: bool = False


@dataclass(frozen=True)
class Summary:
    """What a run came to on every host, in the order in which they were met.

    Args:
        hosts: by name.
        stopped: why no further batch was begun, as M(deployer.sglang.rollout) has it; '' where all were.
        stopped_why: the same for people.
    """

    hosts: Mapping[str, HostResult] = field(default_factory=dict)
    stopped: str = ""
    stopped_why: str = ""

    def after(self, step: Step) -> Summary:
        """The summary with one more step."""
        known = self.hosts.get(step.host, HostResult(step.host))
        if step.action == ROLLOUT and step.result.get("stopped"):
            # It stands for the whole run, and fails on whichever host comes first.
            hosts = {**self.hosts, step.host: known}
            first = self.stopped_why or step.message
            return replace(self, hosts=hosts, stopped=self.stopped or str(step.result["stopped"]), stopped_why=first)
        return replace(self, hosts={**self.hosts, step.host: _fold(known, step)})

    def settled_by(self, status: Summary) -> Summary:
        """The summary where the end of a cut-over that was not seen is told from what the host serves now."""
        hosts = dict(self.hosts)
        for name, host in self.hosts.items():
            if host.cutover_unknown and _serves(status.hosts.get(name)):
                hosts[name] = replace(host, cutover_unknown=False, cutover_settled=True)
        return replace(self, hosts=hosts)

    @property
    def lost(self) -> list[str]:
        """The hosts that failed or were not reached."""
        return [name for name, host in self.hosts.items() if host.failure or host.unreachable]

    @property
    def outcomes(self) -> list[str]:
        """What every cut-over came to."""
        return [str(cutover["outcome"]) for host in self.hosts.values() for cutover in host.cutovers]

    def reports_of(self, module: str) -> dict[str, Mapping[str, Any]]:
        """What a REPORTING module returned, by host."""
        return {name: host.reports[module] for name, host in self.hosts.items() if module in host.reports}

    def silent(self, module: str) -> dict[str, str]:
        """Why a REPORTING module returned nothing, by host."""
        return {
            name: host.failure or "was not asked" for name, host in self.hosts.items() if module not in host.reports
        }

    @property
    def lost_sight(self) -> bool:
        """True when some cut-over was begun and its end was not seen, while no other failed to restore."""
        return "not_restored" not in self.outcomes and any(host.cutover_unknown for host in self.hosts.values())

    @property
    def plan_exit_code(self) -> int:
        """The exit code of a plan: 0 clean, 1 warnings, 2 errors or a host that could not be planned."""
        codes = [int(host.plan["exit_code"]) if host.plan else 2 for host in self.hosts.values()]
        return max(codes, default=2)

    def exit_code(self, status: int, interrupted: bool = False) -> int:
        """The exit code of the rollout.

        Args:
            status: ansible-playbook's own, for what fails before any host is met.
            interrupted: the operator asked for an end.
        """
        outcomes = set(self.outcomes)
        if "not_restored" in outcomes or any(host.cutover_unknown for host in self.hosts.values()):
            return NOT_RESTORED
        failed = bool(self.lost or self.stopped or status != 0)
        if not failed:
            return DONE if self.hosts else REFUSED
        if (interrupted or self.stopped == "request") and not self._failed_before_the_end(outcomes):
            return STOPPED
        settled = any(host.cutover_settled for host in self.hosts.values())
        return RESTORED if settled or {"restored", "committed"} & outcomes else REFUSED

    def _failed_before_the_end(self, outcomes: set[str]) -> bool:
        """True when more is to be said than that the operator ended it."""
        return "restored" in outcomes or any(host.cutovers and host.failure for host in self.hosts.values())


def started_task(event: Mapping[str, Any]) -> str:
    """The name of the task that an event of ansible-runner says starts on all hosts; '' for other events."""
    data = event.get("event_data")
    if event.get("event") != "playbook_on_task_start" or not isinstance(data, Mapping):
        return ""
    return str(data.get("task") or "")


def progress_line(event: Mapping[str, Any]) -> str:
    """What an event of ansible-runner says of how far a transfer of weights is; '' for other events."""
    text = str(event.get("stdout") or "")
    return text if event.get("event") == "verbose" and text.startswith(WEIGHTS) else ""


def parse_event(event: Mapping[str, Any]) -> Step | None:
    """The step that an event of ansible-runner reports; None for events that neither start nor end one."""
    kind = str(event.get("event"))
    data = event.get("event_data")
    if kind not in (STARTED, *ENDINGS) or not isinstance(data, Mapping) or not data.get("host"):
        return None
    result = data.get("res")
    return Step(
        host=str(data["host"]),
        task=str(data.get("task", "")),
        action=str(data.get("resolved_action") or data.get("task_action", "")),
        kind=_kind(kind),
        item=kind.startswith("runner_item"),
        result=result if isinstance(result, Mapping) else {},
        ignored=bool(data.get("ignore_errors")),
    )


def _kind(event: str) -> str:
    if event == STARTED:
        return "started"
    return next((kind for kind in ("unreachable", "failed") if event.endswith(kind)), "ok")


def _fold(host: HostResult, step: Step) -> HostResult:
    if step.kind == "started":
        # Until its end is seen, nobody knows what a cut-over came to: the controller may be interrupted meanwhile.
        return replace(host, cutover_unknown=True) if step.action == CUTOVER else host
    if step.action == CUTOVER and not step.item:
        host = replace(host, cutover_unknown=host.cutover_unseen)
    host = replace(host, changed=host.changed or bool(step.result.get("changed")))
    if step.action == CUTOVER and step.item and "outcome" in step.result:
        host = replace(host, cutovers=(*host.cutovers, step.result))
    if step.action == STATUS and step.kind == "ok":
        host = replace(host, services=services_of(step.result.get("services", [])))
    if step.action == PREFLIGHT and isinstance(step.result.get("plan"), Mapping):
        host = replace(host, plan=step.result["plan"])
    if REPORTING.get(step.action) in step.result:
        host = replace(host, reports={**host.reports, step.action: step.result})
    if step.kind == "ok" or step.ignored:
        return host
    unreachable = host.unreachable or step.kind == "unreachable"
    # A cut-over that reports no outcome was lost sight of: the host finishes or restores by itself, unseen.
    unknown = step.action == CUTOVER and "outcome" not in step.result and (step.item or not host.cutovers)
    unseen = step.action == CUTOVER and step.item and "outcome" not in step.result
    return replace(
        host,
        cutover_unseen=host.cutover_unseen or unseen,
        failure=_joined(host.failure, step) or "failed without a message",
        failed_task=host.failed_task or step.task,
        described_wrongly=host.described_wrongly or step.action in DESCRIPTION_CHECKS,
        unreachable=unreachable,
        cutover_unknown=host.cutover_unknown or unknown,
    )


def _serves(host: HostResult | None) -> bool:
    services = host.services if host is not None else ()
    return bool(services) and all(service.get("state") == "serving" for service in services)


def _joined(known: str, step: Step) -> str:
    """The failures of a host so far; the sum of a loop adds nothing to what its items said."""
    if not known or step.item:
        return "\n".join(filter(None, (known, step.message)))
    return known
