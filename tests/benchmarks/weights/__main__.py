"""Weights to several hosts on equal links: the relay, rsync host by host, and BitTorrent; and one hop without shaping.

All in one run on one machine. Without shaping the ways take turns and the quickest of each counts: other work on the
machine only ever adds time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from demo.inputs import default_cache
from tests.benchmarks.ending import concluded, deadline
from tests.benchmarks.weights.bittorrent import SUPER_SEEDING_WAIT, TRIALS, Swarm, bittorrent, tuning_for
from tests.benchmarks.weights.hosts import Fleet, platforms
from tests.benchmarks.weights.inputs import folder_size, write_checkpoint
from tests.benchmarks.weights.plot import require_matplotlib, write_plot
from tests.benchmarks.weights.relay import BIND, relay, relay_hop
from tests.benchmarks.weights.report import (
    BITTORRENT,
    HOP_RELAY,
    HOP_RSYNC,
    HOP_RSYNC_QUICK,
    HOP_RSYNC_SYNCED,
    RELAY,
    RSYNC,
    Results,
    bars,
    hop_table,
    host_counts,
    last_lines,
    shaped_table,
)
from tests.benchmarks.weights.rsync import QUICK_CIPHER, require_rsync, rsync
from tests.benchmarks.weights.timing import Timing
from tests.lab.booting import booted

HOP_ROUNDS = 3

Way = Callable[[Sequence[str]], Timing]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-weights", description="Smaller sizes are for trying it out.")
    parser.add_argument("--size", type=int, default=540, help="of the model in MB (%(default)s)")
    parser.add_argument(
        "--hop-size", type=int, default=2000, help="of the one for the hop without shaping (%(default)s)"
    )
    parser.add_argument("--hosts", type=int, default=8, help="number of hosts (%(default)s)")
    parser.add_argument("--bandwidth", default="160mbit", help="of each link, in the words of tc(8) (%(default)s)")
    parser.add_argument("--minutes", type=int, default=20, help="give up after that many (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw the curves there, and into a PNG beside it")
    parser.add_argument("--trials", action="store_true", help="only compare settings of BitTorrent, on all hosts")
    for way in ("relay", "rsync", "bittorrent", "hop"):
        parser.add_argument(f"--skip-{way}", action="store_true")
    return parser.parse_args()


def note(text: str) -> None:
    """Say what has been done; the report is on standard output."""
    print(text, file=sys.stderr, flush=True)


def sent(fleet: Fleet, name: str, way: Way, hosts: Sequence[str]) -> Timing:
    """Send once to hosts that have nothing yet."""
    fleet.wipe()
    timing = way(hosts)
    note(f"{name}, {len(hosts)} hosts: {timing.seconds:.2f} s")
    return timing


def measure_shaped(fleet: Fleet, swarm: Swarm, options: argparse.Namespace, results: Results) -> None:
    """Fill in the curves and the time of one copy."""
    fleet.shape()
    counts = host_counts(options.hosts)
    if not options.skip_rsync:
        timing = sent(fleet, RSYNC, lambda hosts: rsync(fleet, hosts), fleet.names)
        copies = [timing.landed[name] - timing.started[name] for name in fleet.names]
        results.one_copy = min(copies)
        results.curves[RSYNC] = {count: sum(copies[:count]) for count in counts}
    ways: dict[str, Way] = {}
    if not options.skip_bittorrent:
        ways[BITTORRENT] = lambda hosts: bittorrent(fleet, swarm, hosts, tuning_for(len(hosts))).timing
    if not options.skip_relay:
        ways[RELAY] = lambda hosts: relay(fleet, hosts)
    for count in counts:
        for name, way in ways.items():
            curve = results.curves.setdefault(name, {})
            curve[count] = sent(fleet, name, way, fleet.names[:count]).seconds


def measure_hop(fleet: Fleet, options: argparse.Namespace, results: Results) -> None:
    """Fill in the times of one hop without shaping."""
    fleet.unshape()
    ways: dict[str, Way] = {
        HOP_RSYNC: lambda hosts: rsync(fleet, hosts),
        HOP_RSYNC_QUICK: lambda hosts: rsync(fleet, hosts, QUICK_CIPHER),
        HOP_RSYNC_SYNCED: lambda hosts: rsync(fleet, hosts, (), ("--fsync",)),
    }
    if not options.skip_relay:
        ways[HOP_RELAY] = lambda hosts: relay_hop(fleet, hosts)
    for _ in range(HOP_ROUNDS):
        for name, way in ways.items():
            seconds = sent(fleet, name, way, fleet.names[:1]).seconds
            results.hops[name] = min(seconds, results.hops.get(name, seconds))


def compare_settings(fleet: Fleet, swarm: Swarm) -> None:
    """How long BitTorrent takes with each of `TRIALS`."""
    fleet.shape()
    print(f"{'BitTorrent':42} {'seconds':>8} {'seeded':>7} {'met':>6}")
    for name, tuning in TRIALS.items():
        fleet.wipe()
        outcome = bittorrent(fleet, swarm, fleet.names, tuning)
        print(f"{name:42} {outcome.timing.seconds:8.1f} {outcome.seeded:6.2f}x {outcome.meeting:5.1f}s", flush=True)


def show(results: Results, options: argparse.Namespace) -> None:
    """Print the tables, the bars and the verdict; draw the plot when asked."""
    console = Console()
    if results.curves:
        console.print(shaped_table(results, options.bandwidth))
        if BITTORRENT in results.curves:
            print(
                f"BitTorrent's peers had met before; its super seeding holds back {SUPER_SEEDING_WAIT} s after that.\n"
            )
        print(*bars(results.curves, results.one_copy), sep="\n", end="\n\n")
    if results.hops:
        console.print(hop_table(results))
    if options.plot:
        write_plot(options.plot, results, options.bandwidth)
    print(*last_lines(results), sep="\n")


def run() -> int:
    """Measure and report.

    Returns:
        The exit status: 1 beyond a limit, or where nothing was proved.
    Raises:
        DeployError: something could not be measured.
    """
    options = arguments()
    start = time.monotonic()
    require_lab_machine()
    require_rsync()
    if options.plot:
        require_matplotlib()
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as temporary:
        folder = Path(temporary)
        source = write_checkpoint(folder / "model", options.size * 1_000_000)
        swarm = Swarm(folder / "bittorrent")
        swarm.folder.mkdir()
        if options.trials or not options.skip_bittorrent:
            swarm.prepare()
        with (
            booted("bench", platforms(options.hosts, options.bandwidth, [swarm.bind, BIND])) as lab,
            deadline(options.minutes, "see --minutes, --size and --skip-…"),
        ):
            fleet = Fleet(lab, source, folder, options.bandwidth)
            if options.trials:
                compare_settings(fleet, swarm)
                return 0
            results = Results(folder_size(source))
            measure_shaped(fleet, swarm, options, results)
            if not options.skip_hop:
                hop = write_checkpoint(folder / "hop", options.hop_size * 1_000_000)
                results.hop_size = folder_size(hop)
                measure_hop(replace(fleet, source=hop), options, results)
    note(f"after {time.monotonic() - start:.0f} s")
    show(results, options)
    return int(not results.within_limits)


if __name__ == "__main__":
    sys.exit(concluded("bench-weights", run))
