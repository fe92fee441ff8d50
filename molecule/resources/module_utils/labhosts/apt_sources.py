"""Where this machine gets its Debian packages from: the lab's base images come from the same place."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

APT = Path("/etc/apt")


def machine_mirror() -> str | None:
    """The Debian mirror that apt is configured with, None when there is none or this is not Debian."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    if release.get("ID") != "debian":
        return None
    files = [APT / "sources.list", *sorted(APT.glob("sources.list.d/*"))]
    texts = [file.read_text() for file in files if file.is_file() and file.suffix in (".list", ".sources")]
    return debian_mirror(texts, release.get("VERSION_CODENAME", ""))


def debian_mirror(texts: Iterable[str], codename: str) -> str | None:
    """The first mirror that serves the suite `codename` itself with the component `main`.

    A third party's repository names its suites or components otherwise.

    Args:
        texts: contents of sources.list(5) files, one-line or deb822 style.
        codename: the Debian release of this machine, such as `bookworm`.
    """
    for text in texts:
        for uri, suites, components in (*_one_line(text), *_deb822(text)):
            if codename in suites and "main" in components and uri.startswith(("http://", "https://")):
                return uri
    return None


def apt_proxies() -> dict[str, str]:
    """The proxies of apt.conf(5) as environment variables for programs that know nothing of apt."""
    proxies = {}
    for scheme in ("http", "https"):
        asked = ["apt-config", "shell", "value", f"Acquire::{scheme}::Proxy"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        proxy = answer.partition("=")[2].strip().strip("'")
        if proxy and proxy != "DIRECT" and f"{scheme}_proxy" not in os.environ:
            proxies[f"{scheme}_proxy"] = proxy
    return proxies


def _one_line(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for match in re.finditer(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#\n]*)", text, re.MULTILINE):
        yield match[1], [match[2]], match[3].split()


def _deb822(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    without_comments = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", without_comments):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE))
        if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes") == "no":
            continue
        for uri in fields.get("URIs", "").split():
            yield uri, fields.get("Suites", "").split(), fields.get("Components", "").split()
