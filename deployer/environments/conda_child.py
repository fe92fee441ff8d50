"""Solves conda specs with py-rattler: a program of its own, for `deployer.environments.conda_solve`.

It leaves by os._exit: py-rattler's threads may still run when the interpreter shuts down, and crash it. The request is
JSON on stdin, so that credentials are in no argument; the answer is JSON on stdout.

    {"channels": [{"url", "authorization"}], "specs": ["python =3.12"], "virtual_packages": [["__glibc", "2.34", "0"]],
     "preferred": ["python-3.12.11-h1_0_cpython.conda"], "cache": "/…", "platforms": ["linux-64", "noarch"]}
    {"records": […]} or {"error": {"kind", "text", "missing"}}
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import rattler
from rattler.exceptions import SolverError
from rattler.networking.middleware import AddHeadersMiddleware, AuthenticationMiddleware, RetryMiddleware
from rattler.package import IndexJson

Answer = dict[str, Any]


def authorize(channels: Sequence[dict[str, str]]) -> Callable[[str, str], dict[str, str] | None]:
    """The function that gives a request its Authorization header: that of the channel which it is below."""
    known = [(urlsplit(c["url"]), c["authorization"]) for c in channels if c["authorization"]]

    def headers(host: str, path: str) -> dict[str, str] | None:
        for url, authorization in known:
            if host == url.hostname and path.startswith(url.path.rstrip("/") + "/"):
                return {"Authorization": authorization}
        return None

    return headers


def index_folder(folder: Path, target: Path, platforms: Sequence[str]) -> None:
    """Make `target` a channel's index for `folder`: of links to its repodata, written here where it has none.

    Raises:
        OSError: it is no channel, or cannot be read.
        rattler.exceptions: a file in it is no conda package.
    """
    if not any((folder / subdir).is_dir() for subdir in platforms):
        raise FileNotFoundError(f"{folder} has neither {' nor '.join(f'{subdir}/' for subdir in platforms)}")
    for subdir in platforms:
        (target / subdir).mkdir(parents=True)
        repodata = folder / subdir / "repodata.json"
        if repodata.is_file():
            (target / subdir / "repodata.json").symlink_to(repodata)
            continue
        found = sorted((folder / subdir).glob("*"))
        content = {
            "info": {"subdir": subdir},
            "packages": {path.name: read_package(path, subdir) for path in found if path.name.endswith(".tar.bz2")},
            "packages.conda": {path.name: read_package(path, subdir) for path in found if path.suffix == ".conda"},
            "repodata_version": 1,
        }
        (target / subdir / "repodata.json").write_text(json.dumps(content), encoding="utf-8")


def read_package(path: Path, subdir: str) -> Answer:
    """The record of a conda package's file, as repodata.json has it."""
    index = IndexJson.from_package_archive(path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    noarch = "python" if index.noarch.python else "generic" if index.noarch.generic else None
    return {
        "name": index.name.normalized,
        "version": str(index.version),
        "build": str(index.build),
        "build_number": index.build_number,
        "depends": index.depends,
        "constrains": index.constrains,
        "subdir": subdir,
        "sha256": digest,
        "size": path.stat().st_size,
        **({"noarch": noarch} if noarch else {}),
    }


async def solve(request: Answer, temporary: Path) -> Answer:
    """The answer to a request."""
    platforms = [rattler.Subdir(name) for name in request["platforms"]]
    places = {}
    channels = []
    for number, channel in enumerate(request["channels"]):
        url = channel["url"]
        if url.startswith("file:"):
            folder = Path(unquote(urlsplit(url).path))
            try:
                index_folder(folder, temporary / str(number), request["platforms"])
            except Exception as error:
                return {"error": {"kind": "channel", "text": str(error), "channel": number}}
            places[(temporary / str(number)).as_uri()] = folder.as_uri()
            url = (temporary / str(number)).as_uri()
        channels.append(rattler.Channel(url))
    specs = []
    for number, spec in enumerate(request["specs"]):
        channel, text = spec
        try:
            specs.append(
                rattler.MatchSpec(f"{channels[channel].base_url.rstrip('/')}::{text}" if channel >= 0 else text)
            )
        except Exception as error:
            return {"error": {"kind": "spec", "text": str(error), "spec": number}}
    headers = AddHeadersMiddleware(authorize(request["channels"]))
    client = rattler.Client([RetryMiddleware(2), headers, AuthenticationMiddleware()])
    gateway = rattler.Gateway(cache_dir=Path(request["cache"]), client=client)
    virtual = [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build))
        for name, version, build in request["virtual_packages"]
    ]
    try:
        preferred = await find_preferred(gateway, channels, platforms, request["preferred"])
        solved = await rattler.solve(
            channels,
            specs,
            gateway=gateway,
            platforms=platforms,
            locked_packages=preferred,
            virtual_packages=virtual,
            channel_priority=rattler.ChannelPriority.Strict,
        )
    except SolverError as error:
        names = {name.normalized for name in await gateway.names(channels, platforms)}
        missing = [
            n for n, (_, text) in enumerate(request["specs"]) if rattler.MatchSpec(text).name.normalized not in names
        ]
        return {"error": {"kind": "conflict", "text": str(error), "missing": missing}}
    except Exception as error:
        return {"error": {"kind": "fetch", "text": str(error)}}
    order = [r.name.normalized for r in rattler.PackageRecord.sort_topologically(list(solved))]
    solved.sort(key=lambda record: order.index(record.name.normalized))
    return {"records": [describe(record, places) for record in solved]}


async def find_preferred(
    gateway: rattler.Gateway,
    channels: Sequence[rattler.Channel],
    platforms: Sequence[rattler.Subdir],
    preferred: Sequence[str],
) -> list[rattler.RepoDataRecord]:
    """The channels' records of the files that an earlier lock named, for as far as they are still there."""
    if not preferred:
        return []
    names = {file_name.rsplit("-", 2)[0] for file_name in preferred}
    found = await gateway.query(channels, platforms, sorted(names), recursive=False)
    first: dict[str, rattler.RepoDataRecord] = {}
    for record in (record for records in found for record in records):
        if record.file_name in preferred:
            first.setdefault(record.name.normalized, record)
    return list(first.values())


def describe(record: rattler.RepoDataRecord, places: dict[str, str]) -> Answer:
    """A record as the answer holds it."""
    url = record.url
    for link, real in places.items():
        if url.startswith(link + "/"):
            url = real + url[len(link) :]
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "url": url,
        "sha256": record.sha256.hex() if record.sha256 else "",
        "size": record.size or 0,
        "depends": list(record.depends),
        "constrains": list(record.constrains),
        "noarch_python": bool(record.noarch.python),
    }


def main() -> None:
    """Read the request, write the answer, leave."""
    request = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="deployer-conda-") as temporary:
        answer = asyncio.run(solve(request, Path(temporary)))
    json.dump(answer, sys.stdout)
    sys.stdout.flush()


if __name__ == "__main__":
    status = 1
    with contextlib.suppress(BrokenPipeError):
        try:
            main()
            status = 0
        except BaseException as error:  # a panic of the solver is no Exception
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(status)
