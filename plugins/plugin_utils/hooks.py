"""Hooks of a rollout: commands and playbooks that run on the controller, before and after hosts and batches."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import Problems
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path

POINTS = ("before_batch", "after_batch", "before_host", "after_host")
LINES = 12  # of a hook's output that a failure shows
LONGEST_LINE = 300  # characters
GRACE = 5  # seconds between SIGTERM and SIGKILL
# ansible-runner's: with them, a playbook that a hook runs would report its events as this run's.
RUNNERS_MARK = "AWX_ISOLATED_DATA_DIR"
RUNNERS_OWN = (RUNNERS_MARK, "ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_RETRY_FILES_ENABLED")
TIMED_OUT = -1000  # in place of an exit status


@dataclass(frozen=True)
class Around:
    """What ansible-playbook was run with, and so is a playbook of a hook.

    Args:
        inventory: its sources.
        inventory_folder: where a relative path of a playbook begins.
        arguments: further words, such as those that name vault password files.
    """

    inventory: Sequence[str] = ()
    inventory_folder: str | None = None
    arguments: Sequence[str] = ()


def hook_problems(hooks: Any, where: str = "rollout_hooks") -> list[str]:
    """What is wrong with `rollout_hooks`, a line each with key and fix."""
    problems = Problems()
    given = problems.mapping(where, hooks)
    problems.keys(where, given, POINTS)
    for point in POINTS:
        entries = given.get(point)
        if entries is None:
            continue
        if not isinstance(entries, (list, tuple)):
            problems.add(f"{where}.{point}", "is no list", "write a list of commands, each a list of words")
            continue
        for number, entry in enumerate(entries):
            _check(problems, f"{where}.{point}[{number}]", entry)
    return problems.found


def _check(problems: Problems, where: str, entry: Any) -> None:
    if isinstance(entry, Mapping):
        problems.keys(where, entry, ("playbook",))
        path = entry.get("playbook")
        if not isinstance(path, str) or not path:
            problems.add(f"{where}.playbook", "names no playbook", "write {playbook: PATH}")
    elif isinstance(entry, str):
        problems.add(where, "is one text, and there is no shell", "write a list of words: [program, argument]")
    elif not isinstance(entry, (list, tuple)) or not entry:
        problems.add(where, "is no command", "write a list of words, or {playbook: PATH}")
    elif any(isinstance(word, (list, tuple, Mapping)) or word is None or "\0" in str(word) for word in entry):
        problems.add(where, "has words that are no text", "write texts and numbers, quoted where YAML reads otherwise")


def command_of(entry: Any, hosts: Sequence[str], around: Around) -> list[str]:
    """The command line of one hook.

    Args:
        entry: a list of words, or `{playbook: PATH}`.
        hosts: which a playbook is limited to.
        around: what ansible-playbook was run with.
    """
    if not isinstance(entry, Mapping):
        return [str(word) for word in entry]
    playbook = controller_path(str(entry["playbook"]), around.inventory_folder)
    sources = [word for source in around.inventory for word in ("-i", source)]
    program = Path(sys.executable).parent / "ansible-playbook"
    first = str(program) if program.exists() else "ansible-playbook"
    return [first, *sources, "-l", ",".join(hosts), *around.arguments, playbook]


def variables_of(point: str, hosts: Sequence[str], initiator: str, outcome: str = "") -> dict[str, str]:
    """The environment variables that a hook is told by."""
    said = {"DEPLOYER_HOOK": point, "DEPLOYER_HOSTS": ",".join(hosts), "DEPLOYER_INITIATOR": initiator}
    return {**said, "DEPLOYER_OUTCOME": outcome} if outcome else said


def run_hooks(
    entries: Sequence[Any], point: str, hosts: Sequence[str], around: Around, told: Mapping[str, str], timeout: float
) -> None:
    """Run hooks one after the other.

    Args:
        entries: of one point of `rollout_hooks`, which have no problems.
        point: before_batch, after_batch, before_host or after_host.
        hosts: that it is about.
        around: what ansible-playbook was run with.
        told: environment variables of their own.
        timeout: seconds for each.
    Raises:
        DeployError: one cannot be run, ends with another status than 0, or takes too long; later ones did not run.
    """
    left_out = RUNNERS_OWN if RUNNERS_MARK in os.environ else ()
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    for number, entry in enumerate(entries):
        command = command_of(entry, hosts, around)
        name = f"rollout_hooks.{point}[{number}]"
        status, output = _run(name, command, {**kept, **told}, timeout)
        if status != 0:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            how = f"took more than {timeout:g} s" if status == TIMED_OUT else how
            raise DeployError(f"{name} {how}: {_shown(shlex.join(command))}", detail=_last_lines(output))


def _run(name: str, command: Sequence[str], variables: Mapping[str, str], timeout: float) -> tuple[int, str]:
    try:
        child = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        fix = "correct the command; its first word is a program on the controller"
        raise DeployError(f"{name} cannot be run: {_shown(shlex.join(command))}: {error}", fix) from None
    try:
        output, _ = child.communicate(timeout=timeout)
        return child.returncode, output
    except subprocess.TimeoutExpired:
        return TIMED_OUT, _end(child)


def _end(child: subprocess.Popen[str]) -> str:
    """End a hook and all that it has started; what it had printed."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=GRACE)[0]
    return ""  # what it has started in a session of its own holds the pipe


def _last_lines(output: str) -> str:
    return "\n".join(_shown(line) for line in output.rstrip().splitlines()[-LINES:])


def _shown(line: str) -> str:
    text = "".join(char if char.isprintable() or char == "\t" else "?" for char in line)
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"
