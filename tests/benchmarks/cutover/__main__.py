"""The outage that a client sees in a cut-over, of what stopping the old and starting the new engine by hand takes.

All in one run on one lab host, with the real engines and a client that asks every 100 ms in both.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from demo.inputs import default_cache, make_inputs
from tests.benchmarks.cutover.measuring import HOST, NEW, OLD, Bench
from tests.benchmarks.cutover.report import Round, last_line, table, within_limit
from tests.benchmarks.ending import concluded, deadline
from tests.lab.booting import booted
from tests.lab.by_hand import ByHand
from tests.lab.fleet import Fleet


class Found(Fleet):
    """Nothing is described of what served before: the product finds it."""

    def predecessor(self) -> dict[str, object]:
        """None."""
        return {}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-cutover")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts (%(default)s)")
    parser.add_argument("--minutes", type=int, default=25, help="give up after that many (%(default)s)")
    parser.add_argument("--deployed", action="store_true", help="the product starts the old engine, too")
    return parser.parse_args()


def note(text: str) -> None:
    """Say what has been done; the report is on standard output."""
    print(text, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> list[Round]:
    """The rounds.

    Raises:
        DeployError: something could not be measured.
    """
    inputs = make_inputs(default_cache(), note)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=default_cache()) as folder,
        booted("bench", [{"name": HOST, "groups": ["gpu-nodes"]}]) as lab,
        deadline(options.minutes, "see --minutes and --rounds"),
        contextlib.redirect_stdout(sys.stderr),  # what the product prints on the way
    ):
        fleet = (Fleet if options.deployed else Found)(lab, inputs, Path(folder) / "fleet")
        team = ByHand(fleet, HOST)
        fleet.describe(engine=OLD, environment=OLD, options={"template": "qwen"}, environment_variables={})
        team.furnish()
        fleet.describe()
        bench = Bench(team, options.deployed)
        bench.warm_up()
        rounds = []
        for number in range(1, options.rounds + 1):
            rounds.append(bench.round())
            note(f"round {number}: by hand {rounds[-1].by_hand:.2f} s, cut-over {rounds[-1].outage:.2f} s")
        return rounds


def run() -> int:
    """Measure and report; 1 beyond the limit."""
    options = arguments()
    require_lab_machine()
    rounds = measure(options)
    Console().print(table(rounds, OLD, NEW))
    print(last_line(rounds))
    return int(not within_limit(rounds))


if __name__ == "__main__":
    sys.exit(concluded("bench-cutover", run))
