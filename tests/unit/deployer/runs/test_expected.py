"""How long things are expected to take: as long as they took the last time."""

from __future__ import annotations

from pathlib import Path

from deployer.runs.events import Event
from deployer.runs.expected import Expected
from deployer.runs.journal import Journal


def cutover(host: str, outcome: str, gate: float) -> Event:
    return Event("cutover", {"host": host, "service": "s", "outcome": outcome, "seconds": {"stop": 1.0, "gate": gate}})


def test_the_last_committed_cut_over_counts_and_another_hosts_where_there_is_none(tmp_path: Path) -> None:
    first, second = Journal("rollout", tmp_path), Journal("rollout", tmp_path)
    first(cutover("a", "committed", 10))
    first(cutover("b", "committed", 20))
    second(cutover("a", "committed", 30))
    second(cutover("b", "restored", 500))
    expected = Expected.from_journals(tmp_path)
    assert [expected.cutover(host, "s") for host in ("a", "b", "c")] == [31, 21, 31]
    assert expected.cutover("a", "another") is None


def test_a_phase_counts_where_something_was_changed() -> None:
    def end(phase: str, changed: bool, kind: str = "ok") -> Event:
        return Event("step", {"host": "a", "phase": phase, "kind": kind, "phase_seconds": 7, "phase_changed": changed})

    expected = Expected().after([end("model", True), end("lock", False), end("release", True, "failed")])
    assert [expected.phase("a", phase) for phase in ("model", "lock", "release")] == [7, None, None]


def test_without_journals_nothing_is_expected(tmp_path: Path) -> None:
    assert Expected.from_journals(tmp_path / "nowhere") == Expected()
