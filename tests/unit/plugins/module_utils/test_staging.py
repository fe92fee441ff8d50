"""Staging: what would be written is said truly, and staging it leaves nothing to say."""

from __future__ import annotations

import dataclasses
import getpass
import os
import stat
import sys
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import engines, staging
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    Artifact,
    Release,
    StagedRelease,
    load_gate,
    load_handover,
    load_release,
    verify_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import Handover
from ansible_collections.deployer.sglang.plugins.module_utils.staging import (
    Change,
    Settings,
    changes,
    shown_change,
    stage,
)

SETTINGS = Settings({"ready_timeout": 5}, {"drain_timeout": 3})
KIT = {"test_sglang_api.py": "print(1)\n", "sglang_usage_guide.md": "# Guide\n"}


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StagedRelease:
    """A release whose engine's parser knows one flag, `--known`."""
    check = "import argparse; p = argparse.ArgumentParser(); p.add_argument('--known'); p.parse_args()"
    engine = dataclasses.replace(engines.engine_named("sglang"), option_check=check)
    monkeypatch.setattr(staging, "engine_named", lambda name: engine)
    release = Release(
        service="code2sql",
        engine="sglang",
        argv=(sys.executable, "-m", "sglang.launch_server", "--known", "1"),
        variables={"PATH": os.defpath},
        environment=Artifact("x", "e" * 64, sys.prefix),
        model=Artifact("m", "d" * 64, "/nowhere"),
        served_name="code2sql",
        gpus=(),
        host="127.0.0.1",
        port=1,
        supervisor="process",
        user=getpass.getuser(),
        root=str(tmp_path),
        working_directory=str(tmp_path / "services" / "code2sql" / "state"),
        stop_timeout=1,
    )
    return StagedRelease("one", release, "#!/bin/sh\n", "[Unit]\n")


def test_what_is_staged_is_there_and_a_second_look_finds_no_change(staged: StagedRelease) -> None:
    folder = Path(staged.release.root) / "services" / "code2sql"
    names = {Path(path).name for path in changes(staged, SETTINGS, "service")}
    assert names == {"release.json", "launch.sh", "unit.service", "gate.json", "handover.json", "SHA256SUMS"}
    assert not folder.exists()
    stage(staged, SETTINGS, "service")
    assert changes(staged, SETTINGS, "service") == {}
    assert stat.S_IMODE((folder / "releases" / "one" / "launch.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o750


def test_a_changed_gate_or_handover_is_a_change_of_its_own(staged: StagedRelease) -> None:
    stage(staged, SETTINGS, "service")
    folder = Path(staged.release.root) / "services" / "code2sql" / "releases" / "one"
    assert load_handover("", str(folder.parent / "adopted"), str(folder)) == Handover(drain_timeout=3)
    assert load_handover(str(folder.parent / "adopted")) == Handover()
    for changed, name in (
        (Settings({"ready_timeout": 6}, SETTINGS.handover), "gate.json"),
        (Settings({"ready_timeout": 6}, {"drain_timeout": 4}), "handover.json"),
    ):
        assert {Path(path).name for path in changes(staged, changed, "service")} == {name}
        stage(staged, changed, "service")
        assert changes(staged, changed, "service") == {}
    assert (load_gate(str(folder)).ready_timeout, load_handover(str(folder)).drain_timeout) == (6, 4)
    assert load_release(str(folder)) == staged


def test_a_kit_comes_with_a_release_and_is_no_part_of_it(staged: StagedRelease) -> None:
    folder = Path(staged.release.root) / "services" / "code2sql" / "releases" / "one"
    stage(staged, SETTINGS, "service")
    added = dataclasses.replace(SETTINGS, kit=KIT)
    assert set(changes(staged, added, "service")) == {str(folder / "client" / name) for name in KIT}
    before = {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_file()}
    stage(staged, added, "service")
    assert changes(staged, added, "service") == {}
    assert {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_file()} == before
    modes = {name: stat.S_IMODE((folder / "client" / name).stat().st_mode) for name in KIT}
    assert modes == {"test_sglang_api.py": 0o755, "sglang_usage_guide.md": 0o644}
    assert stat.S_IMODE((folder / "client").stat().st_mode) == 0o755
    verify_release(str(folder))
    (folder / "client" / "sglang_usage_guide.md").write_text("mine")
    verify_release(str(folder))
    (path,) = changes(staged, added, "service")
    assert path.endswith("sglang_usage_guide.md")


def test_a_kit_is_there_as_soon_as_its_release_is(staged: StagedRelease) -> None:
    with_kit = dataclasses.replace(SETTINGS, kit=KIT)
    stage(staged, with_kit, "service")
    assert changes(staged, with_kit, "service") == {}
    assert load_release(str(Path(staged.release.root) / "services" / "code2sql" / "releases" / "one")) == staged


def test_a_diff_says_how_long_a_new_file_of_a_kit_is_and_shows_what_changes_in_one() -> None:
    path = "/x/releases/one/client/sglang_usage_guide.md"
    assert shown_change(path, Change("", "a\nb\n")) == Change("", "(2 lines for clients)\n")
    assert shown_change(path, Change("a\n", "b\n")) == Change("a\n", "b\n")
    assert shown_change("/x/launch.sh", Change("", "a\n")) == Change("", "a\n")


def test_a_predecessor_is_linked_and_the_link_follows(staged: StagedRelease) -> None:
    stage(staged, SETTINGS, "predecessor")
    link = Path(staged.release.root) / "services" / "code2sql" / "predecessor"
    assert os.readlink(link) == "releases/one"
    other = dataclasses.replace(staged, id="two")
    change = changes(other, SETTINGS, "predecessor")[str(link)]
    assert (change.before, change.after) == ("releases/one", "releases/two")
    stage(other, SETTINGS, "predecessor")
    assert os.readlink(link) == "releases/two"


def test_a_release_that_was_tampered_with_is_written_anew(staged: StagedRelease) -> None:
    stage(staged, SETTINGS, "service")
    script = Path(staged.release.root) / "services" / "code2sql" / "releases" / "one" / "launch.sh"
    script.write_text("#!/bin/sh\nrm -rf /\n")
    assert changes(staged, SETTINGS, "service")[str(script)].after == "#!/bin/sh\n"
    stage(staged, SETTINGS, "service")
    assert script.read_text() == "#!/bin/sh\n"


def test_options_that_the_engine_refuses_leave_nothing_staged(staged: StagedRelease) -> None:
    release = dataclasses.replace(staged.release, argv=(*staged.release.argv, "--unknown"))
    wrong = dataclasses.replace(staged, release=release)
    with pytest.raises(DeployError, match=r"refuses its options: .*unrecognized arguments: --unknown"):
        stage(wrong, SETTINGS, "service")
    assert not (Path(release.root) / "services" / "code2sql" / "releases" / "one").exists()


def test_the_option_that_tells_the_release_is_read_by_the_engine_s_parser_too(staged: StagedRelease) -> None:
    wrong = dataclasses.replace(staged, release=dataclasses.replace(staged.release, identity_option="--no-such"))
    with pytest.raises(DeployError, match="unrecognized arguments: --no-such id"):
        stage(wrong, SETTINGS, "service")


def test_an_engine_that_cannot_be_loaded_is_told_from_wrong_options(
    staged: StagedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = dataclasses.replace(engines.engine_named("sglang"), option_check="import no_such_engine")
    monkeypatch.setattr(staging, "engine_named", lambda name: engine)
    with pytest.raises(DeployError, match="cannot be loaded: ModuleNotFoundError"):
        stage(staged, SETTINGS, "service")
