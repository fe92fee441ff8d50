"""The versions of Python packages in a prefix, read from the files beside them; nothing is imported or run.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import (
    Owner,
    entries_of,
    entries_or_nothing,
    read_beginning,
    reason_of,
    text_or_nothing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import normalize_name
from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import cuda_runtime

# What the view shows, or tells why an engine starts or does not.
SHOWN = (
    *(engine_named(engine).package for engine in ENGINES),
    "sglang-kernel",
    "sgl-kernel",
    "torch",
    "flashinfer-python",
    "transformers",
    "vllm",
)
CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12")
# conda's packages that tell the CUDA version, the most exact first.
CONDA_CUDA = ("cuda-cudart", "cuda-version", "pytorch-cuda", "cudatoolkit")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}")
_LIBRARY = re.compile(r"python(\d+)\.(\d+)t?")
_METADATA = re.compile(r"^(name|version)\s*:\s*(\S+)\s*$", re.IGNORECASE)
_TORCH_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*['\"](\d+\.\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Packages:
    """What is installed in a prefix.

    Attributes:
        versions: of the packages that matter here, by PEP 503 name; '' where there is no telling.
        editable: those of them that are run from a folder of sources -> that folder.
        count: how many Python packages there are.
        problems: what is wrong with them, a line each.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    editable: Mapping[str, str] = field(default_factory=dict)
    count: int = 0
    problems: tuple[str, ...] = ()


def library_folders(prefix: str) -> list[str]:
    """The folders `lib/pythonX.Y` of a prefix, the newest first."""
    names = [name for name in entries_or_nothing(os.path.join(prefix, "lib")) if _LIBRARY.fullmatch(name)]
    return sorted(names, key=_version_of_library, reverse=True)


def _version_of_library(name: str) -> tuple[int, int]:
    found = _LIBRARY.fullmatch(name)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def site_packages(prefix: str, python: str) -> str:
    """Where the packages of a prefix lie; '' for a prefix without Python.

    Args:
        prefix: of the environment.
        python: its version, as far as it is known.
    """
    folders = library_folders(prefix)
    wanted = "python" + ".".join(python.split(".")[:2])
    folder = next((name for name in folders if name in (wanted, f"{wanted}t")), next(iter(folders), ""))
    return os.path.join(prefix, "lib", folder, "site-packages") if folder else ""


def read_packages(folder: str, owner: Owner) -> Packages:
    """What is installed in a folder `site-packages`: all counted, those that matter here read."""
    try:
        names = entries_of(folder)
    except FileNotFoundError:
        return Packages()
    except (OSError, ValueError) as error:
        return Packages(problems=(f"{os.path.basename(folder)}: {reason_of(error)}",))
    found: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        package, version = _named(name)
        if package:
            found.setdefault(package, []).append((name, version))
    versions: dict[str, str] = {}
    editable: dict[str, str] = {}
    problems: list[str] = []
    for package in (*SHOWN, *CUDA_RUNTIMES):
        if package in found:
            read = [_read_package(folder, entry, version, owner) for entry, version in found[package]]
            versions[package] = read[0].version
            problems += [f"{package}: {one.problem}" for one in read if one.problem]
            if len({one.version for one in read}) > 1:
                problems.append(f"{package} is there twice: {', '.join(one.version for one in read)}")
            sources = next((one.sources for one in read if one.sources), "")
            if sources:
                editable[package] = sources
                if not os.path.isdir(sources):
                    problems.append(f"{package} is run from {sources}, which is not there")
    return Packages(versions, editable, len(found), tuple(problems))


@dataclass(frozen=True)
class _Installed:
    """One package as its metadata has it; `sources` is '' unless it is editable."""

    version: str
    sources: str = ""
    problem: str = ""


