"""What a plan needs beside a host's facts, and what only this controller knows: models, environments, next releases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import Launch
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, Placement, plan_release
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    Environment,
    Service,
    engines_of,
    folder_name,
    models_used,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import UNKNOWN_DIGEST, Store
from ansible_collections.deployer.sglang.plugins.plugin_utils.bundles import report_bundle
from ansible_collections.deployer.sglang.plugins.plugin_utils.planned_models import PlannedModel
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import release_templates, rendered
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path


def environment_reports(
    environments: Sequence[Environment],
    services: Sequence[Service],
    host: HostFacts,
    root: str,
    inventory: str | None,
) -> dict[str, EnvironmentReport]:
    """The reports of environments: those by prefix from the host, those from a lock from its bundle here.

    Args:
        environments: that the services use.
        services: of the host.
        host: its facts.
        root: the deployment's root folder.
        inventory: folder that relative paths are taken from.
    """

    def report(one: Environment) -> EnvironmentReport:
        if one.prefix:
            return host.environments.get(one.name, EnvironmentReport(one.name, one.prefix))
        lock = controller_path(str(one.lock), inventory)
        return replace(report_bundle(one.name, lock, root, engines_of(one.name, services)), backend=one.backend)

    return {one.name: report(one) for one in environments}


def bytes_to_bring(
    models: Mapping[str, PlannedModel], environments: Iterable[EnvironmentReport], host: HostFacts
) -> int:
    """Bytes that models and environments which the host lacks will take there."""
    there = set(host.models.values())
    needed = sum(one.transfer + one.installed for one in environments if os.path.basename(one.path) not in host.built)
    for model in models.values():
        if isinstance(model.facts, ModelFacts) and not model.in_place and model.listing not in there:
            needed += model.facts.size
    return max(0, needed - host.incoming)


def launches(
    plan: HostPlan,
    environments: Mapping[str, EnvironmentReport],
    models: Mapping[str, PlannedModel],
    placement: Placement,
) -> dict[tuple[str, str], Launch]:
    """What would run for every service whose environment is known."""
    found = {}
    store = Store(placement.root)
    names = {model.source: folder_name(model) for model in models_used(one.service for one in plan.services)}
    launch_template, unit_template = release_templates()
    for one in plan.services:
        service, report = one.service, environments.get(one.service.environment)
        if report is None or report.problem[0] or not report.path:
            continue
        name, planned = names[service.model.source], models[service.model.source]
        path = planned.in_place or store.model(name, planned.digest or UNKNOWN_DIGEST)
        model = Artifact(name, planned.digest, path)
        environment = Artifact(report.name, report.digest, report.path)
        release = plan_release(service, environment, model, placement, report.versions)
        known = planned.digest and report.digest
        identifier = rendered(release, launch_template, unit_template)["id"] if known else ""
        argv = release.command(identifier) if identifier else release.argv
        found[service.name, one.role] = Launch(identifier, argv, release.variables)
    return found
