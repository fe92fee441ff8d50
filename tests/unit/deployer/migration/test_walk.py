"""The walk through a migration: stopped, killed, continued and gone back on, everywhere."""

from __future__ import annotations

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.migration.state import BACK, COMMITTED, DONE, LEFT, PENDING, RUNNING, SKIPPED, TAKEN_BACK
from deployer.migration.steps import NAMES
from deployer.migration.verbs import Changed, Looked, Recorded
from tests.unit.deployer.migration.fake_verbs import DIFFERS, NEW, OLD, PASSED, REFUSED, Fleet, Walker

WHOLE = ["doctor", "adopt", "plan", "stage", "record a", "rollout a", "compare a", "rollout b c", "report", "report"]


@pytest.fixture
def walker() -> Walker:
    """Three hosts on which LLaMA-Factory serves."""
    return Walker(Fleet({"a": OLD, "b": OLD, "c": OLD}))


def test_a_migration_goes_through_its_steps_to_the_end(walker: Walker) -> None:
    state = walker.go()
    assert (state.exit_code, state.meaning, state.ended) == (0, "", DONE)
    assert walker.fleet.did == WHOLE and walker.fleet.serving == {"a": NEW, "b": NEW, "c": NEW}
    assert walker.steps() == dict.fromkeys(NAMES, DONE) and state.next_step == ""
    assert state.hosts["b"]["s"].before == OLD and state.hosts["b"]["s"].after == NEW


@pytest.mark.parametrize("until", NAMES[:-1])
def test_it_stops_after_the_step_that_is_named_and_goes_on_from_there(walker: Walker, until: str) -> None:
    state = walker.go(until)
    assert state.exit_code == 0 and f"stopped after {until}" in state.meaning and not state.ended
    assert not state.step(NAMES[NAMES.index(until) + 1]).over
    state = walker.go()
    assert (state.exit_code, state.ended) == (0, DONE) and walker.fleet.serving["c"] == NEW
    for once in ("stage", "record a", "rollout a", "compare a", "rollout b c"):
        assert walker.fleet.did.count(once) == 1


def test_a_step_that_there_is_not_is_refused(walker: Walker) -> None:
    with pytest.raises(DeployError, match=r"there is no step 'cutover'\. Fix: use one of doctor, adopt"):
        walker.go("cutover")


VERBS = ("doctor", "adopt", "plan", "stage", "record", "rollout", "compare")


@pytest.mark.parametrize("verb", VERBS)
def test_one_that_is_killed_in_a_step_does_that_step_again(walker: Walker, verb: str) -> None:
    walker.killed_in(verb)
    assert RUNNING in walker.steps().values()
    state = walker.go()
    assert (state.exit_code, state.ended) == (0, DONE)
    assert walker.fleet.serving == {"a": NEW, "b": NEW, "c": NEW}


def test_a_canary_whose_end_nobody_saw_goes_back_to_what_served_before_it(walker: Walker) -> None:
    walker.killed_in("rollout", lambda: walker.fleet.serving.update(a=NEW))  # the host finished by itself
    assert walker.state.switched == ("a",)
    walker.go("compare")
    assert walker.state.hosts["a"]["s"].before == OLD and walker.state.hosts["a"]["s"].outcome == COMMITTED
    assert walker.fleet.did.count("record a") == 1
    state = walker.back()
    assert (state.exit_code, state.ended) == (0, BACK) and walker.fleet.serving["a"] == OLD


def test_every_host_of_a_rollout_whose_end_nobody_saw_may_have_been_switched(walker: Walker) -> None:
    walker.go("confirm")
    walker.killed_in("rollout", lambda: walker.fleet.serving.update(b=NEW))
    assert walker.state.switched == ("a", "b", "c")
    state = walker.back()
    assert state.exit_code == 0 and walker.fleet.serving == {"a": OLD, "b": OLD, "c": OLD}
    assert {one["s"].outcome for one in state.hosts.values()} == {BACK}


def test_the_canary_goes_back_where_the_comparison_did_not_pass(walker: Walker) -> None:
    walker.fleet.judged = DIFFERS
    state = walker.go()
    assert state.exit_code == 1 and "the canary went back" in state.meaning and not state.ended
    assert walker.fleet.serving == {"a": OLD, "b": OLD, "c": OLD} and "rollout b c" not in walker.fleet.did
    assert state.step("canary").state == TAKEN_BACK and state.comparison == DIFFERS
    assert state.returned is not None
    walker.fleet.judged = PASSED
    state = walker.go()
    assert (state.exit_code, state.ended) == (0, DONE) and walker.fleet.did.count("record a") == 1
    assert state.returned is None


