"""A service is compared before and after its switch, where old and new share a port: the load is made on its host."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import Command, read
from tests.lab.fleet import ROOT, SERVICE, Finished, Fleet
from tests.lab.ssh import write_ssh_config

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOST = "gpu1"
PAGE = Path(__file__).parents[2] / "docs" / "compare.md"
SHORT = ("--rates", "2,max", "--requests", "4", "--max-tokens", "8")


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Fleet:
    """LLaMA-Factory serves on gpu1, and SGLang is staged."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path)
    fleet.serve_predecessor(HOST)
    return fleet


def compared(fleet: Fleet, *words: str) -> Finished:
    """`python -m deployer compare` of gpu1's service; a load is made by its environment, for the user who logs in."""
    write_ssh_config(fleet.lab, [HOST], fleet.folder)
    environment = fleet.root(HOST, f"ls -d {ROOT}/artifacts/environments/sglang-*")
    model = fleet.root(HOST, f"ls -d {ROOT}/artifacts/models/{SERVICE}-*")
    maker = ("--python", f"{HOST}:{environment}", "--ssh-config", "ssh_config", "--tokenizer", model)
    return fleet.typed("compare", *maker, *words, fleet.url(HOST))


def test_the_old_service_is_recorded_and_the_new_one_compared_with_it(fleet: Fleet) -> None:
    assert not fleet.is_sglang(HOST)
    recorded = compared(fleet, "--parity", "--load", *SHORT, "--record", "old.json")
    assert recorded.status == 0, recorded.output
    done = fleet.deployer("rollout", HOST)
    assert done.status == 0 and fleet.is_sglang(HOST), done.output

    done = compared(fleet, "--against", "old.json", "--into", "evidence")
    assert done.status == 1, done.output
    told = json.loads((fleet.folder / "evidence" / "comparison.json").read_text())
    assert (told["old"]["engine"], told["new"]["engine"]) == ("llamafactory", "sglang")
    assert told["parity"]["explanations"][0]["id"] == "system-prompt"
    for who in ("old", "new"):
        assert told["load"][who]["client"].startswith(f"{HOST}, ")
        assert [(one["sent"], one["failed"]) for one in told["load"][who]["rates"]] == [(4, 0), (4, 0)]
    assert nothing_is_left(fleet)


def nothing_is_left(fleet: Fleet) -> bool:
    """Of a load, on the host."""
    processes = fleet.root(HOST, "pgrep -fc 'sglang.benchmark.servin[g]' || true")
    folders = fleet.root(HOST, "ls -d /tmp/deployer-load-* 2> /dev/null | wc -l")
    return (processes, folders) == ("0", "0")


def test_every_documented_command_measures_the_service_on_its_host_by_the_user_who_runs_it(fleet: Fleet) -> None:
    before, after = (
        one for one in read(PAGE.read_text()) if isinstance(one, Command) and "fleet/hosts.yml" in one.line
    )
    recorded = fleet.typed(*words_of(fleet, before))
    assert recorded.status == 0 and "recorded 8 answers and a load at 2 rates of LLaMA-Factory" in recorded.output
    done = fleet.deployer("rollout", HOST)
    assert done.status == 0 and fleet.is_sglang(HOST), done.output

    done = fleet.typed(*words_of(fleet, after))
    assert done.status == 1, done.output
    told = json.loads((fleet.folder / "evidence" / "comparison.json").read_text())
    assert (told["old"]["engine"], told["new"]["engine"]) == ("llamafactory", "sglang")
    assert told["old"]["url"] == told["new"]["url"] == fleet.url(HOST)
    for who in ("old", "new"):
        assert told["load"][who]["client"].startswith(f"{HOST}, ")
        assert [(one["sent"], one["failed"]) for one in told["load"][who]["rates"]] == [(4, 0), (4, 0)]
    assert nothing_is_left(fleet)


def words_of(fleet: Fleet, command: Command) -> list[str]:
    """What is documented, for this fleet and with a load that is soon over."""
    inventory = f"-i {fleet.lab.inventory} -i services.yml"
    words = shlex.split(
        command.line.replace("-i fleet/hosts.yml", inventory).replace("gpu1:code2sql", f"{HOST}:{SERVICE}")
    )
    if "--rates" in words:
        words[words.index("--rates") : words.index("--requests") + 2] = SHORT
    return words[3:]
