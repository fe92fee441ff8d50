"""What a run was started with: versions of the programs that take part, and the state of the inventory."""

from __future__ import annotations

import configparser
import hashlib
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file
from deployer import __version__

BESIDE = ("group_vars", "host_vars")
# The variables of the playbooks that options stand for, and what they are called by people.
OPTIONS = {
    "rollout_batches": "batches",
    "rollout_max_fail": "max_fail",
    "rollout_pause": "pause",
    "rollout_confirm": "confirm",
    "cutover_services": "services",
    "cutover_to": "to",
}


def versions() -> dict[str, str]:
    """Of the programs that carry a run, by name."""
    found = {"deployer": __version__, "python": platform.python_version()}
    for name in ("ansible-core", "ansible-runner"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def options(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by name; what else was given as variables may be secret.

    Args:
        variables: extra variables of the command's own.
    """
    return {name: variables[key] for key, name in OPTIONS.items() if key in variables}


def inventory_state(given: Sequence[str]) -> dict[str, Any]:
    """Where the inventory comes from, and the sha256 of all of its files, by which it is told whether it changed.

    Args:
        given: as `-i` takes it; empty for the one that ansible.cfg or the environment names.
    """
    sources = list(given) or _configured()
    digest = hashlib.sha256()
    for source in sources:
        if "," in source:
            digest.update(source.encode())
            continue
        for path in _files(Path(source).expanduser()):
            try:
                content = hash_file(path)
            except OSError:
                content = "unreadable"
            digest.update(f"{path.name}\0{content}\n".encode())
    return {"sources": sources, "digest": digest.hexdigest()}


def _files(source: Path) -> Iterator[Path]:
    """The files of an inventory, in an order that does not depend on the disk."""
    if source.is_dir():
        yield from _below(source)
        return
    yield source
    for name in BESIDE:
        yield from _below(source.parent / name)


def _below(folder: Path) -> Iterable[Path]:
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if not path.name.startswith("."))


def _configured() -> list[str]:
    named = os.environ.get("ANSIBLE_INVENTORY", "")
    if named:
        return named.split(",")
    config = Path(os.environ.get("ANSIBLE_CONFIG", "ansible.cfg"))
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(config, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return []
    sources = parser.get("defaults", "inventory", fallback="")
    return [str(config.parent / one.strip()) for one in sources.split(",") if one.strip()]
