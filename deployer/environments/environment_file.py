"""`environment.yml` as conda writes and reads it, and conda-lock's `virtual-packages.yml` beside it.

    name: sglang
    channels: [conda-forge]
    dependencies:
      - python =3.12
      - pip:
          - sglang ==0.5.23

`virtual-packages.yml` is optional; it says what the hosts are taken to have:

    subdirs: {linux-64: {packages: {__glibc: "2.34", __cuda: "13.0"}}}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import PLATFORM, normalize_name
from deployer.environments.sources import PackageSources, redacted, without_credentials
from deployer.environments.yaml_nodes import Document, Node, parse_document, read_document

ENVIRONMENT_FILE = "environment.yml"
VIRTUAL_PACKAGES_FILE = "virtual-packages.yml"
KEYS = ("name", "channels", "dependencies", "platforms", "prefix", "variables")
SOURCES_FIX = "say it in sources.yml beside or above it"
# What Red Hat Enterprise Linux 9 has: the oldest that current CUDA wheels are made for.
DEFAULT_VIRTUAL_PACKAGES = {"__unix": "0", "__linux": "5.10", "__glibc": "2.34", "__archspec": "1 x86_64"}
KNOWN_VIRTUAL_PACKAGES = (*DEFAULT_VIRTUAL_PACKAGES, "__cuda", "__cuda_arch")
OLDEST_GLIBC = 17  # of 2.x: what manylinux2014 needs, the oldest that indexes still get wheels for

_SPEC = re.compile(r"(?:(?P<channel>[^\s\[\]]+?)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<rest>[\s=<>!~\[].*)?")
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*(?:/[\w.+-]+)*")


@dataclass(frozen=True)
class CondaSpec:
    """One conda dependency: a match spec, the channel that it insists on or '', and its line in the file."""

    name: str
    spec: str
    channel: str
    line: int


@dataclass(frozen=True)
class PipRequirement:
    """One PEP 508 requirement of the `pip:` list, and its line in the file."""

    name: str
    text: str
    line: int


@dataclass(frozen=True)
class EnvironmentFile:
    """What to lock.

    Attributes:
        path: of environment.yml, for errors.
        channels: names, URLs or folders, in order of priority; `nodefaults` is left out.
        conda: what conda is to install.
        pip: what pip is to install.
        virtual_packages: name -> version, or version and build: what the hosts are taken to have.
    """

    path: str
    channels: tuple[str, ...]
    conda: tuple[CondaSpec, ...]
    pip: tuple[PipRequirement, ...]
    virtual_packages: Mapping[str, str]

    @property
    def digest(self) -> str:
        """sha256 (hex) of what counts for a lock: not names, comments, spelling or the order of dependencies."""
        content = {
            "channels": self.channels,
            "conda": sorted(" ".join(f"{spec.channel}::{spec.spec}".split()) for spec in self.conda),
            "pip": sorted(str(Requirement(requirement.text)) for requirement in self.pip),
            "virtual_packages": sorted(self.virtual_packages.items()),
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    @property
    def glibc(self) -> str:
        """The glibc that the hosts are taken to have, `2.34`."""
        return self.virtual_packages["__glibc"]


def read_environment(folder: Path) -> EnvironmentFile:
    """The environment that the files in `folder` describe.

    Raises:
        DeployError: a file is missing or has a mistake; names file, line and fix.
    """
    path = folder / ENVIRONMENT_FILE
    virtual = folder / VIRTUAL_PACKAGES_FILE
    return _environment(read_document(path), read_document(virtual) if virtual.exists() else None)


def parse_environment(text: str, virtual_packages: str = "", source: str = ENVIRONMENT_FILE) -> EnvironmentFile:
    """The environment that these texts describe; `source` names the first one in errors.

    Raises:
        DeployError: a mistake; names file, line and fix.
    """
    return _environment(parse_document(text, source), parse_document(virtual_packages, VIRTUAL_PACKAGES_FILE))


def _environment(document: Document, virtual_packages: Document | None) -> EnvironmentFile:
    entries = {}
    for key, key_node, value in document.mapping(document.root, "the file"):
        if key not in KEYS:
            raise document.unknown_key(key_node, key, KEYS)
        entries[key] = (key_node, value)
    if "dependencies" not in entries:
        raise document.error(None, "has no dependencies", "list what to install: `dependencies: [python =3.12]`")
    _check_platforms(document, entries.get("platforms"))
    if "variables" in entries and not document.is_empty(entries["variables"][1]):
        raise document.error(
            entries["variables"][0],
            "variables are set when conda activates an environment, which a service does not do",
            "remove them, and set them as the service's environment variables in the inventory",
        )
    conda, pip = _dependencies(document, entries["dependencies"][1])
    channels = _channels(document, entries.get("channels"))
    for spec in conda:
        if spec.channel and spec.channel not in channels:
            raise document.error_at(
                spec.line, f"{_shown(spec.channel)} is not among the channels", "add it to `channels:`"
            )
    return EnvironmentFile(document.source, channels, conda, pip, _virtual_packages(virtual_packages))


def _channels(document: Document, entry: tuple[Node, Node] | None) -> tuple[str, ...]:
    nodes = document.sequence(entry[1], "channels") if entry is not None else []
    channels = [_channel(document, node) for node in nodes]
    channels = list(dict.fromkeys(channel for channel in channels if channel != "nodefaults"))
    if not channels:
        raise document.error(
            entry[0] if entry is not None else None, "names no channel", "add one, such as `channels: [conda-forge]`"
        )
    return tuple(channels)


def _channel(document: Document, node: Node) -> str:
    text = document.text(node, "a channel")
    if "://" in text:
        if "$" in text or without_credentials(text) != text or redacted(text, PackageSources()) != text:
            raise document.error(
                node,
                f"{without_credentials(text).partition('$')[0]}: a channel has credentials or a variable in it",
                f"name the channel here and give its URL in sources.yml; {SOURCES_FIX}",
            )
        if not re.fullmatch(r"(?:https?://[\w.\[\]:-]+(?:/[^\s?#]*)?|file:///[^\s?#]+)", text):
            raise document.error(node, f"{_shown(text)} is not the URL of a channel", "write https://… or file:///…")
    elif not text.startswith(("/", "./", "../")) and not _CHANNEL_NAME.fullmatch(text):
        raise document.error(
            node, f"{_shown(text)} is not a channel", "write its name, its URL, or a folder as ./… or /…"
        )
    return text.rstrip("/") or "/"


def _check_platforms(document: Document, entry: tuple[Node, Node] | None) -> None:
    if entry is None or document.is_empty(entry[1]):
        return
    platforms = [document.text(node, "a platform") for node in document.sequence(entry[1], "platforms")]
    if PLATFORM not in platforms:
        raise document.error(
            entry[0], f"platforms has {', '.join(platforms) or 'none'}, hosts are {PLATFORM}", f"add {PLATFORM}"
        )


def _dependencies(document: Document, node: Node) -> tuple[tuple[CondaSpec, ...], tuple[PipRequirement, ...]]:
    conda: list[CondaSpec] = []
    pip: list[PipRequirement] = []
    for item in document.sequence(node, "dependencies"):
        if not document.is_mapping(item):
            conda.append(_conda_spec(document, item))
            continue
        for key, key_node, value in document.mapping(item, "a dependency"):
            if key != "pip":
                raise document.unknown_key(key_node, key, ("pip",))
            pip += [_pip_requirement(document, line) for line in document.sequence(value, "pip")]
    if not conda:
        raise document.error(node, "dependencies names no conda package", "add python, such as `- python =3.12`")
    return tuple(conda), tuple(pip)


def _conda_spec(document: Document, node: Node) -> CondaSpec:
    text = document.text(node, "a dependency")
    match = _SPEC.fullmatch(text)
    if match is None or not text.isprintable():
        raise document.error(
            node,
            f"{_shown(text)} is not a conda match spec",
            "write `name`, `name =1.2` or `name >=1.2,<2`; a wheel's URL or a pip requirement belongs below `- pip:`",
        )
    channel = match.group("channel") or ""
    spec = match.group("name") + (match.group("rest") or "")
    return CondaSpec(match.group("name").lower(), spec, channel, document.line(node))


def _pip_requirement(document: Document, node: Node) -> PipRequirement:
    text = document.text(node, "a pip requirement")
    problem, fix = "", ""
    if re.match(r"-r\b|--requirement|-c\b|--constraint", text):
        problem, fix = "names another file", "write its lines here"
    elif re.match(r"-i\b|-f\b|--index|--extra-index|--find-links|--no-index|--trusted-host", text):
        problem, fix = "says where packages come from", SOURCES_FIX
    elif text.startswith(("-e", "--editable", ".", "/", "~")):
        problem, fix = (
            "is a folder",
            "build a wheel with `pip wheel`, put it into a folder, and name that as find_links",
        )
    elif text.startswith("-"):
        problem, fix = "is an option of pip", "write requirements only, one a line: `name ==1.2`"
    elif "://" in text or re.match(r"[\w.\[\],-]+\s*@", text):
        problem, fix = (
            "is a URL",
            "build or download the wheel into a folder and name that as find_links in sources.yml",
        )
    if problem:
        raise document.error(node, f"{_shown(text)} {problem}", fix)
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, ValueError, RecursionError):
        raise document.error(
            node, f"{_shown(text)} is not a pip requirement", "write `name ==1.2` or `name >=1.2,<2`"
        ) from None
    return PipRequirement(normalize_name(requirement.name), text, document.line(node))


def _virtual_packages(document: Document | None) -> dict[str, str]:
    packages = dict(DEFAULT_VIRTUAL_PACKAGES)
    if document is None:
        return packages
    for key, key_node, subdirs in document.mapping(document.root, "the file"):
        if key != "subdirs":
            raise document.unknown_key(key_node, key, ("subdirs",))
        for subdir, _, content in document.mapping(subdirs, "subdirs"):
            for name, name_node, values in document.mapping(content, subdir):
                if name != "packages":
                    raise document.unknown_key(name_node, name, ("packages",))
                if subdir == PLATFORM:
                    packages.update(_virtual_package_list(document, values))
    return packages


def _virtual_package_list(document: Document, node: Node) -> dict[str, str]:
    found = {}
    for name, name_node, value in document.mapping(node, "packages"):
        if name not in KNOWN_VIRTUAL_PACKAGES:
            raise document.unknown_key(name_node, name, KNOWN_VIRTUAL_PACKAGES)
        text = document.text(value, name)
        if not re.fullmatch(r"\d{1,6}(?:\.\d{1,6}){0,3}(?: [A-Za-z0-9_]+)?", text, re.ASCII):
            raise document.error(value, f"{name}: {_shown(text)} is not a version", "write it like 2.34")
        if name == "__glibc" and not (re.fullmatch(r"2\.\d+", text) and int(text[2:]) >= OLDEST_GLIBC):
            raise document.error(value, f"__glibc: {text} has no wheels", f"write 2.{OLDEST_GLIBC} or later")
        found[name] = text
    return found


def _shown(text: str) -> str:
    """A text of the file as an error may quote it: one short line without credentials."""
    line = re.sub(r"\S+:\S+@", "", redacted(text, PackageSources()))
    return (line if len(line) <= 80 else line[:77] + "…") or "an empty text"