def test_a_new_service_that_cannot_be_measured_does_not_pass(walker: Walker) -> None:
    walker.fleet.answers["compare"] = REFUSED
    state = walker.go()
    assert state.exit_code == 1 and walker.fleet.serving["a"] == OLD
    assert state.comparison is not None and "no room. Fix: make room" in state.comparison.misses[0]


def test_a_return_of_the_canary_that_was_killed_is_finished_first(walker: Walker) -> None:
    walker.fleet.judged = DIFFERS
    walker.killed_in("back")
    walker.fleet.judged = PASSED
    walker.fleet.did.clear()
    state = walker.go()
    assert state.exit_code == 1 and walker.fleet.did == ["back a", "report"] and walker.fleet.serving["a"] == OLD
    assert walker.go().ended == DONE


def test_a_canary_that_does_not_come_back_is_said_so_with_its_code(walker: Walker) -> None:
    walker.fleet.judged = DIFFERS
    walker.fleet.answers["back"] = Changed(3, "NOT BACK", problems=("a: lost",))
    state = walker.go()
    assert state.exit_code == 3 and "did not go back: NOT BACK" in state.meaning and state.switched == ("a",)
    state = walker.go()  # tries again
    assert state.exit_code == 1 and walker.fleet.serving["a"] == OLD


def test_somebody_is_asked_before_the_canary_and_before_the_rest(walker: Walker) -> None:
    state = walker.go(says=[True, True])
    assert [one.hosts for one in walker.person.asked] == [("a",), ("b", "c")] and state.ended == DONE


def test_a_no_before_the_canary_leaves_everything_as_it_is(walker: Walker) -> None:
    state = walker.go(says=[False])
    assert state.exit_code == 4 and walker.fleet.serving["a"] == OLD and state.step("canary").state == PENDING
    assert walker.go(says=[True, True]).ended == DONE and walker.fleet.did.count("stage") == 1


def test_a_no_before_the_rest_leaves_the_canary_as_it_is(walker: Walker) -> None:
    walker.fleet.judged = DIFFERS
    state = walker.go(says=[True, False])
    assert state.exit_code == 4 and walker.fleet.serving == {"a": NEW, "b": OLD, "c": OLD}
    assert "a stays as it is" in state.meaning and state.switched == ("a",)
    assert walker.go(says=[True]).ended == DONE  # agreed to, though it did not pass
    assert "did not pass" in walker.state.step("confirm").says


def test_what_somebody_left_undecided_goes_back_when_nobody_is_asked_and_goes_on_when_it_is_accepted(
    walker: Walker,
) -> None:
    walker.fleet.judged = DIFFERS
    walker.go(says=[True, False])
    state = walker.go(accept_differences=True)
    assert state.ended == DONE and walker.fleet.did.count("compare a") == 1
    again = Walker(Fleet({"a": OLD, "b": OLD}, judged=DIFFERS))
    again.go(says=[True, False])
    assert again.go().exit_code == 1 and again.fleet.serving == {"a": OLD, "b": OLD}


def test_a_canary_that_does_not_pass_its_gate_restored_itself_and_stops_the_migration(walker: Walker) -> None:
    walker.fleet.fails["a"] = "restored"
    state = walker.go()
    assert state.exit_code == 1 and state.meaning == "canary: it failed" and state.switched == ()
    assert state.hosts["a"]["s"].reason == "its reason" and walker.fleet.serving["a"] == OLD
    walker.fleet.fails.clear()
    walker.fleet.digest, walker.fleet.described = "mended", "mended-release"
    walker.fleet.did.clear()
    state = walker.go()
    assert state.ended == DONE and walker.fleet.did == [one for one in WHOLE if one != "record a"]
    assert walker.fleet.serving["a"] == "mended-release"


@pytest.mark.parametrize(("outcome", "code"), [("restored", 1), ("not_restored", 3)])
def test_a_rollout_that_fails_stops_with_its_code_and_goes_on_with_the_rest(
    walker: Walker, outcome: str, code: int
) -> None:
    walker.fleet.fails["b"] = outcome
    state = walker.go()
    assert state.exit_code == code and state.step("rollout").state == "failed"
    assert ("b" in state.switched) == (code == 3) and "a" in state.switched
    walker.fleet.fails.clear()
    assert walker.go().ended == DONE and walker.fleet.did.count("rollout a") == 1


def test_a_changed_description_is_planned_and_staged_and_tried_on_the_canary_again(walker: Walker) -> None:
    walker.go("confirm")
    walker.fleet.digest, walker.fleet.described = "second", "second-release"
    walker.fleet.did.clear()
    state = walker.go()
    assert walker.fleet.did == [one for one in WHOLE if one != "record a"] and state.ended == DONE
    assert state.hosts["a"]["s"].before == OLD and state.step("canary").runs == ("run", "run")
    assert walker.back().ended == BACK and walker.fleet.serving == {"a": OLD, "b": OLD, "c": OLD}


