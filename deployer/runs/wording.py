"""What is said beside a step, as plain text: of diffs, transfers, locks, hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from rich.filesize import decimal

from deployer.runs.results import LOCK, RELAY, ROLLOUT, Step
from deployer.wording import counted


def transfer_note(result: Mapping[str, Any]) -> str:
    """What a host received in a transfer of weights; '' where the transfer did not come to its end."""
    if not result.get("landed"):
        return ""
    seconds = max(float(result["landed"]) - float(result["started"]), 0.001)
    parts = [f"{decimal(int(result['received']))} in {seconds:.0f} s"]
    parts += [f"{decimal(int(result['resumed']))} were there"] if result.get("resumed") else []
    linked = int(result.get("linked") or 0)
    parts += [f"{counted(linked, 'file')} linked"] if linked else []
    return ", ".join(parts)


def asides(step: Step) -> Iterator[tuple[str, str]]:
    """What is to be said of a step beside that it happened: level and text."""
    if step.action == LOCK and step.result.get("took_over"):
        yield "warning", f"{step.host}: lock taken over from {step.result['took_over']}"
    if step.action == RELAY and step.result.get("landed"):
        for source, why in (step.result.get("lost") or {}).items():
            yield "warning", f"{step.host}: {source} was left: {why}"
    if step.action == ROLLOUT and step.result.get("stopped"):
        yield "warning", step.message
    for command in step.result.get("would_run") or ():
        yield "info", f"{step.host}: would run {command}"


def diff_lines(diff: Any) -> list[str]:
    """A module's diff, one or a list of them, as unified diffs without context."""
    lines: list[str] = []
    for one in diff if isinstance(diff, list) else [diff]:
        if isinstance(one, Mapping) and one.get("before") != one.get("after"):
            before, after = (str(one.get(key) or "").splitlines() for key in ("before", "after"))
            name = str(one.get("after_header") or "")
            lines += [line.rstrip() for line in unified_diff(before, after, name, name, n=0) if line.rstrip()]
    return lines
