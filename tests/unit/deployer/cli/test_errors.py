"""What goes wrong before a host is met, by the real ansible-playbook: each verb says it in a line and exits with 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

VERBS = {
    "plan": [], "doctor": [], "status": [], "history": [], "adopt": [], "environments": [], "verify": [], "prune": [],
    "rollout": ["--yes"], "rollback": ["--yes"], "lock status": [], "lock release": [], "logs": [],
}  # fmt: skip
FLEET = {"all": {"children": {"gpu-nodes": {"hosts": {"h1": {"ansible_connection": "local"}}}}}}
ENCRYPTED = "$ANSIBLE_VAULT;1.1;AES256\n" + "62" * 40 + "\n"
UNREADABLE = "all:\n  children:\n    gpu-nodes:\n      hosts:\n        h1: {ansible_connection: local\n        h2:\n"


def run(verb: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployer", *verb.split(), "-i", "hosts.yml", *VERBS[verb], *words]
    left_out = ("ANSIBLE_CONFIG", "ANSIBLE_VAULT_PASSWORD_FILE")
    variables = {key: value for key, value in os.environ.items() if key not in left_out} | {"COLUMNS": "300"}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(command, cwd=folder, env=variables, **streams, timeout=120, check=False)
    print(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}[exit {done.returncode}]")
    return done


def said(done: subprocess.CompletedProcess[str]) -> str:
    """All that was said, which is no traceback and not the words of Ansible."""
    text = done.stdout + done.stderr
    assert "Traceback" not in text and "[WARNING]" not in text and "[ERROR]" not in text
    return text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_and_where_and_what_to_do(verb: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(UNREADABLE)
    done = run(verb, tmp_path)
    lines = [line for line in said(done).splitlines() if "hosts.yml:6:11: cannot be read as an inventory: " in line]
    assert done.returncode == 2 and len(lines) == 1 and "Fix: mend that line" in lines[0]


@pytest.mark.parametrize(
    ("files", "words", "expected"),
    [
        ({}, ["-l", "h1,nope"], "-l h1,nope: nope matches no host of the inventory. Fix: name hosts or groups"),
        ({}, ["-e", "@absent.yml"], "absent.yml: there is no such file on the controller. Fix: mend the path"),
        ({}, ["--", "--no-such-option"], "--no-such-option: ansible-playbook does not know it. Fix: mend what"),
        ({}, ["--vault-password-file", "absent"], "absent: there is no such file with a vault password. Fix: mend"),
        ({"group_vars/all.yml": ENCRYPTED}, [], "no vault password was given. Fix: --vault-password-file FILE, or -J"),
        ({"group_vars/all.yml": "a: b: c\n"}, [], "is no YAML: Colons in unquoted values"),
        ({"group_vars/all.yml": "inference_root: '{{ no_one }}'\n"}, [], "uses a variable that nobody defines. Fix"),
        ({"hosts.yml": "all: {hosts: {h1: {}}}\n"}, [], "no host in the group gpu-nodes. Fix: put the hosts below"),
    ],
)
def test_what_is_wrong_is_named_with_the_fix(
    files: dict[str, str], words: list[str], expected: str, tmp_path: Path
) -> None:
    for name, text in {"hosts.yml": yaml.safe_dump(FLEET), **files}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = run("plan", tmp_path, *words)
    assert done.returncode == 2
    assert sum(expected in line for line in said(done).splitlines()) == 1


def test_v_adds_ansibles_own_words(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(UNREADABLE)
    done = run("plan", tmp_path, "-v")
    assert done.returncode == 2 and "Failed to parse inventory with 'yaml' plugin" in done.stderr
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(FLEET))
    done = run("plan", tmp_path, "-v", "-e", "inference_root={{nobody}}")
    assert done.returncode == 2 and "FAILED!" in done.stderr
