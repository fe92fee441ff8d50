"""Where a service's log is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json
from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.service_log import read_logs, source_of
from tests.doubles.released_host import SERVICE, ReleasedHost

OWN_UNIT = f"inference-{SERVICE}.service"


@pytest.fixture
def host(tmp_path: Path) -> ReleasedHost:
    return ReleasedHost(tmp_path)


def commit(host: ReleasedHost, release_id: str, **changes: object) -> None:
    host.stage(release_id, **changes)  # type: ignore[arg-type]
    os.symlink(f"releases/{release_id}", host.folder.link("current"))


def adopted(path: Path | str, stderr: Path | str = "") -> dict[str, object]:
    return {"by": "hand", "uid": os.getuid(), "log": {"stdout": str(path), "stderr": str(stderr)}}


def test_systemd_has_it_in_the_journal_and_the_process_supervisor_in_a_file(host: ReleasedHost) -> None:
    commit(host, "aaa", supervisor="systemd")
    found = source_of(host.folder, SERVICE, "systemd")
    assert (list(found.units), dict(found.files)) == ([OWN_UNIT], {})
    os.unlink(host.folder.link("current"))
    commit(host, "bbb")
    found = source_of(host.folder, SERVICE, "process")
    assert (list(found.units), dict(found.files)) == ([], {f"{host.folder.logs}/service.log": 0})


def test_what_was_started_by_hand_has_the_file_it_always_had(host: ReleasedHost, tmp_path: Path) -> None:
    commit(host, "aaa", supervisor="systemd", adopted=adopted(tmp_path / "nohup.out", tmp_path / "err.log"))
    found = source_of(host.folder, SERVICE, "systemd")
    assert list(found.units) == [OWN_UNIT]
    assert dict(found.files) == {f"{tmp_path}/nohup.out": os.getuid(), f"{tmp_path}/err.log": os.getuid()}


@pytest.mark.parametrize("path", ["", "/dev/null", "/dev/pts/3", "pipe:[1]"])
def test_an_output_that_is_no_file_is_not_read(host: ReleasedHost, path: str) -> None:
    commit(host, "aaa", supervisor="systemd", adopted=adopted(path))
    assert not source_of(host.folder, SERVICE, "systemd").files


def test_an_adopted_unit_has_its_own_journal_beside_that_of_what_follows_it(host: ReleasedHost) -> None:
    commit(host, "aaa", supervisor="unit:llm.service", adopted={"by": "unit", "log": {"stdout": "", "stderr": ""}})
    assert list(source_of(host.folder, SERVICE, "systemd").units) == ["llm.service", OWN_UNIT]


def test_a_service_that_was_never_deployed_is_said_so(host: ReleasedHost) -> None:
    (found,) = read_logs(host.root, ["other"], "systemd", Wanted())
    assert found["problem"] == "other was never deployed to this host"
    assert found["lines"] == []


def test_the_log_is_read_on_by_its_cursor_without_secrets(host: ReleasedHost) -> None:
    commit(host, "aaa")
    host.stage("old")
    private = {"argv": {"3": "--api-key=sk-from-a-word"}, "variables": {"HF_TOKEN": "hf-of-a-variable"}}
    Path(host.folder.release("old"), PRIVATE_FILE).write_text(pretty_json(private))
    os.makedirs(host.folder.logs, exist_ok=True)
    log = Path(host.folder.logs, "service.log")
    log.write_text("api_key='sk-from-a-word'\n")
    (first,) = read_logs(host.root, [SERVICE], "process", Wanted())
    assert [line["text"] for line in first["lines"]] == ["api_key='***'"]
    assert first["current"] == "aaa"
    with log.open("a") as stream:
        stream.write("token hf-of-a-variable\n")
    (second,) = read_logs(host.root, [SERVICE], "process", Wanted(), {SERVICE: first["cursor"]})
    assert [line["text"] for line in second["lines"]] == ["token ***"]
