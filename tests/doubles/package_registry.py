"""A double of a conda channel and a package index that want a login, for the real py-rattler and uv."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Files by path, and pages for the wheels among them.

    Attributes:
        host: where it listens.
        files: content by path.
    """

    def __init__(self, login: str) -> None:
        self.files: dict[str, bytes] = {}
        self._login = "Basic " + base64.b64encode(login.encode()).decode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None: ...

            def do_GET(self) -> None:
                status, content = registry.answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Status and content for a request."""
        if authorization != self._login and not path.startswith("/t/tok-en-123456/"):
            return 401, b""
        path = path.removeprefix("/t/tok-en-123456")
        if path.startswith("/simple/"):
            name = path.split("/")[2].replace("-", "_")
            files = [
                {
                    "filename": wheel.rpartition("/")[2],
                    "url": f"../..{wheel}",
                    "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                    "size": len(content),
                }
                for wheel, content in self.files.items()
                if wheel.startswith(f"/wheels/{name}-")
            ]
            page = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
            return (200, json.dumps(page).encode()) if files else (404, b"")
        return (200, self.files[path]) if path in self.files else (404, b"")

    def add_wheel(self, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> None:
        """Serve a wheel without content."""
        self.files[f"/wheels/{name}-{version}-{tag}.whl"] = wheel_content(name, version, needs, tag)

    def set_channel(self, *records: dict[str, Any]) -> None:
        """Serve a channel with these records."""
        for subdir, found in (("linux-64", records), ("noarch", ())):
            packages = {f"{r['name']}-{r['version']}-{r['build']}.conda": r for r in found}
            content = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
            self.files[f"/channel/{subdir}/repodata.json"] = json.dumps(content).encode()


def wheel_content(name: str, version: str, needs: Iterable[str] = (), tag: str = "py3-none-any") -> bytes:
    """A wheel without content; the same arguments give the same bytes."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    contents = {
        "METADATA": "\n".join([*lines, ""]),
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        "RECORD": "",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as wheel:
        for member, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/{member}"), content)
    return stream.getvalue()


def conda_record(name: str, version: str, *depends: str) -> dict[str, Any]:
    """A package's record as repodata.json has it; there is no such package."""
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    record = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends)}
    return {**record, "subdir": "linux-64", "sha256": digest, "size": 1000}
