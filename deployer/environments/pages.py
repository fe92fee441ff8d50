"""Pages that offer packages: a simple index's (PEP 503, PEP 691), or any page with links; by http, https or file."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.http_client import MISSING, Busy, Patience, check_status, unreachable

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True)
class Candidate:
    """A file that a page or folder offers.

    Attributes:
        file_name: its last path component.
        url: with the index's credentials where it is the index's own host.
        sha256: hex digest that the page states; empty when it states none.
        size: bytes, where the page states them.
    """

    file_name: str
    url: str
    sha256: str = ""
    size: int | None = None


class Unreachable(DeployError):
    """A whole index cannot be reached: asking it for the next package is of no use."""


def read_page(client: httpx.Client, url: str, name: str, stopped: threading.Event) -> list[Candidate]:
    """The files that a page offers; none when there is no such page.

    Args:
        client: as `http_client.open_client` gives it.
        url: http, https or file (a folder's is that of its index.html); with credentials if any.
        name: what messages call the page.
        stopped: ends the waiting for another attempt.

    Raises:
        Unreachable: its server does not answer.
        DeployError: it is refused, or no page of packages.
    """
    if urlsplit(url).scheme == "file":
        return _read_local_page(url)
    patience = Patience(stopped)
    while True:
        try:
            answer = client.get(url, headers={"Accept": ACCEPT})
            if answer.status_code in MISSING:
                return []
            check_status(answer, name, url)
            # A redirect within the server keeps its login.
            return parse_page(answer.text, answer.headers.get("Content-Type", ""), _with_login_of(url, str(answer.url)))
        except (httpx.TransportError, Busy) as error:
            if not patience.wait(error):
                problem = unreachable(name, url, error)
                raise Unreachable(problem.problem, problem.fix) from None
        except (httpx.InvalidURL, httpx.RequestError, ValueError) as error:
            raise unreachable(name, url, error) from None


def _read_local_page(url: str) -> list[Candidate]:
    path = Path(unquote(urlsplit(url).path))
    path = path / "index.html" if path.is_dir() else path
    try:
        return parse_page(path.read_text(encoding="utf-8"), "text/html", path.as_uri())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path} cannot be read: {error}", fix="correct sources.yml, or pip's settings") from None


def parse_page(text: str, content_type: str, url: str) -> list[Candidate]:
    """The files that a page offers.

    Args:
        text: the page.
        content_type: tells JSON (PEP 691) from HTML (PEP 503, or any page with links).
        url: where the page came from; links in it may be relative.

    Raises:
        ValueError: it says that it is JSON and is not, or not a package's page.
    """
    if "json" in content_type:
        return _json_files(json.loads(text), url)
    links = _Links()
    links.feed(text)
    base = urljoin(url, links.base)
    found = []
    for href in links.hrefs:
        address, _, fragment = urljoin(base, href.strip()).partition("#")
        digest = re.search(r"(?:^|&)sha256=([0-9a-fA-F]{64})", fragment)
        found.append(_candidate(address, url, digest.group(1) if digest else ""))
    return [one for one in found if one is not None]


def _json_files(page: Any, url: str) -> list[Candidate]:
    if not isinstance(page, Mapping) or not isinstance(page.get("files"), list):
        raise ValueError("no list of files")
    found = []
    for entry in page["files"]:
        if not isinstance(entry, Mapping) or not isinstance(address := entry.get("url"), str):
            raise ValueError("a file without URL")
        hashes, size = entry.get("hashes"), entry.get("size")
        digest = hashes.get("sha256", "") if isinstance(hashes, Mapping) else ""
        whole = address if address.startswith(("https://", "http://")) else urljoin(url, address)
        one = _candidate(whole.partition("#")[0], url, str(digest), size if isinstance(size, int) else None)
        if one is not None:
            found.append(one)
    return found


def _candidate(address: str, page: str, sha256: str, size: int | None = None) -> Candidate | None:
    scheme, _, rest = address.partition(":")
    # By the address: the text of a link may be cut short.
    file_name = unquote(rest.partition("?")[0].rpartition("/")[2])
    # The name becomes a path; and a page of the network does not point to this machine's files.
    if not file_name or "/" in file_name or file_name.startswith(".") or "\0" in file_name:
        return None
    if scheme not in ("http", "https", "file") or (scheme == "file" and not page.startswith("file:")):
        return None
    return Candidate(file_name, _with_login_of(page, address), sha256.lower(), size)


def _with_login_of(page: str, address: str) -> str:
    """The address with the page's login where it is the same server; no other gets to see it."""
    if "@" not in page:
        return address
    ours, theirs = urlsplit(page), urlsplit(address)
    user, at, server = ours.netloc.rpartition("@")
    if at and (ours.scheme, server) == (theirs.scheme, theirs.netloc):
        return urlunsplit(theirs._replace(netloc=f"{user}@{server}"))
    return address


class _Links(HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note `base` and `a`."""
        href = dict(attrs).get("href")
        if tag == "base" and href and not self.base:
            self.base = href
        elif tag == "a" and href:
            self.hrefs.append(href)