def test_a_mended_canary_that_fails_again_is_still_what_this_migration_brought(walker: Walker) -> None:
    walker.go("compare")
    walker.fleet.digest, walker.fleet.described = "second", "second-release"
    walker.fleet.fails["a"] = "restored"
    assert walker.go().exit_code == 1 and walker.fleet.serving["a"] == NEW
    walker.fleet.fails.clear()
    assert walker.state.switched == ("a",) and walker.back().exit_code == 0 and walker.fleet.serving["a"] == OLD


def test_where_nothing_served_nothing_is_compared_and_it_goes_on() -> None:
    walker = Walker(Fleet({"a": "", "b": ""}))
    state = walker.go()
    assert state.ended == DONE and [state.step(name).state for name in ("measure", "compare")] == [SKIPPED] * 2
    assert "nothing that was there before serves on a" in state.step("measure").says
    back = walker.back()
    assert back.ended == BACK and "a had no s before: it stays" in back.meaning


def test_a_host_that_runs_what_is_described_counts_as_done_and_the_canary_is_one_that_can_be_compared() -> None:
    walker = Walker(Fleet({"a": NEW, "b": "", "c": OLD}))
    state = walker.go()
    assert state.canary == "c" and state.ended == DONE and "rollout a b" in walker.fleet.did
    assert state.hosts["a"]["s"].outcome == "unchanged"
    assert walker.back().ended == BACK and walker.fleet.serving == {"a": NEW, "b": NEW, "c": OLD}


def test_where_everything_is_there_nobody_is_asked_about_the_canary() -> None:
    walker = Walker(Fleet({"a": NEW}))
    state = walker.go(says=[])
    assert state.ended == DONE and "nothing to compare" in state.step("measure").says and walker.person.asked == []


def test_the_canary_may_be_named_and_has_to_be_in_the_plan(walker: Walker) -> None:
    assert walker.go("plan", canary="b").canary == "b"
    other = Walker(Fleet({"a": OLD}))
    state = other.go(canary="z")
    assert state.exit_code == 2 and state.step("plan").problems == (
        "--canary z: the plan has no such host. Fix: use one of a",
    )


@pytest.mark.parametrize("verb", ["doctor", "stage", "record"])
def test_what_fails_before_the_switch_is_refused_and_done_again(walker: Walker, verb: str) -> None:
    failed = {
        "doctor": Looked(False, "1 error", ("a: no GPU. Fix: x",)),
        "stage": Changed(2, "no room", problems=("a: no room",)),
        "record": Recorded((), ("a s: it wants a key",)),
    }
    walker.fleet.answers[verb] = failed[verb]
    state = walker.go()
    assert state.exit_code == 2 and walker.fleet.serving["a"] == OLD and state.step(state.next_step).problems
    assert walker.go().ended == DONE


def test_an_error_of_a_verb_ends_the_call_and_leaves_no_host_in_doubt(walker: Walker) -> None:
    walker.fleet.answers["rollout"] = REFUSED
    state = walker.go()
    assert (state.exit_code, state.switched) == (2, ()) and state.step("canary").problems == (
        "no room. Fix: make room",
    )
    walker.fleet.answers["rollout"] = DeployError("no inventory", "mend it", "pages of\nwhat Ansible printed")
    assert walker.go().step("canary").problems == ("no inventory. Fix: mend it",)
    other = Walker(Fleet({"a": OLD}, answers={"stage": KeyboardInterrupt()}))
    assert other.go().exit_code == 4 and other.state.step("stage").state == "stopped"


def test_ctrl_c_ends_the_walk_also_where_what_was_under_way_came_to_its_end(walker: Walker) -> None:
    walker.fleet.answers["stage"] = Changed(0, "staged", interrupted=True)
    state = walker.go()
    assert (state.exit_code, state.step("stage").state) == (4, DONE) and walker.fleet.serving["a"] == OLD
    assert state.meaning == "stage: staged; interrupted: nothing more is begun"
    assert walker.go().ended == DONE and walker.fleet.did.count("stage") == 1


def test_nothing_is_compared_where_that_is_not_wanted(walker: Walker) -> None:
    state = walker.go(compare=False)
    assert state.ended == DONE and not any(one.startswith(("record", "compare")) for one in walker.fleet.did)


