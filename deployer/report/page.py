"""The page of a run: one HTML file that needs nothing else, no network and no script.

Text of hosts is hostile: markup.py is what makes it harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deployer.report import charts, verdict
from deployer.report.cutovers import STATES
from deployer.report.markup import template
from deployer.report.model import Batch, Failure, Host, Row, Timeline
from deployer.report.words import counted, some

TEMPLATE = "report.html.j2"
MANY = 30  # hosts, services or cut-overs: of more, those that need nobody are folded
LONGEST = 20  # cut-overs that stay unfolded
OPEN_FAILURES = 8  # so many are unfolded


@dataclass(frozen=True)
class Group:
    """The hosts of a batch on the time axis; those in `folded` are of no concern."""

    title: str
    hosts: tuple[charts.HostChart, ...]
    folded: tuple[charts.HostChart, ...]


@dataclass(frozen=True)
class FailureGroup:
    """Hosts on which the same failed for the same reason."""

    one: Failure
    hosts: tuple[str, ...]
    problem: str
    fix: str
    open: bool


def page(run: Timeline) -> str:
    """The HTML of a run's report."""
    axis = charts.axis_of(run)
    zoom, cutovers = charts.cutover_charts([one for host in run.hosts for one in host.cutovers])
    rows = verdict.worst_first(run.rows)
    folded = [row for row in rows if len(rows) > MANY and _needs_nobody(row)]
    first = LONGEST if len(cutovers) > MANY else len(cutovers)
    html: str = template(TEMPLATE).render(
        run=run,
        headline=verdict.headline(run),
        sentence=verdict.sentence(run),
        counts=verdict.counts(run),
        longest=verdict.longest_outage(run),
        rows=[row for row in rows if row not in folded],
        folded_rows=folded,
        badge=verdict.badge,
        worst_first=verdict.worst_first,
        axis=axis,
        groups=_groups(run, axis),
        zoom=zoom,
        cutovers=cutovers[:first],
        folded_cutovers=cutovers[first:],
        failures=failure_groups(run.failures),
        legend={"phases": charts.PHASES, "states": STATES, "names": charts.PHASE_NAMES},
        course=list(_course(run)),
        asides=[(note.time - run.start, note.text) for note in run.notes if note.level == "info"],
    )
    return html


def _groups(run: Timeline, axis: charts.Axis) -> list[Group]:
    """The hosts by batch; what was cut over in no batch comes last."""
    numbers = dict.fromkeys(host.batch for host in run.hosts)
    return [_group(number, [host for host in run.hosts if host.batch == number], run, axis) for number in numbers]


def _group(number: int, hosts: Sequence[Host], run: Timeline, axis: charts.Axis) -> Group:
    batch = next((one for one in run.batches if one.number == number), None)
    title = _batch_title(batch) if batch else "In no batch" if run.batches else "All hosts"
    drawn = [charts.host_chart(host, axis) for host in hosts]
    well = [one for one in drawn if len(run.hosts) > MANY and all(map(_needs_nobody, one.host.rows))]
    concern = tuple(one for one in drawn if one not in well)
    return Group(f"{title}: {counted(len(hosts), 'host')}", concern, tuple(well))


def _needs_nobody(row: Row) -> bool:
    return verdict.badge(row.outcome).tone in (verdict.GOOD, verdict.QUIET)


def _batch_title(batch: Batch) -> str:
    return f"Batch {batch.number} of {batch.of}" if batch.of else f"Batch {batch.number}"


def failure_groups(failures: Sequence[Failure]) -> list[FailureGroup]:
    """Failures that differ in nothing but the host are told once."""
    where: dict[tuple[str, str, str, str, tuple[str, ...], str], list[Failure]] = {}
    for one in failures:
        key = (one.where, one.outcome, one.kind, one.reason, one.evidence, one.log)
        where.setdefault(key, []).append(one)
    groups = []
    for number, same in enumerate(where.values()):
        problem, _, fix = same[0].reason.partition(" Fix: ")
        hosts = tuple(one.host for one in same)
        groups.append(FailureGroup(same[0], hosts, problem.strip(), fix.strip(), number < OPEN_FAILURES))
    return groups


def _course(run: Timeline) -> Iterator[tuple[float, str, str, tuple[str, ...]]]:
    """What happened on the way: seconds since the start, level, what, to which hosts."""
    entries: list[tuple[float, str, str, tuple[str, ...]]] = [
        (note.time, note.level, note.text, ()) for note in run.notes if note.level != "info"
    ]
    for batch in run.batches:
        so_far = f"; {counted(batch.done, 'host')} done before" if batch.done else ""
        lost = f"; lost before: {some(batch.lost)}" if batch.lost else ""
        entries.append((batch.start, "batch", f"{_batch_title(batch)} begun{so_far}{lost}", batch.hosts))
    if run.stopped and run.stopped not in [note.text for note in run.notes]:
        entries.append((run.end, "warning", run.stopped, ()))
    for time, level, text, hosts in sorted(entries, key=lambda one: one[0]):
        yield time - run.start, level, text, hosts
