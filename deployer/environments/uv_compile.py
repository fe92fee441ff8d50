"""uv as a resolver: what it is told, and what its errors mean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomllib
import uv

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import normalize_name
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.conda_solve import CREDENTIALS_FIX, NETWORK_FIX
from deployer.environments.environment_file import VIRTUAL_PACKAGES_FILE, EnvironmentFile
from deployer.environments.sources import PackageSources, redacted, without_credentials
from deployer.environments.yaml_nodes import one_line

# What uv can be told of the platform (`uv pip compile --help`); it does not see wheels for a later glibc than that.
UV_GLIBC = (17, 28, *range(31, 41))
# How uv works, not what it decides.
KEPT_SETTINGS = (
    *("UV_CACHE_DIR", "UV_NO_CACHE", "UV_OFFLINE", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"),
    *("UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE"),
)


def compile_wheels(
    folder: Path,
    environment: EnvironmentFile,
    python: str,
    provided: Mapping[str, str],
    sources: PackageSources,
    preferred: Mapping[str, str],
) -> list[dict[str, Any]]:
    """uv's solution: the packages of its pylock.toml, sorted by name, with every wheel that it knows of each.

    Args:
        folder: an empty one for files in between.
        environment: what to resolve, and which glibc the hosts are taken to have.
        python: the locked Python's version.
        provided: versions of what conda installs, by name; in the solution they have no wheels.
        sources: where wheels are.
        preferred: versions to keep where they are still possible.

    Raises:
        DeployError: as `lock_wheels`.
    """
    stubs = [_write_stub(folder, name, version) for name, version in sorted(provided.items())]
    requirements = [requirement.text for requirement in environment.pip] + stubs
    (folder / "requirements.in").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    pylock = folder / "pylock.toml"
    if preferred:
        pylock.write_text(_preferences(preferred), encoding="utf-8")
    minor = int(environment.glibc.split(".")[1])
    told = max((known for known in UV_GLIBC if known <= minor), default=UV_GLIBC[0])
    command = [
        *(uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-config", "--color", "never", "--no-annotate"),
        *("--format", "pylock.toml", "--output-file", str(pylock), "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", python),
        *("--python-platform", f"x86_64-manylinux_2_{told}", *_no_index(sources), str(folder / "requirements.in")),
    ]
    variables = uv_environment(sources, os.environ)
    if any(url != without_credentials(url) for url in map(_without_user, (*sources.indexes, *sources.find_links))):
        # uv's cache keeps addresses; a user and password it leaves out, a token it does not know.
        variables["UV_CACHE_DIR"] = str(folder / "cache")
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise explain_uv(done.stderr, environment, python, provided, sources)
    found: list[dict[str, Any]] = tomllib.loads(pylock.read_text(encoding="utf-8")).get("packages", [])
    return sorted(found, key=lambda package: str(package["name"]))


def uv_environment(sources: PackageSources, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for uv: `environment` with where packages come from, as uv wants to be told.

    In variables and not in arguments, which everybody on this machine can read.
    """
    kept = {key: value for key, value in environment.items() if not key.startswith("UV_") or key in KEPT_SETTINGS}
    indexes = list(sources.indexes)
    if not sources.public_index and indexes:
        kept["UV_DEFAULT_INDEX"] = indexes.pop()
    if indexes:
        kept["UV_INDEX"] = " ".join(indexes)
    if sources.find_links:
        kept["UV_FIND_LINKS"] = ",".join(_find_links_url(place) for place in sources.find_links)
    if sources.certificate:
        kept["SSL_CERT_FILE"] = sources.certificate
    kept["UV_INDEX_STRATEGY"] = sources.index_strategy
    kept["UV_PYTHON_DOWNLOADS"] = "never"
    return kept


def _find_links_url(place: str) -> str:
    url = place if "://" in place else Path(place).expanduser().absolute().as_uri()
    return url.replace(",", "%2C")  # uv parts the list there


def _without_user(url: str) -> str:
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _no_index(sources: PackageSources) -> Sequence[str]:
    return () if sources.public_index or sources.indexes else ("--no-index",)


def _preferences(versions: Mapping[str, str]) -> str:
    """An earlier pylock.toml with these versions, as far as uv reads it: it prefers them."""
    packages = "".join(f'\n[[packages]]\nname = "{name}"\nversion = "{v}"\n' for name, v in sorted(versions.items()))
    return f'lock-version = "1.0"\ncreated-by = "deployer"\n{packages}'


