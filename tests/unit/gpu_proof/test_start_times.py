"""Starts by hand and by the package, in pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.gpu_proof.deployment import Deployment
from tests.gpu_proof.evidence import Evidence
from tests.gpu_proof.proofs import Proof


@dataclass
class Timed(Proof):
    """A proof whose starts take what they are told."""

    hand: float = 40.0
    package: float = 40.0
    order: list[str] = field(default_factory=list)

    def _start_by_hand(self, number: int) -> float:
        self.order.append(f"hand {number}")
        return self.hand * (1 + number % 3)

    def _start_by_package(self, number: int) -> tuple[float, float]:
        self.order.append(f"package {number}")
        return self.package * (1 + number % 3), 41.0


def timed(folder: Path, package: float) -> Timed:
    deployment = Deployment(folder, folder, folder / "m", 8001, 1)
    return Timed(deployment, Evidence(folder, {}), (), package=package)


def test_each_way_comes_first_in_every_other_pair(tmp_path: Path) -> None:
    proof = timed(tmp_path, 40.0)
    proof.start_times(3)
    assert proof.order == ["hand 1", "package 1", "package 2", "hand 2", "hand 3", "package 3"]
    known = json.loads((tmp_path / "figures.json").read_text())["facts"]["m-tp1-start"]
    assert [one["hand_first"] for one in known] == [True, False, True]


@pytest.mark.parametrize(("package", "rounds", "holds"), [(40.4, 8, True), (44.0, 8, False), (40.4, 3, None)])
def test_the_limit_is_kept_or_broken_or_it_cannot_be_told(
    tmp_path: Path, package: float, rounds: int, holds: bool | None
) -> None:
    proof = timed(tmp_path, package)
    proof.start_times(rounds)
    assert [one.holds for one in proof.evidence.checks] == [holds]
    assert proof.evidence.holds is (holds is True)


def test_no_pair_begins_after_the_time_of_the_run(tmp_path: Path) -> None:
    proof = timed(tmp_path, 40.0)
    proof.start_times(3, until=0)
    assert (proof.order, proof.evidence.checks) == ([], [])
    assert "the time to start" in proof.evidence.skipped[0]
