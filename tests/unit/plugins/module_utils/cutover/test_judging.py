"""A new release is compared with what served before it, and put under load, before it is committed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover import judging
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.run import bring
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import figures
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Reply, Request, Step
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import Pair
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, LoadGate
from tests.doubles.released_host import ReleasedHost
from tests.unit.plugins.module_utils.measuring.benchmark import prefix

__all__ = ["prefix"]
PROMPTS = ["how many orders", "and last year"]
PARITY = {"compare": "rendering", "prompts": PROMPTS}


def measured(host: ReleasedHost, release: str) -> dict[str, Any]:
    """What was kept of it."""
    path = Path(host.folder.release(release)) / judging.MEASURED_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_a_release_that_renders_prompts_otherwise_is_taken_back(host: ReleasedHost) -> None:
    old, new = host.stage("old", "adds-system"), host.stage("new")
    host.cut_over(old)
    host.gate(new, parity=PARITY)
    outcome = host.cut_over(new, judged=True)
    assert (outcome.outcome, outcome.failure["kind"], host.run.release) == ("restored", "parity", old)
    assert outcome.reason.startswith(
        "parity: 2 of 2 prompts are rendered otherwise: 'how many orders': prompt tokens 18 -> 3; 'and last year': "
    )
    kept = measured(host, new)
    assert f"{host.folder.release(new)}/measured.json has all of them" in outcome.reason
    assert [one["prompt_tokens"] for one in kept["old"]["answers"]["replies"]] == [18, 18]
    assert (kept["from"], kept["to"], len(kept["new"]["answers"]["replies"])) == (old, new, 2)


def test_a_release_that_answers_alike_is_committed_and_it_is_said(host: ReleasedHost) -> None:
    old, new = host.stage("old"), host.stage("new")
    host.cut_over(old)
    host.gate(new, parity={"compare": "text"})
    outcome = host.cut_over(new, judged=True)
    assert (outcome.outcome, outcome.measured) == ("committed", "parity: 8 prompts answered alike")
    assert list(outcome.seconds)[:2] == ["measure", "drain"]
    assert host.journal()[-1]["measured"] == outcome.measured
    assert not os.path.exists(host.folder.loading)
    assert host.cut_over(new, judged=True).outcome == "unchanged"


def test_no_way_back_is_judged(host: ReleasedHost) -> None:
    old, new = host.stage("old", "adds-system"), host.stage("new")
    host.cut_over(old)
    host.gate(new, parity=PARITY)
    outcome = host.cut_over(new)
    assert (outcome.outcome, outcome.measured) == ("committed", "") and "measure" not in outcome.seconds


def test_where_nothing_serves_there_is_nothing_to_compare_with(host: ReleasedHost) -> None:
    first, second = host.stage("first", "adds-system"), host.stage("second")
    for release in (first, second):
        host.gate(release, parity=PARITY)
    outcome = host.cut_over(first, judged=True)
    assert (outcome.outcome, outcome.measured) == ("committed", "parity: not judged, nothing served before")
    os.kill(host.run.main_pid or 0, 9)
    outcome = host.cut_over(second, judged=True)
    assert (outcome.outcome, outcome.measured) == (
        "committed",
        "parity: not judged, what served before does not answer",
    )


def test_what_cannot_be_measured_is_left_as_it_is(host: ReleasedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def wants_a_key(*given: Any, **options: Any) -> Any:
        raise DeployError("it wants another API key (401)", "put it into OPENAI_API_KEY")

    old, new = host.stage("old"), host.stage("new")
    host.cut_over(old)
    before = host.run
    host.gate(new, parity=PARITY)
    told = Path(host.root, "told")
    host.handover(new, gateway_drain=["/usr/bin/true"], gateway_restore=["/usr/bin/touch", str(told)])
    monkeypatch.setattr(judging.asking, "identify", wants_a_key)
    with pytest.raises(DeployError, match="compares with release old, which cannot be measured: it wants") as why:
        host.cut_over(new, judged=True)
    assert "leave parity and load out of its gate" in why.value.fix
    assert host.run == before and host.journal()[-1]["outcome"] == "refused"
    assert not told.exists(), "a host that its operator has taken out of the gateway stays out"


@pytest.mark.parametrize(
    ("reply", "compare", "problem"),
    [
        (Reply(error="422 content\x1b[2J is 5"), "text", "refuses all prompts of the gate: 422 content is 5"),
        (Reply(text="a"), "rendering", "does not say how long prompts are"),
        (Reply(text="a"), "text", ""),
    ],
)
def test_what_nothing_can_be_compared_with_is_refused(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch, reply: Reply, compare: str, problem: str
) -> None:
    old, new = host.stage("old"), host.stage("new")
    host.cut_over(old)
    before = host.run
    host.gate(new, parity={"compare": compare, "prompts": PROMPTS})
    monkeypatch.setattr(judging.asking, "reply_to", lambda *given: reply)
    if not problem:
        assert host.cut_over(new, judged=True).outcome == "committed"
        return
    with pytest.raises(DeployError, match=problem):
        host.cut_over(new, judged=True)
    assert host.run == before


def test_a_cut_over_that_is_killed_while_it_measures_leaves_what_serves(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = host.stage("old", "adds-system"), host.stage("new")
    host.cut_over(old)
    before = host.run
    host.gate(new, parity=PARITY)
    monkeypatch.setattr(judging.asking, "identify", lambda *given, **options: os.kill(os.getpid(), 9))
    outcome = bring(host.order(new, judged=True))
    assert (outcome.outcome, outcome.after) == ("restored", old) and "signal 9, at measure" in outcome.reason
    assert host.run == before and not os.path.exists(host.folder.transaction)


@pytest.fixture
def loaded(host: ReleasedHost, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> ReleasedHost:
    """What serves, and a release whose environment can make a load; of three requests the benchmark's last fails."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # nobody may not pass the folders of a test
    host.stage("old")
    host.stage("new", environment=Artifact("x", "e" * 64, str(prefix)))
    host.cut_over("old")
    return host


