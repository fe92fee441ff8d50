"""Where packages come from: conda channels, package indexes, folders of wheels, and the credentials for them.

`environments/sources.yml` is optional and is committed, so that it holds no secret: `${VARIABLE}` stands for what the
environment has.

    channels: {conda-forge: "https://${MIRROR_USER}:${MIRROR_PASSWORD}@mirror.example.com/conda-forge"}
    indexes: ["https://mirror.example.com/simple"]
    find_links: [../wheels]

What it does not say is as pip is configured. Credentials may be in ~/.netrc instead: uv, pip and py-rattler read it by
themselves, httpx with `httpx.NetRCAuth`.
"""

from __future__ import annotations

import ast
import base64
import netrc
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from deployer.environments.yaml_nodes import Document, Node, read_document

SOURCES_FILE = "sources.yml"
PUBLIC_CHANNELS = "https://conda.anaconda.org"
KEYS = ("channels", "indexes", "find_links")
SCHEMES = ("https", "http", "file")
HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>|\\^{}]+")
_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@")
_TOKEN_PATH = re.compile(r"/t/[^/?#]+(?=[/?#]|$)")
_SECRET_NAME = re.compile(r"token|key|sig|auth|pass|pwd|secret|credential|jwt|session", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"[\w.~+/=%-]{20,}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class PackageSources:
    """Where packages come from.

    Attributes:
        channels: channel name, or URL as a lock has it -> URL to fetch it from, with credentials if any, without `/` at
            its end.
        indexes: simple-index base URLs in order, with credentials if any.
        find_links: folders or page URLs with wheels.
        certificate: CA bundle path or ''.
        public_index: whether PyPI's own index counts as well, after `indexes`; uv and pip know its address.
        index_strategy: uv's word for how indexes rank: `first-index` takes a package from the first index that has it;
            `unsafe-best-match` from any, as pip does where its settings name the indexes.
        secrets: values of variables that went into the above.
    """

    channels: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    certificate: str = ""
    public_index: bool = True
    index_strategy: Literal["first-index", "unsafe-best-match"] = "first-index"
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def __repr__(self) -> str:
        """Without credentials: a traceback may show it."""
        shown = [without_credentials(url) for url in (*self.channels.values(), *self.indexes, *self.find_links)]
        return f"PackageSources({', '.join(shown)})"

    def channel_url(self, channel: str) -> str:
        """Where to fetch a channel, given by name or URL; with credentials if any, without `/` at its end."""
        return self.fetch_url(_canonical_base(channel))

    def fetch_url(self, locked_url: str) -> str:
        """The URL to fetch a lock's URL from: that of a mapped channel, with its credentials; else the same."""
        for channel, target in _longest_first(self.channels):
            if (rest := _below(locked_url, _canonical_base(channel))) is not None:
                return target + rest
        return locked_url

    def canonical_url(self, url: str) -> str:
        """What may stand in a lock: a mapped channel's public URL, else the URL without credentials."""
        bare = without_credentials(url)
        targets = {channel: without_credentials(target) for channel, target in self.channels.items()}
        for channel, target in sorted(targets.items(), key=lambda item: -len(item[1])):
            if (rest := _below(bare, target)) is not None:
                return _canonical_base(channel) + rest
        return bare


def read_sources(folder: Path) -> PackageSources:
    """The sources for the environment in `folder`.

    Args:
        folder: `environments/<name>`; `sources.yml` in it or above it is read, the nearer one alone.

    Raises:
        DeployError: a mistake in sources.yml, or a variable of it that is not set; names file, line and key.
    """
    path = next((path for path in (folder / SOURCES_FILE, folder.parent / SOURCES_FILE) if path.is_file()), None)
    written = _read_file(path) if path is not None else _Written()
    pip = pip_settings()
    index = pip.get("index-url", "")
    extra = tuple(pip.get("extra-index-url", "").split())
    no_index = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    indexes = () if no_index else (*((index,) if index else ()), *extra)
    # pip passes over folders that are not there.
    find_links = tuple(p for p in pip.get("find-links", "").split() if "://" in p or Path(p).expanduser().is_dir())
    return PackageSources(
        channels=written.channels,
        indexes=indexes if written.indexes is None else written.indexes,
        find_links=find_links if written.find_links is None else written.find_links,
        certificate=pip.get("cert") or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or "",
        public_index=written.indexes is None and not index and not no_index,
        index_strategy="unsafe-best-match" if written.indexes is None else "first-index",
        secrets=written.secrets,
    )


def without_credentials(url: str) -> str:
    """A URL without user and password, conda's `/t/<token>`, and query values that look like tokens."""
    bare = _TOKEN_PATH.sub("", _AUTHORITY.sub(r"\1", url))
    head, mark, query = bare.partition("?")
    if not mark:
        return bare
    query, hash_mark, fragment = query.partition("#")
    kept = [part for part in query.split("&") if not _is_secret(*part.partition("=")[::2])]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def redacted(text: str, sources: PackageSources) -> str:
    """Text fit for a terminal or a log: without the credentials of `sources`, of ~/.netrc and of any URL."""
    for secret in sorted(known_secrets(sources), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL.sub(lambda url: without_credentials(url.group()), text)


def known_secrets(sources: PackageSources) -> frozenset[str]:
    """Every secret that is known here, as it may turn up in text: plain, percent-encoded, as a basic-auth header."""
    found = set(sources.secrets)
    for url in (*sources.channels.values(), *sources.indexes, *sources.find_links):
        found.update(_secrets_of(url))
    found.update(_netrc_secrets())
    # Shorter ones would hide half of every text; those in URLs go with the URL's user part.
    return frozenset(
        form for secret in found if len(secret) >= 3 for form in (secret, unquote(secret), quote(secret, ""))
    )


def pip_settings() -> dict[str, str]:
    """pip's settings for downloads, by option name: its files and its environment variables.

    Settings for one command outrank those for all, and environment variables outrank both, as in pip.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return parse_pip_settings(done.stdout) if done.returncode == 0 else {}


def parse_pip_settings(text: str) -> dict[str, str]:
    """The settings that `pip config list` printed, as `pip_settings` gives them."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}, ":env:": {}}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in found:
            try:
                found[section][option] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                continue
    return {option: value for section in found.values() for option, value in section.items()}


@dataclass(frozen=True)
class _Written:
    """What sources.yml says; None where it says nothing."""

    channels: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] | None = None
    find_links: tuple[str, ...] | None = None
    secrets: frozenset[str] = frozenset()


def _read_file(path: Path) -> _Written:
    document = read_document(path)
    entries = {}
    for key, key_node, value in document.mapping(document.root, "the file"):
        if key not in KEYS:
            raise document.unknown_key(key_node, key, KEYS)
        entries[key] = value
    secrets: set[str] = set()
    channels = {}
    for name, key_node, value in document.mapping(entries.get("channels"), "channels"):
        if without_credentials(name) != name or "$" in name:
            raise document.error(key_node, "a channel's name has credentials in it", "write them into its value alone")
        channels[name.rstrip("/")] = _location(document, value, f"channels[{name}]", path.parent, secrets, "url")
    lists: dict[str, tuple[str, ...] | None] = {"indexes": None, "find_links": None}
    for key in lists:
        if key in entries:
            lists[key] = tuple(
                _location(
                    document, node, f"{key}[{number}]", path.parent, secrets, "url" if key == "indexes" else "path"
                )
                for number, node in enumerate(document.sequence(entries[key], key))
            )
    return _Written(channels, lists["indexes"], lists["find_links"], frozenset(secrets))


def _location(
    document: Document, node: Node, key: str, folder: Path, secrets: set[str], folders_as: Literal["url", "path"]
) -> str:
    """A URL, or a folder relative to the file's; variables expanded, their values added to `secrets` where they are."""
    template = document.text(node, key)
    if not template:
        raise document.error(node, f"{key} is empty", "give it a URL or a folder")
    literal = _VARIABLE.sub("", template)
    if _secrets_of(literal):
        raise document.error(
            node,
            f"{key} has a password or token in it",
            "write it as ${VARIABLE} and set that in the environment, or put it into ~/.netrc; and change it: it was "
            "in a file that is committed",
        )
    text = _expand(document, node, key, template, secrets)
    if "://" not in text:
        path = Path(os.path.abspath(folder / Path(text).expanduser()))
        return path.as_uri() if folders_as == "url" else str(path)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in SCHEMES and (parts.hostname or parts.scheme == "file") and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", text):
        raise document.error(node, f"{key} is not a URL", f"write {', '.join(f'{s}://…' for s in SCHEMES)} or a folder")
    return text.rstrip("/")


def _expand(document: Document, node: Node, key: str, template: str, secrets: set[str]) -> str:
    """The template with the environment's values; in a URL's user part they are percent-encoded as it needs."""
    user_part = _AUTHORITY.match(_VARIABLE.sub(lambda match: "v" * len(match.group()), template))

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        value = os.environ.get(name, "")
        if not value:
            raise document.error(
                node, f"{key} needs the environment variable {name}, which is not set", f"export {name}=…"
            )
        in_user_part = user_part is not None and match.end() <= user_part.end()
        if in_user_part or _SECRET_NAME.search(name):
            secrets.add(value)
        return quote(value, safe=":") if in_user_part else value

    return _VARIABLE.sub(value_of, template)


def _secrets_of(url: str) -> set[str]:
    """Passwords and tokens in a URL, as they stand there; a user name counts when it looks like a token."""
    found = {token.removeprefix("/t/") for token in _TOKEN_PATH.findall(url)}
    if match := _AUTHORITY.match(url):
        user, colon, password = match.group(2).partition(":")
        found.add(password)
        if colon and password:
            found.add(base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
        elif _SECRET_VALUE.fullmatch(user):
            found.add(user)
    query = url.partition("?")[2].partition("#")[0]
    found.update(
        value for name, _, value in (part.partition("=") for part in query.split("&")) if _is_secret(name, value)
    )
    return found - {""}


def _is_secret(name: str, value: str) -> bool:
    """Whether a query parameter looks like a credential."""
    return bool(value) and bool(_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value))


def _netrc_secrets() -> set[str]:
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or None).hosts
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return set()
    return {password for _, _, password in hosts.values() if password}


def _canonical_base(channel: str) -> str:
    """The public URL of a channel given by name, or its URL without credentials."""
    channel = channel.rstrip("/")
    return without_credentials(channel) if "://" in channel else f"{PUBLIC_CHANNELS}/{channel}"


def _longest_first(channels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from sorted(channels.items(), key=lambda item: -len(_canonical_base(item[0])))


def _below(url: str, base: str) -> str | None:
    """What follows `base` in a URL at or below it: '' or `/…`."""
    return url[len(base) :] if url == base or url.startswith(base + "/") else None
