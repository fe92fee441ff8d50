"""Environments on a host: what is installed in a prefix, and whether a build of it was finished.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    normalize_name,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file, pretty_json, write_file

RECORD = "environment.json"
UNFINISHED = ".building"  # in a prefix whose build has not ended
SCHEMA = 1
PROBE_SECONDS = 60
MOST_SAID = 64 * 1024  # bytes of what an interpreter says
LARGEST_RECORD = 64 * 2**20  # bytes; of torch, RECORD has 1.5 MB
LARGEST_METADATA = 64 * 1024  # bytes of it that are read: the fields come first


@dataclass(frozen=True)
class EnvironmentFacts:
    """What a prefix holds.

    Attributes:
        prefix: absolute path of the environment; its interpreter is `<prefix>/bin/python`.
        python: version of the interpreter, `3.11.9`.
        packages: version of every installed Python package by PEP 503 name.
        digest: names the content: the lock's digest for an environment built from one, else of `python` and `packages`.
        name: the environment's name in the inventory; empty when it was not recorded.
        listing: sha256 of the listing of its files, which a build leaves; empty where there is none.
    """

    prefix: str
    python: str
    packages: Mapping[str, str]
    digest: str
    name: str = ""
    listing: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The facts as plain data, for a module's result."""
        return asdict(self)


def inspect_prefix(prefix: str | Path) -> EnvironmentFacts:
    """Facts of any existing conda environment or venv; changes nothing.

    Runs the interpreter once, isolated and without its site-packages, so that nothing of the environment is imported.
    The digest is taken over what the installers recorded: it differs after any installation or removal, also of the
    same version built otherwise; it is the same on two hosts where the same was installed at the same path.

    Raises:
        DeployError: there is no `bin/python`, or it does not run.
    """
    prefix = Path(prefix)
    python = interpreter_version(prefix)
    packages = installed_packages(prefix, python)
    packages_folder = site_packages(prefix, python)
    records = [*prefix.glob("conda-meta/*.json"), *packages_folder.glob("*.dist-info/RECORD")]
    records += packages_folder.glob("*.dist-info/direct_url.json")
    # A pipe or a device in place of a record would be read for ever.
    hashes = sorted((str(one.relative_to(prefix)), hash_file(one)) for one in records if _is_record(one))
    content = json.dumps([python, sorted(packages.items()), hashes], separators=(",", ":"))
    return EnvironmentFacts(str(prefix), python, packages, hashlib.sha256(content.encode()).hexdigest())


def load_environment(prefix: str | Path) -> EnvironmentFacts | None:
    """Facts that a finished build recorded in `prefix`; None when there is no finished build.

    Raises:
        DeployError: the record is there but is not readable as one.
    """
    path = Path(prefix) / RECORD
    if not path.is_file():  # nor a pipe, which would be waited for
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise DeployError(
                f"{path} has schema {record['schema']}, this version reads {SCHEMA}",
                fix="use the version of the deployer that built it, or remove the environment to build it again",
            )
        listing = record.get("listing", "")  # 0.1 left none
        return EnvironmentFacts(
            str(prefix), record["python"], record["packages"], record["digest"], record["name"], listing
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeployError(f"{path} is not readable: {error!r}", fix=f"remove {prefix} to build it again") from error


def record_environment(
    facts: EnvironmentFacts, built_at: str, backend: str = "", proof: Mapping[str, str] | None = None
) -> None:
    """Write the record that makes a build visible: whole and on disk, or not at all.

    Args:
        facts: what was built; `facts.prefix` exists.
        built_at: when, ISO 8601.
        backend: what installed the conda packages.
        proof: what the engines' own checks printed, by engine.
    """
    path = Path(facts.prefix) / RECORD
    content = {"schema": SCHEMA, **facts.as_dict(), "built_at": built_at, "backend": backend, "proof": proof or {}}
    del content["prefix"]
    write_file(str(path), pretty_json(content))


def interpreter_version(prefix: Path, imports: str = "sys") -> str:
    """Version of `<prefix>/bin/python`, which proves that it runs here and can import `imports` (comma-separated).

    Raises:
        DeployError: it is missing or does not run; the detail has what it said.
    """
    python = prefix / "bin" / "python"
    if not python.exists():
        raise DeployError(
            f"{prefix} has no bin/python: not an environment, or its interpreter was removed",
            fix="name the folder of a conda environment or venv, as `conda env list` shows it",
        )
    fix = "run it by hand on this host; a missing shared library or another host's architecture shows there"
    probe = f"import sys, {imports}; print('version=%d.%d.%d' % sys.version_info[:3])"
    try:
        # -I -S: no PYTHONPATH, no user site, no .pth file of the environment.
        status, said = _run_probe([str(python), "-I", "-S", "-c", probe], prefix)
    except OSError as error:
        raise DeployError(f"{python} does not run: {error}", fix=fix) from error
    version = re.search(r"^version=(\d+\.\d+\.\d+)$", said, re.MULTILINE)
    if status != 0 or version is None:
        raise DeployError(f"{python} is broken: exit {status}", fix=fix, detail=said.strip()[-2000:])
    return version.group(1)


def _run_probe(command: list[str], prefix: Path) -> tuple[int, str]:
    """Exit status of a command and what it said, of which there may be too much, for too long."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
        **_without_rights(prefix),
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(PROBE_SECONDS, process.kill)
        timer.start()
        try:
            said = process.stdout.read(MOST_SAID)
        finally:
            timer.cancel()
            if len(said) == MOST_SAID:
                process.kill()
    return process.returncode, said.decode(errors="replace")


def _without_rights(prefix: Path) -> dict[str, Any]:
    """Popen's arguments for root to run what others could have put there: as its owner, or as nobody.

    Root's own is what nobody else can write: the prefix, its bin, and the interpreter behind all links.
    """
    if os.geteuid() != 0:
        return {}
    places = (prefix, prefix / "bin", Path(os.path.realpath(prefix / "bin" / "python")))
    found = [place.stat() for place in places]
    if all(one.st_uid == 0 and not one.st_mode & 0o022 for one in found):
        return {}
    owner = next((one for one in found if one.st_uid != 0), None)
    if owner is None:
        nobody = pwd.getpwnam("nobody")
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def site_packages(prefix: Path, python: str) -> Path:
    """Where an interpreter of version `python` keeps the packages of `prefix`."""
    return prefix / "lib" / f"python{'.'.join(python.split('.')[:2])}" / "site-packages"


def installed_packages(prefix: Path, python: str) -> dict[str, str]:
    """Version of every package in the environment's site-packages, by PEP 503 name; imports none of them."""
    found: dict[str, str] = {}
    folder = site_packages(prefix, python)
    texts = [*folder.glob("*.dist-info/METADATA"), *folder.glob("*.egg-info/PKG-INFO"), *folder.glob("*.egg-info")]
    for path in sorted(texts):
        if not _is_record(path):
            continue
        with path.open(encoding="utf-8", errors="replace") as stream:
            head = stream.read(LARGEST_METADATA)
        name, version = (re.search(rf"^{field}: *(\S+)", head, re.MULTILINE) for field in ("Name", "Version"))
        if name and version:
            found.setdefault(normalize_name(name.group(1)), version.group(1))
    return dict(sorted(found.items()))


def _is_record(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST_RECORD
