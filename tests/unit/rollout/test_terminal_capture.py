"""What an operator sees of a rollout with one failing host, in a real terminal (tmux) at 80 and at 200 columns.

The pictures in tests/golden are of structure: times, ids and ports are not what they are about. A picture that has to
change is written anew with UPDATE_GOLDEN=1 in the environment, and looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.local_fleet import LocalFleet
from tests.unit.rollout.conftest import MakeFleet

GOLDEN = Path(__file__).parents[2] / "golden"
PATIENCE = 150.0  # seconds; far more than it takes
HEIGHT = 40
SAID_LAST = "[exit "

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")


class Terminal:
    """A window of tmux in which a command runs.

    Args:
        socket: of a tmux server of its own.
    """

    def __init__(self, socket: Path) -> None:
        self._command = ["tmux", "-S", str(socket), "-f", os.devnull]

    def run(self, *words: str) -> str:
        """What a command of tmux prints."""
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def screen(self) -> str:
        """What stands there now."""
        return self.run("capture-pane", "-p")

    def everything(self) -> str:
        """The same, and what has been scrolled away."""
        return self.run("capture-pane", "-p", "-S", "-")

    def until(self, seen: Callable[[str], bool]) -> str:
        """The first screen on which something is seen."""
        deadline = time.monotonic() + PATIENCE
        while not seen(screen := self.screen()):
            assert time.monotonic() < deadline, screen
            time.sleep(0.2)
        return screen


@contextmanager
def terminal(fleet: LocalFleet, width: int, *command: str) -> Iterator[Terminal]:
    """A window of that width in which a command runs from the fleet's folder."""
    shown = Terminal(fleet.folder / "tmux")
    surroundings = {key: value for key, value in fleet.surroundings["env"].items() if key not in ("COLUMNS", "TMUX")}
    script = fleet.folder / "in-tmux"
    # The window stays until it was read.
    script.write_text(f"{shlex.join(command)}; echo '{SAID_LAST}'$?]; exec sleep 600\n")
    size = ["-x", str(width), "-y", str(HEIGHT)]
    start = [*shown._command, "new-session", "-d", *size, "-c", str(fleet.folder), f"sh {shlex.quote(str(script))}"]
    subprocess.run(start, env=surroundings, check=True, timeout=30)
    try:
        yield shown
    finally:
        shown.run("kill-server")


def structure(text: str, fleet: LocalFleet) -> str:
    """The picture without what differs from run to run."""
    for port in sorted(map(str, fleet.ports.values()), key=len, reverse=True):
        text = re.sub(rf"\b{port}\b", "PORT", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "RELEASE-ID..", text)
    text = re.sub(r"\d{8}T\d{6}Z-", "RUN-", text)
    text = re.sub(r"\s*\((?:(?:drain|stop|prove|start|gate|commit|restore)\s[\d.]+\ss\s?)+\)", " (STATES)", text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


def matters(text: str) -> str:
    """From the question on, without the services' table: what this machine has to say against itself is before it."""
    begun = text[text.index("Go on?") :]
    table = re.compile(r"^Services\n.*?(?=^failed; )", re.MULTILINE | re.DOTALL)
    return table.sub("(what every service is at)\n", begun)


@pytest.mark.parametrize("width", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_a_rollout_with_one_failing_host(make_fleet: MakeFleet, width: int) -> None:
    fleet = make_fleet("gpu1", "gpu2", "gpu3")
    fleet.describe()
    assert fleet.deployer("rollout", "--batches", "100%").status == 0
    fleet.describe(variant="second", faults={"gpu2": "exit"})
    command = [word for word in fleet.deployer_command("rollout", "--batches", "1,1,100%") if word != "--yes"]
    with terminal(fleet, width, *command) as shown:
        asked = shown.until(lambda screen: "Go on?" in screen)
        assert "3 hosts: " in asked and "it can be rolled out" in asked
        shown.run("send-keys", "yes", "Enter")
        live = shown.until(lambda screen: re.search(r"^gpu1 +cutover .*\n(?:.*\n)?gpu2 ", screen, re.M) is not None)
        shown.until(lambda screen: SAID_LAST in screen)
        picture = structure(matters(shown.everything()), fleet)
    head = [line for line in live.splitlines() if line.startswith("rollout · ")][-1]
    assert "batch " in head and len(head) <= width
    rows = [line for line in live.splitlines() if re.match(r"gpu\d +(cutover|staged)", line)]
    assert len(rows) == 3 and all(re.search(r"serves (old|new|none)$", row) for row in rows), live
    golden = GOLDEN / f"rollout-{width}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(picture)
    assert picture == golden.read_text()
