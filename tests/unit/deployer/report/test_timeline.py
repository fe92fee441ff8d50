"""What a report makes of a run's events: intervals, outages, rows, failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deployer.report.cutovers import outage_of
from deployer.report.model import DONE, LOST, UNSEEN, Cutover, Phase, Row, State, Timeline
from deployer.report.reading import read_record
from deployer.report.timeline import timeline
from deployer.runs.events import Event
from tests.unit.deployer.report import runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def told(folder: Path, events: Sequence[Event]) -> Timeline:
    return timeline(read_record(runs.write(folder, events)))


def cutover_of(run: Timeline, host: str) -> Cutover:
    return next(one for found in run.hosts if found.name == host for one in found.cutovers)


def phases_of(run: Timeline, host: str) -> dict[str, Phase]:
    return {phase.name: phase for found in run.hosts if found.name == host for phase in found.phases}


def row_of(run: Timeline, host: str, service: str = "code2sql") -> Row:
    return next(row for row in run.rows if (row.host, row.service) == (host, service))


def test_the_states_of_a_cutover_are_as_long_as_the_host_measured_them(folder: Path) -> None:
    run = told(folder, [runs.started(), *runs.cutover(100, "gpu1", gate=38.0)])
    states = cutover_of(run, "gpu1").states
    assert [state.name for state in states] == ["drain", "stop", "prove", "start", "gate", "commit"]
    assert [round(state.end - state.start, 3) for state in states] == [1.4, 2.1, 0.9, 0.3, 38.0, 0.2]
    assert states[0].start == pytest.approx(runs.START + 100)
    assert all(one.end == after.start for one, after in zip(states, states[1:], strict=False))


def test_an_outage_lasts_from_the_stop_until_the_gate_is_passed(folder: Path) -> None:
    outage = cutover_of(told(folder, runs.cutover(100, "gpu1", gate=38.0)), "gpu1").outage
    assert outage is not None
    assert not outage.open
    assert outage.start == pytest.approx(runs.START + 101.4)
    assert outage.seconds == pytest.approx(2.1 + 0.9 + 0.3 + 38.0)


def test_an_outage_of_a_release_that_did_not_pass_lasts_until_the_old_one_serves_again(folder: Path) -> None:
    outage = cutover_of(told(folder, runs.restored(100, "gpu1")), "gpu1").outage
    assert outage is not None
    assert (outage.open, round(outage.seconds, 3)) == (False, 2.1 + 0.9 + 0.3 + 16.2 + 31.5)


def test_an_outage_that_nothing_ended_is_open(folder: Path) -> None:
    outage = cutover_of(told(folder, runs.restored(100, "gpu1", outcome="not_restored")), "gpu1").outage
    assert outage is not None
    assert outage.open


def test_where_nothing_served_before_there_is_no_outage(folder: Path) -> None:
    assert cutover_of(told(folder, runs.cutover(100, "gpu1", before="")), "gpu1").outage is None


def test_a_release_that_serves_already_has_no_outage(folder: Path) -> None:
    run = told(folder, runs.nothing_to_do())
    assert cutover_of(run, "gpu1").outage is None
    assert [row.outcome for row in run.rows] == ["unchanged"] * 3


def test_a_refused_cutover_has_drained_and_stopped_nothing() -> None:
    assert outage_of([State("drain", 0.0, 5.0)], "refused") is None


def test_a_stop_that_was_not_seen_itself_is_dated_by_what_came_after_it() -> None:
    outage = outage_of([State("drain", 0.0, 5.0), State("gate", 5.0, 9.0)], "")
    assert outage is not None
    assert (outage.start, outage.seconds, outage.open) == (5.0, 4.0, True)


def test_a_look_at_what_runs_already_is_no_outage_until_it_is_restored() -> None:
    assert outage_of([State("gate", 0.0, 5.0)], "") is None
    outage = outage_of([State("gate", 0.0, 5.0), State("restore", 5.0, 8.0)], "restored")
    assert outage is not None
    assert (outage.start, outage.seconds, outage.open) == (5.0, 3.0, False)


def test_a_killed_run_shows_the_states_that_were_seen_until_it_was_last_heard_of(folder: Path) -> None:
    run = told(folder, runs.killed())
    cutover = cutover_of(run, "gpu1")
    assert [(state.name, round(state.end - runs.START, 1)) for state in cutover.states] == [
        ("drain", 203.5),
        ("stop", 206.0),
        ("gate", 215.0),
    ]
    assert cutover.outage is not None
    assert cutover.outage.open
    assert run.exit_code is None
    assert row_of(run, "gpu1").outcome == "unknown"
    assert row_of(run, "gpu1").outage_open
    assert row_of(run, "gpu2").outcome == "not begun"


def test_a_torn_last_line_is_counted_and_the_rest_is_told(folder: Path) -> None:
    runs.write(folder, runs.killed(), torn='{"schema": 1, "run": "20261129T0234')
    record = read_record(folder)
    assert record.unread == 1
    assert len(record.events) == len(runs.killed())
    assert timeline(record).hosts[0].name == "gpu1"


@pytest.mark.parametrize(
    "line",
    [
        "[1, 2]",
        "null",
        "\x00\xff",
        '{"event": "step"}',
        '{"schema": 1, "run": "r", "time": "2026-11-29T02:34:18.000Z", "event": "from the future", "host": 5}',
        '{"schema": 1, "run": "r", "time": "2026-11-29T02:34:18.000Z", "event": "plan", "hosts": [1]}',
        '{"schema": 1, "run": "r", "time": "2026-11-29T02:34:18.000Z", "event": "batch", "hosts": 7, "batch": "x"}',
        '{"schema": 1, "run": "r", "time": "2026-11-29T02:34:18.000Z", "event": "cutover", "host": "gpu1",'
        ' "seconds": {"stop": null, "gate": NaN}, "failure": "none", "outcome": {}}',
        '{"schema": 1, "run": "r", "time": "2026-11-29T02:34:18.000Z", "event": "run.ended", "hosts": {"gpu1": null}}',
    ],
)
def test_what_is_no_event_of_ours_does_not_keep_the_rest_from_being_told(folder: Path, line: str) -> None:
    runs.write(folder, runs.nothing_to_do(), torn=line + "\n")
    assert {host.name for host in timeline(read_record(folder)).hosts} == {"gpu1", "gpu2", "gpu3"}


def test_what_the_journal_lost_is_taken_from_the_record(folder: Path) -> None:
    events = [one for one in runs.six_hosts() if one.kind not in ("run.started", "run.ended")]
    ending = {"verb": "rollout", "initiator": "bob@desk", "exit_code": 3, "meaning": "FAILED", "hosts": {"gpu9": "x"}}
    run = timeline(read_record(runs.write(folder, events, ending=ending)))
    assert (run.head.verb, run.head.initiator, run.exit_code, run.meaning) == ("rollout", "bob@desk", 3, "FAILED")
    assert run.hosts[-1].name == "gpu9"


def test_a_phase_lasts_from_its_first_task_until_what_the_host_said_last(folder: Path) -> None:
    phases = phases_of(told(folder, runs.staging(["gpu1", "gpu2"], begun=1.0, seconds=600)), "gpu2")
    assert list(phases) == ["preflight", "lock", "environment", "model", "release"]
    model = phases["model"]
    assert (model.start, model.end) == (pytest.approx(runs.START + 61), pytest.approx(runs.START + 662))
    assert (model.ending, model.amount) == (DONE, "27.6 GB")


def test_a_phase_whose_length_was_measured_has_that_length(folder: Path) -> None:
    task = runs.event(1, "task", phase="preflight", task="Plan the launch")
    step = {"host": "gpu1", "phase": "preflight", "kind": "ok", "seconds": 1.0, "phase_seconds": 4.5}
    phase = phases_of(told(folder, [task, runs.event(9, "step", **step)]), "gpu1")["preflight"]
    assert (phase.start, phase.end) == (pytest.approx(runs.START + 4.5), pytest.approx(runs.START + 9))


def test_every_batch_has_a_cutover_phase_of_its_own(folder: Path) -> None:
    run = told(folder, runs.six_hosts())
    begun = {name: round(phases_of(run, name)["cutover"].start - runs.START) for name in ("gpu3",)}
    first = next(phase for phase in run.hosts[0].phases if phase.name == "cutover")
    assert (round(first.start - runs.START), begun["gpu3"]) == (700, 761)
    assert [phase.name for phase in run.hosts[0].phases].count("cutover") == 2


def test_a_phase_that_failed_says_so_and_one_that_was_cut_off_does_not_claim_to_have_ended(folder: Path) -> None:
    assert phases_of(told(folder, runs.six_hosts()), "gpu6")["preflight"].ending == LOST
    half = [one for one in runs.staging(["gpu1"]) if not (one.kind == "step" and one.data["phase"] == "model")]
    until = half.index(next(one for one in half if one.kind == "progress")) + 1
    phase = phases_of(told(folder, half[:until]), "gpu1")["model"]
    assert (phase.ending, phase.amount) == (UNSEEN, "13.8 GB of 27.6 GB")


def test_rows_have_both_versions_what_it_came_to_and_the_time_out_in_all(folder: Path) -> None:
    run = told(folder, runs.six_hosts())
    restored, back, adopted = row_of(run, "gpu3"), row_of(run, "gpu1"), row_of(run, "gpu4")
    assert (restored.outcome, restored.before, restored.after) == ("restored", runs.OLD, runs.OLD)
    assert (back.outcome, back.before, back.after) == ("taken back", runs.OLD, runs.OLD)
    assert back.outage == pytest.approx(41.3 + 25.3)
    assert (adopted.before, adopted.before_engine) == (runs.ADOPTED, "llamafactory")
    assert row_of(run, "gpu5").outcome == "not begun"
    assert row_of(run, "gpu6", "").outcome == "unreachable"


def test_a_committed_release_is_named_with_its_engine_and_version(folder: Path) -> None:
    plan = runs.event(1, "plan", hosts={"gpu1": runs.plan_of()})
    row = row_of(told(folder, [plan, *runs.cutover(5, "gpu1")]), "gpu1")
    assert (row.after, row.after_engine, row.before_engine) == (runs.NEW, "sglang 0.5.3", "sglang")


def test_a_release_whose_id_the_plan_could_not_know_has_its_engine_and_version_too(folder: Path) -> None:
    plan = runs.plan_of()
    plan["services"][0]["next"] = ""
    row = row_of(told(folder, [runs.event(1, "plan", hosts={"gpu1": plan}), *runs.cutover(5, "gpu1")]), "gpu1")
    assert (row.after_engine, row.before_engine) == ("sglang 0.5.3", "sglang")


def test_what_a_committed_cutover_warns_of_is_said(folder: Path) -> None:
    warned = runs.cutover(5, "gpu1", warning="requests may not reach the service: lb is gone")
    [note] = told(folder, warned).notes
    assert (note.level, note.text) == ("warning", "gpu1 code2sql: requests may not reach the service: lb is gone")


def test_services_that_were_not_asked_for_have_no_row(folder: Path) -> None:
    plan = runs.event(1, "plan", hosts={"gpu1": runs.plan_of(services=("code2sql", "embeddings"))})
    some = runs.started(options={"services": ["code2sql"]})
    assert [row.service for row in told(folder, [some, plan, *runs.cutover(5, "gpu1")]).rows] == ["code2sql"]
    both = [row.service for row in told(folder, [runs.started(), plan, *runs.cutover(5, "gpu1")]).rows]
    assert both == ["code2sql", "embeddings"]


def test_each_failure_is_told_once_by_whoever_knows_most_of_it(folder: Path) -> None:
    step = {"host": "gpu1", "phase": "cutover", "task": "Cut over", "kind": "failed", "changed": False}
    message = runs.event(190, "step", **step, service="code2sql", message="code2sql: its process ended")
    total = runs.event(191, "step", **step)
    again = runs.event(192, "step", **step, message="One or more items failed")
    ended = runs.ended(200, 1, "failed", {"gpu1": {"outcome": "restored", "failure": "code2sql: its process ended"}})
    [failure] = told(folder, [*runs.restored(100, "gpu1"), message, total, again, ended]).failures
    assert (failure.kind, failure.where, failure.outcome) == ("out-of-memory", "code2sql", "restored")
    assert failure.evidence == ("torch.OutOfMemoryError: CUDA out of memory.",)
    assert failure.log == runs.LOG


def test_what_is_to_be_done_by_hand_is_the_fix_of_what_was_not_restored(folder: Path) -> None:
    events = runs.restored(100, "gpu1", outcome="not_restored", reason="it died", by_hand="/x/launch.sh")
    [failure] = told(folder, events).failures
    assert failure.reason == "it died. Fix: by hand: /x/launch.sh"


def test_what_failed_when_it_was_looked_at_first_and_again_later_is_one_failure(folder: Path) -> None:
    step = {
        "host": "gpu1",
        "phase": "preflight",
        "task": "Plan",
        "kind": "failed",
        "message": "no GPU",
        "detail": "a\nb",
    }
    [failure] = told(folder, [runs.event(1, "step", **step), runs.event(9, "step", **step)]).failures
    assert (failure.reason, failure.evidence) == ("no GPU", ("a", "b"))


def test_that_no_further_batch_is_begun_is_no_failure_of_a_host(folder: Path) -> None:
    why = "no further batch is begun: 2 hosts failed"
    step = {"host": "gpu1", "phase": "other", "task": "Go on?", "kind": "failed", "message": why}
    ended = runs.ended(9, 1, "failed", {}, stopped={"kind": "failures", "why": why})
    run = told(folder, [runs.event(1, "step", **step), ended])
    assert (run.failures, run.stopped) == ((), why)


def test_hosts_come_in_the_order_of_the_batches_and_then_of_the_plan(folder: Path) -> None:
    run = told(folder, runs.six_hosts())
    assert [host.name for host in run.hosts] == ["gpu1", "gpu2", "gpu3", "gpu4", "gpu5", "gpu6"]
    assert [host.batch for host in run.hosts] == [1, 2, 2, 2, 0, 0]


def test_a_finding_is_told_once_with_its_hosts_the_worst_first(folder: Path) -> None:
    first, second = told(folder, runs.refused()).findings
    assert (first.severity, first.id, first.hosts) == ("error", "weights-do-not-fit", ("gpu1", "gpu2"))
    assert second.severity == "warning"


def test_options_are_said_as_people_write_them(folder: Path) -> None:
    options = {"batches": [1, "50%"], "max_fail": 1, "confirm": True, "pause": 0, "services": [], "to": None}
    assert told(folder, [runs.started(options=options)]).head.options == {
        "batches": "1, 50%",
        "max_fail": "1",
        "confirm": "yes",
        "pause": "0",
        "services": "",
        "to": "none",
    }
