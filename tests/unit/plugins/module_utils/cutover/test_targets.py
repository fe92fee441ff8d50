"""Which release a word names, and what is committed when somebody removed the link that says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import (
    committed,
    mend_current,
    releases,
    resolve,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder

FIRST, SECOND, THIRD = "aaaa00000001", "aaaa00000002", "bbbb00000003"


@pytest.fixture
def folder(tmp_path: Path) -> ServiceFolder:
    """Three releases; the second is current, the first served before."""
    folder = ServiceFolder(str(tmp_path))
    for one in (FIRST, SECOND, THIRD):
        os.makedirs(folder.release(one))
        Path(folder.release(one), "release.json").write_text("{}")
    os.makedirs(folder.release(".cccc00000004.part"))
    link(folder, "current", SECOND)
    link(folder, "previous", FIRST)
    journal.append(folder, event="ended", outcome="committed", to=FIRST)
    journal.append(folder, event="ended", outcome="committed", to=SECOND)
    journal.append(folder, event="ended", outcome="restored", to=THIRD)
    return folder


def link(folder: ServiceFolder, role: str, release: str) -> None:
    os.symlink(f"releases/{release}", folder.link(role))


def test_a_release_is_named_by_its_id_or_by_what_it_is_to_the_host(folder: ServiceFolder) -> None:
    link(folder, "adopted", THIRD)
    link(folder, "predecessor", FIRST)
    named = {
        word: resolve(folder, word) for word in (THIRD, "bbbb", "@previous", "previous", "@adopted", "@predecessor")
    }
    assert named == {
        THIRD: THIRD,
        "bbbb": THIRD,
        "@previous": FIRST,
        "previous": FIRST,
        "@adopted": THIRD,
        "@predecessor": FIRST,
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("aaaa", f"aaaa is the beginning of {FIRST}, {SECOND}. Fix: give more of the id"),
        ("bbb", "there is no release 'bbb' on this host"),
        ("dddd00000000", "there is no release 'dddd00000000'"),
        ("../x", "there is no release '../x'"),
        ("@adopted", "there is no release @adopted on this host. Fix: see `deployer history`"),
        (
            "@next",
            "there is no release @next on this host. Fix: use one of @previous, @adopted, @predecessor, or an id",
        ),
    ],
)
def test_what_names_no_release_is_refused(folder: ServiceFolder, word: str, message: str) -> None:
    with pytest.raises(DeployError, match=message.replace("(", r"\(").replace("?", r"\?")):
        resolve(folder, word)


def test_an_adopted_release_whose_folder_is_gone_is_none(folder: ServiceFolder) -> None:
    link(folder, "adopted", "eeee00000005")
    with pytest.raises(DeployError, match="no release @adopted"):
        resolve(folder, "@adopted")


def test_releases_that_are_half_staged_do_not_count(folder: ServiceFolder) -> None:
    assert releases(folder) == [FIRST, SECOND, THIRD]
    assert releases(ServiceFolder(f"{folder.path}/nowhere")) == []


@pytest.mark.parametrize("running", [SECOND, THIRD, None])
def test_a_current_that_was_removed_is_what_was_committed_last(folder: ServiceFolder, running: str | None) -> None:
    """The third release never passed: that it runs says nothing."""
    os.unlink(folder.link("current"))
    assert committed(folder, running) == SECOND
    assert not os.path.lexists(folder.link("current"))
    assert mend_current(folder, running) == SECOND
    assert folder.release_of("current") == SECOND
    assert journal.entries(folder)[-1]["event"] == "mended"


def test_what_runs_and_was_committed_once_is_believed_before_the_journal(folder: ServiceFolder) -> None:
    os.unlink(folder.link("current"))
    assert committed(folder, FIRST) == FIRST


def test_a_current_that_names_a_folder_which_is_gone_is_mended_too(folder: ServiceFolder) -> None:
    os.unlink(folder.link("current"))
    link(folder, "current", "eeee00000005")
    assert mend_current(folder, None) == SECOND


def test_on_a_new_host_nothing_is_committed(tmp_path: Path) -> None:
    assert committed(ServiceFolder(str(tmp_path)), None) is None


def test_a_torn_line_in_the_journal_costs_that_line_alone(folder: ServiceFolder) -> None:
    with open(folder.journal, "a", encoding="utf-8") as stream:
        stream.write('{"event": "ended", "outc')
    journal.append(folder, event="ended", outcome="committed", to=THIRD)
    assert [entry.get("to") for entry in journal.entries(folder)] == [FIRST, SECOND, THIRD, THIRD]
