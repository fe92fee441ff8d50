"""What an operator is shown of a plan."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Running
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import Launch, plan_report
from deployer.runs.results import HostResult, Summary
from deployer.views.plan import doctor_lines, plan_lines, print_lines
from tests.doubles.hosts import gpu_facts, host_facts, planned
from tests.doubles.nvidia_smi import Process

WARNED = {"options": {"tensor_parallel_size": 2, "max_total_tokens": 8192, "max_running_requests": 100}}


def report(*services: dict[str, Any], release: str = "bbb", **host: Any) -> dict[str, Any]:
    facts = host_facts(**host)
    plan = planned(*services, host=facts)
    launch = {("code2sql", "service"): Launch(release, ("python",), {})}
    return plan_report(plan, facts, launch)


def shown(lines: Any, summary: Summary, width: int = 100, terminal: bool = False) -> str:
    console = Console(width=width, record=True, force_terminal=terminal, file=io.StringIO())
    print_lines(console, lines(summary))
    return console.export_text()


def summary(**plans: dict[str, Any] | None) -> Summary:
    return Summary(
        {name: HostResult(name, plan=plan, failure="" if plan else "no route") for name, plan in plans.items()}
    )


def test_every_service_is_a_row_with_its_memory_and_its_kv_cache() -> None:
    running = Running("aaa", "llamafactory", "code2sql", "m", 8001, ("7",), True)
    text = shown(plan_lines, summary(gpu1=report(services={"code2sql": running})))
    for part in ("gpu1", "code2sql", "llamafactory aaa", "→ sglang 0.5.23 bbb", "6,7", "TP 2", "13.9G + ", "tokens"):
        assert part in text
    assert "█" in text
    assert "1 host: nothing found; clean" in text


def test_a_service_that_stays_as_it_is_says_so() -> None:
    running = Running("aaa", "sglang", "code2sql", "m", 8001, ("6", "7"), True)
    assert "aaa, stays" in shown(plan_lines, summary(gpu1=report(release="aaa", services={"code2sql": running})))


def test_what_somebody_started_by_hand_is_what_serves_now() -> None:
    plan = report()
    plan["services"][0]["by_hand"] = "pid 26120 of me: uv run python"
    assert "pid 26120 of me, by hand" in shown(plan_lines, summary(gpu1=plan))


def test_a_finding_is_shown_once_with_the_hosts_that_have_it() -> None:
    plans = {f"gpu{number}": report(WARNED) for number in range(6)}
    text = shown(plan_lines, summary(**plans))
    assert text.count("kv-pool-shared on all hosts") == 1
    plans["gpu6"] = report()
    text = shown(plan_lines, summary(**plans))
    assert "kv-pool-shared on gpu0, gpu1, gpu2, gpu3 and 2 more" in text
    assert text.count("fix: remove max_total_tokens") == 1
    assert "7 hosts: 12 warnings; it can be rolled out" in text


def test_a_host_that_was_not_planned_decides_the_exit_code() -> None:
    both = summary(gpu1=report(), gpu2=None)
    assert summary(gpu1=report()).plan_exit_code == 0
    assert both.plan_exit_code == 2
    assert "not planned gpu2\n         no route" in shown(plan_lines, both)
    assert "1 could not be planned" in shown(plan_lines, both)


def test_doctor_is_a_line_a_check_with_the_fix_of_what_fails() -> None:
    busy = gpu_facts(processes=[Process(7, 42, 1000, "python")], users={42: "me"}, trouble={3: ["remapping pending"]})
    text = shown(doctor_lines, summary(gpu1=report(gpus=busy, address="")))
    assert "ok       GPU 0: NVIDIA H100 80GB HBM3" in text
    assert "used by me" in text
    assert "a row remapping is pending" in text
    assert "error    host name: gpu-1 does not resolve" in text
    assert "fix (host-name): add '127.0.1.1 gpu-1' to /etc/hosts" in text


def test_markup_in_what_a_host_says_is_shown_and_not_obeyed() -> None:
    text = shown(plan_lines, Summary({"[red]x": HostResult("[red]x", failure="[bold]no[/bold]")}))
    assert "[red]x\n         [bold]no[/bold]" in text


def test_what_a_process_puts_into_its_name_does_not_reach_the_terminal() -> None:
    text = shown(plan_lines, Summary({"a": HostResult("a", failure="pid 1: \x1b]52;c;aGk=\x07 \x9b2J")}))
    assert "pid 1: ?]52;c;aGk=? ?2J" in text


def test_a_terminal_breaks_long_lines_behind_their_indent() -> None:
    lines = shown(plan_lines, summary(gpu1=report(WARNED)), width=60, terminal=True).splitlines()
    at = next(number for number, line in enumerate(lines) if "kv-pool-shared" in line)
    assert all(line.startswith(" " * 9) for line in lines[at + 1 : at + 4])
    assert max(map(len, lines)) <= 60
