"""Only the very process that was recorded is ended, and what was recorded survives a kill."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.cgroups import tracking_hierarchies
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.ledger import Entry, Ledger
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.network import (
    choose_number,
    link_name,
)
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.processes import end, identify


def test_end_kills_the_process_and_its_children() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        child = identify(int(started.stdout.readline()))
        process = identify(started.pid)
        assert process.alive
        end(process)
        assert not process.alive
        assert not child.alive


def test_a_pid_that_now_belongs_to_another_process_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as started:
        process = identify(started.pid)
        for other in (replace(process, start=process.start - 1), replace(process, boot="another boot")):
            assert not other.alive
            end(other)
            assert started.poll() is None
        started.kill()


def test_ledger_keeps_what_was_recorded_and_forgets_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with subprocess.Popen(["true"]) as started:
        process = identify(started.pid)
    entries = [Entry("link", "sgl-1"), Entry("process", "gpu1", process), Entry("netns", "sglang-a-gpu1")]
    for entry in entries:
        Ledger(path).record(entry)
    with path.open("a") as handle:
        handle.write('{"kind": "cgr')
    assert Ledger(path).entries() == entries
    assert Ledger(path).process_of("gpu1") == process
    assert Ledger(path).process_of("gpu2") is None


def test_a_lab_without_ledger_has_made_nothing(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none").entries() == []


def test_a_lab_keeps_its_network_while_it_is_free() -> None:
    first = choose_number("default", set())
    assert choose_number("default", {(first + 1) % 256}) == first
    assert choose_number("default", {first}) == (first + 1) % 256


def test_link_names_fit_into_linux() -> None:
    assert len(link_name("a" * 32, "b" * 32)) <= 15


def test_processes_are_tracked_in_v2_and_in_v1_named_systemd() -> None:
    mountinfo = """\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
"""
    assert tracking_hierarchies(mountinfo) == [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
