"""The controller's part of M(deployer.sglang.release): compute releases and render what runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import load_lock
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    Artifact,
    Placement,
    plan_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import Environment, Service, with_predecessors
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services
from ansible_collections.deployer.sglang.plugins.plugin_utils.client_kit import kit_facts, render_kit
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import release_templates, rendered
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path


class ActionModule(ActionBase):
    """Run once a host, for all its services."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compute and render every release, then let the module stage them."""
        super().run(tmp, task_vars)
        given = dict(self._task.args)
        try:
            services, described = parse_services(given["services"], given["environments"])
            services = with_gpus(services, given.pop("gpus", None) or {})
            environments = {r["name"]: _artifact(r["name"], r) for r in given["environment_results"]}
            inventory = (task_vars or {}).get("inventory_dir")
            versions = {
                r["name"]: package_versions(r, described[r["name"]], inventory) for r in given["environment_results"]
            }
            models = {r["source"]: _artifact(r["name"], r) for r in given["model_results"]}
            if not environments or not models:
                raise DeployError(
                    "environments and models were not looked at in this run",
                    "run the tags environment and model as well",
                )
            placement = Placement(given["root"], given["supervisor"], given["user"], given["address"])
            launch, unit = release_templates()
            planned = {(one["service"], one["role"]): one for one in given.pop("planned", None) or ()}
            given["releases"] = []
            for role, service in with_predecessors(services):
                known = versions[service.environment]
                release = plan_release(
                    service, environments[service.environment], models[service.model.source], placement, known
                )
                texts = rendered(release, launch, unit)
                version = known.get(engine_named(service.engine).package, "")
                plan = planned.get((service.name, role), {})
                facts = kit_facts(release, texts["id"], service, version, placement.address, plan)
                settings = {
                    "gate": service.gate.as_dict(),
                    "handover": dataclasses.asdict(service.handover),
                    "kit": render_kit(facts),
                }
                given["releases"].append({"role": role, **settings, **texts})
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return self._execute_module(module_name="deployer.sglang.release", module_args=given, task_vars=task_vars)


def package_versions(result: Mapping[str, Any], described: Environment, inventory: str | None) -> Mapping[str, str]:
    """The versions of an environment's packages, by PEP 503 name.

    Args:
        result: of M(deployer.sglang.environment); it has them where the environment is there.
        described: the environment, whose lock has them before it is built.
        inventory: folder that relative paths are taken from.
    """
    if result.get("packages") or not described.lock:
        return dict(result.get("packages") or {})
    locked = load_lock(controller_path(str(described.lock), inventory))
    return {wheel.name: wheel.version for wheel in locked.wheels}


def with_gpus(services: Sequence[Service], chosen: Mapping[str, Sequence[str]]) -> list[Service]:
    """The services with the GPUs that the plan chose for those which leave it to the plan.

    Args:
        services: as described.
        chosen: service -> indices or UUIDs, the predecessor's under `NAME.predecessor`.
    Raises:
        DeployError: nothing was chosen for one of them.
    """

    def resolved(service: Service, key: str) -> Service:
        if service.exposed:  # their values were not kept, so that staging would leave them out in silence
            names = ", ".join(service.exposed)
            raise DeployError(f"inference_services[{key}].options: {names} would stand in argv", "remove it")
        if service.predecessor is not None:
            service = dataclasses.replace(service, predecessor=resolved(service.predecessor, f"{key}.predecessor"))
        if not service.auto_gpus:
            return service
        if not chosen.get(key):
            raise DeployError(f"inference_services[{key}].gpus is auto and no plan has chosen", "do not skip preflight")
        return dataclasses.replace(service, gpus=tuple(chosen[key]), auto_gpus=0)

    return [resolved(service, service.name) for service in services]


def _artifact(name: str, result: Mapping[str, Any]) -> Artifact:
    return Artifact(name, result["digest"], result["path"])
