"""The client kit against the real engines: it passes against SGLang, and says truly what LLaMA-Factory does not do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import (
    API_TEST,
    CURL_TEST,
    GUIDE,
    GUIDE_IN_CHINESE,
    KIT_FILES,
    PYTHON_ACCESS,
)
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from demo.inputs import default_cache, make_inputs
from tests.lab.fleet import FOLDER, PORT, SERVICE, Fleet

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOST = "gpu1"
UNIT = f"inference-{SERVICE}.service"
LINE = re.compile(r"^(ok|FAIL|note|skip) +([a-z-]+) +\d+\.\d\d s  (.*)$", re.MULTILINE)
LONG_STREAM = {"sglang": 400, "llamafactory": 1500}  # tokens; some seconds of them on two busy cores


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """gpu1 serves the baseline, with LLaMA-Factory as the way back; and serves it again at the end."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("client-kit"))
    fleet.describe()
    done = fleet.deployer("rollout", HOST)
    assert done.status == 0, done.output
    yield fleet
    fleet.deployer("rollout", HOST)
    assert fleet.answers_within(HOST, 300)


def fetched(fleet: Fleet, code: int = 0) -> Path:
    """The folder of the kit, as `client` has fetched it."""
    done = fleet.deployer("client", HOST, "--into", str(fleet.folder / "client"))
    assert done.status == code, done.output
    return fleet.folder / "client" / HOST / SERVICE


def command(kit: Path, name: str, *words: str) -> list[str]:
    """The command line of a program of the kit, on the controller."""
    return [sys.executable if name.endswith(".py") else "bash", str(kit / name), *words]


def run(words: list[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """A test program's exit code, and check -> (verdict, what was said)."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    print(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.returncode, {name: (verdict, said) for verdict, name, said in LINE.findall(done.stdout)}


def stream_while_it_is_stopped(fleet: Fleet, kit: Path, engine: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """What the kit says of a stream during which the service is told to stop."""
    words = command(kit, API_TEST, "--only", "stream", "--max-tokens", str(LONG_STREAM[engine]), "--without-openai")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        connected = f"ss -Htn state established sport = :{PORT}"
        assert wait_until(lambda: bool(fleet.root(HOST, connected)), 60)
        fleet.root(HOST, f"systemctl stop {UNIT}")
        printed, _ = process.communicate(timeout=300)
    print(printed)
    fleet.root(HOST, f"systemctl start {UNIT}")
    assert fleet.answers_within(HOST, 300)
    return process.returncode, {name: (verdict, said) for verdict, name, said in LINE.findall(printed)}


@pytest.fixture(scope="module")
def kit(fleet: Fleet) -> Path:
    """SGLang's kit on the controller."""
    return fetched(fleet)


def test_every_file_of_the_kit_is_there_with_this_service_s_own_facts(fleet: Fleet, kit: Path) -> None:
    assert {path.name for path in kit.iterdir()} == {*KIT_FILES, ".kit.json"}
    release = fleet.link(HOST, "current")
    for name in (GUIDE, GUIDE_IN_CHINESE):
        for said in (f"`{fleet.url(HOST)}`", f"`{release}`", f"`{SERVICE}`", "`0.5.23`", "1,048,576", UNIT):
            assert said in (kit / name).read_text(), said


def test_both_test_programs_pass_against_sglang(fleet: Fleet, kit: Path) -> None:
    for name in (API_TEST, CURL_TEST):
        code, found = run(command(kit, name))
        assert code == 0
        assert found["wrong-model"][0] == "note"
        assert "400" in found["too-long"][1]
        assert {verdict for verdict, _ in found.values()} <= {"ok", "note", "skip"}


def test_anybody_on_the_host_can_run_them_there(fleet: Fleet) -> None:
    for program in (f"python3 {FOLDER}/current/client/{API_TEST}", f"{FOLDER}/current/client/{CURL_TEST}"):
        if "curl" in program and not fleet.root(HOST, "command -v curl || true"):
            continue
        printed = fleet.root(HOST, f"runuser -u nobody -- {program}")
        assert " FAIL " not in printed and "health" in printed, printed


def test_python_asks_through_the_openai_package_and_through_sglang_s_own_language(fleet: Fleet) -> None:
    prefix = fleet.release(HOST)["environment"]["path"]
    environment = "HOME=/tmp SGLANG_USE_CPU_ENGINE=1 PYTHONDONTWRITEBYTECODE=1"
    program = f"{prefix}/bin/python {FOLDER}/current/client/{PYTHON_ACCESS} --max-tokens 8"
    printed = fleet.root(HOST, f"runuser -u nobody -- env {environment} {program} 2>/dev/null")
    answers = dict(line.split(": ", 1) for line in printed.splitlines() if line.startswith(("openai: ", "sglang: ")))
    assert set(answers) == {"openai", "sglang"}, printed
    assert answers["openai"] == answers["sglang"]  # temperature 0, and the template that this model has


def test_a_second_deployment_changes_nothing_and_a_kit_that_was_changed_is_mended(fleet: Fleet) -> None:
    pid = fleet.pid(HOST)
    again = fleet.ansible("playbooks/deploy.yml", HOST)
    assert again.status == 0 and re.search(r"changed=0 ", again.output), again.output
    fleet.root(HOST, f"echo more >> {FOLDER}/current/client/{GUIDE}")
    assert fleet.deployer("status", HOST, "--strict").status == 0  # it is no part of the release
    assert fleet.ansible("playbooks/deploy.yml", HOST).status == 0
    assert "more" not in fleet.root(HOST, f"tail -n 1 {FOLDER}/current/client/{GUIDE}")
    assert fleet.pid(HOST) == pid


def test_what_a_person_changed_on_the_controller_stays_until_it_is_forced(fleet: Fleet, kit: Path) -> None:
    (kit / GUIDE).write_text("mine\n")
    fetched(fleet, 1)
    assert (kit / GUIDE).read_text() == "mine\n"
    done = fleet.deployer("client", HOST, "--into", str(fleet.folder / "client"), "--force")
    assert done.status == 0
    assert (kit / GUIDE).read_text() != "mine\n"


def test_sglang_finishes_a_stream_when_it_is_stopped(fleet: Fleet, kit: Path) -> None:
    code, found = stream_while_it_is_stopped(fleet, kit, "sglang")
    assert (code, found["stream"][0]) == (0, "ok")
    assert "[DONE]" in found["stream"][1]


def test_of_llamafactory_it_is_said_what_it_does_not_do(fleet: Fleet) -> None:
    done = fleet.deployer("rollback", HOST)
    assert done.status == 0, done.output
    kit = fetched(fleet)
    assert "LLaMA-Factory `0.9.5`" in (kit / GUIDE).read_text()
    for name in (API_TEST, CURL_TEST):
        code, found = run(command(kit, name))
        failed: dict[str, Any] = {check: said for check, (verdict, said) in found.items() if verdict == "FAIL"}
        assert code == 1
        assert list(failed) == ["health"] and "no /health" in failed["health"]
        assert {found[check][0] for check in ("models", "chat", "stream", "long-prompt")} == {"ok"}

    code, found = run(command(kit, API_TEST, "--only", "too-long"))
    assert code == 1 and "was not refused" in found["too-long"][1]

    code, found = stream_while_it_is_stopped(fleet, kit, "llamafactory")
    assert code == 1
    assert found["stream"][0] == "FAIL" and "cut after" in found["stream"][1]
