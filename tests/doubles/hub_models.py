"""Models on the doubles of the hubs, and a process that has nothing of the user's own settings for hubs."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetch_program
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import Runner
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from demo.make_tiny_model import make_tiny_model
from tests.doubles.hub_server import HubServer

MIB = 2**20
RUNNER = Runner(sys.executable)
OF_THE_USER = ("HF_", "HUGGING", "MODELSCOPE_", "DEPLOYER_", "SGLANG_DEPLOYER")


@contextmanager
def running_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Both hubs, as this process's environment names them; waiting for another attempt takes no time.

    Args:
        folder: where a home and a cache may be.
        monkeypatch: takes all of it back.
    """
    for name in list(os.environ):
        if name.startswith(OF_THE_USER) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    server = HubServer()
    settings = {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_ENDPOINT": server.url,
        "MODELSCOPE_ENDPOINT": server.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    sources = fetch_program.sources()
    patient = next(path for path, text in sources.items() if "FIRST_PAUSE_S = 0.5" in text)
    sources[patient] = sources[patient].replace("FIRST_PAUSE_S = 0.5", "FIRST_PAUSE_S = 0.01")
    monkeypatch.setattr(fetch_program, "sources", lambda: sources)
    try:
        yield server
    finally:
        server.close()


def tiny_model(folder: Path) -> dict[str, bytes]:
    """The files of a small model, which is made in `folder`."""
    make_tiny_model(folder)
    return files_below(folder)


def files_below(folder: Path) -> dict[str, bytes]:
    """All files below a folder: path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def serve(hub: HubServer, kind: str, files: dict[str, bytes], **settings: Any) -> Source:
    """Put a model on one of the servers.

    Args:
        kind: hf, modelscope or http.
        settings: of the `Repository`.
    """
    if kind == "http":
        hub.folder.update({f"/tiny/{path}": content for path, content in files.items()})
        return parse_source(f"{hub.url}/folder/tiny/")
    hub.add("Org/Tiny", files, "main" if kind == "hf" else "master", **settings)
    return parse_source(f"{kind}://Org/Tiny")


def safetensors(size: int) -> bytes:
    """A valid safetensors file with one tensor of random bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(1).randbytes(size)


def failure(call: Callable[[], object]) -> DeployError:
    """The error of a call."""
    with pytest.raises(DeployError) as caught:
        call()
    assert caught.value.fix
    assert "Traceback" not in str(caught.value)
    return caught.value
