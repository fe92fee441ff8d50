"""How busy a service is, as its engine's own metrics tell it."""

from __future__ import annotations

import http.client
import math
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TIMEOUT = 5.0  # seconds
LARGEST = 4 * 1024 * 1024  # bytes; histograms of many models make a megabyte
PATH = "/metrics"
OPTION = "enable_metrics"
FLAG = "--enable-metrics"
ANY_ADDRESS = ("", "0.0.0.0", "::")
LOOPBACK = ("localhost", "127.", "::1")
# SGLang's gauges, the same from 0.4 to 0.5.23 (srt/observability/metrics_collector.py, SchedulerMetricsCollector).
# Some builds write them with `_`, as the naming rules of OpenTelemetry want it.
GAUGES = {
    "running": "num_running_reqs",
    "queued": "num_queue_reqs",
    "tokens_per_second": "gen_throughput",
    "kv_usage": "token_usage",
}
SAMPLE = re.compile(r"^sglang[:_](?P<name>\w+)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)")
LABEL = re.compile(r'\b(\w+)="((?:[^"\\]|\\.)*)"')
LONGEST = 65536  # characters of a line that is looked at
# Proxies of the environment must not see what is asked of this host itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Load:
    """What a service does now; None for what was not measured, which is not the same as zero.

    Attributes:
        running: requests.
        queued: requests that wait.
        tokens_per_second: generated.
        kv_usage: the part of the KV cache that is in use, 0 to 1; of the fullest data parallel rank.
        note: why something was not measured, and what to do about it; '' otherwise.
    """

    running: int | None = None
    queued: int | None = None
    tokens_per_second: float | None = None
    kv_usage: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Scrape:
    """Where a monitor reads a service's metrics.

    Attributes:
        target: ADDRESS:PORT; '' where it cannot.
        problem: why it cannot, and what to do about it; '' otherwise.
    """

    target: str = ""
    problem: str = ""

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        return asdict(self)


def scrape_of(engine: str, argv: Sequence[str], host: str, port: int, address: str) -> Scrape:
    """Where a monitor on another machine reads the metrics of a release.

    Args:
        engine: that it is.
        argv: its command line.
        host: the address that it listens on.
        port: that it listens on.
        address: the host's own, as others reach it.
    """
    if engine != "sglang":
        return Scrape(problem=f"{engine} has no metrics")
    if FLAG not in argv:
        return Scrape(problem=f"it runs without metrics: set {OPTION}: true in the service's options")
    reached = address if host in ANY_ADDRESS else host
    if reached.startswith(LOOPBACK) and not address.startswith(LOOPBACK):
        return Scrape(problem=f"it listens on {host}, which only its own host reaches: set host: to another address")
    return Scrape(f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}")


def read_load(url: str, engine: str, timeout: float = TIMEOUT) -> Load:
    """Ask a server for its metrics. What cannot be had is said in `note`; nothing is raised.

    A server that wants an API key answers this path without one (sglang, srt/utils/auth.py).

    Args:
        url: of the server.
        engine: that it is.
        timeout: seconds.
    """
    if engine != "sglang":
        return Load(note=f"{engine} has no metrics")
    try:
        with _OPENER.open(url + PATH, timeout=timeout) as answer:
            text = answer.read(LARGEST).decode(errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return Load(note=f"{PATH} is not there: set {OPTION}: true in the service's options")
        return Load(note=f"{PATH} answered {error.code}")
    except (http.client.HTTPException, OSError, ValueError) as error:  # the last of an address that it redirects to
        return Load(note=f"{PATH} does not answer: {getattr(error, 'reason', None) or error or type(error).__name__}")
    return load_of(text)


def load_of(text: str) -> Load:
    """The load that a page of metrics tells, in Prometheus' text format.

    Requests and tokens add up over data parallel ranks. Of the tensor and pipeline parallel ranks of one of them, which
    tell the same where all of them tell (`enable_metrics_for_all_schedulers`), the largest counts.
    """
    ranks: dict[str, dict[str, float]] = {name: {} for name in GAUGES.values()}
    for line in text.splitlines():
        found = SAMPLE.match(line) if len(line) <= LONGEST else None
        value = _number(found["value"]) if found else None
        if found is None or value is None or found["name"] not in ranks:
            continue
        labels: dict[str, str] = dict(LABEL.findall(found["labels"] or ""))
        if labels.get("priority"):
            continue  # a part of what is told without it
        known = ranks[found["name"]]
        rank = labels.get("dp_rank") or labels.get("dp") or ""
        known[rank] = max(value, known.get(rank, 0.0))

    def total(key: str, combine: Callable[[Any], float]) -> float | None:
        values = ranks[GAUGES[key]].values()
        told = combine(values) if values else None
        return told if told is None or math.isfinite(told) else None

    running, queued = total("running", sum), total("queued", sum)
    tokens, usage = total("tokens_per_second", sum), total("kv_usage", max)
    missing = [GAUGES[key] for key, value in zip(GAUGES, (running, queued, tokens, usage)) if value is None]
    if len(missing) == len(GAUGES):
        note = "no request was served since the start, and SGLang has told nothing yet"
    else:
        note = f"this version of SGLang does not tell {', '.join(missing)}" if missing else ""
    return Load(
        None if running is None else round(running),
        None if queued is None else round(queued),
        None if tokens is None else round(tokens, 1),
        None if usage is None else round(usage, 4),
        note,
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
