"""The conda part of a lock: which packages of which channels, for the hosts' platform, solved by py-rattler."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import PLATFORM, SUBDIRS
from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import highest_version
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.environment_file import VIRTUAL_PACKAGES_FILE, CondaSpec, EnvironmentFile
from deployer.environments.sources import PackageSources, redacted, without_credentials
from deployer.environments.yaml_nodes import one_line

CHILD = Path(__file__).with_name("conda_child.py")
CREDENTIALS_FIX = "give credentials in ~/.netrc, or by ${VARIABLE} in sources.yml"
NETWORK_FIX = "check the network, the proxy variables, and the address in sources.yml"
CUDA_PACKAGES = ("cuda-version", "cuda-cudart", "cudatoolkit")


@dataclass(frozen=True)
class CondaRecord:
    """A solved conda package.

    Attributes:
        name, version, build: as conda has them.
        url: as a lock may have it.
        sha256: hex digest of the file.
        size: bytes; 0 where the channel does not say.
        depends: match specs, virtual packages included.
        constrains: match specs for what may be there beside it.
        brings_module: whether it is a Python distribution, as far as its dependencies tell.
    """

    name: str
    version: str
    build: str
    url: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    brings_module: bool = False


@dataclass(frozen=True)
class _Channel:
    """A channel as environment.yml has it, and where it is fetched."""

    given: str
    url: str
    authorization: str

    @property
    def shown(self) -> str:
        bare = without_credentials(self.url)
        return self.given if self.given in bare else f"{self.given} ({bare})"


def solve_conda(
    environment: EnvironmentFile, folder: Path, sources: PackageSources, preferred: Sequence[str] = ()
) -> list[CondaRecord]:
    """The packages to install, each behind what it depends on.

    Args:
        environment: what to solve, and what the hosts are taken to have; nothing of this machine counts.
        folder: what channels given as relative paths are relative to.
        sources: where channels are.
        preferred: file names of an earlier lock; kept where they are still possible.

    Raises:
        DeployError: no solution, a package or channel that does not exist, a channel that cannot be read; a package
            without sha256.
    """
    channels = [_channel(environment, channel, folder, sources) for channel in environment.channels]
    request = {
        "channels": [{"url": channel.url, "authorization": channel.authorization} for channel in channels],
        "specs": [_request_spec(environment, spec) for spec in environment.conda],
        "virtual_packages": [_virtual_package(*item) for item in environment.virtual_packages.items()],
        "preferred": list(preferred),
        "platforms": list(SUBDIRS),
    }
    with _cache(channels) as cache:
        answer = _ask({**request, "cache": cache}, sources)
    if "error" in answer:
        raise _explained(answer["error"], environment, channels, sources)
    return [_record(record, sources) for record in answer["records"]]


def conda_glibc(records: Iterable[CondaRecord]) -> str:
    """The glibc that conda packages say they need, `2.28`; '' where none says."""
    specs = (spec for record in records for spec in (*record.depends, *record.constrains))
    bounds = (re.search(r">=?\s*(\d+\.\d+)", spec) for spec in specs if re.match(r"__glibc\b", spec))
    return highest_version(bound.group(1) for bound in bounds if bound)


def conda_cuda(records: Iterable[CondaRecord]) -> str:
    """The CUDA runtime among conda packages, `12.8`; '' for none."""
    versions = {record.name: record.version for record in records}
    found = next((versions[name] for name in CUDA_PACKAGES if name in versions), "")
    return ".".join(found.split(".")[:2])


def _channel(environment: EnvironmentFile, given: str, folder: Path, sources: PackageSources) -> _Channel:
    if given == "defaults" and given not in sources.channels:
        raise DeployError(
            f"{environment.path}: the channel defaults is several, with terms of use of their own",
            fix="name conda-forge instead, or map defaults to a mirror in sources.yml",
        )
    text = given
    if text.startswith((".", "/")):
        text = Path(os.path.abspath(folder / text)).as_uri()
    url = urlsplit(sources.channel_url(text))
    user_part, at, host = url.netloc.rpartition("@")
    authorization = f"Basic {base64.b64encode(unquote(user_part).encode()).decode()}" if at else ""
    return _Channel(given, urlunsplit(url._replace(netloc=host)), authorization)


def _request_spec(environment: EnvironmentFile, spec: CondaSpec) -> tuple[int, str]:
    """The position of the channel that a spec insists on, or -1, and the spec."""
    return environment.channels.index(spec.channel) if spec.channel else -1, spec.spec


def _virtual_package(name: str, value: str) -> tuple[str, str, str]:
    version, _, build = value.partition(" ")
    return name, version, build or "0"


@contextmanager
def _cache(channels: Sequence[_Channel]) -> Iterator[str]:
    """A folder for repodata: one that stays, unless a channel's URL has a token, which would stay in it."""
    if any(without_credentials(channel.url) != channel.url for channel in channels):
        with tempfile.TemporaryDirectory(prefix="deployer-repodata-") as folder:
            yield folder
        return
    yield str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sglang-deployer" / "repodata")


