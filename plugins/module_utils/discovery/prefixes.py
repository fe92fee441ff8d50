"""What the files of one environment say of it: kind, name, Python, packages, and what is wrong with it.

Nothing of it is run, also where it belongs to the user who asks: as root that would be code of somebody else.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import (
    Owner,
    owner_of,
    reason_of,
    text_or_nothing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.packages import (
    SHOWN,
    VERSION,
    Packages,
    conda_packages,
    cuda_of,
    library_folders,
    read_packages,
    site_packages,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import RECORD

LARGEST_RECORD = 4 * 2**20  # bytes
UNFINISHED = ".building"  # in a prefix that is being built (environments/build)
MARKS = ("conda-meta", "pyvenv.cfg", RECORD, UNFINISHED)
_DIGEST = re.compile(r"[0-9a-f]{12,128}")
_COMMAND = re.compile(r"^# cmd:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class PrefixFacts:
    """What the files of an environment say of it.

    Attributes:
        kind: conda, mamba, micromamba, pixi, venv, deployer, or python for an installation that is none of them; ''
            where the files do not tell.
        owner: name of the user whose it is.
        name: as its tool or the deployment calls it.
        digest: of an environment that the deployment built.
        finished: False for one that the deployment has not finished to build.
        python: version of its interpreter; '' without one.
        versions: of the packages that tell what it is for, by PEP 503 name.
        editable: those of them that are run from a folder of sources -> that folder.
        cuda: the CUDA runtime that it brings, `12.8`; '' for none.
        packages: how many Python packages there are in it.
        conda_packages: how many packages conda installed.
        suits: the engines that are installed in it.
        open_to_all: whether every user of the host can read it: the user who runs the services may be another one.
        problems: what is wrong with it, a line each.
    """

    kind: str = ""
    owner: str = ""
    name: str = ""
    digest: str = ""
    finished: bool = True
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    editable: Mapping[str, str] = field(default_factory=dict)
    cuda: str = ""
    packages: int = 0
    conda_packages: int = 0
    suits: tuple[str, ...] = ()
    open_to_all: bool = False
    problems: tuple[str, ...] = ()


def is_environment(path: str) -> bool:
    """Whether a folder has the marks of an environment, or of what was left of one."""
    try:
        if any(os.path.lexists(os.path.join(path, mark)) for mark in MARKS):
            return True
        return os.path.lexists(os.path.join(path, "bin", "python")) and bool(library_folders(path))
    except ValueError:  # a path with a NUL
        return False


def read_prefix(prefix: str, by_conda: bool = False) -> PrefixFacts:
    """The facts of an environment; what cannot be read is a problem, nothing is raised.

    Args:
        prefix: a real path.
        by_conda: one of conda's kin says that it made it, or did at some time.
    """
    try:
        owner = owner_of(prefix)
    except FileNotFoundError:
        return PrefixFacts(problems=("is not there",))
    except (OSError, ValueError) as error:
        return PrefixFacts(problems=(f"cannot be reached: {reason_of(error)}",))
    record = _record(prefix, owner)
    settings = _pyvenv(text_or_nothing(os.path.join(prefix, "pyvenv.cfg"), owner))
    conda, conda_problem = _conda(prefix)
    python = _python_version(prefix, conda, settings)
    folder = site_packages(prefix, python)
    packages = read_packages(folder, owner) if folder else Packages()
    kind = _kind(prefix, owner, bool(record), by_conda)
    finished = bool(record) or not os.path.lexists(os.path.join(prefix, UNFINISHED))
    problems = (
        "" if finished else "not finished: its build is under way, or was cut off and is made again",
        conda_problem if kind not in ("venv", "python", "deployer") else "",
        _interpreter_problem(prefix, python),
        *packages.problems,
    )
    return PrefixFacts(
        kind=kind,
        owner=user_name(owner.uid),
        name=str(record.get("name") or "") or _name(prefix, kind, owner),
        digest=str(record.get("digest") or ""),
        finished=finished,
        python=python,
        versions={name: version for name, version in packages.versions.items() if name in SHOWN},
        editable=packages.editable,
        cuda=cuda_of(packages.versions, conda, folder, owner),
        packages=packages.count,
        conda_packages=len(conda),
        suits=tuple(engine for engine in ENGINES if engine_named(engine).package in packages.versions),
        open_to_all=_open_to_all(prefix),
        problems=tuple(filter(None, problems)),
    )


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _conda(prefix: str) -> tuple[list[tuple[str, str]], str]:
    """conda's packages, and why there are none."""
    try:
        return conda_packages(prefix), ""
    except FileNotFoundError:
        return [], "conda-meta is missing: removed by half, or no environment"
    except (OSError, ValueError) as error:
        return [], f"conda-meta: {reason_of(error)}"


