"""A double of SGLang's benchmark in an environment of its own, and a server that it may ask."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

DOUBLE = Path(__file__).parents[4] / "doubles" / "benchmark"
# What -I leaves out is put in by hand: the double of SGLang.
PYTHON = f"""#!{sys.executable}
import sys
assert sys.argv[1:3] == ["-I", "-c"]
sys.path.insert(0, {str(DOUBLE)!r})
exec(sys.argv[3])
"""


class Chat(BaseHTTPRequestHandler):
    """Answers a single request."""

    keys: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *values: Any) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment."""
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return python.parents[1]
