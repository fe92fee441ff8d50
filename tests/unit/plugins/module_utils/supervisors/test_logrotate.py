"""The host's logrotate, for what was adopted."""

from __future__ import annotations

import dataclasses
import getpass
import grp
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.logrotate import (
    ensure,
    log_files,
    rotates,
    text_of,
)
from tests.doubles.released_host import ReleasedHost


@pytest.fixture
def plain(tmp_path: Path) -> StagedRelease:
    """A release that was described."""
    host = ReleasedHost(tmp_path / "root")
    return load_release(host.folder.release(host.stage("one")))


def adopted(plain: StagedRelease, stdout: str, **changes: Any) -> StagedRelease:
    """One that was started by hand, and wrote there."""
    who = {"by": "hand", "uid": os.getuid(), "gid": os.getgid(), "log": {"stdout": stdout, "stderr": stdout}}
    return dataclasses.replace(plain, release=dataclasses.replace(plain.release, adopted={**who, **changes}))


def test_the_log_of_what_was_started_by_hand_is_rotated_as_its_user(plain: StagedRelease, tmp_path: Path) -> None:
    folder = tmp_path / "logrotate.d"
    folder.mkdir()
    log = f"{tmp_path}/code2sql 8001.log"
    ensure("code2sql", adopted(plain, log), str(folder))
    text = (folder / "inference-code2sql").read_text()
    assert f'"{log}" {{' in text
    assert f"    su {getpass.getuser()} " in text and "    copytruncate\n" in text
    assert rotates(log, str(folder), "/none")
    assert not rotates(f"{tmp_path}/code2sql", str(folder), "/none")


def test_once_a_described_release_is_committed_there_is_no_configuration_left(
    plain: StagedRelease, tmp_path: Path
) -> None:
    ensure("code2sql", adopted(plain, f"{tmp_path}/a.log"), str(tmp_path))
    assert (tmp_path / "inference-code2sql").exists()
    ensure("code2sql", plain, str(tmp_path))
    assert not (tmp_path / "inference-code2sql").exists()
    ensure("code2sql", plain, str(tmp_path))


def test_a_host_without_logrotate_is_left_as_it_is(plain: StagedRelease, tmp_path: Path) -> None:
    ensure("code2sql", adopted(plain, "/home/me/a.log"), str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


def test_a_user_that_is_gone_is_no_failure(plain: StagedRelease, tmp_path: Path) -> None:
    ensure("code2sql", adopted(plain, "/home/me/a.log", uid=4_000_000), str(tmp_path))
    assert not (tmp_path / "inference-code2sql").exists()


@pytest.mark.parametrize(
    "path", ["", "/dev/null", "relative", "/a/*.log", '/a/"b', "/a/b\n}", "/a/{b}", "/a\\b", "/a~"]
)
def test_what_is_no_file_or_would_mean_something_else_to_logrotate_is_left_out(path: str) -> None:
    assert log_files([path]) == []


def test_a_unit_of_the_hosts_own_keeps_its_own_arrangement(plain: StagedRelease) -> None:
    assert text_of("code2sql", adopted(plain, "/home/me/a.log", by="unit")) == ""


def test_a_log_that_logrotate_knows_by_name_or_by_a_pattern_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("")
    assert not rotates(str(log), str(tmp_path / "d"), str(tmp_path / "none"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "other").write_text('/var/log/b.log "/var/log/c.log" {\n  daily\n}\n')
    assert not rotates(str(log), str(tmp_path / "d"), str(tmp_path / "none"))
    (tmp_path / "conf").write_text(f"weekly\n{tmp_path}/*.log {{\n}}\n")
    assert rotates(str(log), str(tmp_path / "d"), str(tmp_path / "conf"))
    (tmp_path / "d" / "other").write_text(f'"{log}" {{\n}}\n')
    assert rotates(str(log), str(tmp_path / "d"), str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# {log} is not rotated\n", False),
        ("/var/log/b.log {{\n  # {log}\n  postrotate\n    gzip {log} }} \n  endscript\n}}\n", False),
        ("/var/log/b.log {{\n  olddir {log}\n}}\n", False),
        ("/var/log/b.log\n'{log}'\n{{\n}}\n", True),
        ("# why\n{log} {{ weekly }}\n", True),
        ("{link} {{\n}}\n", True),
    ],
)
def test_only_what_logrotate_takes_for_a_log_counts(tmp_path: Path, text: str, expected: bool) -> None:
    log, link = tmp_path / "a.log", tmp_path / "link"
    link.symlink_to(log)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "other").write_text(text.format(log=log, link=link))
    assert rotates(str(log), str(tmp_path / "d"), "/none") is expected
    (tmp_path / "d" / "other").rename(tmp_path / "d" / "other.dpkg-old")
    assert not rotates(str(log), str(tmp_path / "d"), "/none")


def test_a_log_that_the_host_rotates_is_left_to_it(plain: StagedRelease, tmp_path: Path) -> None:
    release = adopted(plain, f"{tmp_path}/a.log")
    folder = tmp_path / "d"
    folder.mkdir()
    ensure("code2sql", release, str(folder), "/none")
    before = (folder / "inference-code2sql").read_text()
    ensure("code2sql", release, str(folder), "/none")
    assert (folder / "inference-code2sql").read_text() == before
    (folder / "operator").write_text(f"{tmp_path}/a.log {{\n  weekly\n}}\n")
    ensure("code2sql", release, str(folder), "/none")
    assert os.listdir(folder) == ["operator"]


@pytest.mark.parametrize("name", ["domain users", "CORP\\users", 'a"b', "a{", "#a", ""])
def test_a_name_that_logrotate_would_read_otherwise_is_not_written(
    plain: StagedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", 0, [])))
    assert text_of("code2sql", adopted(plain, f"{tmp_path}/a.log")) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_root_rotates_nothing_in_a_folder_of_somebody_else(plain: StagedRelease, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, -1)
    assert text_of("code2sql", adopted(plain, f"{theirs}/a.log", uid=0)) == ""
    assert "    su nobody " in text_of("code2sql", adopted(plain, f"{theirs}/a.log", uid=65534))


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is missing: apt-get install logrotate")
def test_logrotate_itself_takes_the_configuration(plain: StagedRelease, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 100)
    tmp_path.chmod(0o755)
    text = text_of("code2sql", adopted(plain, str(log))).replace("size 64M", "size 10")
    if os.getuid() != 0:
        text = "\n".join(line for line in text.splitlines() if "    su " not in line)
    (tmp_path / "conf").write_text(text)
    done = subprocess.run(
        ["logrotate", "--state", str(tmp_path / "state"), str(tmp_path / "conf")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert log.read_text() == "" and (tmp_path / "a.log.1").read_text() == "x" * 100
