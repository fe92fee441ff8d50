"""Doubles of the Hugging Face hub, of ModelScope and of a web folder, on this machine; with faults to order.

Just enough for the real libraries, `huggingface_hub` and `modelscope`: what they send was read in their sources and is
answered as they understand it. As on the hubs, weights lie on a storage server of its own, which is redirected to.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

BLOCK = 16 * 1024
PATIENCE_S = 60.0
WEIGHTS = (".safetensors", ".gguf", ".bin")  # these lie on the storage server


@dataclass
class Repository:
    """A model on a hub: files by commit, commits by branch or tag.

    Attributes:
        commits: commit -> path -> content.
        revisions: branch or tag -> commit.
        token: needed to read it; empty for none.
        gated: whether files need the token's account to have accepted terms, and it has not.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    token: str = ""
    gated: bool = False

    def files(self, revision: str) -> dict[str, bytes] | None:
        """The files of a branch, tag or commit; None where there is no such."""
        return self.commits.get(self.revisions.get(revision, revision))


@dataclass
class Request:
    """One request as it is answered: method, path with query, first byte asked for, bytes of body sent, credentials."""

    server: str
    method: str
    path: str
    status: int
    start: int = 0
    sent: int = 0
    authorization: str = ""
    cookie: str = ""


class HubServer:
    """Serves `repositories` by both hubs' APIs, and `folders` by path below /folder/.

    Attributes:
        url: where it listens.
        storage: where the weights lie.
        repositories: by ORG/NAME.
        folder: content by path, such as `/qwen/config.json`.
        folder_login: the Authorization that the web folder wants; empty for none.
        index: whether the web folder shows its files.
        ranges: whether Range is understood.
        breaks: the end of a path -> after how many bytes of its body the connection ends, one a GET.
        stalls: the end of a path -> after how many bytes nothing more comes.
        faults: the end of a path -> status of the next answer, one a request.
        requests: all that came.
        stalled: set when a stall began.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.folder: dict[str, bytes] = {}
        self.folder_login = ""
        self.index = True
        self.ranges = True
        self.breaks: dict[str, list[int]] = {}
        self.stalls: dict[str, int] = {}
        self.faults: dict[str, list[int]] = {}
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server, name in zip(self._servers, ("hub", "storage"), strict=True):
            server.hub, server.name = self, name
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        # By another name: cookies know no ports.
        self.url = f"http://127.0.0.1:{self._servers[0].server_address[1]}"
        self.storage = f"http://localhost:{self._servers[1].server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], revision: str = "main", **settings: Any) -> str:
        """Add a commit to a repository, which is made if need be; returns the commit."""
        repository = self.repositories.setdefault(name, Repository(**settings))
        commit = hashlib.sha1(repr((name, len(repository.commits), sorted(files))).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.revisions[revision] = commit
        return commit

    def bytes_sent(self, part: str) -> int:
        """Bytes of bodies that were sent for paths with `part` in them."""
        return sum(request.sent for request in self.requests if part in unquote(request.path))

    def close(self) -> None:
        """Stop; stalled connections end."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    hub: HubServer
    name: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        path = urlsplit(self.path).path
        if status := self._fault():
            self._answer(status, b"")
        elif self.server.name == "storage":
            self._stored(path.lstrip("/"))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+)|/tree/([^/]+))?", path):
            self._hf_api(match.group(1), unquote(match.group(2) or match.group(3) or "main"), match.group(3))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._hf_file(match.group(1), unquote(match.group(2)), unquote(match.group(3)))
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)(/repo/files|/repo|/revisions)?", path):
            self._modelscope(match.group(1), match.group(2) or "")
        elif path.startswith("/folder/"):
            self._web_folder(unquote(path.removeprefix("/folder")))
        else:
            self._answer(404, b"")

    def _fault(self) -> int:
        with self.server.hub.lock:
            for end, statuses in self.server.hub.faults.items():
                if unquote(self.path).endswith(end) and statuses:
                    return statuses.pop(0)
        return 0

    # Hugging Face: huggingface_hub/utils/_http.py says which headers tell the errors apart.

    def _hf_repository(self, name: str, revision: str) -> Repository | None:
        repository = self.server.hub.repositories.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None or (repository.token and token != repository.token and not repository.gated):
            self._answer(404 if token else 401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif repository.files(revision) is None:
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _hf_api(self, name: str, revision: str, tree: str | None) -> None:
        repository = self._hf_repository(name, revision)
        if repository is None:
            return
        files = repository.files(revision) or {}
        commit = repository.revisions.get(revision, revision)
        if tree is not None:
            self._json([_hf_tree_entry(path, content) for path, content in sorted(files.items())])
            return
        siblings = [_hf_sibling(path, content) for path, content in sorted(files.items())]
        self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def _hf_file(self, name: str, revision: str, path: str) -> None:
        repository = self._hf_repository(name, revision)
        if repository is None:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository.gated and token != repository.token:
            self._answer(403 if token else 401, b"", {"X-Error-Code": "GatedRepo"})
            return
        content = (repository.files(revision) or {}).get(path)
        if content is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": repository.revisions.get(revision, revision)}
        if path.endswith(WEIGHTS):
            digest = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self._redirect(f"{digest}/{quote(path)}", headers)
        else:
            self._send(content, {**headers, "ETag": f'"{_blob(content)}"'})

    # ModelScope: modelscope_hub/_legacy_api.py and _download.py.

    def _modelscope(self, name: str, what: str) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        repository = self.server.hub.repositories.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        token = token or self.headers.get("Cookie", "").partition("m_session_id=")[2]
        if repository is None:
            self._json({"Code": 10010205001, "Message": "the model does not exist", "Success": False}, 404)
            return
        if repository.token and token != repository.token:
            self._json({"Code": 10010202002, "Message": "access denied", "Success": False}, 403)
            return
        if what in ("", "/revisions"):
            named = [{"Revision": revision, "CreatedAt": 1} for revision in repository.revisions]
            self._json({"Code": 200, "Success": True, "Data": {"RevisionMap": {"Branches": named, "Tags": []}}})
            return
        files = repository.files(query.get("Revision", "master"))
        if files is None:
            self._json({"Code": 10010205002, "Message": "the revision does not exist", "Success": False}, 404)
        elif what == "/repo/files":
            entries = [_modelscope_entry(path, content) for path, content in sorted(files.items())]
            self._json({"Code": 200, "Success": True, "Data": {"Files": entries}})
        elif (content := files.get(query.get("FilePath", ""))) is None:
            self._json({"Code": 10010205003, "Message": "the file does not exist", "Success": False}, 404)
        elif query["FilePath"].endswith(WEIGHTS):
            self._redirect(f"{hashlib.sha256(content).hexdigest()}/{quote(query['FilePath'])}", {})
        else:
            self._send(content, {})

    # The storage of both hubs, and the web folder.

    def _redirect(self, stored: str, headers: dict[str, str]) -> None:
        location = f"{self.server.hub.storage}/{stored}?signature=of-the-double"
        self._answer(302, b"", {**headers, "Location": location})

    def _stored(self, path: str) -> None:
        digest = path.partition("/")[0]
        for repository in self.server.hub.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == digest:
                        self._send(content, {"ETag": f'"{digest}"'})
                        return
        self._answer(404, b"")

    def _web_folder(self, path: str) -> None:
        hub = self.server.hub
        if hub.folder_login and self.headers.get("Authorization") != hub.folder_login:
            self._answer(401, b"", {"WWW-Authenticate": "Bearer"})
        elif path in hub.folder:
            content = hub.folder[path]
            self._send(content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
        elif path.endswith("/") and hub.index and any(one.startswith(path) for one in hub.folder):
            self._answer(200, _index(path, hub.folder).encode(), {"Content-Type": "text/html; charset=utf-8"})
        else:
            self._answer(404, b"")

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        hub, path = self.server.hub, unquote(self.path.partition("?signature")[0])
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if hub.ranges else None
        start = int(asked.group(1)) if asked else 0
        end = min(len(content), int(asked.group(2)) + 1 if asked and asked.group(2) else len(content))
        if asked and start >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        request = self._note(206 if asked else 200, start)
        self.send_response(request.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if hub.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        body, stall, ended = content[start:end], self._stall(path), self._break(path)
        body = body[: min(len(body), *(limit for limit in (stall, ended) if limit is not None), len(body))]
        try:
            for at in range(0, len(body), BLOCK):
                self.wfile.write(body[at : at + BLOCK])
                request.sent += len(body[at : at + BLOCK])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        if stall is not None:
            hub.stalled.set()
            hub.closing.wait(PATIENCE_S)
        if stall is not None or ended is not None:
            self.close_connection = True

    def _stall(self, path: str) -> int | None:
        return next((after for end, after in self.server.hub.stalls.items() if path.endswith(end)), None)

    def _break(self, path: str) -> int | None:
        with self.server.hub.lock:
            for end, after in self.server.hub.breaks.items():
                if path.endswith(end) and after:
                    return after.pop(0)
        return None

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._note(status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _note(self, status: int, start: int = 0) -> Request:
        authorization, cookie = (self.headers.get(name, "") for name in ("Authorization", "Cookie"))
        request = Request(self.server.name, self.command, self.path, status, start, 0, authorization, cookie)
        with self.server.hub.lock:
            self.server.hub.requests.append(request)
        return request


def _blob(content: bytes) -> str:
    """The id that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _hf_sibling(path: str, content: bytes) -> dict[str, Any]:
    entry = {"rfilename": path, "size": len(content), "blobId": _blob(content)}
    if path.endswith(WEIGHTS):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _hf_tree_entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if path.endswith(WEIGHTS):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _modelscope_entry(path: str, content: bytes) -> dict[str, Any]:
    return {
        "Path": path,
        "Name": path.rsplit("/", 1)[-1],
        "Type": "blob",
        "Size": len(content),
        "Sha256": hashlib.sha256(content).hexdigest(),
        "Revision": _blob(content),
        "IsLFS": path.endswith(WEIGHTS),
    }


def _index(folder: str, files: dict[str, bytes]) -> str:
    """A page as nginx's autoindex writes it, with the headings that Apache sorts by."""
    rest = [path.removeprefix(folder) for path in sorted(files) if path.startswith(folder)]
    names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in rest})
    links = [f'<a href="{quote(name)}">{html.escape(name)}</a>  01-Jan-2026 00:00  1.2G' for name in names]
    head = ['<a href="?C=N;O=D">Name</a>', '<a href="../">../</a>', '<a href="https://server.example/">a server</a>']
    return "<html><body><pre>\n" + "\n".join(head + links) + "\n</pre></body></html>\n"
