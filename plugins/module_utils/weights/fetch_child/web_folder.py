"""A folder on a web server."""

from __future__ import annotations

import contextlib
import html.parser
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from urllib.parse import quote, unquote, urljoin, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import at_once, patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import safe
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import (
    Access,
    Missing,
    Problem,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    File,
    Listing,
    state_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import Source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import (
    LARGEST_PAGE,
    origin,
    state_in,
)

MOST_FOLDERS = 1000


class Links(html.parser.HTMLParser):
    """The addresses of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


class WebFolder(Source):
    """A folder on a web server: what manifest.json or SHA256SUMS list, or else what its index pages link to."""

    access = Access("DEPLOYER_HTTP_AUTHORIZATION")

    def headers(self) -> dict[str, str]:
        """What the environment says the Authorization header is."""
        return {"Authorization": self.credential} if self.credential else {}

    def listing(self) -> Listing:
        """From the first list that is there; sizes that no list has are asked for, file by file."""
        files = self._manifest() or self._sums() or self._index()
        if not files:
            raise Problem(
                f"{self.order.url} lists no files", "let the server list the folder, or put a SHA256SUMS there"
            )
        names = [file.path for file in files]
        if len(set(names)) < len(names):
            raise Problem(f"{self.order.url} lists a file twice", "correct its list")
        files = sorted(at_once(self._with_size, files), key=lambda file: file.path)
        return Listing(state_of(files, self.order.url), tuple(files))

    def _page(self, name: str) -> bytes | None:
        try:
            return self.web.read(self.order.url + name, LARGEST_PAGE, whole=True)
        except Missing:
            return None

    def _manifest(self) -> list[File]:
        """This deployment's manifests, and those of sglang.srt.utils.model_file_verifier; any other is the model's."""
        text = self._page("manifest.json")
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            value = json.loads(text or b"null")
            listed = value.get("files") or {path: {"sha256": sha256} for path, sha256 in value["checksums"].items()}
            if isinstance(listed, Mapping):
                listed = [{"path": path, **entry} for path, entry in listed.items()]
            entries = [(str(e["path"]), int(e.get("size", -1)), str(e["sha256"]).lower()) for e in listed]
            if all(re.fullmatch(r"[0-9a-f]{64}", sha256) for _, _, sha256 in entries):
                return [File(safe(path), size, sha256) for path, size, sha256 in entries]
        return []

    def _sums(self) -> list[File]:
        """What sha256sum writes."""
        files = []
        for line in (self._page("SHA256SUMS") or b"").decode("utf-8", "replace").splitlines():
            match = re.fullmatch(r"\\?([0-9a-fA-F]{64}) [ *](.+)", line)
            if match is None and line.strip() and not line.startswith("#"):
                raise Problem(f"{self.order.url}SHA256SUMS has a line that sha256sum did not write", "write it anew")
            if match is not None:
                name = match.group(2)
                files.append(File(safe(name[2:] if name.startswith("./") else name), -1, match.group(1).lower()))
        return files

    def _index(self) -> list[File]:
        """The links of the folder's page and of those below it. Sizes on such pages are rounded: they are not read."""
        found: dict[str, File] = {}
        folders, seen = [""], {""}
        while folders:
            folder = folders.pop()
            page = self._page(quote(folder))
            if page is None:
                raise Missing(
                    f"{self.order.url}{folder} is not there, or does not list its files", "correct the source"
                )
            for name in self._names(page.decode("utf-8", "replace"), folder):
                if not name.endswith("/"):
                    found[name] = File(name, -1)
                elif name not in seen and not name.rsplit("/", 2)[-2].startswith("."):
                    seen.add(name)
                    folders.append(name)
            if len(seen) > MOST_FOLDERS:
                raise Problem(f"{self.order.url} has more than {MOST_FOLDERS} folders", "give the folder of one model")
        return list(found.values())

    def _names(self, page: str, folder: str) -> Iterator[str]:
        """Paths below the source that a page links to; a folder's ends with a slash."""
        links = Links()
        links.feed(page)
        base = urlsplit(self.order.url)
        here = self.order.url + quote(folder)
        for href in links.found:
            try:
                link = urlsplit(urljoin(here, href))  # resolves .. but in an escaped form, which `safe` refuses
                elsewhere = origin(link.geturl()) != origin(self.order.url)
            except ValueError:
                continue
            # Headings that sort, the parent folder, and links to elsewhere.
            if elsewhere or link.query or not link.path.startswith(base.path):
                continue
            name = unquote(link.path[len(base.path) :])
            if name and not (name.endswith("/") and folder.startswith(name)):
                yield safe(name.rstrip("/")) + ("/" if name.endswith("/") else "")

    def _with_size(self, file: File) -> File:
        if file.size >= 0:
            return file
        url = self.address(file, Listing("", ()))

        def once() -> Message:
            try:
                with self.web.open(url, method="HEAD") as answer:
                    headers: Message = answer.headers
                    return headers
            except Missing:
                raise Missing(
                    f"{file.path} is listed at {self.order.url}, and is not there", "correct the list"
                ) from None

        headers = patiently(once)
        if not str(headers.get("Content-Length", "")).isdigit():
            raise Problem(
                f"{self.order.url} does not say how long {file.path} is", "use a server that does, or manifest.json"
            )
        return File(file.path, int(headers["Content-Length"]), file.sha256, state_in(headers))

    def address(self, file: File, listing: Listing) -> str:
        """Below the folder."""
        return self.order.url + quote(file.path)
