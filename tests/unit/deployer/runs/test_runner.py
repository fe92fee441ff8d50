"""The environment that ansible-playbook is run in."""

from __future__ import annotations

import sys
from pathlib import Path

from deployer.runs.runner import environment


def test_host_keys_are_checked_whatever_the_folder(tmp_path: Path) -> None:
    chosen = environment({}, tmp_path)
    assert chosen["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert "StrictHostKeyChecking=yes" in chosen["ANSIBLE_SSH_EXTRA_ARGS"]
    assert chosen["ANSIBLE_PIPELINING"] == "True"


def test_the_users_own_settings_win(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    chosen = environment({"ANSIBLE_FORKS": "7", "ANSIBLE_SSH_EXTRA_ARGS": "-o Port=22"}, tmp_path)
    assert "ANSIBLE_PIPELINING" not in chosen
    assert environment({"ANSIBLE_FORKS": "7"}, tmp_path / "elsewhere")["ANSIBLE_FORKS"] == "7"
    assert chosen["ANSIBLE_SSH_EXTRA_ARGS"] == "-o Port=22 -o StrictHostKeyChecking=yes"


def test_host_key_checking_cannot_be_left_out_by_accident(tmp_path: Path) -> None:
    assert environment({"ANSIBLE_HOST_KEY_CHECKING": "False"}, tmp_path)["ANSIBLE_HOST_KEY_CHECKING"] == "True"


def test_ansible_is_the_one_beside_this_python(tmp_path: Path) -> None:
    first = environment({"PATH": "/usr/bin"}, tmp_path)["PATH"].split(":")[0]
    assert Path(first) == Path(sys.executable).parent
