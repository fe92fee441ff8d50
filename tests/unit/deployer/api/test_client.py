"""Kits as typed values: what was fetched, what was kept as it was, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import KIT_FILES
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api.client import Client, client_of
from deployer.runs import results
from deployer.runs.results import HostResult, Summary

KIT: dict[str, Any] = {
    "service": "code2sql",
    "release": "r1",
    "engine": "sglang",
    "files": {name: f"{name}\n" for name in KIT_FILES},
    "problem": "",
    "fix": "",
}
ADOPTED = {**KIT, "service": "old", "files": {}, "problem": "release r0 was adopted", "fix": "roll out"}
LOST = HostResult("gpu2", unreachable=True, failure="Task failed: Missing sudo password")


def fetched(into: Path, *kits: dict[str, Any], lost: tuple[HostResult, ...] = (), **more: Any) -> Client:
    hosts = [HostResult("gpu1", reports={results.CLIENT: {"kits": list(kits)}}), *lost]
    services = more.pop("services", ())
    return client_of(Summary({host.host: host for host in hosts}), "", services, into, **more)


def test_a_kit_is_kept_below_its_host_and_service(tmp_path: Path) -> None:
    client = fetched(tmp_path, KIT)
    (kit,) = client.hosts["gpu1"].kits
    assert (client.exit_code, set(kit.written), kit.folder) == (0, set(KIT_FILES), str(tmp_path / "gpu1" / "code2sql"))
    assert {path.name for path in Path(kit.folder).iterdir()} == {*KIT_FILES, ".kit.json"}
    (again,) = fetched(tmp_path, KIT).hosts["gpu1"].kits
    assert again.written == ()


def test_check_writes_nothing(tmp_path: Path) -> None:
    (kit,) = fetched(tmp_path, KIT, check=True).hosts["gpu1"].kits
    assert set(kit.written) == set(KIT_FILES)
    assert list(tmp_path.iterdir()) == []


def test_a_kit_that_was_changed_here_is_left_alone_whole_unless_it_is_forced(tmp_path: Path) -> None:
    fetched(tmp_path, KIT)
    mine = tmp_path / "gpu1" / "code2sql" / KIT_FILES[0]
    mine.write_text("mine\n")
    later = {**KIT, "release": "r2", "files": dict.fromkeys(KIT_FILES, "later\n")}
    client = fetched(tmp_path, later)
    (kit,) = client.hosts["gpu1"].kits
    assert (client.exit_code, kit.written) == (1, ())
    assert KIT_FILES[0] in kit.problem and KIT_FILES[1] not in kit.problem and "--force" in kit.fix
    assert mine.read_text() == "mine\n"
    assert (mine.parent / KIT_FILES[1]).read_text() == f"{KIT_FILES[1]}\n"
    assert fetched(tmp_path, later, force=True).exit_code == 0
    assert mine.read_text() == "later\n"


def test_a_service_without_a_kit_says_why_and_others_are_fetched(tmp_path: Path) -> None:
    client = fetched(tmp_path, ADOPTED, KIT)
    old, new = client.hosts["gpu1"].kits
    assert (client.exit_code, old.problem, old.fix) == (1, "release r0 was adopted", "roll out")
    assert new.written and not (tmp_path / "gpu1" / "old").exists()


def test_a_host_that_was_not_asked_counts(tmp_path: Path) -> None:
    client = fetched(tmp_path, KIT, lost=(LOST,))
    assert client.exit_code == 2
    assert client.failures["gpu2"].startswith("sudo asks for a password there")
    assert not client.hosts["gpu2"].reachable
    assert client.hosts["gpu1"].kits[0].written


def test_some_services_alone(tmp_path: Path) -> None:
    client = fetched(tmp_path, ADOPTED, KIT, services=["code2sql"])
    assert [kit.service for kit in client.hosts["gpu1"].kits] == ["code2sql"]
    with pytest.raises(DeployError, match="use some of code2sql, old"):
        fetched(tmp_path, ADOPTED, KIT, services=["none"])


def test_names_of_files_that_are_no_kit_s_are_not_written(tmp_path: Path) -> None:
    fetched(tmp_path, {**KIT, "files": {**KIT["files"], "../../x": "bad"}})
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {*KIT_FILES, ".kit.json"}


@pytest.mark.parametrize(
    "odd", [None, ["x"], [{"files": {}}], [{"service": "s", "files": None}], [{"service": "s", "files": {"a": 5}}]]
)
def test_an_answer_that_makes_no_sense_is_its_hosts_failure_and_keeps_nobody_from_theirs(
    tmp_path: Path, odd: Any
) -> None:
    strange = HostResult("gpu2", reports={results.CLIENT: {"kits": odd}})
    found = fetched(tmp_path, KIT, lost=(strange,))
    assert "makes no sense" in found.hosts["gpu2"].failure
    assert found.exit_code == 2 and found.hosts["gpu1"].kits[0].written


def test_a_place_that_cannot_be_had_is_one_kits_problem(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gpu1").symlink_to("elsewhere")
    found = fetched(tmp_path, KIT, {**KIT, "service": "../../x"})
    assert [bool(kit.problem) for kit in found.hosts["gpu1"].kits] == [True, True]
    assert list((tmp_path / "elsewhere").iterdir()) == []