def _record(prefix: str, owner: Owner) -> dict[str, Any]:
    """The record of an environment that the deployment finished to build; empty for any other."""
    text = text_or_nothing(os.path.join(prefix, RECORD), owner, LARGEST_RECORD)
    try:
        value = json.loads(text) if text else {}
        digest, name = str(value["digest"]), str(value["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {"digest": digest, "name": name[:64]} if _DIGEST.fullmatch(digest) else {}


def _pyvenv(text: str) -> dict[str, str]:
    """The settings in pyvenv.cfg, keys in lower case."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, sign, value in pairs if sign}


def _python_version(prefix: str, conda: list[tuple[str, str]], settings: Mapping[str, str]) -> str:
    """`3.11.9` as conda or pyvenv.cfg has it, `3.11` as the folder of the library; '' for no Python."""
    # venv says `version`, uv and virtualenv say `version_info`, the latter with `.final.0` behind it.
    said = [version for name, version in conda if name == "python"]
    said += [settings[key] for key in ("version", "version_info") if key in settings]
    for version in said:
        found = re.match(r"\d+\.\d+(\.\d+)?[0-9A-Za-z]*", version)
        if found and VERSION.fullmatch(found.group()):
            return found.group()
    return next(iter(library_folders(prefix)), "")[len("python") :]


def _interpreter_problem(prefix: str, python: str) -> str:
    path = os.path.join(prefix, "bin", "python")
    if not python or os.path.exists(path):
        return ""
    if os.path.islink(path):
        try:
            return f"bin/python is a link to {os.readlink(path)}, which is not there or cannot be reached"
        except OSError:
            pass
    return "bin/python is missing: removed by half"


def _kind(prefix: str, owner: Owner, recorded: bool, by_conda: bool) -> str:
    """By whom the environment was made, as far as its files tell."""
    meta = os.path.join(prefix, "conda-meta")
    if recorded or os.path.lexists(os.path.join(prefix, UNFINISHED)):
        return "deployer"
    if os.path.lexists(os.path.join(meta, "pixi")) or "/.pixi/envs/" in f"{prefix}/":
        return "pixi"
    if not os.path.lexists(meta):
        if os.path.lexists(os.path.join(prefix, "pyvenv.cfg")):
            return "venv"
        return "" if by_conda or not library_folders(prefix) else "python"
    # The first command made it: `# cmd: /home/me/miniconda3/bin/conda create …`, `# cmd: micromamba create …`.
    command = _COMMAND.search(text_or_nothing(os.path.join(meta, "history"), owner))
    program = os.path.basename(command.group(1)).lower() if command else ""
    return next((kind for kind in ("micromamba", "mamba") if program.startswith(kind)), "conda")


def _name(prefix: str, kind: str, owner: Owner) -> str:
    """What the tool of an environment calls it."""
    above, name = os.path.split(prefix)
    if kind == "pixi":
        project = _pixi_project(prefix, owner) or os.path.basename(above.partition("/.pixi/")[0])
        return project if name == "default" else f"{project}:{name}"
    if kind == "venv" and name.lstrip(".") in ("venv", "env"):
        return os.path.basename(above)
    is_root = os.path.isdir(os.path.join(prefix, "condabin")) or os.path.isdir(os.path.join(prefix, "envs"))
    return "base" if kind in ("conda", "mamba", "micromamba") and is_root else name


def _pixi_project(prefix: str, owner: Owner) -> str:
    """The folder name of the project that an environment of pixi belongs to; '' where pixi does not say."""
    try:
        value = json.loads(text_or_nothing(os.path.join(prefix, "conda-meta", "pixi"), owner) or "{}")
        return os.path.basename(os.path.dirname(str(value["manifest_path"])))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _open_to_all(prefix: str) -> bool:
    """Whether every user may come to the prefix and list it."""
    try:
        if not os.stat(prefix).st_mode & stat.S_IROTH:
            return False
        while True:
            if not os.stat(prefix).st_mode & stat.S_IXOTH:
                return False
            if prefix == "/":
                return True
            prefix = os.path.dirname(prefix)
    except OSError:
        return False
