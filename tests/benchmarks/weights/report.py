"""What the benchmark says: a table, bars, and the last lines with the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

CHAIN_LIMIT = 1.05  # the relay to all hosts, of one copy to one host
HOP_LIMIT = 2.0  # the relay over one hop without shaping, times as quick as rsync over ssh
RSYNC, BITTORRENT, RELAY = "rsync, host by host", "BitTorrent", "relay"
HOP_RSYNC, HOP_RSYNC_QUICK, HOP_RELAY = "rsync over ssh", "rsync over ssh, aes128-gcm", "relay, TLS and verification"
HOP_RSYNC_SYNCED = "rsync over ssh, --fsync"  # as the relay, which says that it has landed when all is on the disk
BAR = 50  # characters of the longest


@dataclass
class Results:
    """What was measured; what was skipped is missing.

    Args:
        size: bytes of the model.
        one_copy: seconds of the quickest copy to one host; other work on the machine only ever adds time.
        curves: way -> number of hosts -> seconds until the last of them had everything.
        hops: way -> seconds of the quickest transfer to one host without shaping.
        hop_size: bytes of the model that was sent then.
    """

    size: int
    one_copy: float | None = None
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    hops: dict[str, float] = field(default_factory=dict)
    hop_size: int = 0

    @property
    def chain_ratio(self) -> float | None:
        """The relay's time to the most hosts, of one copy's."""
        relay = self.curves.get(RELAY)
        return relay[max(relay)] / self.one_copy if relay and self.one_copy else None

    @property
    def hop_ratio(self) -> float | None:
        """How many times as quick as rsync over ssh the relay is without shaping."""
        if HOP_RSYNC not in self.hops or HOP_RELAY not in self.hops:
            return None
        return self.hops[HOP_RSYNC] / self.hops[HOP_RELAY]

    @property
    def within_limits(self) -> bool:
        """Whether both limits are kept; what was not measured has proved nothing."""
        chain, hop = self.chain_ratio, self.hop_ratio
        return chain is not None and hop is not None and chain <= CHAIN_LIMIT and hop >= HOP_LIMIT


def host_counts(most: int) -> list[int]:
    """1, 2, 4, … up to `most`, which is always among them."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def shaped_table(results: Results, bandwidth: str) -> Table:
    """Seconds of each way by number of hosts."""
    counts = sorted({count for curve in results.curves.values() for count in curve})
    table = Table(title=f"{results.size / 1e6:.0f} MB over links of {bandwidth}: seconds until the last host has it")
    table.add_column("way")
    for count in counts:
        table.add_column(f"{count} host{'s' if count > 1 else ''}", justify="right")
    table.add_column("of one copy", justify="right")
    for way, curve in results.curves.items():
        cells = [f"{curve[count]:.1f}" if count in curve else "" for count in counts]
        ratio = f"{curve[max(curve)] / results.one_copy:.2f}" if results.one_copy else ""
        table.add_row(way, *cells, ratio)
    return table


def hop_table(results: Results) -> Table:
    """Seconds and MB/s of one hop without shaping."""
    table = Table(title=f"{results.hop_size / 1e6:.0f} MB over one hop without shaping")
    table.add_column("way")
    for heading in ("seconds", "MB/s", "times rsync"):
        table.add_column(heading, justify="right")
    rsync = results.hops.get(HOP_RSYNC)
    for way, seconds in results.hops.items():
        times = f"{rsync / seconds:.2f}" if rsync else ""
        table.add_row(way, f"{seconds:.2f}", f"{results.hop_size / 1e6 / seconds:.0f}", times)
    return table


def bars(curves: Mapping[str, Mapping[int, float]], one_copy: float | None) -> list[str]:
    """The plot for a terminal: a bar for each way and number of hosts, and one for one copy."""
    rows: list[tuple[str, str, float]] = [("one copy", "", one_copy)] if one_copy else []
    rows += [(way, str(count), curve[count]) for way, curve in curves.items() for count in sorted(curve)]
    return _bars(rows)


def last_lines(results: Results) -> list[str]:
    """The verdict: a line for the hop, and last the line that every benchmark ends with."""
    hop, chain = _ratio(results.hop_ratio), _ratio(results.chain_ratio)
    return [
        f"speed of one hop with TLS and verification, of rsync over ssh: {hop}, limit {HOP_LIMIT:.2f}",
        f"bench-weights: ratio {chain}, limit {CHAIN_LIMIT:.2f}",
    ]


def _bars(rows: Sequence[tuple[str, str, float]]) -> list[str]:
    longest = max((seconds for _, _, seconds in rows), default=0.0)
    width = max((len(way) for way, _, _ in rows), default=0)
    return [
        f"{way:{width}} {count:>3} {'█' * max(1, round(BAR * seconds / longest))} {seconds:.1f}"
        for way, count, seconds in rows
    ]


def _ratio(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
