"""A headless Chromium, driven by its own DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds
WORDS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def program() -> str:
    """Path of the browser; '' where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), "")


class Page:
    """A tab of the browser.

    Args:
        socket: of its DevTools protocol.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """The result of a method."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: Mapping[str, Any] = message["result"]
                return result

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Show a file in a window so wide, until all of it is loaded."""
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 640}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.requests.clear()
        self.complaints.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, f"{path}: {answer['errorText']}"
        while self._next().get("method") != "Page.loadEventFired":
            continue

    def value(self, script: str) -> Any:
        """What an expression of JavaScript comes to."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, clip: Mapping[str, float] | None = None) -> bytes:
        """A PNG of the whole page, or of a part of it."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, **more)
        return base64.b64decode(answer["data"])

    def colour(self, x: float, y: float) -> tuple[int, int, int]:
        """What colour a point of the page really has."""
        return only_pixel(self.picture({"x": x, "y": y, "width": 1, "height": 1}))

    def _next(self) -> Mapping[str, Any]:
        message: Mapping[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE))
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, which ends with the block.

    Args:
        profile: an empty folder for what it keeps.
    """
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    words = [program(), *WORDS, *root, f"--user-data-dir={profile}", "about:blank"]
    with (profile / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            port = _port(profile, process)
            found = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False, timeout=PATIENCE).json()
            url = next(one["webSocketDebuggerUrl"] for one in found if one["type"] == "page")
            with connect(url, max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()


def only_pixel(png: bytes) -> tuple[int, int, int]:
    """The colour of the one pixel of a PNG of 8 bits a channel.

    Whatever filter its row has, it predicts from pixels that are not there: the bytes are the colour.
    """
    at, data = 8, b""
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    red, green, blue = zlib.decompress(data)[1:4]
    return red, green, blue


def _port(profile: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that the browser has chosen, as soon as it has said so."""
    told = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while not (told.exists() and told.read_text(encoding="utf-8").count("\n")):
        assert process.poll() is None, (profile / "log").read_text(encoding="utf-8", errors="replace")
        assert time.monotonic() < deadline, "the browser did not say its port"
        time.sleep(0.05)
    return int(told.read_text(encoding="utf-8").splitlines()[0])
