"""What is known of a migration: kept and read again, and what may be asked for anew."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.parity import Explanation
from deployer.migration import kept
from deployer.migration.hosts import targets_back
from deployer.migration.state import (
    DONE,
    Judged,
    Return,
    Settings,
    State,
    StepState,
    Switched,
    dumped,
    fleet_id,
    loaded,
)
from deployer.migration.words import command_line

WHOLE = State(
    "20261129T000000Z-migration",
    1.5,
    given=("fleet/my hosts.yml",),
    sources=("fleet/my hosts.yml",),
    limit="gpu-nodes",
    settings=Settings(services=("s",), load=True, rates=(1.0, math.inf), no_worse=1.2, batches=(1, "25%")),
    steps={"doctor": StepState(DONE, 1.0, 2.0, "2 hosts", ("a line",), ("run",), "digest")},
    canary="a",
    hosts={"a": {"s": Switched("old", "llamafactory", "new", "committed")}, "b": {"s": Switched(outcome="begun")}},
    comparison=Judged(False, ("s: differs",), ("why",), (Explanation("id", "says", "fix"),), {"s": "compared/s"}),
    back=Return(("a",), False, StepState(DONE)),
)


def test_what_is_written_is_what_is_read() -> None:
    assert loaded(dumped(WHOLE).encode(), "state.json") == WHOLE


UNKNOWN = b'{"id": "x", "created": 1, "steps": {"plan": {"state": "guessed"}}}'


@pytest.mark.parametrize("content", [b"", b"{}", b'{"id": "x", "created": 1, "schema": 2}', b"[1]", UNKNOWN])
def test_what_is_no_state_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(DeployError, match=r"is no state of a migration that .* Fix: .* move its folder away"):
        loaded(content, "state.json")


def test_what_was_measured_with_cannot_be_changed_on_the_way_and_what_decides_later_can() -> None:
    settings = WHOLE.settings
    assert settings.with_given({"canary": "", "rates": (1.0, math.inf), "services": ("s",)}, True) == settings
    changed = settings.with_given({"rendering_only": True, "max_fail": 2, "no_worse": 1.5}, True)
    assert (changed.rendering_only, changed.max_fail, changed.no_worse) == (True, 2, 1.5)
    with pytest.raises(
        DeployError, match=r"--rates was 1,inf when the canary was measured, and is 4 now\. Fix: .*--re"
    ):
        settings.with_given({"rates": (4.0,)}, True)
    with pytest.raises(DeployError, match="--canary was not given when"):
        settings.with_given({"canary": "a"}, True)
    with pytest.raises(DeployError, match="--prompts was not given when"):
        settings.with_given({"prompts": "p.txt", "prompts_sha256": "ab"}, True)
    assert settings.with_given({"canary": "a", "load": False}, False) == replace(settings, canary="a", load=False)


def test_what_was_switched_goes_back_and_what_had_nothing_before_stays() -> None:
    assert targets_back(WHOLE) == ({"a": {"s": "old"}}, {"b": ("s",)})
    assert targets_back(WHOLE, ["b"]) == ({}, {"b": ("s",)})


def test_the_same_hosts_are_told_by_inventory_and_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fleet_id(["hosts.yml"], "") == fleet_id([str(tmp_path / "hosts.yml")], "")
    assert len({fleet_id(["hosts.yml"], ""), fleet_id(["hosts.yml"], "a"), fleet_id(["other.yml"], "")}) == 3


def test_what_to_type_next_can_be_typed() -> None:
    line = command_line(WHOLE, "--back")
    assert line == "python -m deployer migrate -i 'fleet/my hosts.yml' -l gpu-nodes --back"


def test_a_migration_is_kept_for_its_user_alone_and_found_again(tmp_path: Path) -> None:
    begun = kept.begun(WHOLE, tmp_path / "m")
    begun.save(replace(begun.state, canary="b"))
    fleet = fleet_id(WHOLE.sources, WHOLE.limit)
    newest = kept.newest_of(fleet, tmp_path / "m")
    assert newest is not None and newest.state.canary == "b" and newest.state.id == newest.folder.name
    assert kept.newest_of("another", tmp_path / "m") is None and kept.newest_of("", tmp_path / "m") == newest
    assert newest.folder.stat().st_mode & 0o077 == 0 == (newest.folder / "state.json").stat().st_mode & 0o077
    second = kept.begun(WHOLE, tmp_path / "m")
    found = kept.newest_of(fleet, tmp_path / "m")
    assert found is not None and found.folder == second.folder != begun.folder
    second.save(replace(second.state, ended=DONE))  # as after a clock was set back
    found = kept.newest_of(fleet, tmp_path / "m")
    assert found is not None and found.folder == begun.folder


def test_two_do_not_walk_at_once_and_the_second_is_told_who_does(tmp_path: Path) -> None:
    with kept.locked("f", "alice@bastion", tmp_path / "m"):
        with (
            pytest.raises(DeployError, match=r"walked already, by alice@bastion, pid \d+, since .* Fix: wait"),
            kept.locked("f", "bob@bastion", tmp_path / "m"),
        ):
            pass
        with kept.locked("other", "bob@bastion", tmp_path / "m"):
            pass
    with kept.locked("f", "bob@bastion", tmp_path / "m"):
        pass
