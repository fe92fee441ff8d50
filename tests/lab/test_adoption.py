"""What a team has started by hand is replaced, and put back exactly as it was; a client asks all along."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from demo.inputs import default_cache, make_inputs
from tests.lab.asking import Asking
from tests.lab.by_hand import LOG, PROJECT, SECRET, USER, ByHand
from tests.lab.conftest import NewLab
from tests.lab.fleet import ROOT, SERVICE, Fleet

pytestmark = pytest.mark.lab

HOST = "gpu1"
SEEN_WITHIN = 60  # seconds for a client's question to be answered by the engine that serves now


class Adopting(Fleet):
    """A fleet that describes nothing of what served before."""

    def predecessor(self) -> dict[str, object]:
        """What serves is found, not described."""
        return {}


@pytest.fixture(scope="module")
def team(new_lab: NewLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    """A host on which the team's LLaMA-Factory serves, and the release that is to replace it is staged."""
    with new_lab([{"name": HOST, "groups": ["gpu-nodes"]}]) as lab:
        fleet = Adopting(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("adopting"))
        fleet.describe(engine="llamafactory", environment="llamafactory", options={"template": "qwen"})
        team = ByHand(fleet, HOST)
        team.furnish()
        team.start()
        fleet.describe()
        yield team


def wait_for(asking: Asking, engine: str) -> None:
    """Until the client has had an answer of an engine to a question that it asked from now on."""
    now = time.monotonic()
    while not asking.good_since(now, engine):
        assert time.monotonic() < now + SEEN_WITHIN
        time.sleep(0.2)


def test_what_was_started_by_hand_is_adopted_replaced_and_put_back(team: ByHand) -> None:
    fleet = team.fleet
    before = team.look()
    assert before.typed.users[0] == team.user("id -u") != "0"
    written = int(team.user(f"stat -c %s {LOG}"))

    with Asking(fleet.url(HOST), SERVICE) as there:
        wait_for(there, "llamafactory")
        rollout = fleet.deployer("rollout", HOST)
        assert rollout.status == 0, rollout.output
        wait_for(there, "sglang")
    adopted = fleet.link(HOST, "adopted")
    assert adopted
    assert fleet.release(HOST)["engine"] == "sglang"
    assert not set(before.pids) & set(team.look().pids)

    with Asking(fleet.url(HOST), SERVICE) as back:
        wait_for(back, "sglang")
        rollback = fleet.deployer("rollback", HOST, "--to", "@adopted")
        assert rollback.status == 0, rollback.output
        wait_for(back, "llamafactory")
    after = team.look()
    assert after.typed.differences(before.typed) == {}
    assert after.engine.differences(before.engine) == {}
    assert len(after.processes) == len(before.processes)
    assert fleet.link(HOST, "current") == adopted
    assert int(team.user(f"stat -c %s {LOG}")) > written  # the same file, appended to
    assert team.user(f"head -c {written} {LOG} | wc -c") == str(written)
    assert fleet.root(HOST, f"stat -c %U {LOG} {PROJECT}").split() == [USER, USER]

    for seen in (there, back):
        # One outage, in which all that failed failed.
        assert len(seen.outages()) == 1, seen.outages()
        (outage,) = seen.outages()
        assert {answer for answer in seen.answers if not answer.good} == set(outage.failed)


def test_a_secret_of_the_teams_environment_is_readable_for_nobody_else(team: ByHand) -> None:
    assert team.look().typed.environ["WANDB_API_KEY"] == SECRET
    fleet = team.fleet
    if not fleet.link(HOST, "adopted"):
        assert fleet.deployer("adopt", HOST).status == 0
    # By way of a file: what is typed with sudo is in the host's journal.
    fleet.lab.hosts[HOST].ssh("sudo tee /srv/secret >/dev/null", stdin=SECRET, check=True)
    said = "cat /proc/[0-9]*/cmdline 2>/dev/null; journalctl --no-pager"
    assert fleet.root(HOST, f"({said}) | grep --text -cFf /srv/secret || true") == "0"
    holding = fleet.root(HOST, f"grep -rlFf /srv/secret {ROOT} /etc /run 2>/dev/null || true").splitlines()
    assert holding  # it has to be kept somewhere, or nobody could start the service again
    for path in holding:
        assert fleet.root(HOST, f"stat -c %a {path}") == "600", path
