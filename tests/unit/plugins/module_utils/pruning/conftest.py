"""Pruning asks every process of the machine; a test sees those alone that it has started."""

from __future__ import annotations

import os

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs


@pytest.fixture(autouse=True)
def _other_tests_processes_are_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' releases have the same names: they would count as users of these."""
    every, own = procfs.all_processes, os.getpid()
    monkeypatch.setattr(
        procfs,
        "all_processes",
        lambda: [process for process in every() if own in (process.pid, *procfs.ancestors_of(process.pid))],
    )
