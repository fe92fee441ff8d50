"""What a lock's bundle on the controller says of the environment that hosts will build from it."""

from __future__ import annotations

import fnmatch
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils import environment_report
from ansible_collections.deployer.sglang.plugins.module_utils.engines import (
    engine_named,
    llamafactory_options,
    option_table,
    python_source,
    sglang_options,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environment_lock import (
    REQUIREMENTS_LOCK,
    lock_digest,
    locked_packages,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environment_report import (
    LARGEST_SOURCE,
    EnvironmentReport,
    cuda_runtime,
    needed_glibc,
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
    for module in (environment_report, llamafactory_options, option_table, python_source, sglang_options)
)
CONDA_GROWTH = 4  # how much larger a conda package is once it is unpacked; a rule of thumb


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
        digest = lock_digest(lock)
        wheels = sorted(Path(lock, "bundle", "wheels").glob("*.whl"))
        state = canonical_json([digest, list(engines), [identity(str(path)) for path in (*wheels, *CODE)]])
        value = cached("bundles", os.path.realpath(lock), state, lambda: _read(lock, wheels, engines).as_dict())
        report = EnvironmentReport.from_dict(value)
    except DeployError as error:
        return EnvironmentReport(name, problem=(error.problem, error.fix))
    except (OSError, zipfile.BadZipFile) as error:
        return EnvironmentReport(name, problem=(f"{lock}: {error}", f"make it again: python -m deployer bundle {lock}"))
    path = Store(root).environment(name, digest)
    return replace(report, name=name, path=path, digest=digest)


def _read(lock: str, wheels: Sequence[Path], engines: Sequence[str]) -> EnvironmentReport:
    bundle = Path(lock, "bundle")
    versions = locked_packages((bundle / REQUIREMENTS_LOCK).read_text(encoding="utf-8"))
    sources = {engine: _sources(wheels, engine) for engine in engines}
    unpacked = sum(_unpacked(path) for path in wheels)
    conda = sum(path.stat().st_size for path in bundle.glob("conda/*/*") if path.is_file())
    return EnvironmentReport(
        name="",
        versions=versions,
        glibc=needed_glibc(path.name for path in wheels),
        cuda=cuda_runtime(versions),
        transfer=sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()),
        installed=unpacked + conda * CONDA_GROWTH,
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


def _unpacked(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())
