"""A package server on this machine: files with Range, simple-index pages, logins, and faults to order."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import normalize_name

BLOCK = 16 * 1024
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: answer with this, and nothing else.
        headers: of that answer.
        bytes: end the connection after so many bytes of the body.
        stall: rather than ending it, say nothing more.
        content: send this in place of the file.
        content_range: say this in place of the truth.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    bytes: int | None = None
    stall: bool = False
    content: bytes | None = None
    content_range: str = ""


@dataclass
class Request:
    """One request as it is answered: path, status, first byte asked for, bytes of body handed to the connection."""

    path: str
    status: int
    start: int = 0
    sent: int = 0


class PackageServer:
    """Serves `files` by path; wheels also on the pages below /simple/.

    Attributes:
        url: where it listens.
        files: content by path, such as `/files/alpha-1.0-py3-none-any.whl`.
        faults: by path; each request takes the first one, the last one stays when `lasting` has the path.
        hashes: whether pages state sha256.
        html: pages as PEP 503 in place of PEP 691.
        ranges: whether Range is understood.
        login: `user:password` that every request must have; empty for none.
        gate: every request for a file waits at it.
        requests: all that came, noted before anything is answered.
        stalled: set when a stall began.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.lasting: set[str] = set()
        self.hashes = True
        self.html = False
        self.ranges = True
        self.login = ""
        self.gate: threading.Barrier | None = None
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        self.most_at_once = 0
        self.lock = threading.Lock()
        self._at_once = 0
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.packages = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, path: Path, folder: str = "files") -> str:
        """Serve a copy of a file; returns its URL."""
        self.files[f"/{folder}/{path.name}"] = path.read_bytes()
        return f"{self.url}/{folder}/{quote(path.name)}"

    def requests_for(self, part: str) -> list[Request]:
        """The requests whose path has `part` in it."""
        return [request for request in self.requests if part in request.path]

    def close(self) -> None:
        """Stop; stalled connections end."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request for a file among those at once, and hold it at the gate."""
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.gate is not None:
                self.gate.wait(PATIENCE_S)
            yield
        finally:
            with self.lock:
                self._at_once -= 1

    def stall(self) -> None:
        """Say nothing until the server is closed."""
        self.stalled.set()
        self._closing.wait(PATIENCE_S)

    def page(self, name: str) -> tuple[str, bytes] | None:
        """Content type and content of a package's page."""
        named = {
            path: content
            for path, content in self.files.items()
            if normalize_name(path.rsplit("/", 1)[-1].partition("-")[0]) == name
        }
        if not named:
            return None
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in named.items()}
        if self.html:
            links = [
                f'<a href="../..{quote(path)}{"#sha256=" + digests[path] if self.hashes else ""}">file</a>'
                for path in named
            ]
            return "text/html", "<br>".join(links).encode()
        files = [
            {
                "filename": path.rsplit("/", 1)[-1],
                "url": f"../..{quote(path)}",
                "hashes": {"sha256": digests[path]} if self.hashes else {},
                "size": len(content),
            }
            for path, content in named.items()
        ]
        return "application/vnd.pypi.simple.v1+json", json.dumps({"name": name, "files": files}).encode()


class _Server(ThreadingHTTPServer):
    # More connections at once than the default lets wait: the kernel makes others try again after a second.
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        server: PackageServer = self.server.packages  # type: ignore[attr-defined]
        # As a proxy it is asked for whole URLs.
        path = unquote(urlsplit(self.path).path)
        if server.login and self.headers.get("Authorization") != _basic(server.login):
            self._answer(server, path, 401, b"")
            return
        fault = self._fault(server, path)
        if fault.status:
            self._answer(server, path, fault.status, b"", fault.headers)
        elif page := re.fullmatch(r"/simple/([^/]+)/", path):
            kind, content = server.page(page.group(1)) or ("", b"")
            self._answer(server, path, 200 if kind else 404, content, {"Content-Type": kind})
        elif path in server.files:
            with server.counted():
                self._send_file(server, path, fault)
        else:
            self._answer(server, path, 404, b"")

    def _fault(self, server: PackageServer, path: str) -> Fault:
        with server.lock:
            faults = server.faults.get(path, [])
            if not faults:
                return Fault()
            return faults[0] if path in server.lasting and len(faults) == 1 else faults.pop(0)

    def _send_file(self, server: PackageServer, path: str, fault: Fault) -> None:
        content = server.files[path] if fault.content is None else fault.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if server.ranges else None
        start = int(asked.group(1)) if asked else 0
        if asked and start >= len(content):
            self._answer(server, path, 416, b"")
            return
        request = self._note(server, Request(path, 206 if asked else 200, start))
        self.send_response(request.status)
        if asked:
            self.send_header("Content-Range", fault.content_range or f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:] if fault.bytes is None else content[start : start + fault.bytes]
        try:
            for at in range(0, len(body), BLOCK):
                request.sent += len(body[at : at + BLOCK])
                self.wfile.write(body[at : at + BLOCK])
        except OSError:
            self.close_connection = True
        if fault.stall:
            self.wfile.flush()
            server.stall()
        if fault.bytes is not None:
            self.close_connection = True

    def _answer(
        self, server: PackageServer, path: str, status: int, content: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self._note(server, Request(path, status, sent=len(content)))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _note(self, server: PackageServer, request: Request) -> Request:
        with server.lock:
            server.requests.append(request)
        return request


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()