def _ask(request: dict[str, Any], sources: PackageSources) -> dict[str, Any]:
    environment = {**os.environ, **({"SSL_CERT_FILE": sources.certificate} if sources.certificate else {})}
    # -P: this folder's modules must not stand in for installed ones.
    done = subprocess.run(
        [sys.executable, "-P", str(CHILD)],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DeployError(
            f"py-rattler ended without an answer (exit {done.returncode})",
            fix="install py-rattler 0.28 or newer on this controller; if it is, report this as a defect",
            detail=redacted(done.stderr.strip()[-3000:], sources),
        ) from None
    return answer


def _explained(
    error: dict[str, Any], environment: EnvironmentFile, channels: Sequence[_Channel], sources: PackageSources
) -> DeployError:
    text = redacted(str(error["text"]), sources).strip()
    if error["kind"] == "channel":
        return DeployError(
            f"{environment.path}: channel {channels[error['channel']].shown} cannot be read: {one_line(text)}",
            fix=f"a channel's folder has its packages in {PLATFORM}/ and noarch/",
        )
    if error["kind"] == "fetch":
        return _unreachable(text, environment, channels)
    if error["kind"] == "spec":
        spec = environment.conda[error["spec"]]
        return DeployError(
            f"{environment.path} line {spec.line}: {spec.spec} is not a conda match spec: {one_line(text)}",
            fix="write `name`, `name =1.2` or `name >=1.2,<2`",
        )
    searched = ", ".join(channel.shown for channel in channels)
    if error["missing"]:
        spec = environment.conda[error["missing"][0]]
        return DeployError(
            f"{environment.path} line {spec.line}: there is no package {spec.name} for {PLATFORM} in {searched}",
            fix="check its spelling, add the channel that has it, or list it below `- pip:`",
        )
    if found := re.fullmatch(r"Cannot solve the request because of: No candidates were found for (.+?)\.?", text):
        return DeployError(
            f"{environment.path}: there is no {found.group(1)} for {PLATFORM} in {searched}",
            fix="ask for a version that is there, or add the channel that has it",
        )
    virtual = re.search(r"__\w+", text)
    also = f", or say in {VIRTUAL_PACKAGES_FILE} what the hosts have of {virtual.group()}" if virtual else ""
    return DeployError(
        f"{environment.path}: its conda dependencies cannot be installed together",
        fix=f"loosen or drop one of them{also}",
        detail=text,
    )


def _unreachable(text: str, environment: EnvironmentFile, channels: Sequence[_Channel]) -> DeployError:
    """What a failed request says, for the channel whose URL is in it."""
    bare = [(channel, without_credentials(channel.url)) for channel in channels]
    shown = next((channel.shown for channel, url in bare if url in text), channels[0].shown)
    status = re.search(r"\((\d{3}) ([^)]*)\)", text)
    refused = status is not None and status.group(1) in ("401", "403", "407")
    if status is not None:
        reason = f"it answers {status.group(1)} {status.group(2)}"
    else:
        reason = one_line(text.splitlines()[-1].removeprefix("Caused by: ")) if text else "no reason given"
    missing = f"check the channel's name, and that it has repodata for {PLATFORM} and noarch"
    fix = CREDENTIALS_FIX if refused else missing if status is not None else NETWORK_FIX
    return DeployError(f"{environment.path}: channel {shown} cannot be read: {reason}", fix=fix, detail=text)


def _record(record: dict[str, Any], sources: PackageSources) -> CondaRecord:
    url = sources.canonical_url(record["url"])
    if not record["sha256"]:
        raise DeployError(
            f"{url} has no sha256 in its channel's repodata",
            fix="index the channel again with a current conda-index or rattler-index",
        )
    depends = tuple(record["depends"])
    needs_python = any(re.match(r"python(_abi)?(?![\w-])", spec) for spec in depends)
    return CondaRecord(
        name=record["name"],
        version=record["version"],
        build=record["build"],
        url=url,
        sha256=record["sha256"],
        size=record["size"],
        depends=depends,
        constrains=tuple(record["constrains"]),
        brings_module=bool(record["noarch_python"]) or needs_python,
    )
