"""Telling the command that started a run, over a real socket."""

from __future__ import annotations

import json
import socket

import pytest

from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import tell
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.waiting import told


@pytest.fixture
def listener(tmp_path):
    """Somebody who listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as found:
        found.bind(str(tmp_path / "socket"))
        found.listen()
        found.settimeout(10)
        yield found


def test_what_is_told_arrives_as_a_line_that_names_its_kind(listener):
    tell(listener.getsockname(), "state", {"host": "gpu1", "state": "gate"})

    connection, _ = listener.accept()
    with connection, connection.makefile() as stream:
        assert json.loads(stream.readline()) == {"tell": "state", "host": "gpu1", "state": "gate"}
        assert stream.read() == ""


def test_nobody_who_listens_is_no_failure(tmp_path):
    tell(str(tmp_path / "gone"), "state", {})
    tell("", "state", {})


def test_a_relay_tells_its_bytes():
    report = {
        "resumed": 1_000_000,
        "received": 2_000_000,
        "total": 4_000_000_000,
        "rate": 92_000_000,
        "state": "receiving",
    }

    said = told("gpu1", report)

    assert (said["done"], said["total"], said["unit"], said["rate"]) == (3_000_000, 4_000_000_000, "bytes", 92_000_000)
    assert said["text"] == "weights: 3 MB of 4.00 GB, 92 MB/s"