def test_going_back_that_was_killed_has_to_be_finished(walker: Walker) -> None:
    walker.go()
    walker.fleet.answers["back"] = Changed(1, "b is as it was", cuts={})
    assert walker.back().exit_code == 1 and walker.state.meaning == "a, b, c did not go back: b is as it was"
    assert walker.state.ended == "", "it is under way, though all was done before"
    with pytest.raises(DeployError, match="go on with it: migrate --back"):
        walker.go()
    assert walker.back().ended == BACK and walker.fleet.serving == {"a": OLD, "b": OLD, "c": OLD}
    assert walker.steps()["canary"] == walker.steps()["rollout"] == TAKEN_BACK


def test_somebody_may_say_no_to_going_back(walker: Walker) -> None:
    walker.go("canary")
    assert walker.back(says=[False]).exit_code == 4 and walker.fleet.serving["a"] == NEW


def test_where_nothing_was_switched_there_is_nothing_to_go_back_on(walker: Walker) -> None:
    walker.go("stage")
    state = walker.back()
    assert (state.exit_code, state.ended) == (0, BACK) and "nothing to go back on" in state.meaning


def test_every_state_is_kept_before_what_follows_from_it(walker: Walker) -> None:
    walker.go()
    running = [[name for name, one in kept.steps.items() if one.state == RUNNING] for kept in walker.kept]
    assert [name for name in NAMES if [name] in running] == list(NAMES)
    assert any(kept.switched == ("a",) and kept.step("canary").state == RUNNING for kept in walker.kept)


def test_what_somebody_has_switched_since_is_left_as_it_is(walker: Walker) -> None:
    walker.go()
    walker.fleet.serving.update(b="their-release")
    state = walker.back()
    assert (state.exit_code, state.ended) == (0, BACK)
    assert walker.fleet.serving == {"a": OLD, "b": "their-release", "c": OLD}
    assert state.hosts["b"]["s"].outcome == LEFT and state.back is not None
    assert "b left as it is" in state.meaning
    assert state.back.step.problems == (
        f"b: s stays as it is: somebody has switched it to their-release since. Its release before was {OLD}",
    )


def test_a_host_that_the_inventory_does_not_have_any_more_keeps_no_other_from_going_back(walker: Walker) -> None:
    walker.go()
    del walker.fleet.serving["b"]
    state = walker.back()
    assert state.ended == BACK and walker.fleet.serving == {"a": OLD, "c": OLD} and "a, c serve what" in state.meaning
    assert state.hosts["b"]["s"].outcome == LEFT and "does not have this host" in state.hosts["b"]["s"].reason


def test_a_switched_host_that_the_plan_does_not_have_any_more_is_said_and_left_out(walker: Walker) -> None:
    walker.go("confirm")
    del walker.fleet.serving["a"]
    walker.fleet.digest = "second"
    state = walker.go()
    assert state.ended == DONE and state.canary == "b" and walker.fleet.did[-3] == "rollout c"
    assert state.step("plan").problems == (
        "a was switched, and the plan does not have it any more: it is left as it is",
    )


def test_what_serves_is_looked_at_again_before_it_is_switched(walker: Walker) -> None:
    walker.go("measure")
    walker.fleet.serving.update(a="restarted-otherwise", b="their-release")
    walker.go()
    assert walker.fleet.did.count("record a") == 2, "what was measured does not serve any more"
    walker.back()
    assert walker.fleet.serving == {"a": "restarted-otherwise", "b": "their-release", "c": OLD}


def test_a_canary_that_somebody_took_back_is_switched_and_compared_again(walker: Walker) -> None:
    walker.go("confirm")
    walker.fleet.serving.update(a=OLD)
    walker.fleet.did.clear()
    assert walker.go(says=[True, True]).ended == DONE
    assert walker.fleet.did == ["adopt", "plan", "rollout a", "compare a", "rollout b c", "report", "report"]


def test_a_second_switch_of_the_canary_whose_end_nobody_saw_goes_back_to_what_was_there_at_first(
    walker: Walker,
) -> None:
    walker.go("compare")
    walker.fleet.digest, walker.fleet.described = "second", "second-release"
    walker.killed_in("rollout", lambda: walker.fleet.serving.update(a="second-release"))
    walker.go("compare")
    assert walker.back().ended == BACK and walker.fleet.serving["a"] == OLD


@pytest.mark.parametrize(("last", "code", "serving"), [("begun", 2, OLD), ("committed", 3, NEW)])
def test_a_state_that_cannot_be_written_ends_the_walk(walker: Walker, last: str, code: int, serving: str) -> None:
    walker.full_at = lambda state: any(one.outcome == last for host in state.hosts.values() for one in host.values())
    state = walker.go()
    assert state.exit_code == code and "cannot be written: No space left on device. Make room" in state.meaning
    assert walker.fleet.serving == {"a": serving, "b": OLD, "c": OLD}
    walker.full_at = lambda state: False
    assert walker.go().ended == DONE and walker.back().ended == BACK and walker.fleet.serving["a"] == OLD
