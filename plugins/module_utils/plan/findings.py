"""Findings: each has a stable id, documented in docs/findings.md, and a severity, which the inventory may change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

ERROR, WARNING, INFO, ACCEPTED = "error", "warning", "info", "accepted"
SEVERITIES = (ERROR, WARNING, INFO, ACCEPTED)

# id -> severity, unless the inventory says otherwise. An error is refused before anything is staged.
CATALOGUE: dict[str, str] = {
    # the description
    "parallelism-repeated": WARNING,
    "gpu-repeated": ERROR,
    "gpu-count": ERROR,
    "parallelism-impossible": ERROR,
    "gate-impossible": ERROR,
    "gate-load-unproved": WARNING,
    "api-key-in-argv": ERROR,
    "open-without-key": WARNING,
    "port-privileged": ERROR,
    "prompts-logged": WARNING,
    "log-unrotated": INFO,
    "proxy-variables": WARNING,
    # the engine's options
    "option-unknown": ERROR,
    "option-value": ERROR,
    "option-deprecated": WARNING,
    "memory-fraction-high": WARNING,
    "options-unread": INFO,
    # the model
    "model-unreadable": ERROR,
    "model-unseen": WARNING,
    "model-shape-unknown": INFO,
    "weights-incomplete": ERROR,
    "weights-pickle": WARNING,
    "tokenizer-missing": ERROR,
    "chat-template-missing": ERROR,
    "heads-not-divisible": ERROR,
    "kv-heads-not-divisible": ERROR,
    "vocabulary-not-divisible": ERROR,
    "vision-heads-not-divisible": ERROR,
    "experts-not-divisible": ERROR,
    "width-not-divisible": ERROR,
    "context-too-long": ERROR,
    # memory
    "does-not-fit": ERROR,
    "kv-pool-small": WARNING,
    "kv-pool-capped": WARNING,
    "kv-pool-shared": WARNING,
    "memory-estimate-rough": INFO,
    # GPUs
    "gpu-driver": ERROR,
    "gpu-absent": ERROR,
    "gpu-unavailable": ERROR,
    "gpu-mig": ERROR,
    "gpu-busy": ERROR,
    "gpu-trouble": ERROR,
    "gpu-memory-uneven": ERROR,
    "gpu-mixed": WARNING,
    "gpu-link-slow": WARNING,
    # ports
    "port-taken": ERROR,
    "port-derived-taken": ERROR,
    "port-ephemeral": WARNING,
    # the host
    "host-python": ERROR,
    "host-platform": ERROR,
    "host-supervisor": ERROR,
    "host-root": ERROR,
    "host-disk": ERROR,
    "host-name": ERROR,
    "host-nofile": WARNING,
    "host-memlock": WARNING,
    "host-shm": WARNING,
    # environments
    "environment-missing": ERROR,
    "engine-missing": ERROR,
    "backend-missing": ERROR,
    "glibc-too-old": ERROR,
    "driver-too-old": ERROR,
    # what serves before
    "served-name-lost": ERROR,
    "served-name-differs": ERROR,
    "service-adopted": INFO,
    "predecessor-overlap": INFO,
    "predecessor-by-hand": WARNING,
    "chat-template-differs": WARNING,
    "sampling-differs": WARNING,
}

# What no inventory can wave through: a secret that everyone can read stays one.
NOT_NEGOTIABLE = frozenset({"api-key-in-argv"})


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing before it happens.

    Attributes:
        id: stable, of the catalogue.
        severity: error, warning, info or accepted.
        subject: the key, host part or file that it is about.
        message: what is wrong, in one line.
        fix: what to do about it, in one line.
    """

    id: str
    severity: str
    subject: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message} [{self.id}]. Fix: {self.fix}"


def finding(identifier: str, subject: str, message: str, fix: str, severity: str = "") -> Finding:
    """A finding with its catalogue severity, or with `severity` where one case of it is worse or milder."""
    return Finding(identifier, severity or CATALOGUE[identifier], subject, _line(message), _line(fix))


def _line(text: str) -> str:
    """One line without control characters, which a process or a file can put into its own name."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split())).rstrip(". ")


def judged(findings: Iterable[Finding], *policies: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings with the severities that the inventory gives them.

    Args:
        findings: as the checks gave them.
        policies: id -> severity; the first that names an id decides.
    """
    judgements = {key: value for policy in reversed(policies) for key, value in policy.items()}
    judgements = {key: value for key, value in judgements.items() if key not in NOT_NEGOTIABLE}
    return tuple(replace(one, severity=judgements.get(one.id, one.severity)) for one in findings)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, worst first, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda one: SEVERITIES.index(one.severity)))


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that must be mended before anything is staged."""
    return [one for one in findings if one.severity == ERROR]


def exit_code(severities: Iterable[str]) -> int:
    """0 clean, 1 warnings, 2 errors; what is accepted, or only worth knowing, counts as clean."""
    present = set(severities)
    return 2 if ERROR in present else 1 if WARNING in present else 0


def policy_problems(where: str, policy: Any) -> list[tuple[str, str, str]]:
    """What is wrong with a mapping of finding ids to severities, each as (key, problem, fix)."""
    if policy is None:
        return []
    if not isinstance(policy, Mapping):
        return [(where, f"is {policy!r}", "write a mapping of finding id: severity")]
    problems = []
    for key, value in policy.items():
        if key not in CATALOGUE:
            near = difflib.get_close_matches(str(key), CATALOGUE, n=1)
            fix = f"did you mean {near[0]}?" if near else "use an id from docs/findings.md"
            problems.append((f"{where}.{key}", "is no finding", fix))
        elif value not in SEVERITIES:
            problems.append((f"{where}.{key}", f"is {value!r}", f"use one of {', '.join(SEVERITIES)}"))
        elif key in NOT_NEGOTIABLE and value != ERROR:
            problems.append((f"{where}.{key}", f"cannot be {value}", "remove the line: this is always refused"))
    return problems
