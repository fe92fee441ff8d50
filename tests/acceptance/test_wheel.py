"""The wheel, installed into an environment of its own and used from an empty folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from uv import find_uv_bin

from demo.make_tiny_model import make_tiny_model

REPOSITORY = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path, status: int = 0) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    print(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}\n[exit {done.returncode}]")
    assert done.returncode == status
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, REPOSITORY, folder=folder)
    (wheel,) = folder.glob("*.whl")
    run(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    run(find_uv_bin(), "pip", "install", "--quiet", "--python", python, wheel, folder=folder)
    return python.parent


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """This machine, with a service on a port that nobody holds."""
    make_tiny_model(tmp_path / "model", 0)
    service = {
        "name": "tiny",
        "port": 18021,
        "model": {"name": "tiny", "source": "model"},
        "engine": "sglang",
        "environment": "sglang",
        "options": {"device": "cpu"},
        "findings": {"environment-missing": "accepted"},  # the wheel is tried, not an engine
    }
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    variables = {
        "inference_root": str(tmp_path / "root"),
        "inference_supervisor": "process",
        "inference_services": [service],
        "inference_environments": {"sglang": {"prefix": "/nowhere"}},
        "preflight_min_free_gib": 0.01,
    }
    group = {"hosts": {"localhost": host}, "vars": variables}
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"children": {"gpu-nodes": group}}}))
    return path


def test_its_playbooks_run_by_name(installed: Path, inventory: Path) -> None:
    words = ("-i", inventory, "-l", "gpu-nodes")
    playbook = installed / "ansible-playbook"
    assert "failed=0" in run(playbook, "deployer.sglang.preflight", *words, folder=inventory.parent)
    assert "tiny: absent" in run(playbook, "deployer.sglang.status", *words, folder=inventory.parent)
    for name in ("deploy", "rollback"):
        listed = run(playbook, f"deployer.sglang.{name}", *words, "--list-tasks", folder=inventory.parent)
        assert "Ensure each service serves the release asked for" in listed


def test_its_command_refuses_what_cannot_work(installed: Path, inventory: Path) -> None:
    python = installed / "python"
    assert run(python, "-m", "deployer", "--version", folder=inventory.parent).strip()
    refused = run(python, "-m", "deployer", "rollout", "-i", inventory, "--yes", folder=inventory.parent, status=2)
    assert "/nowhere" in refused
    assert "refused" in refused
    # The lock was held there, and that somebody took it is written down; nothing else came to the host.
    left = {one.name for one in (inventory.parent / "root").iterdir()}
    assert left <= {"audit.jsonl", ".rollout.lock"}