@pytest.mark.parametrize(
    ("load", "outcome", "said"),
    [
        ({"max_latency": 10, "max_failures": 1}, "committed", "load: p99 0.60 s at 1 request/s"),
        ({"no_worse": 1.2}, "committed", "load: p99 0.60 s at 1 request/s, 1.00 times"),
        (
            {"max_latency": 0.0001, "max_failures": 1},
            "restored",
            "1 request/s: p99 is 0.60 s, max_latency is 0.0001",
        ),
        ({"no_worse": 0.9, "max_failures": 1}, "restored", "1.00 times 0.60 s, no_worse is 0.9"),
        ({"max_latency": 10}, "restored", "1 of 3 requests fail, allowed are 0: TimeoutError"),
    ],
)
def test_a_release_has_to_be_as_fast_as_is_asked(
    loaded: ReleasedHost, load: dict[str, Any], outcome: str, said: str
) -> None:
    loaded.gate("new", load={"rates": [1], "requests": 3, **load})
    found = loaded.cut_over("new", judged=True)
    assert found.outcome == outcome
    assert said in (found.measured if outcome == "committed" else found.reason)
    assert found.failure.get("kind", "load") == "load"
    kept = measured(loaded, "new")
    assert len(kept["new"]["load"]["steps"][0]["requests"]) == 3
    assert (kept["old"] is None) == ("no_worse" not in load)


def test_a_release_that_dies_under_load_is_told_with_how_it_ended(
    loaded: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: Any) -> list[str]:
        os.kill(loaded.run.main_pid or 0, 9)
        return ["1 request/s: 3 of 3 requests fail"]

    monkeypatch.setattr(judging, "load_misses", dies)
    loaded.gate("new", load={"rates": [1], "requests": 3})
    found = loaded.cut_over("new", judged=True)
    assert (found.outcome, found.probe, found.failure["kind"]) == ("restored", "process", "crash")
    assert found.reason.startswith("load: 1 request/s: 3 of 3 requests fail; ") and "process ended" in found.reason
    assert "double starts" in found.log


