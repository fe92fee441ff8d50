"""The types of the API hold for whoever uses it, by mypy's strict rules; and it is imported when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import deployer

REPOSITORY = Path(__file__).parents[4]
USE = """
from collections.abc import Mapping
from deployer import Deployer, DeployError
from deployer.api import HostPlan, Plan, Rollout, ServiceStatus
from deployer.api.comparisons import Comparison, Maker, Measurement, compare, measure, options_of

def planned(inventory: str) -> Mapping[str, HostPlan]:
    try:
        plan: Plan = Deployer([inventory], limit="a", extra_vars={"x": 1}).plan(services=["s"])
    except DeployError as error:
        raise SystemExit(str(error)) from error
    return plan.hosts

def states(fleet: Deployer) -> list[ServiceStatus]:
    return [service for host in fleet.status().hosts.values() for service in host.services]

def differs(old: Measurement, url: str) -> list[str]:
    found: Comparison = compare(old, measure(url, **options_of(old, Maker("gpu1:/opt/conda"))), no_worse=1.2)
    return [one.fix for one in found.parity.explanations] if found.parity else []

def code(rollout: Rollout) -> int:
    return rollout.exit_code
"""


def checked(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "use.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "use.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_a_program_that_uses_it_passes_strict_mypy_and_one_that_misuses_it_does_not(tmp_path: Path) -> None:
    assert (REPOSITORY / "deployer" / "py.typed").exists()
    right = checked(tmp_path, USE)
    assert right.returncode == 0, right.stdout
    wrong = checked(tmp_path, USE.replace("rollout.exit_code", "rollout.meaning"))
    assert wrong.returncode == 1 and 'expected "int"' in wrong.stdout


def test_the_api_is_imported_when_it_is_asked_for() -> None:
    program = (
        "import sys, deployer as d; seen = lambda: print('deployer.api' in sys.modules); seen(); d.Deployer; seen()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        deployer.Nothing  # noqa: B018
