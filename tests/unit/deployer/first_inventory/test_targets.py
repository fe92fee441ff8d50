"""Hosts as they are given, and as an ssh configuration lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.first_inventory.targets import Target, configured_hosts, parse_targets, resolved, ssh_variables


def test_user_and_port_are_kept_and_left_out_where_they_were_not_given() -> None:
    plain, full, six = parse_targets(["gpu1.example.com", "me@gpu2:2222", "[fd00::1]:22"])
    assert plain.variables == {}
    assert full == Target("gpu2", "me", 2222)
    assert full.variables == {"ansible_user": "me", "ansible_port": 2222}
    assert full.login == "-p 2222 me@gpu2"
    assert (six.name, six.port) == ("fd00::1", 22)


def test_this_machine_is_reached_without_ssh_unless_a_user_or_port_is_given() -> None:
    here, by_ssh = parse_targets(["localhost", "me@127.0.0.1:2222"])
    assert here.variables["ansible_connection"] == "local"
    assert by_ssh.variables == {"ansible_user": "me", "ansible_port": 2222}
    assert resolved(here, None) == here


def test_two_ports_of_one_machine_are_two_hosts() -> None:
    assert [(one.name, one.variables["ansible_host"]) for one in parse_targets(["h:2201", "h:2202"])] == [
        ("h-2201", "h"),
        ("h-2202", "h"),
    ]


@pytest.mark.parametrize(
    "words", [["gpu1", "gpu1"], ["gpu[1:3]"], ["-oProxyCommand=x"], ["a b"], ["h:0"], ["h:70000"], [""]]
)
def test_what_is_no_host_or_given_twice_is_refused_by_name(words: list[str]) -> None:
    with pytest.raises(DeployError, match=r"names no host|given twice") as raised:
        parse_targets(words)
    assert raised.value.fix


def test_the_hosts_of_an_ssh_configuration_are_those_without_wildcards_includes_followed(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "gpus").write_text("Host gpu2 gpu3\n  Port 2222\nHost !gpu9 gpu?\n")
    config = tmp_path / "config"
    config.write_text(
        "# Host commented\nInclude conf.d/*\nInclude config\nHost *\n  User me\nHost=gpu1 # the first\n"
        'host "gpu4" gpu1\nHost \'open\nMatch host gpu5\n'
    )
    assert configured_hosts(config) == ["gpu2", "gpu3", "gpu1", "gpu4"]
    assert configured_hosts(tmp_path / "nowhere") == []


def test_an_alias_is_resolved_by_ssh_itself_and_what_is_no_address_is_not_taken(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host gpu1\n  HostName 10.0.0.7\nHost gpu2\n  HostName {{x}}\n")
    assert resolved(Target("gpu1"), config).address == "10.0.0.7"
    assert resolved(Target("gpu2"), config).address == ""
    assert resolved(Target("gpu3.example.com"), config).address == ""


def test_another_ssh_configuration_is_quoted_as_ansible_splits_it() -> None:
    assert ssh_variables(Path("/a b/config")) == {"ansible_ssh_common_args": "-F '/a b/config'"}


def test_a_configuration_that_includes_itself_twice_is_read_once(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Include config\n" * 5 + "Host gpu1\n")
    assert configured_hosts(config) == ["gpu1"]
