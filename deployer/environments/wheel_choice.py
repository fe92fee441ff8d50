"""The pip part of a lock: which wheels, for the locked Python on the hosts' platform, resolved by uv.

What decides is environment.yml and where packages come from (sources.yml, else pip's settings). uv's own configuration
files and its UV_ variables for indexes and resolution are left aside, so that two controllers lock the same.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import normalize_name
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.conda_solve import CondaRecord
from deployer.environments.environment_file import EnvironmentFile
from deployer.environments.sources import PackageSources
from deployer.environments.uv_compile import compile_wheels, no_wheel

# conda's name -> PyPI's, where they differ and both are likely in one environment.
OTHER_NAMES = {"pytorch": "torch"}
LEGACY = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}  # PEP 600


@dataclass(frozen=True)
class ChosenWheel:
    """The one file that is locked for a package; `size` in bytes, 0 where the index does not say."""

    name: str
    version: str
    file_name: str
    sha256: str
    size: int


def lock_wheels(
    environment: EnvironmentFile,
    python: str,
    installed: Iterable[CondaRecord],
    sources: PackageSources,
    preferred: Mapping[str, str],
) -> list[ChosenWheel]:
    """The wheels to install beside the conda packages, sorted by name.

    A package that conda installs is not installed a second time: it counts with the version it has, as for pip.

    Args:
        environment: what to resolve, and which glibc the hosts are taken to have.
        python: the locked Python's version, `3.12.11`.
        installed: what conda installs.
        sources: where wheels are.
        preferred: versions of an earlier lock by name; kept where they are still possible.

    Raises:
        DeployError: no solution, a package that does not exist or has no wheel for the hosts, an index that cannot be
            read.
    """
    if not environment.pip:
        return []
    provided = conda_distributions(installed)
    _check_provided(environment, provided)
    with tempfile.TemporaryDirectory(prefix="deployer-wheels-") as temporary:
        pylock = compile_wheels(Path(temporary), environment, python, provided, sources, preferred)
    ranks = tag_ranks(python, environment.glibc)
    packages = [package for package in pylock if package["name"] not in provided and applies(package, python)]
    return [choose_wheel(package, ranks, python, environment.glibc) for package in packages]


def conda_distributions(installed: Iterable[CondaRecord]) -> dict[str, str]:
    """Version of each Python distribution among conda packages, by PEP 503 name, where the version is one for pip."""
    found = {}
    for record in installed:
        if record.brings_module:
            name = normalize_name(record.name)
            try:
                found[OTHER_NAMES.get(name, name)] = str(Version(record.version))
            except InvalidVersion:
                continue
    return found


def tag_ranks(python: str, glibc: str) -> dict[Tag, tuple[int, int]]:
    """Each wheel tag that runs on the hosts, with its rank, lowest first: by Python tag, then by the glibc it needs.

    Args:
        python: version, `3.12.11`.
        glibc: the hosts', `2.34`.
    """
    version = [int(number) for number in python.split(".")[:2]]
    interpreter = f"cp{version[0]}{version[1]}"
    platforms = ["linux_x86_64"]
    for minor in range(5, int(glibc.split(".")[1]) + 1):
        platforms += [f"manylinux_2_{minor}_x86_64", *([LEGACY[minor]] if minor in LEGACY else [])]
    ranks: dict[Tag, tuple[int, int]] = {}
    kinds: dict[tuple[str, str], int] = {}
    for tag in (
        *cpython_tags(version, [interpreter], platforms),
        *compatible_tags(version, interpreter, platforms),
    ):
        kind = kinds.setdefault((tag.interpreter, tag.abi), len(kinds))
        platform = len(platforms) if tag.platform == "any" else platforms.index(tag.platform)
        ranks.setdefault(tag, (kind, platform))
    return ranks


def choose_wheel(
    package: Mapping[str, Any], ranks: Mapping[Tag, tuple[int, int]], python: str, glibc: str
) -> ChosenWheel:
    """The wheel to lock of a pylock.toml's package: of those that run on the hosts the one with the best Python tag,
    and of these the one that runs on the oldest glibc.

    Raises:
        DeployError: no wheel of it runs on the hosts, or the index gives no sha256.
    """
    name, version = str(package["name"]), str(package.get("version", ""))
    candidates = []
    for wheel in package.get("wheels", ()):
        file_name = str(
            wheel.get("name") or unquote(urlsplit(wheel.get("url") or wheel.get("path", "")).path)
        ).rpartition("/")[2]
        try:
            _, _, build, tags = parse_wheel_filename(file_name)
        except InvalidWheelFilename:
            continue
        if fitting := [ranks[tag] for tag in tags if tag in ranks]:
            sha256 = str(wheel.get("hashes", {}).get("sha256", ""))
            # Without one only where the index gives none: uv has then read that of the wheel that it took itself.
            candidates.append((not sha256, min(fitting), -(build[0] if build else 0), file_name, sha256, wheel))
    if not candidates:
        raise no_wheel(f"{name} {version}", python, glibc)
    *_, file_name, sha256, wheel = min(candidates, key=lambda candidate: candidate[:4])
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise DeployError(f"the index gives no sha256 for {file_name}", fix="use an index that does, or find_links")
    return ChosenWheel(normalize_name(name), version, file_name, sha256, int(wheel.get("size") or _local_size(wheel)))


def applies(package: Mapping[str, Any], python: str) -> bool:
    """Whether a pylock.toml's package is for the hosts, by its marker."""
    marker = package.get("marker")
    return not marker or Marker(marker).evaluate(target_environment(python))


def target_environment(python: str) -> dict[str, str]:
    """The hosts' values of the variables in PEP 508 markers."""
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }


def _check_provided(environment: EnvironmentFile, provided: Mapping[str, str]) -> None:
    """Refuse a requirement for a package that conda installs at a version, or without the extras, that it asks for."""
    for line in environment.pip:
        requirement = Requirement(line.text)
        version = provided.get(line.name)
        if version is None:
            continue
        place = f"{environment.path} line {line.line}"
        if not requirement.specifier.contains(version, prereleases=True):
            raise DeployError(
                f"{place}: pip is to install {requirement}, conda installs {line.name} {version}",
                fix=f"ask conda for {line.name} {requirement.specifier}, or leave it to pip alone",
            )
        if requirement.extras:
            raise DeployError(
                f"{place}: conda installs {line.name} {version}, which leaves out what {requirement} adds",
                fix=f"leave {line.name} to pip alone, or list what the extra brings",
            )


def _local_size(wheel: Mapping[str, Any]) -> int:
    url = urlsplit(str(wheel.get("url") or wheel.get("path", "")))
    try:
        return Path(unquote(url.path)).stat().st_size if url.scheme in ("file", "") else 0
    except OSError:
        return 0
