"""Environments on real hosts without any way out: built from bundles, killed, damaged, verified, rebuilt, pruned.

They live below a root of their own: what other tests deploy is not touched, and nothing is there yet.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import lock_digest
from demo.inputs import DemoInputs, default_cache, make_inputs
from tests.lab.fleet import REPOSITORY, Fleet

pytestmark = pytest.mark.lab

ROOT = "/opt/environments"
ARTIFACTS = f"{ROOT}/artifacts/environments"
PATIENCE = 300  # seconds for something to show on a busy machine; nothing is measured by it
WORDS = ("-e", f"inference_root={ROOT}")

# Ends whoever holds the lock of a build: the module, and what it started.
KILL = r"""
for fd in /proc/[0-9]*/fd/*; do
  case "$(readlink "$fd")" in */environments/.*.lock) pid=${fd#/proc/}; kill -9 "${pid%%/*}" && echo "${pid%%/*}";; esac
done; true
"""


@pytest.fixture(scope="module")
def inputs() -> DemoInputs:
    """The engines' bundles."""
    return make_inputs(default_cache(), print)


@pytest.fixture(scope="module")
def fleet(lab: Lab, inputs: DemoInputs, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Both hosts, with SGLang described, and LLaMA-Factory before it."""
    fleet = Fleet(lab, inputs, tmp_path_factory.mktemp("environments"))
    fleet.describe(hosts={name: {"predecessor": fleet.predecessor()} for name in ("gpu1", "gpu2")})
    return fleet


def build(fleet: Fleet, limit: str = "gpu-nodes", *words: str) -> Any:
    """Stage the environments alone."""
    return fleet.ansible("playbooks/deploy.yml", limit, "--tags", "environment", *WORDS, *words)


def environment(fleet: Fleet, host: str, name: str) -> str:
    """The prefix of an environment on a host."""
    return fleet.root(host, f"ls -d {ARTIFACTS}/{name}-*")


@pytest.mark.slow
def test_a_build_that_is_killed_is_finished_by_the_next_run(fleet: Fleet, inputs: DemoInputs) -> None:
    digest = lock_digest(inputs.environments["sglang-cpu"])[:12]
    prefix = f"{ARTIFACTS}/sglang-{digest}"
    moments: dict[str, Callable[[], str]] = {
        "conda packages are installed": lambda: fleet.root("gpu2", f"ls {prefix}/bin/python* 2>/dev/null || true"),
        "wheels are installed": lambda: fleet.root(
            "gpu2", f"ls -d {prefix}/lib/python*/site-packages/*.dist-info || true"
        ),
        "all is installed": lambda: fleet.root("gpu2", "pgrep -u nobody python || true"),
    }
    for moment, reached in moments.items():
        run = subprocess.Popen(
            [*fleet.command("playbooks/deploy.yml", "gpu2"), "--tags", "environment", *WORDS],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, f"never seen: {moment}"
            assert run.poll() is None, f"ended before {moment}: {run.communicate()[0]}"
        assert fleet.root("gpu2", KILL), moment
        while fleet.root("gpu2", KILL):
            pass  # what was started while the others were being ended
        output = run.communicate(timeout=PATIENCE)[0]
        assert run.returncode != 0, output
        # Whatever is there, nobody takes it for an environment.
        assert fleet.root("gpu2", f"ls {prefix}/environment.json 2>/dev/null || true") == "", moment
        assert fleet.deployer("verify", "gpu2", *WORDS).outcome["gpu2"]["environments"] == []
    done = build(fleet, "gpu2")
    assert done.status == 0, done.output
    found = fleet.deployer("verify", "gpu2", *WORDS, "--deep")
    assert found.status == 0, found.output
    assert {one["name"] for one in found.outcome["gpu2"]["environments"]} == {"sglang", "llamafactory"}
    left = fleet.root("gpu2", f"ls -A {ARTIFACTS} {ROOT}/incoming")
    assert not re.search(r"[.](build|replaced)", left), left


def test_both_engines_are_built_on_two_hosts_and_then_nothing_changes(fleet: Fleet) -> None:
    first = build(fleet)
    assert first.status == 0, first.output
    for host in ("gpu1", "gpu2"):
        for name, package in (("sglang", "sglang"), ("llamafactory", "llamafactory")):
            python = f"{environment(fleet, host, name)}/bin/python"
            command = f"{python} -c 'import importlib.metadata as m; print(m.version(\"{package}\"))'"
            assert fleet.root(host, command), (host, name)
        # The second environment has torch from the first: what they share is there once.
        torch = fleet.root(host, f"stat -c %i {ARTIFACTS}/*/lib/python*/site-packages/torch/__init__.py").split()
        assert len(torch) == 2 and len(set(torch)) == 1
    # Without this Ansible asks every host once more, for its Python.
    second = build(fleet, "gpu-nodes", "-vvv", "-e", "ansible_python_interpreter=/usr/bin/python3")
    assert second.status == 0, second.output
    assert set(re.findall(r"changed=(\d+)", second.output.rpartition("PLAY RECAP")[2])) == {"0"}
    # A module is one exchange over the connection that the first one opened.
    asked = [line for line in second.output.splitlines() if "SSH: EXEC" in line]
    assert len(asked) == 2, "\n".join(asked)


def test_a_flipped_byte_in_a_wheel_is_refused_before_it_is_sent(
    fleet: Fleet, inputs: DemoInputs, tmp_path: Path
) -> None:
    lock = tmp_path / "sglang"
    shutil.copytree(inputs.environments["sglang-cpu"], lock, copy_function=os.link)
    wheel = next((lock / "bundle" / "wheels").glob("fastapi-*.whl"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.unlink()  # another name of the cache's own
    wheel.write_bytes(content)
    changed = {"inference_environments": {**fleet.environments(), "sglang": {"lock": str(lock)}}}
    before = fleet.root("gpu1", f"ls -A {ARTIFACTS} {ROOT}/incoming")
    refused = build(fleet, "gpu1", "-e", json.dumps(changed))
    assert refused.status != 0
    assert re.search(rf"{wheel.name} is damaged: sha256 wanted [0-9a-f]{{64}}, got [0-9a-f]{{64}}", refused.output)
    assert fleet.root("gpu1", f"ls -A {ARTIFACTS} {ROOT}/incoming") == before


@pytest.mark.slow
def test_a_changed_file_is_named_and_rebuilt_on_request(fleet: Fleet) -> None:
    assert build(fleet, "gpu1").status == 0
    prefix = environment(fleet, "gpu1", "llamafactory")
    victim = fleet.root("gpu1", f"ls {prefix}/lib/python*/site-packages/llamafactory/api/app.py")
    before = fleet.root("gpu1", f"sha256sum < {victim}")
    fleet.root("gpu1", f"echo >> {victim}")
    assert fleet.deployer("verify", "gpu1", *WORDS).status == 0  # versions are what they were
    found = fleet.deployer("verify", "gpu1", *WORDS, "--deep")
    assert found.status == 1
    wrong = {one["name"]: one for one in found.outcome["gpu1"]["environments"] if not one["sound"]}
    assert list(wrong) == ["llamafactory"]
    assert "llamafactory/api/app.py of llamafactory" in wrong["llamafactory"]["differences"][0]
    assert fleet.ansible("playbooks/verify.yml", "gpu1", *WORDS, "-e", "verify_deep=true").status != 0
    # A deployment does not touch it; asked for, it is built again, and only that.
    unasked = build(fleet, "gpu1")
    assert unasked.status == 0 and "changed=0" in unasked.output
    rebuilt = build(fleet, "gpu1", "-e", "environment_rebuild=true")
    assert rebuilt.status == 0, rebuilt.output
    assert fleet.root("gpu1", f"sha256sum < {victim}") == before
    assert fleet.deployer("verify", "gpu1", *WORDS, "--deep").status == 0


def test_environments_are_listed_with_what_is_in_them(fleet: Fleet) -> None:
    assert build(fleet, "gpu1").status == 0
    asked = fleet.deployer("environments", "gpu1", "-e", f"inference_root={ROOT}")
    assert asked.status == 0, asked.output
    found = {one["path"]: one for one in asked.outcome["gpu1"]["environments"]}
    sglang = found[environment(fleet, "gpu1", "sglang")]
    assert sglang["versions"]["sglang"] == "0.5.23" and sglang["suits"] == ["sglang"]
    assert sglang["finished"] and sglang["size"] > 10**9


def test_what_no_release_uses_is_pruned(fleet: Fleet) -> None:
    assert build(fleet, "gpu2").status == 0
    before = fleet.root("gpu2", f"ls -A {ARTIFACTS}")
    recent = fleet.deployer("prune", "gpu2", *WORDS)
    assert recent.status == 0 and recent.outcome["gpu2"]["removed"] == [], recent.output
    ages = ("-e", "prune_min_age=0")
    listed = fleet.deployer("prune", "gpu2", *WORDS, *ages, "--check")
    assert listed.status == 0, listed.output
    assert fleet.root("gpu2", f"ls -A {ARTIFACTS}") == before
    removed = fleet.deployer("prune", "gpu2", *WORDS, *ages)
    paths = {one["path"] for one in removed.outcome["gpu2"]["removed"]}
    assert paths == {one["path"] for one in listed.outcome["gpu2"]["removed"]}
    assert {os.path.basename(path).split("-")[0] for path in paths if path.startswith(ARTIFACTS)} == {
        "sglang",
        "llamafactory",
    }
    assert fleet.root("gpu2", f"ls {ARTIFACTS}") == ""
    assert fleet.deployer("prune", "gpu2", *WORDS, *ages).outcome["gpu2"]["changed"] is False
