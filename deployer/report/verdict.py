"""What a run came to, in the words of a report: pure functions of its timeline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from deployer.report.model import FAILED, NOT_BEGUN, TAKEN_BACK, UNKNOWN, UNREACHABLE, Row, Timeline
from deployer.report.words import clock, counted, duration, some

GOOD, WARN, BAD, QUIET = "good", "warn", "bad", "quiet"
UNKNOWN_END = "The end of this run was not seen: the command was killed, or is still running"


@dataclass(frozen=True)
class Badge:
    """An outcome for the eye: a sign, a word and a tone, so that no colour says anything alone."""

    sign: str
    word: str
    tone: str


# Worst first: rows are sorted by it.
BADGES = {
    "not_restored": Badge("✗", "not restored", BAD),
    UNKNOWN: Badge("?", "end not seen", BAD),
    FAILED: Badge("✗", "failed", BAD),
    UNREACHABLE: Badge("✗", "unreachable", BAD),
    "restored": Badge("↩", "restored", WARN),
    TAKEN_BACK: Badge("↩", "taken back", WARN),
    "refused": Badge("✗", "refused", WARN),
    NOT_BEGUN: Badge("○", "not begun", QUIET),
    "planned": Badge("→", "would be cut over", QUIET),
    "committed": Badge("✓", "committed", GOOD),
    "unchanged": Badge("=", "unchanged", QUIET),
    "staged": Badge("✓", "staged", GOOD),
}
NOUNS = {"stage": "staging"}  # what a verb does, where that is called otherwise
HEADLINES = {
    0: ("✓", "{verb} done", GOOD),
    1: ("↩", "{verb} failed; what served before serves again", WARN),
    2: ("✗", "{verb} refused; nothing that serves was changed", WARN),
    3: ("✗", "{verb} failed, and not everything is back", BAD),
    4: ("○", "{verb} stopped on request", WARN),
}


def badge(outcome: str) -> Badge:
    """The badge of an outcome; one that is not known is shown as it is."""
    return BADGES.get(outcome) or Badge("?", outcome, BAD)


def headline(run: Timeline) -> Badge:
    """The outcome of the run in a few words."""
    verb = NOUNS.get(run.head.verb, run.head.verb).capitalize()
    if run.exit_code is None:
        return Badge("?", f"{verb} without an end", BAD)
    sign, words, tone = HEADLINES.get(run.exit_code, ("✗", "{verb} failed", BAD))
    if run.exit_code == 0 and run.head.check:
        return Badge(sign, f"{verb} checked; nothing was changed", tone)
    if run.exit_code == 0 and run.rows and all(row.outcome == "unchanged" for row in run.rows):
        return Badge("=", "Nothing to do: every service is as it should be", tone)
    return Badge(sign, words.format(verb=verb), tone)


def sentence(run: Timeline) -> str:
    """What happened, who did it, when, for how long, to which hosts, and how it ended."""
    names = [host.name for host in run.hosts]
    to_hosts = f"{counted(len(names), 'host')} ({some(names)})" if names else "no host"
    check = " in check mode" if run.head.check else ""
    limit = f", limited to {run.head.limit}," if run.head.limit else ""
    began = (
        f"{run.head.initiator or 'Somebody'} ran {run.head.verb}{check} on {to_hosts}{limit} "
        f"on {clock(run.start, day=True)} UTC"
    )
    if run.exit_code is None:
        return f"{began}. {UNKNOWN_END}; it was last heard of after {duration(run.end - run.start)}."
    meaning = f": {run.meaning.rstrip('.')}" if run.meaning else ""
    return f"{began}; it took {duration(run.end - run.start)} and ended with exit code {run.exit_code}{meaning}."


def counts(run: Timeline) -> list[tuple[Badge, str]]:
    """How many services came to what, worst first."""
    number = Counter(row.outcome for row in run.rows)
    return [(badge(outcome), counted(number[outcome], _noun(run))) for outcome in sorted(number, key=_rank)]


def longest_outage(run: Timeline) -> Row | None:
    """The service that was away for longest; None where none was."""
    away = [row for row in run.rows if row.outage is not None]
    return max(away, key=lambda row: row.outage or 0.0, default=None)


def worst_first(rows: tuple[Row, ...]) -> list[Row]:
    """Rows as they are to be read: what needs somebody first, otherwise in the order of the run."""
    return sorted(rows, key=lambda row: _rank(row.outcome))


def _noun(run: Timeline) -> str:
    several = any(len(host.rows) > 1 for host in run.hosts)
    return "service" if several else "host"


def _rank(outcome: str) -> int:
    order = list(BADGES)
    return order.index(outcome) if outcome in order else 0
