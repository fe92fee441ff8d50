"""The rsync command line follows Ansible's connection."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils import rsync as rsync_module
from ansible_collections.deployer.sglang.plugins.plugin_utils.rsync import rsync, rsync_command

OPTIONS = {
    "host": "10.0.0.5",
    "ssh_executable": "ssh",
    "ssh_args": "-o ControlMaster=auto",
    "ssh_common_args": "-o 'ProxyJump=bastion, other'",
    "ssh_extra_args": None,
    "host_key_checking": True,
    "port": 2222,
    "private_key_file": "/keys/a key",
    "remote_user": "deploy",
}


class Connection:
    def __init__(self, **changes: Any) -> None:
        self.options = {**OPTIONS, **changes}

    def get_option(self, name: str) -> Any:
        return self.options[name]


def test_ssh_is_called_as_ansible_calls_it() -> None:
    command = rsync_command(Connection(), "/data/m", "/opt/inference/incoming/x", 50 * 1024 * 1024)
    assert command[-2:] == ["/data/m/", "10.0.0.5:/opt/inference/incoming/x/"]
    assert "--bwlimit=51200" in command
    (shell,) = (word.removeprefix("--rsh=") for word in command if word.startswith("--rsh="))
    words = shlex.split(shell)
    assert words[0] == "ssh"
    assert "ProxyJump=bastion, other" in words
    assert "StrictHostKeyChecking=yes" in words and "BatchMode=yes" in words
    assert words[-6:] == ["-p", "2222", "-i", "/keys/a key", "-l", "deploy"]


def test_an_ipv6_address_is_put_in_brackets_and_host_keys_are_unchecked_only_where_that_was_said() -> None:
    command = rsync_command(Connection(host="fd00::5", host_key_checking=False), "/a", "/b", 0)
    assert command[-1] == "[fd00::5]:/b/"
    assert "StrictHostKeyChecking=no" in command[-3]
    assert not any(word.startswith("--bwlimit") for word in command)


def test_what_rsync_says_is_said_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 127, "", "sh: 1: rsync: command not found\nrsync error\n")

    monkeypatch.setattr(rsync_module.shutil, "which", lambda name: "/usr/bin/rsync")
    monkeypatch.setattr(rsync_module.subprocess, "run", run)
    with pytest.raises(DeployError, match=r"rsync to 10\.0\.0\.5 ended with 127.*install rsync on the host"):
        rsync(Connection(), ["a"], "/a", "/b", 0)
    monkeypatch.setattr(rsync_module.shutil, "which", lambda name: None)
    with pytest.raises(DeployError, match="not installed on the controller"):
        rsync(Connection(), ["a"], "/a", "/b", 0)
