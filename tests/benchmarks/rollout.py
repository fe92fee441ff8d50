"""What the command line adds to plain Ansible: a rollout that has nothing to do, to ten hosts, by both.

The hosts are lab hosts with a light double of SGLang, as nothing is started: what is timed is the controller's work and
the round trips. Both take turns, and the best of each counts: other work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from demo.inputs import default_cache, make_inputs
from tests.benchmarks.ending import concluded, deadline
from tests.lab.booting import booted
from tests.lab.fleet import REPOSITORY, DoubleFleet, Finished

HOSTS = 10
LIMIT = 1.15


@dataclass(frozen=True)
class Round:
    """Seconds of one round."""

    plain: float
    wrapped: float


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-rollout")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (%(default)s)")
    parser.add_argument("--minutes", type=int, default=25, help="give up after that many (%(default)s)")
    return parser.parse_args()


def note(text: str) -> None:
    """Say what has been done; the report is on standard output."""
    print(text, file=sys.stderr, flush=True)


def timed(run: Callable[[], Finished]) -> float:
    """Seconds that a command takes that has nothing to do.

    Raises:
        AssertionError: it failed.
    """
    began = time.perf_counter()
    done = run()
    seconds = time.perf_counter() - began
    assert done.status == 0, done.output
    return seconds


def measure(options: argparse.Namespace) -> list[Round]:
    """The rounds.

    Raises:
        DeployError: something could not be measured.
    """
    names = [f"gpu{number}" for number in range(1, HOSTS + 1)]
    inputs = make_inputs(default_cache(), note)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=default_cache()) as folder,
        booted("bench", [{"name": name, "groups": ["gpu-nodes"]} for name in names]) as lab,
        deadline(options.minutes, "see --minutes and --rounds"),
        contextlib.redirect_stdout(sys.stderr),  # what the product prints on the way
    ):
        fleet = DoubleFleet(lab, inputs, Path(folder) / "fleet")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fleet.install, names))
        fleet.describe(hosts={name: {} for name in names})
        playbook = str(REPOSITORY / "playbooks" / "deploy.yml")

        def plain() -> Finished:
            return fleet.ansible(playbook)

        def wrapped() -> Finished:
            return fleet.deployer("rollout", "gpu-nodes", "--yes")

        for run in (wrapped, plain):  # the first one deploys; both warm up what is cached
            timed(run)
        rounds = []
        for number in range(1, options.rounds + 1):
            rounds.append(Round(timed(plain), timed(wrapped)))
            note(f"round {number}: ansible-playbook {rounds[-1].plain:.2f} s, deployer {rounds[-1].wrapped:.2f} s")
        return rounds


def table(rounds: list[Round]) -> Table:
    """The rounds."""
    shown = Table(title=f"Seconds of a rollout to {HOSTS} hosts that have it all")
    for heading in ("round", "ansible-playbook deploy.yml", "deployer rollout --yes"):
        shown.add_column(heading, justify="right")
    for number, one in enumerate(rounds, 1):
        shown.add_row(str(number), f"{one.plain:.2f}", f"{one.wrapped:.2f}")
    return shown


def run() -> int:
    """Measure and report; 1 beyond the limit."""
    options = arguments()
    require_lab_machine()
    rounds = measure(options)
    ratio = min(one.wrapped for one in rounds) / min(one.plain for one in rounds)
    Console().print(table(rounds))
    print(f"bench-rollout: ratio {ratio:.2f}, limit {LIMIT:.2f}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(concluded("bench-rollout", run))