def _write_stub(folder: Path, name: str, version: str) -> str:
    """The requirement for a wheel without content that stands for what conda installs: uv takes it and nothing else."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / "conda" / f"{stem}-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{name} @ {path.as_uri()}"


def explain_uv(
    stderr: str, environment: EnvironmentFile, python: str, provided: Mapping[str, str], sources: PackageSources
) -> DeployError:
    """The error for what uv printed, without credentials and without this run's temporary paths."""
    text = redacted(stderr, sources).strip()
    text = re.sub(r"\s*\(?(?:from )?file://\S*/conda/[^/\s)]+\.whl\)?", "", text)[-4000:]
    flat = one_line(text)
    if found := re.search(r"index URL \((\S+)\) could not be queried due to [^(]*\((\d{3} [^)]+)\)", flat):
        return DeployError(f"index {found.group(1)} answers {found.group(2)}", fix=CREDENTIALS_FIX)
    if found := re.search(r"Failed to read `--find-links`[^:]*: (\S+)", flat):
        return DeployError(f"find_links {found.group(1)} cannot be read", fix="correct it in sources.yml", detail=text)
    if found := re.search(r"Failed to (?:fetch|download|query)[^:]*: `?(\w+://[^\s`]+)", flat):
        cause = one_line(text.splitlines()[-1]).removeprefix("cause: ").removeprefix("Caused by: ")
        status = re.search(r"\((401|403|407)\b", flat)
        return DeployError(
            f"{found.group(1)} cannot be fetched: {cause}", fix=CREDENTIALS_FIX if status else NETWORK_FIX, detail=text
        )
    if found := re.search(r"(?:Because|and) ([\w.-]+) was not found in the (?:package registry|provided)", flat):
        return DeployError(
            f"{_place(environment, found.group(1))}there is no package {found.group(1)} in {_searched(sources)}",
            fix="check its spelling, or add the index that has it to sources.yml",
            detail=text,
        )
    if found := re.search(
        r"hint: Wheels are required for `([\w.-]+)`|(?:only found wheels|Wheels are available) for `([\w.-]+)`", flat
    ):
        name = found.group(1) or found.group(2)
        version = re.search(rf"\b{re.escape(name)}==([\w.+!-]+) has no (?:usable )?wheels", flat)
        what = f"{name} {version.group(1)}" if version else name
        return no_wheel(_place(environment, name) + what, python, environment.glibc, text)
    if found := re.search(
        r"cause: Because (?:only ([\w.-]+)\S* is available|there is no version of ([\w.-]+)\S*) and you require "
        r"(\S+), we can conclude that your requirements",
        flat,
    ):
        name = found.group(1) or found.group(2)
        return DeployError(
            f"{_place(environment, name)}there is no {found.group(3)} in {_searched(sources)}",
            fix="ask for a version that is there, or add the index that has it to sources.yml",
            detail=text,
        )
    if "No solution found" not in flat:
        first = one_line(text.partition("\n")[0]).removeprefix("error: ") or "it says nothing"
        return DeployError(f"{environment.path}: uv failed: {first}", fix="see what it says below", detail=text)
    conda = sorted(name for name in provided if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", flat))
    beside = f" beside {', '.join(f'{name} {provided[name]}' for name in conda[:3])} from conda" if conda else ""
    return DeployError(
        f"{environment.path}: its pip requirements cannot be installed together{beside}",
        fix="loosen or drop one of them" + (", or leave such a package to pip alone" if conda else ""),
        detail=text,
    )


def no_wheel(what: str, python: str, glibc: str, detail: str = "") -> DeployError:
    """The error for a package without a wheel for the hosts."""
    short = ".".join(python.split(".")[:2])
    return DeployError(
        f"{what} has no wheel for Python {short} on linux-64 with glibc {glibc}",
        fix="ask for a version or a Python that has one; build one with `pip wheel` in a folder and name that as "
        f"find_links in sources.yml; or say in {VIRTUAL_PACKAGES_FILE} that hosts have a later glibc",
        detail=detail,
    )


def _place(environment: EnvironmentFile, name: str) -> str:
    line = next((requirement.line for requirement in environment.pip if requirement.name == normalize_name(name)), 0)
    return f"{environment.path} line {line}: " if line else f"{environment.path}: "


def _searched(sources: PackageSources) -> str:
    places = [*sources.indexes, *(["the public index"] if sources.public_index else []), *sources.find_links]
    return redacted(", ".join(places), sources) or "no index: sources.yml and pip's settings name none"
