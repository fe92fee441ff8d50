"""The controller's part of M(deployer.sglang.preflight): the launch plan of a host, from what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.assumed import assumed_host
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import WARNING, errors, ordered
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_checks import failed
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan, plan_host
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import plan_report
from ansible_collections.deployer.sglang.plugins.module_utils.plan.service_plan import Surroundings
from ansible_collections.deployer.sglang.plugins.module_utils.release import Placement
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    Environment,
    Service,
    engines_of,
    environments_used,
    models_used,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    findings_problems,
    parse_services,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.planned_models import planned_models
from ansible_collections.deployer.sglang.plugins.plugin_utils.planning import (
    bytes_to_bring,
    environment_reports,
    launches,
)

MODULE = "deployer.sglang.preflight"
GIB = 2**30


class ActionModule(ActionBase):
    """Run once a host, for all its services."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, or assume one, and plan."""
        super().run(tmp, task_vars)
        given = dict(self._task.args)
        inventory = (task_vars or {}).get("inventory_dir")
        try:
            mistakes = findings_problems(given.get("findings"))
            if mistakes:
                raise DeployError(mistakes[0], "", "\n".join(mistakes[1:]))
            services, known = parse_services(given["services"], given["environments"])
            wanted = [known[name] for name in environments_used(services)]
            assumed = str(given.get("assume_gpus") or "")
            if assumed:
                host = assumed_host(assumed)
            else:
                answer = self._ask(given, services, wanted, task_vars)
                if answer.get("unreachable"):
                    return answer
                if "facts" not in answer:
                    return _unasked(answer)
                host = HostFacts.from_dict(answer["facts"])
            return self._planned(given, services, wanted, host, inventory)
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}

    def _ask(
        self,
        given: Mapping[str, Any],
        services: Sequence[Service],
        environments: Sequence[Environment],
        task_vars: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The host's own answer, in one round trip."""
        arguments = {
            "root": given["root"],
            "services": [service.name for service in services],
            "ports": [service.port for service in services],
            "environments": [
                {"name": one.name, "prefix": one.prefix, "engines": engines_of(one.name, services)}
                for one in environments
                if one.prefix
            ],
        }
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)

    def _planned(
        self,
        given: Mapping[str, Any],
        services: Sequence[Service],
        environments: Sequence[Environment],
        host: HostFacts,
        inventory: str | None,
    ) -> dict[str, Any]:
        root = str(given["root"])
        whole = given.get("scope", "all") == "all"
        reports = environment_reports(environments, services, host, root, inventory)
        described = {one["source"]: one for one in given.get("models") or [] if one.get("facts")}
        variables = {key: str(value) for key, value in (given.get("variables") or {}).items()}
        models = planned_models(models_used(services), described, inventory, variables) if whole else {}
        needed = int(min(max(0.0, float(given.get("min_free_gib") or 0)), 2.0**20) * GIB)
        if whole:
            needed += bytes_to_bring(models, reports.values(), host)
        facts = {source: one.facts for source, one in models.items()}
        around = Surroundings(host, reports, facts, reachable=not given.get("assume_gpus"))
        plan = plan_host(services, around, root, str(given["supervisor"]), needed, given.get("findings") or {})
        placement = Placement(root, str(given["supervisor"]), str(given["user"]), str(given["address"]))
        would_run = launches(plan, reports, models, placement) if whole else {}
        if not whole:
            plan = replace(plan, services=(), findings=ordered(failed(plan.checks)))
        report = plan_report(plan, host, would_run)
        return _result(plan, {**report, "assumed_gpus": str(given.get("assume_gpus") or "")})


def _unasked(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The result where the module gave no facts: mostly for want of a Python that can run it."""
    said = [str(answer.get(key) or "").strip().splitlines()[-1:] for key in ("msg", "module_stderr", "exception")]
    message = "; ".join(dict.fromkeys(line for lines in said for line in lines)) or "the module said nothing"
    if "Fix: " in message:
        return {**answer, "failed": True}
    fix = "install Python 3.9 or newer on the host and set ansible_python_interpreter to it"
    return {"failed": True, "changed": False, "msg": f"the host could not be asked: {message}. Fix: {fix}"}


def _result(plan: HostPlan, report: dict[str, Any]) -> dict[str, Any]:
    """The task's result. It does not fail where there are errors: Ansible would print all of the plan with them."""
    return {
        "changed": False,
        "plan": report,
        "gpus": plan.gpus,
        "errors": [str(one) for one in errors(plan.findings)],
        "warnings": [str(one) for one in plan.findings if one.severity == WARNING],
    }