def test_a_load_is_given_up_when_the_process_ends(loaded: ReleasedHost, prefix: Path) -> None:
    pid = f"""$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' {loaded.folder.path}/pid.json)"""
    (prefix / "bin" / "python").write_text(
        """#!/bin/sh
        read -r order
        case $order in *'"steps": []'*) echo '{"generator": "g"}'; exit;; esac
        """
        f"kill -9 {pid}; exec sleep 600"
    )
    loaded.gate("new", load={"rates": [1], "requests": 3})
    found = loaded.cut_over("new", judged=True)
    assert (found.outcome, found.probe, found.failure["kind"]) == ("restored", "process", "crash")
    assert found.reason.startswith("load: the service's process ended")


def test_a_load_that_cannot_be_made_is_refused_before_anything_is_stopped(loaded: ReleasedHost) -> None:
    loaded.stage("without", environment=Artifact("x", "e" * 64, "/nowhere"))
    loaded.gate("without", load={"rates": [1], "requests": 3})
    before = loaded.run
    with pytest.raises(DeployError, match="the benchmark of SGLang cannot be run by /nowhere"):
        loaded.cut_over("without", judged=True)
    assert loaded.run == before


def test_an_adopted_server_is_asked_with_the_key_that_it_was_started_with(host: ReleasedHost) -> None:
    argv = ("/opt/python", "-m", "sglang.launch_server", "--api-key", "***")
    host.stage("adopted", argv=argv, adopted={"by": "hand", "program": "/opt/python"})
    private = Path(host.folder.release("adopted")) / "private.json"
    private.write_text(json.dumps({"argv": {"4": "k1"}, "variables": {"API_KEY": "k2"}}))
    assert judging.key_of_release(load_release(host.folder.release("adopted"))) == "k1"
    private.write_text('{"argv": ["odd"], "variables": 5}')
    assert judging.key_of_release(load_release(host.folder.release("adopted"))) == "***"
    host.stage("described")
    assert judging.key_of_release(load_release(host.folder.release("described"))) == ""


def test_an_interrupted_cut_over_is_finished_without_being_judged(host: ReleasedHost) -> None:
    old, new = host.stage("old", "adds-system"), host.stage("new")
    host.cut_over(old)
    host.gate(new, parity=PARITY)
    Path(host.folder.transaction).write_text(json.dumps({"state": "start", "from": old, "to": new}))
    outcome = host.cut_over(new, judged=True)
    assert outcome.outcome == "committed"
    assert outcome.measured == "parity: not judged, an interrupted cut-over is brought to its end"


def test_a_difference_is_told_in_the_words_of_what_differs() -> None:
    def pair(old: Reply, new: Reply) -> Pair:
        return Pair(({"role": "user", "content": "how many\x1b[2J"},), 8, old, new)

    pairs = [
        pair(Reply(9, 1, "stop", "a"), Reply(error="400 too long")),
        pair(Reply(None, 1, "stop", "a"), Reply(9, 1, "stop", "a")),
        pair(Reply(9, 1, "stop", "a"), Reply(9, 1, "\x1b[2Jlength" + "h" * 90, "a")),
        pair(Reply(9, 1, "stop", "a"), Reply(9, 1, "stop", "b" * 90)),
    ]
    words = judging.difference_words(pairs, pairs, rendering=False)
    assert words.startswith("4 of 4 prompts are answered otherwise: 'how many': the new one refuses it, 400 too long; ")
    assert f"prompt tokens unknown -> 9; 'how many': it ends by stop -> length{'h' * 33}…; 1 more" in words
    assert judging.difference_words(pairs, pairs[3:], False).endswith("'a' -> '" + "b" * 39 + "…'")


def test_what_answers_nothing_or_could_not_be_measured_is_no_success() -> None:
    empty = figures(Step(1.0, 1.0, (Request(0, 0, 0, 0),)))
    broken = figures(Step(4.0, problem="Warmup failed"))
    assert list(judging.load_misses(LoadGate(max_latency=1), [empty, broken], [])) == [
        "1 request/s: no answer has a text",
        "4 requests/s: not measured: Warmup failed",
    ]


def test_a_gate_comes_back_as_it_was_written() -> None:
    gate = Gate.from_dict({"parity": PARITY, "load": {"rates": [1, "max"], "no_worse": 1.5, "unknown": 1}})
    assert Gate.from_dict(json.loads(json.dumps(gate.as_dict()))) == gate
    assert judging.settings_of(gate.load or LoadGate()).rates == (1.0, float("inf"))
    assert "parity" not in Gate().as_dict()
