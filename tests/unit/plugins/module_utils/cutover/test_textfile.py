"""What monitors are told of cut-overs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import textfile, transaction
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.textfile import (
    FILE,
    Cutovers,
    ended,
    tell_monitors,
    text_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from tests.doubles.promtool import needs_promtool, promtool
from tests.doubles.released_host import ReleasedHost

AT = "2026-11-29T08:00:00Z"
SECONDS = 1795939200


@pytest.fixture
def told(host: ReleasedHost, tmp_path: Path) -> Path:
    """The file of a host whose collector's folder is there."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    host.textfile_directory = str(folder)
    return folder / FILE


def counts(told: Path) -> dict[str, int]:
    """By outcome, without those that did not occur."""
    lines = [line for line in told.read_text().splitlines() if line.startswith("inference_cutovers_total")]
    found = {line.split('outcome="')[1].split('"')[0]: int(line.split()[-1]) for line in lines}
    assert set(found) == set(textfile.OUTCOMES)  # zeros, too: a counter that begins with 1 has not increased
    return {outcome: count for outcome, count in found.items() if count}


def test_each_cutover_is_counted_and_the_release_is_named(host: ReleasedHost, told: Path) -> None:
    host.bring(host.stage("one"))
    assert counts(told) == {"committed": 1}
    host.bring(host.stage("two", "exit"))
    assert counts(told) == {"committed": 1, "restored": 1}
    text = told.read_text()
    assert 'inference_release_info{service="code2sql",release="one",engine="sglang"} 1' in text
    assert 'inference_last_cutover_timestamp_seconds{service="code2sql",outcome="restored"} 1' in text
    assert told.stat().st_mode & 0o777 == 0o644
    assert os.listdir(told.parent) == [FILE]


def test_a_cutover_that_was_killed_and_made_good_counts_once_as_what_it_came_to(
    host: ReleasedHost, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bring(host.stage("one"))
    host.stage("two")
    enter, guardian = journal.enter, os.getpid()

    def enter_and_die(folder: ServiceFolder, state: str, **entry: object) -> None:
        enter(folder, state, **entry)
        if state == "gate" and os.getpid() != guardian:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(transaction.journal, "enter", enter_and_die)
    assert host.bring("two").outcome == "restored"
    assert counts(told) == {"committed": 1, "restored": 1}


def test_what_is_refused_is_counted_too(host: ReleasedHost, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.bring(host.stage("one"))
    host.stage("two")

    def fail(*_: object) -> None:
        raise DeployError("the gateway does not answer", "see it")

    monkeypatch.setattr(transaction, "wait_for_quiet", fail)
    with pytest.raises(DeployError):
        host.bring("two")
    assert counts(told) == {"committed": 1, "refused": 1}


def test_a_lost_file_is_written_again_though_nothing_is_cut_over(host: ReleasedHost, told: Path) -> None:
    host.bring(host.stage("one"))
    before = told.read_text()
    told.unlink()
    assert host.bring("one").outcome == "unchanged"
    assert told.read_text() == before
    same = told.stat().st_ino
    host.bring("one")
    assert told.stat().st_ino == same


def test_a_folder_that_is_not_there_is_a_warning_and_no_failure(host: ReleasedHost, tmp_path: Path) -> None:
    host.textfile_directory = str(tmp_path / "missing")
    outcome = host.bring(host.stage("one"))
    assert outcome.outcome == "committed"
    assert f"missing/{FILE} was not written" in outcome.warning


def test_what_cannot_be_replaced_is_a_warning_and_no_failure(host: ReleasedHost, told: Path) -> None:
    told.mkdir()
    outcome = host.bring(host.stage("one"))
    assert outcome.outcome == "committed" and "Is a directory" in outcome.warning
    assert os.listdir(told.parent) == [FILE]


@pytest.mark.parametrize("kind", ["pipe", "device", "garbage"])
def test_whatever_lies_at_its_place_is_replaced_and_not_waited_for(
    host: ReleasedHost, told: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "pipe":
        os.mkfifo(told)
    elif kind == "device":
        told.symlink_to("/dev/zero")
    else:
        told.write_bytes(b"\xff\xfe")
    assert tell_monitors(host.root, str(told.parent)) == ""
    assert told.is_file() and not told.is_symlink() and told.read_text().startswith("# HELP")


def test_a_folder_that_does_not_answer_is_given_up_and_keeps_no_lock(
    host: ReleasedHost, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "source_of", lambda _: "import time\ntime.sleep(600)")
    monkeypatch.setattr(textfile, "PATIENCE", 0.2)
    monkeypatch.setattr(textfile, "LEAST", 0.1)
    assert "did not answer" in tell_monitors(host.root, str(told.parent))
    with exclusive_lock(Store(host.root).metrics_lock, 0):
        assert not told.exists()


def test_without_a_folder_nothing_is_written(host: ReleasedHost) -> None:
    assert host.bring(host.stage("one")).warning == ""
    assert tell_monitors(host.root, "") == ""


def test_a_link_in_the_collectors_folder_is_replaced_and_not_followed(
    host: ReleasedHost, told: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("mine")
    told.symlink_to(tmp_path / "precious")
    host.bring(host.stage("one"))
    assert (tmp_path / "precious").read_text() == "mine" and not told.is_symlink()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], []),
        ([{"event": "started"}], []),
        ([{"event": "ended", "outcome": "committed", "time": AT}], [("committed", SECONDS)]),
        (
            [
                {"event": "started"},
                {"event": "ended", "outcome": "committed", "time": AT},
                {"event": "recovered", "outcome": "restored", "time": AT},
            ],
            [("restored", SECONDS)],
        ),
        ([{"event": "started"}, {"event": "recovered", "outcome": "restored", "time": AT}], [("restored", SECONDS)]),
        # Journals that were written before an outcome stood in this entry.
        (
            [{"event": "ended", "outcome": "committed", "time": AT}, {"event": "recovered"}],
            [("committed", SECONDS)],
        ),
        ([{"event": "ended", "outcome": "something else", "time": AT}], []),
        ([{"event": "ended", "outcome": "committed", "time": "torn"}], [("committed", 0)]),
    ],
)
def test_a_journal_says_what_every_cutover_came_to(
    entries: list[dict[str, str]], expected: list[tuple[str, int]]
) -> None:
    assert ended(entries) == expected


@needs_promtool
def test_promtool_accepts_the_file_whatever_names_are_in_it(tmp_path: Path) -> None:
    services = {
        "code2sql": Cutovers("3f9a1c07b2de", "sglang", [("committed", SECONDS), ("restored", SECONDS + 60)]),
        'odd"name\\': Cutovers(),
    }
    promtool("check", "metrics", stdin=text_of(services))
