"""The seed on the controller."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import Process, lives, read_process
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import end
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import RelayOrder
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay import seed
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate, new_token
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import start_seed


def order(address: str = "127.0.0.1", port: int = 0) -> RelayOrder:
    certificate, key = new_certificate()
    itself = read_process(os.getpid())
    assert itself is not None
    return RelayOrder("run", address, (port,), new_token(), certificate, key, watch=(itself.pid, itself.start_time))


def test_it_listens_and_lives_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not a module of ours')")
    monkeypatch.chdir(tmp_path)
    started = start_seed(order())
    try:
        assert started["port"] > 0
        process = read_process(started["pid"])
        assert process is not None
        assert process.session == process.pid or process.session != os.getsid(0)
        assert lives(Process(started["pid"], 0, 0, "", started["start_time"]))
    finally:
        assert end(started["pid"], started["start_time"])


def test_where_it_cannot_listen() -> None:
    with pytest.raises(DeployError, match=r"the controller cannot listen on 192\.0\.2\.1 port 1"):
        start_seed(order("192.0.2.1", 1))


def test_what_python_says_when_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "PROGRAM", "raise SystemExit('out of luck')")
    with pytest.raises(DeployError, match="did not start: out of luck"):
        start_seed(order())
