"""The hosts of an inventory: what can be asked of them, and done with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.rollout import settings_problems
from deployer.api.answers import (
    Adoption,
    Environments,
    HistoryOfHosts,
    Pruning,
    Status,
    Verification,
    adoption_of,
    environments_of,
    history_of,
    pruning_of,
    status_of,
    verification_of,
)
from deployer.api.client import Client, client_of
from deployer.api.monitoring import Monitoring, monitoring_of
from deployer.api.plans import Plan, plan_of
from deployer.api.rollouts import Rollout, rollout_of
from deployer.runs import problems
from deployer.runs.asking import asked
from deployer.runs.runner import KILLED, Invocation, initiator

if TYPE_CHECKING:
    from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
    from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts
    from deployer.api.measured import Measured
    from deployer.runs.events import Event, Listener
    from deployer.runs.questions import Operator
    from deployer.runs.results import Summary

RESTORE_HOST, RESTORE_ALL = "restore-host", "restore-all"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Hosts:
    """Hosts of an inventory.

    Nothing is asked, as with --yes, and nothing is printed. What cannot work, and no host can be blamed for, is a
    DeployError: an inventory that cannot be read, a limit that matches nothing, a vault password that is missing. What
    is wrong with a host is in what it answered.

    Args:
        inventory: a path, or several, as ansible-playbook's -i takes them; empty for the one that ansible.cfg names.
        limit: a host pattern, or '' for all.
        extra_vars: variables of the highest precedence.
        arguments: further words for ansible-playbook, such as ('--vault-password-file', 'vault.txt').
    """

    inventory: PathLike | Sequence[PathLike] = ()
    limit: str = field(default="", kw_only=True)
    extra_vars: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    arguments: Sequence[str] = field(default=(), kw_only=True)

    def plan(self, *, services: Sequence[str] = (), assume_gpus: str = "") -> Plan:
        """What a rollout would start on every host, whether it fits, and what is wrong with it; nothing is changed.

        Args:
            services: only these; all where none is named.
            assume_gpus: ask no host, and plan for GPUs such as H200x8.

        Raises:
            DeployError: no host could be met, or none has a service that is named.
        """
        variables = {"preflight_assume_gpus": assume_gpus} if assume_gpus else {}
        return plan_of(*self._ask("preflight", variables), services)

    def doctor(self) -> Plan:
        """The checks of the hosts alone: Python, driver, GPUs, limits, disk, ports; nothing is changed.

        Raises:
            DeployError: no host could be met.
        """
        return plan_of(*self._ask("preflight", {"preflight_scope": "host"}))

    def status(self, *, services: Sequence[str] = ()) -> Status:
        """What every service on every host is at, probed now.

        Raises:
            DeployError: no host could be met, or none has a service that is named.
        """
        return status_of(*self._ask("status"), services)

    def monitoring(
        self, into: PathLike = "monitoring", *, services: Sequence[str] = (), check: bool = False
    ) -> Monitoring:
        """Write targets and alert rules for Prometheus and a dashboard for Grafana; nothing is changed on hosts.

        Args:
            into: the folder to write.
            services: only these; what was written of others stays.
            check: write nothing, say what would be.

        Raises:
            DeployError: no host could be met, none has a service that is named, or a file cannot be read or written.
        """
        part = bool(self.limit)
        return monitoring_of(*self._ask("status"), services, Path(into).expanduser(), part, check)

    def history(self, *, services: Sequence[str] = (), last: int = 10) -> HistoryOfHosts:
        """The releases that every host keeps, and the `last` events of each service.

        Raises:
            DeployError: no host could be met, or none has a service that is named.
        """
        return history_of(*self._ask("history", {"history_last": last}), services)

    def client(
        self, *, services: Sequence[str] = (), into: PathLike = "client", check: bool = False, force: bool = False
    ) -> Client:
        """Fetch what the clients of each service test and learn it by, into `into`/HOST/SERVICE.

        Args:
            services: only these; all where none is named.
            into: the folder.
            check: write nothing, say what would be.
            force: overwrite files that somebody has changed there; otherwise the kit that they belong to is left alone.

        Raises:
            DeployError: no host could be met, none has a service that is named, or the folder cannot be written.
        """
        return client_of(*self._ask("client"), services, Path(into), check, force)

    def measure(
        self,
        *,
        services: Sequence[str] = (),
        prompts: Prompts | None = None,
        max_tokens: int = 64,
        ask: bool = True,
        load: LoadSettings | None = None,
        one_host: bool = False,
    ) -> tuple[Measured, ...]:
        """Measure what serves every service's port now, on its host: what it answers, and how fast; nothing is changed.

        A key that servers want is taken from the environment variable OPENAI_API_KEY. What came of it is compared by
        `comparisons.compare`.

        Args:
            services: only these; all where none is named.
            prompts: to ask; None for a small set of questions about SQL.
            max_tokens: that each of the answers may have.
            ask: ask for answers; False for a load alone.
            load: made by SGLang's own benchmark in the environment of a staged release; None for none.
            one_host: measure nothing where the limit names more hosts than one.

        Raises:
            DeployError: no host could be met, or none has a service that is named.
        """
        from deployer.api.measured import measured_of, variables_of

        with variables_of(services, prompts, max_tokens, ask, load, one_host) as variables:
            summary, _ = self._ask("measure", variables)
        return measured_of(summary, services, prompts)

    def adopt(self, *, check: bool = False, any_command: bool = False) -> Adoption:
        """Record what serves the services' ports as releases that a rollback can start again.

        Args:
            check: change nothing, say what would be.
            any_command: also what is no engine that is known and lists no models.

        Raises:
            DeployError: no host could be met.
        """
        return adoption_of(*self._ask("adopt", {"adopt_any_command": any_command}, check))

    def environments(self) -> Environments:
        """The conda environments of every host; nothing is changed.

        Raises:
            DeployError: no host could be met.
        """
        return environments_of(*self._ask("environments"))

    def verify(self, *, deep: bool = False) -> Verification:
        """Whether environments and models on every host are still what was built and sent; nothing is changed.

        Args:
            deep: hash every file.

        Raises:
            DeployError: no host could be met.
        """
        return verification_of(*self._ask("verify", {"verify_deep": deep}))

    def prune(self, *, check: bool = False) -> Pruning:
        """Remove environments, models and releases that no kept release uses; never one in use.

        Args:
            check: change nothing, say what would be removed.

        Raises:
            DeployError: no host could be met.
        """
        return pruning_of(*self._ask("prune", {}, check))

    def stage(
        self,
        *,
        max_fail: int | str = 0,
        check: bool = False,
        listeners: Sequence[Listener] = (),
        operator: Operator | None = None,
    ) -> Rollout:
        """Put on all hosts what a rollout needs there, touching nothing that runs. From the main thread.

        Args:
            max_fail: how many hosts may fail before the staging is given up: 2, or '10%'.
            check: change nothing, say what would be.
            listeners: called with every event (docs/events.md), not always by the same thread.
            operator: who is asked; nobody where it is left out.

        Raises:
            DeployError: a setting cannot work, no host could be met, or the journal cannot be written.
        """
        return self._change("stage", _settings((), (), max_fail, 0), RESTORE_HOST, check, listeners, operator)

    def rollout(
        self,
        *,
        services: Sequence[str] = (),
        batches: Sequence[int | str] = (),
        max_fail: int | str = 0,
        pause: int = 0,
        on_failure: str = RESTORE_HOST,
        check: bool = False,
        listeners: Sequence[Listener] = (),
        operator: Operator | None = None,
    ) -> Rollout:
        """Stage the described services on all hosts, then cut over in batches. From the main thread: it minds Ctrl-C.

        Args:
            services: only these are cut over; all are staged.
            batches: how many hosts at once, such as (1, '25%', '100%'); what the inventory says where empty.
            max_fail: how many hosts may fail before no further batch is begun: 2, or '10%'.
            pause: seconds to wait between two batches.
            on_failure: 'restore-host', only a host whose release did not pass goes back, or 'restore-all'.
            check: change nothing, say what would be.
            listeners: called with every event (docs/events.md), not always by the same thread.
            operator: who is asked; nobody where it is left out.

        Raises:
            DeployError: a setting cannot work, no host could be met, or the journal cannot be written.
        """
        variables = _settings(services, batches, max_fail, pause)
        return self._change("rollout", variables, on_failure, check, listeners, operator)

    def rollback(
        self,
        to: str = "",
        *,
        targets: Mapping[str, Mapping[str, str]] | None = None,
        services: Sequence[str] = (),
        batches: Sequence[int | str] = (),
        max_fail: int | str = 0,
        pause: int = 0,
        on_failure: str = RESTORE_HOST,
        check: bool = False,
        listeners: Sequence[Listener] = (),
        operator: Operator | None = None,
    ) -> Rollout:
        """Go back to the release that served before, or to another that the hosts keep. Otherwise as `rollout`.

        Args:
            to: an id of `history` or its beginning, @previous, @adopted or @predecessor.
            targets: the same for each service of single hosts: host -> service -> `to`; no other host is contacted.
        """
        variables = _settings(services, batches, max_fail, pause)
        if to:
            variables["cutover_to"] = to
        if targets is None:
            return self._change("rollback", variables, on_failure, check, listeners, operator)
        if not targets:
            raise DeployError("targets names no host", "leave it out for all hosts, or name some")
        variables["cutover_targets"] = {host: dict(services) for host, services in targets.items()}
        these = replace(self, limit=",".join(targets))
        return these._change("rollback", variables, on_failure, check, listeners, operator)

    @property
    def paths(self) -> list[str]:
        """The inventory, as `-i` takes it."""
        given = [self.inventory] if isinstance(self.inventory, (str, os.PathLike)) else self.inventory
        return [os.fspath(path) for path in given]

    def _invocation(self, variables: Mapping[str, Any], check: bool) -> Invocation:
        inventory = self.paths
        for path in inventory:
            if "," not in path and not os.access(Path(path).expanduser(), os.R_OK):
                state = "cannot be read" if Path(path).expanduser().exists() else "does not exist"
                raise DeployError(f"the inventory {path} {state}", "give the path of its hosts.yml")
        own = {"cutover_initiator": initiator(), **self.extra_vars, **variables}
        return Invocation(inventory, self.limit, check, own, self.arguments)

    def _ask(
        self, playbook: str, variables: Mapping[str, Any] | None = None, check: bool = False
    ) -> tuple[Summary, str]:
        """Run a playbook quietly: what it came to, and what Ansible printed.

        Raises:
            DeployError: it met no host, not all that were named, or did not come to its end.
        """
        summary, run = asked(playbook, self._invocation(variables or {}, check))
        if not summary.hosts or run.status == KILLED:
            raise problems.of_run(run.output, run.status, self.limit).error()
        return summary, run.output

    def _change(
        self,
        verb: str,
        variables: Mapping[str, Any],
        on_failure: str,
        check: bool,
        listeners: Sequence[Listener],
        operator: Operator | None,
    ) -> Rollout:
        from deployer.api.change import Change, carry_out

        if on_failure not in (RESTORE_HOST, RESTORE_ALL):
            raise DeployError(f"on_failure is {on_failure!r}", f"give {RESTORE_HOST!r} or {RESTORE_ALL!r}")
        said: list[str] = []

        def listen(event: Event) -> None:
            if event.kind == "message" and event.data.get("level") in ("warning", "error"):
                said.append(str(event.data.get("text") or ""))

        order = Change(verb, self._invocation(variables, check), on_failure)
        result = carry_out(order, (listen, *listeners), operator)
        if not result.summary.hosts and said and result.exit_code != 0:
            problem, _, detail = said[-1].partition("\n")
            raise DeployError(problem, detail=detail)
        return rollout_of(result, said)


def _settings(services: Sequence[str], batches: Sequence[int | str], max_fail: int | str, pause: int) -> dict[str, Any]:
    """The variables of the playbooks that settings stand for; what is left to the inventory is left out.

    Raises:
        DeployError: one cannot work.
    """
    if isinstance(services, str):
        raise DeployError(f"services is the text {services!r}", "give a list of names")
    variables: dict[str, Any] = {}
    if batches:
        variables["rollout_batches"] = list(batches)
    if max_fail:
        variables["rollout_max_fail"] = max_fail
    if pause:
        variables["rollout_pause"] = pause
    mistakes = settings_problems(variables)
    if mistakes:
        problem, _, fix = mistakes[0].partition(". Fix: ")
        raise DeployError(problem, fix)
    if services:
        variables["cutover_services"] = list(services)
    return variables
