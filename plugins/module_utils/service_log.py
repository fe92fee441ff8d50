"""Where a service's log is on this host, whatever keeps the service, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.log_reader import Hide, Source, current_of, follow, read
from ansible_collections.deployer.sglang.plugins.module_utils.redaction import redacted, secrets_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import Release, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import UNIT_KIND
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import ProcessSupervisor


def source_of(folder: ServiceFolder, service: str, supervisor: str) -> Source:
    """Where the log of a service is: its supervisor has it, and of what was adopted and still is committed, a file.

    Args:
        folder: of the service.
        service: its name.
        supervisor: systemd or process: what keeps what the deployment starts.
    """
    current = committed(folder, None)
    release: Release | None = None
    if current is not None:
        try:
            release = load_release(folder.release(current)).release
        except DeployError as error:
            return Source(service, folder.path, problem=str(error))
    elif not os.path.isdir(folder.path):
        return Source(service, folder.path, problem=f"{service} was never deployed to this host")
    kind = release.supervisor if release else supervisor
    units, files = [], {}
    if kind.startswith(UNIT_KIND):
        units.append(kind[len(UNIT_KIND) :])
    if "systemd" in (kind, supervisor):
        units.append(f"inference-{service}.service")
    if "process" in (kind, supervisor):
        files[ProcessSupervisor(folder).log] = 0
    log: Mapping[str, Any] = release.adopted.get("log", {}) if release else {}
    for path in (log.get("stdout"), log.get("stderr")):
        if path and release and os.path.isabs(path) and not path.startswith("/dev/"):
            files[path] = int(release.adopted.get("uid") or 0)
    return Source(service, folder.path, tuple(units), files)


def read_logs(
    root: str,
    services: Sequence[str],
    supervisor: str,
    wanted: Wanted,
    cursors: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """What services have logged, as M(deployer.sglang.service_log) returns it.

    Args:
        root: the deployment's root folder.
        services: their names.
        supervisor: systemd or process.
        wanted: which lines.
        cursors: of an earlier look, by service: what was logged since.
    """
    store, found = Store(root), []
    for service in services:
        folder = store.service(service)
        source = source_of(folder, service, supervisor)
        seen = read(source, (cursors or {}).get(service, {}), wanted, hiding(folder.path)).as_dict(service)
        found.append({**seen, "source": asdict(source), "current": current_of(folder.path)})
    return found


def hiding(folder: str) -> Hide:
    """What takes the secrets of every release of a service that is kept out of a line, whichever has logged it.

    Args:
        folder: of the service.
    """
    releases = os.path.join(folder, "releases")
    names = os.listdir(releases) if os.path.isdir(releases) else []
    found = {secret for name in names for secret in secrets_of(os.path.join(releases, name))}
    secrets = sorted(found, key=len, reverse=True)
    return lambda text: redacted(text, secrets)


def follow_hiding(orders: Sequence[Mapping[str, Any]], patience: float) -> list[dict[str, Any]]:
    """As `log_reader.follow`, of services with secrets, too."""
    return follow(orders, patience, hiding)
