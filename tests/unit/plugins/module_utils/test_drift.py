"""What differs on a host from its release."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import drift, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.drift import (
    adopted_unit_drift,
    current_drift,
    files_drift,
    process_drift,
    unit_drift,
)
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import run_state
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import COMMITTED_RULES
from tests.doubles.released_host import ReleasedHost

ENABLED = {"UnitFileState": "enabled", "DropInPaths": "", "NeedDaemonReload": "no"}
WORDS = (sys.executable, "-c", "import time; time.sleep(600)", "--api-key", "hunter22")


@pytest.fixture
def host(tmp_path: Path) -> ReleasedHost:
    return ReleasedHost(tmp_path)


def staged_as(host: ReleasedHost, release_id: str = "aaa", **changes: object) -> StagedRelease:
    host.stage(release_id, **changes)  # type: ignore[arg-type]
    return load_release(host.folder.release(release_id))


def test_files_as_they_were_staged_do_not_differ(host: ReleasedHost) -> None:
    host.stage("aaa")
    assert files_drift(host.folder.release("aaa")) == []


def test_a_file_that_was_edited_is_named_with_what_to_do(host: ReleasedHost) -> None:
    host.stage("aaa")
    with open(f"{host.folder.release('aaa')}/launch.sh", "a", encoding="utf-8") as stream:
        stream.write("# mine\n")
    (found,) = files_drift(host.folder.release("aaa"))
    assert found.what == "files"
    assert "launch.sh was changed after it was staged" in found.detail
    assert found.fix.startswith("deploy again")


def test_current_that_names_nothing_kept_differs(host: ReleasedHost) -> None:
    host.stage("aaa")
    (missing,) = current_drift(host.folder, "aaa")
    assert "is missing, or no link" in missing.detail
    os.symlink("releases/bbb", host.folder.link("current"))
    (wrong,) = current_drift(host.folder, "aaa")
    assert "names bbb, which is not kept" in wrong.detail
    os.unlink(host.folder.link("current"))
    os.symlink("releases/aaa", host.folder.link("current"))
    assert current_drift(host.folder, "aaa") == []


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of units are the test's own."""
    for name in ("COMMITTED", "CANDIDATE"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(drift, name, str(tmp_path / name))
    return tmp_path / "COMMITTED"


def installed(host: ReleasedHost, staged: StagedRelease, units: Path) -> Path:
    path = units / staged.release.unit
    launch = f"{host.folder.release(staged.id)}/launch.sh"
    path.write_text(staged.unit + COMMITTED_RULES.format(launch=launch))
    return path


def test_a_unit_as_it_was_written_does_not_differ(host: ReleasedHost, units: Path) -> None:
    staged = staged_as(host, supervisor="systemd")
    installed(host, staged, units)
    assert unit_drift(host.folder, staged, ENABLED) == []
    # Fedora has one for all services; it is no change of this one.
    shown = {**ENABLED, "DropInPaths": "/usr/lib/systemd/system/service.d/10-timeout-abort.conf"}
    assert unit_drift(host.folder, staged, shown) == []


def test_a_unit_that_is_missing_edited_or_disabled_differs(host: ReleasedHost, units: Path) -> None:
    staged = staged_as(host, supervisor="systemd")
    (missing,) = unit_drift(host.folder, staged, ENABLED)
    assert "is missing: the service does not start at boot" in missing.detail
    path = installed(host, staged, units)
    (disabled,) = unit_drift(host.folder, staged, {**ENABLED, "UnitFileState": "disabled"})
    assert disabled.fix == f"systemctl enable {staged.release.unit} on the host"
    path.write_text(path.read_text() + "Nice=5\n")
    (edited,) = unit_drift(host.folder, staged, ENABLED)
    assert "it has 'Nice=5'" in edited.detail
    assert "systemctl stop" in edited.fix


def test_a_unit_shows_no_secret_and_may_be_no_text(host: ReleasedHost, units: Path) -> None:
    staged = staged_as(host, supervisor="systemd")
    unit = units / staged.release.unit
    unit.write_bytes(b"[Service]\nEnvironment=LB_PASSWORD=hunter2hunter2\n# \xff\n")
    said = unit_drift(host.folder, staged, ENABLED)[0].detail
    assert "LB_PASSWORD" in said and "hunter2" not in said
    unit.write_bytes(b"# \xff\n")
    assert "is not as the release has it" in unit_drift(host.folder, staged, ENABLED)[0].detail


def test_a_drop_in_differs_loaded_or_not(host: ReleasedHost, units: Path) -> None:
    staged = staged_as(host, supervisor="systemd")
    installed(host, staged, units)
    folder = units / f"{staged.release.unit}.d"
    folder.mkdir()
    (folder / "nice.conf").write_text("[Service]\nNice=5\n")
    (one,) = unit_drift(host.folder, staged, ENABLED)
    assert one.detail == f"{folder}/nice.conf changes the unit"
    both = unit_drift(host.folder, staged, {**ENABLED, "DropInPaths": f"{folder}/nice.conf", "NeedDaemonReload": "yes"})
    assert [found.fix for found in both][1:] == ["systemctl daemon-reload on the host"]


def test_what_a_candidate_left_in_run_differs(host: ReleasedHost, units: Path) -> None:
    staged = staged_as(host, supervisor="systemd")
    installed(host, staged, units)
    (units.parent / "CANDIDATE" / staged.release.unit).write_text("")
    (found,) = unit_drift(host.folder, staged, ENABLED)
    assert "of a release that was not committed" in found.detail


def test_an_adopted_unit_is_to_start_at_boot_as_it_did(host: ReleasedHost) -> None:
    staged = staged_as(host, supervisor="unit:llm.service", adopted={"by": "unit", "enabled": "enabled"})
    assert adopted_unit_drift(staged, "llm.service", {"UnitFileState": "enabled"}) == []
    (found,) = adopted_unit_drift(staged, "llm.service", {"UnitFileState": "disabled"})
    assert found.detail == "llm.service is disabled, and was enabled when it was adopted"


@pytest.fixture
def running(host: ReleasedHost) -> Iterator[tuple[StagedRelease, int]]:
    """A release, and the process that is exactly what it says."""
    staged = staged_as(host, argv=WORDS, variables={"PATH": os.defpath, "WORD": "value"})
    variables = {**staged.release.variables, "INFERENCE_RELEASE": "aaa"}
    process = subprocess.Popen(WORDS, env=variables)
    while procfs.words_of(process.pid) != list(WORDS):
        assert process.poll() is None
    yield staged, process.pid
    process.kill()
    process.wait()


def test_a_process_that_is_the_release_does_not_differ(host: ReleasedHost, running: tuple[StagedRelease, int]) -> None:
    staged, pid = running
    assert process_drift(host.folder, staged, run_state(pid, set())) == []
    assert process_drift(host.folder, staged, run_state(None, set())) == []


def test_words_variables_and_program_that_differ_are_named_without_secrets(
    host: ReleasedHost, running: tuple[StagedRelease, int]
) -> None:
    staged, pid = running
    release = replace(
        staged.release,
        argv=("/bin/sh", *WORDS[1:4], "another-key", "--more"),
        variables={"PATH": "/somewhere", "WORD": "value"},
    )
    found = process_drift(host.folder, replace(staged, release=release), run_state(pid, set()))
    program, words, variables = [one.detail for one in found]
    assert f"runs {os.path.realpath(sys.executable)}, the release {os.path.realpath('/bin/sh')}" in program
    assert "lacks /bin/sh --more" in words
    assert variables.endswith("has other environment variables than the release: PATH")
    assert not {"hunter22", "another-key", "/somewhere"} & set(" ".join((program, words, variables)).split())
    assert {one.fix for one in found} == {"end its process at a good moment, and deploy again"}


def test_another_release_that_runs_differs(host: ReleasedHost, running: tuple[StagedRelease, int]) -> None:
    staged, pid = running
    (found,) = process_drift(host.folder, replace(staged, id="bbb"), run_state(pid, set()))
    assert found.detail == f"pid {pid} runs release aaa, committed is bbb"


def test_secrets_of_an_adopted_release_are_compared_and_not_shown(
    host: ReleasedHost, running: tuple[StagedRelease, int]
) -> None:
    staged, pid = running
    adopted = {"by": "hand", "executable": os.path.realpath(sys.executable)}
    shown = replace(staged.release, argv=(*WORDS[:4], "***"), adopted=adopted, variables={"PATH": os.defpath})
    private = Path(host.folder.release("aaa")) / "private.json"
    private.write_text(pretty_json({"argv": {"4": "hunter22"}, "variables": {"WORD": "value"}}))
    as_adopted = replace(staged, release=shown)
    assert process_drift(host.folder, as_adopted, run_state(pid, set())) == []
    private.write_text(pretty_json({"argv": {"4": "changed-key"}, "variables": {"WORD": "other-secret"}}))
    words, variables = process_drift(host.folder, as_adopted, run_state(pid, set()))
    assert words.detail.endswith("has them in another order, or other secrets among them")
    assert variables.detail.endswith(": WORD")
