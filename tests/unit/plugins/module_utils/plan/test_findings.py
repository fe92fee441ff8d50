"""Findings: severities, who may change them, and that each is documented."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import (
    ACCEPTED,
    CATALOGUE,
    ERROR,
    INFO,
    NOT_NEGOTIABLE,
    SEVERITIES,
    WARNING,
    errors,
    exit_code,
    finding,
    judged,
    ordered,
    policy_problems,
)
from tests.doubles.hosts import planned

DOCUMENT = Path(__file__).parents[5] / "docs" / "findings.md"
ONE = finding("kv-pool-shared", "here", "is wrong", "mend it")


def test_a_finding_has_the_catalogues_severity_unless_a_case_of_it_says_otherwise() -> None:
    assert set(CATALOGUE.values()) <= set(SEVERITIES)
    assert set(CATALOGUE) >= NOT_NEGOTIABLE
    assert ONE.severity == WARNING
    assert finding("kv-pool-shared", "here", "is wrong", "mend it", ERROR).severity == ERROR
    with pytest.raises(KeyError):
        finding("kv-pool-sharde", "here", "is wrong", "mend it")


def test_a_finding_is_one_line_however_its_parts_came() -> None:
    found = finding("model-unreadable", "here", "line one.\n  line two. ", "mend\nit. ")
    assert str(found) == "here: line one. line two [model-unreadable]. Fix: mend it"


def test_the_service_is_heard_before_the_inventory() -> None:
    other = finding("open-without-key", "here", "is wrong", "mend it")
    service, inventory = {"kv-pool-shared": ACCEPTED}, {"kv-pool-shared": ERROR, "open-without-key": INFO}
    assert [one.severity for one in judged([ONE, other], service, inventory)] == [ACCEPTED, INFO]
    assert [one.severity for one in judged([ONE, other], inventory, service)] == [ERROR, INFO]
    assert judged([ONE, other], {}, {}) == (ONE, other)


@pytest.mark.parametrize("changes", [{"gpus": "auto"}, {"options": {"tensor_parallel_size": 16}, "gpus": "auto"}])
def test_a_plan_hears_both_and_the_service_also_for_gpus_that_cannot_be_chosen(changes: dict[str, Any]) -> None:
    ids = {"gpu-unavailable": ACCEPTED, "open-without-key": ACCEPTED}
    service = {**changes, "host": "0.0.0.0", "options": {"tensor_parallel_size": 16}, "findings": ids}
    plan = planned(service, policy=dict.fromkeys(ids, ERROR))
    assert {one.id: one.severity for one in plan.findings if one.id in ids} == ids


def test_no_policy_lets_a_secret_through() -> None:
    secret = finding("api-key-in-argv", "here", "is wrong", "mend it")
    assert judged([secret], {"api-key-in-argv": ACCEPTED}) == (secret,)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (None, ""),
        ({}, ""),
        (dict(zip(CATALOGUE, SEVERITIES * 20)) | {"api-key-in-argv": ERROR}, ""),
        (["kv-pool-shared"], "x: is ['kv-pool-shared']. write a mapping of finding id: severity"),
        ({"kv-pool-sharde": "error"}, "x.kv-pool-sharde: is no finding. did you mean kv-pool-shared?"),
        ({"zzz": "error"}, "x.zzz: is no finding. use an id from docs/findings.md"),
        ({7: "error"}, "x.7: is no finding. use an id from docs/findings.md"),
        ({"gpu-busy": "ignore"}, "x.gpu-busy: is 'ignore'. use one of error, warning, info, accepted"),
        ({"gpu-busy": ["error"]}, "x.gpu-busy: is ['error']. use one of error, warning, info, accepted"),
        *(
            ({"api-key-in-argv": s}, f"x.api-key-in-argv: cannot be {s}. remove the line: this is always refused")
            for s in (WARNING, INFO, ACCEPTED)
        ),
    ],
)
def test_a_mistake_in_a_policy_is_named_with_what_was_meant(policy: Any, problem: str) -> None:
    assert "".join(f"{key}: {said}. {fix}" for key, said, fix in policy_problems("x", policy)) == problem


def test_findings_come_worst_first_and_once() -> None:
    found = [dataclasses.replace(ONE, severity=severity) for severity in (INFO, ACCEPTED, ERROR, WARNING, ERROR)]
    assert [one.severity for one in ordered(found)] == [ERROR, WARNING, INFO, ACCEPTED]
    same = [dataclasses.replace(ONE, subject=subject) for subject in ("b", "a", "b")]
    assert [one.subject for one in ordered(same)] == ["b", "a"], "of one severity in the order they were found"
    assert [one.severity for one in errors(found)] == [ERROR, ERROR]


@pytest.mark.parametrize(
    ("severities", "code"),
    [([], 0), ([INFO, ACCEPTED], 0), ([INFO, WARNING], 1), ([WARNING, ERROR, INFO], 2), ([ERROR], 2)],
)
def test_the_exit_code_is_that_of_the_worst(severities: list[str], code: int) -> None:
    assert exit_code(severities) == code


def test_every_finding_is_documented_and_nothing_else_is() -> None:
    headings = re.findall(r"^###? `?([a-z0-9]+(?:-[a-z0-9]+)+)`?$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(CATALOGUE)