def _named(entry: str) -> tuple[str, str]:
    """PEP 503 name and version that the name of an entry in site-packages says; ('', '') for no metadata."""
    stem, _, kind = entry.rpartition(".")
    if kind == "egg-link" and stem:
        return normalize_name(stem), ""
    # pip renames what it is about to remove to ~name: what is left of it does not count.
    if kind not in ("dist-info", "egg-info") or not stem or stem.startswith("~"):
        return "", ""
    if kind == "egg-info":
        stem = re.sub(r"-py\d+(\.\d+)?$", "", stem)
    name, dash, version = stem.rpartition("-")
    return (normalize_name(name), version) if dash and name else (normalize_name(stem), "")


def _read_package(folder: str, entry: str, version: str, owner: Owner) -> _Installed:
    path = os.path.join(folder, entry)
    sources = ""
    if entry.endswith(".egg-link"):
        sources = next(iter(text_or_nothing(path, owner).splitlines()), "").strip()
        if not os.path.isabs(sources):
            return _Installed(_valid(version), problem=f"{entry} names no folder")
        path = os.path.join(sources, entry[: -len("egg-link")] + "egg-info")
        metadata = os.path.join(path, "PKG-INFO")
    elif entry.endswith(".egg-info"):
        metadata = os.path.join(path, "PKG-INFO") if os.path.isdir(path) else path
    else:
        sources = _editable_sources(text_or_nothing(os.path.join(path, "direct_url.json"), owner))
        metadata = os.path.join(path, "METADATA")
    try:
        said = _headers(read_beginning(metadata, owner)).get("version", "")
    except (OSError, ValueError) as error:
        return _Installed(_valid(version), sources, f"{os.path.basename(metadata)}: {reason_of(error)}")
    if not VERSION.fullmatch(said):
        return _Installed(_valid(version), sources, f"{os.path.basename(metadata)} states no version")
    return _Installed(said, sources)


def _valid(version: str) -> str:
    return version if VERSION.fullmatch(version) else ""


def _headers(metadata: str) -> dict[str, str]:
    """Name and version in the header of METADATA or PKG-INFO."""
    found: dict[str, str] = {}
    for line in metadata.splitlines():
        if not line.strip():
            break
        match = _METADATA.match(line)
        if match:
            found.setdefault(match.group(1).lower(), match.group(2))
    return found


def _editable_sources(direct_url: str) -> str:
    """The folder that a package is run from, as its direct_url.json has it (PEP 610); '' for one that was copied."""
    try:
        value = json.loads(direct_url) if direct_url else {}
        if value["dir_info"]["editable"] is not True:
            return ""
        address = urlsplit(value["url"])
        path = unquote(address.path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return path if address.scheme == "file" and os.path.isabs(path) and "\0" not in path else ""


def conda_packages(prefix: str) -> list[tuple[str, str]]:
    """Names and versions of the packages in `conda-meta`, as the names of its files have them.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    stems = [name[: -len(".json")] for name in entries_of(os.path.join(prefix, "conda-meta")) if name.endswith(".json")]
    parts = [stem.rsplit("-", 2) for stem in stems]
    return [(part[0], part[1]) for part in parts if len(part) == 3]


def cuda_of(versions: Mapping[str, str], conda: Iterable[tuple[str, str]], folder: str, owner: Owner) -> str:
    """The CUDA version that a prefix brings, `12.8`; '' for none.

    Args:
        versions: of the Python packages.
        conda: names and versions of conda's packages.
        folder: its `site-packages`.
        owner: of the prefix.
    """
    from_packages = cuda_runtime(versions)
    if from_packages:
        return from_packages
    named = dict(conda)
    for package in CONDA_CUDA:
        if re.match(r"\d+\.\d+", named.get(package, "")):
            return ".".join(named[package].split(".")[:2])
    # What torch was built for, where the packages do not say: conda's pytorch, wheels with a CUDA of the system.
    found = _TORCH_CUDA.search(text_or_nothing(os.path.join(folder, "torch", "version.py"), owner)) if folder else None
    return found.group(1) if found else ""
