"""What an operator is shown of a pruning."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deployer.views.plan import print_lines
from deployer.views.prune import prune_lines, readable

ENVIRONMENT = {
    "path": "/opt/inference/artifacts/environments/sglang-0123456789ab",
    "kind": "environment",
    "bytes": 9 * 2**30,
    "why": "no kept release uses it; release 3f9a1c07b2de of code2sql did",
    "used_by": [],
}
RELEASE = {
    "path": "/opt/inference/services/code2sql/releases/3f9a1c07b2de",
    "kind": "release",
    "bytes": 16384,
    "why": "nothing names it, and it is older than the 2 newest others",
    "used_by": [],
}
MODEL = {
    "path": "/opt/inference/artifacts/models/qwen3-coder-30b-a3b-instruct-fp8-with-a-long-name-ba9876543210",
    "kind": "model",
    "bytes": 61 * 2**30,
    "why": "release aaaaaaaaaaaa of code2sql (current)",
    "used_by": ["release aaaaaaaaaaaa of code2sql (current)"],
}


def result(**values: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"removed": [], "kept": [], "left_alone": [], "notes": [], "failed_paths": [], "freed": 0}
    done = {**nothing, **values}
    return {**done, "freed": sum(row["bytes"] for row in done["removed"])}


def shown(results: dict[str, Any], width: int = 80, **options: bool) -> str:
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    print_lines(console, prune_lines(results, **options))
    return console.export_text()


def test_what_goes_is_a_row_with_its_size_and_its_reason() -> None:
    text = shown({"gpu1": result(removed=[RELEASE, ENVIRONMENT], kept=[MODEL])}, check=True)
    for part in ("Would be removed", "code2sql/3f9a1c07b2de", "16.0K", "sglang-0123456789ab", "9.0G", "gpu1"):
        assert part in text
    assert "1 host: 9.0G would be freed: 1 release, 1 environment" in text
    assert "Kept" not in text


def test_what_stays_is_shown_on_request_with_who_uses_it() -> None:
    text = shown({"gpu1": result(kept=[MODEL])}, width=160, kept=True)
    assert "Kept" in text
    assert "release aaaaaaaaaaaa of code2sql (current)" in text
    assert "1 host: nothing to remove" in text


def test_many_hosts_are_folded() -> None:
    results = {f"gpu{number}": result(removed=[ENVIRONMENT]) for number in range(100)}
    results["gpu100"] = result(removed=[ENVIRONMENT, RELEASE])
    text = shown(results)
    assert text.count("sglang-0123456789ab") == 1
    assert "all 101 hosts" in text
    assert "909.0G" in text
    assert "101 hosts: 909.0G freed: 101 environments, 1 release" in text
    assert len(text.splitlines()) < 15


def test_some_of_many_hosts_are_named_and_the_rest_counted() -> None:
    results = {f"gpu{number}": result(removed=[ENVIRONMENT] if number < 9 else []) for number in range(10)}
    assert "gpu0, gpu1, gpu2 and 6 more" in shown(results)


def test_reasons_that_differ_between_hosts_say_so() -> None:
    other = {**MODEL, "why": "younger than 1 day"}
    text = shown({"a": result(kept=[MODEL]), "b": result(kept=[other])}, width=160, kept=True)
    assert "(and otherwise on other hosts)" in text


def test_remarks_are_folded_and_a_hosts_text_reaches_no_terminal() -> None:
    left = {"path": "/opt/inference/artifacts/\x1b[31mx[/]", "why": "it is a symbolic link, and none is followed"}
    failed = {"path": "/opt/inference/cache/0123456789ab", "why": "Operation not permitted"}
    one = result(left_alone=[left], notes=["service x is not described any more"], failed_paths=[failed])
    text = shown({"a": one, "b": one}, width=200)
    assert text.count("left alone") == text.count("not described any more") == text.count("not removed") == 1
    assert "?[31mx[/]" in text
    assert "\x1b" not in text


def test_eighty_columns_are_enough() -> None:
    results = {f"gpu-node-{number}.cluster.example.com": result(removed=[MODEL, RELEASE]) for number in range(5)}
    text = shown(results, check=True, kept=True)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "ba9876543210" in text.replace("\n", "").replace(" ", "")
    assert "…" not in text


def test_sizes_are_readable() -> None:
    assert [readable(size) for size in (0, 1023, 1024, 5 * 2**30, 3 * 2**50)] == [
        "0B",
        "1023B",
        "1.0K",
        "5.0G",
        "3072.0T",
    ]
