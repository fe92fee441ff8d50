"""What a lock's bundle on the controller says of the environment that hosts will build from it."""

from __future__ import annotations

import fnmatch
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.engines import (
    engine_named,
    llamafactory_options,
    option_table,
    python_source,
    sglang_options,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments import needs
from ansible_collections.deployer.sglang.plugins.module_utils.environments import report as environment_report
from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import installed_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    Lock,
    load_lock,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import (
    cuda_runtime,
    highest_version,
    needed_glibc,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import (
    LARGEST_SOURCE,
    EnvironmentReport,
    read_engines,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import identity
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cached
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import check_bundle

# Another version of these reads otherwise.
CODE = tuple(
    module.__file__
    for module in (environment_report, llamafactory_options, needs, option_table, python_source, sglang_options)
)


def report_bundle(name: str, lock: str, root: str, engines: Sequence[str]) -> EnvironmentReport:
    """The report of an environment from a lock, as it will be on a host.

    Args:
        name: as the inventory calls it.
        lock: the lock's folder on this controller.
        root: the deployment's root folder on the host.
        engines: whose options are asked for.
    """
    try:
        check_bundle(lock)
        locked = load_lock(lock)
        digest = locked.digest
        wheels = sorted(Path(lock, "bundle", "wheels").glob("*.whl"))
        state = canonical_json(
            [digest, str(locked.needs), list(engines), [identity(str(path)) for path in (*wheels, *CODE)]]
        )
        value = cached(
            "bundles",
            os.path.realpath(lock),
            state,
            lambda: _read(locked, Path(lock, "bundle"), wheels, engines).as_dict(),
        )
        report = EnvironmentReport.from_dict(value)
    except DeployError as error:
        return EnvironmentReport(name, problem=(error.problem, error.fix))
    except (OSError, zipfile.BadZipFile) as error:
        return EnvironmentReport(name, problem=(f"{lock}: {error}", f"make it again: python -m deployer bundle {lock}"))
    path = Store(root).environment(name, digest)
    return replace(report, name=name, path=path, digest=digest)


def _read(locked: Lock, bundle: Path, wheels: Sequence[Path], engines: Sequence[str]) -> EnvironmentReport:
    versions = {wheel.name: wheel.version for wheel in locked.wheels}
    sources = {engine: _sources(wheels, engine) for engine in engines}
    return EnvironmentReport(
        name="",
        versions=versions,
        # What the lock states counts as well: conda's packages have no tags.
        glibc=highest_version([needed_glibc(path.name for path in wheels), locked.needs.glibc]),
        cuda=cuda_runtime(versions) or locked.needs.cuda,
        transfer=sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()),
        installed=installed_bytes(bundle),
        **read_engines(sources, versions),
    )


def _sources(wheels: Sequence[Path], engine: str) -> Mapping[str, str]:
    """The files of the engine's wheel that declare its options."""
    package = engine_named(engine).package
    for path in wheels:
        if wheel_identity(path.name)[0] == package:
            with zipfile.ZipFile(path) as archive:
                return {
                    name: archive.read(name).decode(errors="replace")
                    for name in archive.namelist()
                    if archive.getinfo(name).file_size <= LARGEST_SOURCE
                    and any(fnmatch.fnmatch(name, pattern) for pattern in engine_named(engine).sources)
                }
    return {}
