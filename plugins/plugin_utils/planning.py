"""What a plan needs beside a host's facts, and what only this controller knows: models, environments, next releases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    NOT_THE_MODEL,
    list_files,
    listing_digest,
)
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import Launch
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, Placement, plan_release
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    Environment,
    Service,
    engines_of,
    model_folders,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils.bundles import report_bundle
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import known_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.model_folders import model_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import release_templates, rendered
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path

HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
UNKNOWN_DIGEST = "…"  # stands in paths for the digest of weights that were not hashed yet

Models = Mapping[str, "ModelFacts | DeployError"]


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


def read_models(sources: Mapping[str, str]) -> Models:
    """Facts by source, or the error that reading them gave.

    Args:
        sources: source as described -> path on this controller.
    """

    def read(source: str, path: str) -> ModelFacts | DeployError:
        try:
            return model_folder(path)
        except DeployError as error:
            if HUB_NAME.fullmatch(source) and not os.path.exists(path):
                return DeployError(
                    f"{source} is no folder here", "download the model and give its folder: hubs are not asked"
                )
            return error

    return {source: read(source, path) for source, path in sources.items()}


def bytes_to_bring(
    sources: Mapping[str, str], models: Models, environments: Iterable[EnvironmentReport], host: HostFacts
) -> int:
    """Bytes that models and environments which the host lacks will take there."""
    there = set(host.models.values())
    needed = sum(one.transfer + one.installed for one in environments if os.path.basename(one.path) not in host.built)
    for source, path in sources.items():
        model = models[source]
        if isinstance(model, ModelFacts):
            files = [(name, os.path.getsize(real)) for name, real in list_files(path).items()]
            needed += 0 if listing_digest(files) in there else model.size
    return max(0, needed - host.incoming)


def launches(
    plan: HostPlan, environments: Mapping[str, EnvironmentReport], sources: Mapping[str, str], placement: Placement
) -> dict[tuple[str, str], Launch]:
    """What would run for every service whose environment is known."""
    found = {}
    store = Store(placement.root)
    folders = model_folders(one.service for one in plan.services if one.role == "service")
    digests = {source: _known_digest(path) for source, path in sources.items()}
    launch_template, unit_template = release_templates()
    for one in plan.services:
        service, report = one.service, environments.get(one.service.environment)
        if report is None or report.problem[0] or not report.path:
            continue
        name = folders[service.model.source]
        digest = digests[service.model.source]
        model = Artifact(name, digest, store.model(name, digest or UNKNOWN_DIGEST))
        environment = Artifact(report.name, report.digest, report.path)
        release = plan_release(service, environment, model, placement)
        known = digest and report.digest
        identifier = rendered(release, launch_template, unit_template)["id"] if known else ""
        found[service.name, one.role] = Launch(identifier, release.argv, release.variables)
    return found


def _known_digest(path: str) -> str:
    """The digest of a model whose files were all hashed before; '' where that has still to be done."""
    try:
        manifest = known_manifest(path, NOT_THE_MODEL)
    except (DeployError, OSError):
        return ""
    return manifest.digest if manifest else ""
