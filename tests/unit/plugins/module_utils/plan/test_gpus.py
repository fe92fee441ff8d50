"""Which GPUs a service gets, and what is wrong with those that it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import choose_gpus, free_for, gpu_findings
from tests.doubles.hosts import gpu_facts
from tests.doubles.nvidia_smi import Process, uuid_of

NOHUP = Process(7, 4242, 30 * 1024, "/opt/conda/envs/lf/bin/python -m llamafactory.cli api")
UNKNOWN = Process(7, 4242, None, "[Not Found]")


def choose(facts: GpuFacts, count: int = 2, taken: Sequence[str] = (), kept: Sequence[str] = ()) -> str:
    return ",".join(choose_gpus(count, facts, "code2sql", taken, kept))


@pytest.mark.parametrize(
    ("facts", "count", "chosen"),
    [
        (gpu_facts(), 2, "0,1"),
        (gpu_facts(), 8, "0,1,2,3,4,5,6,7"),
        (gpu_facts(), 9, ""),
        (gpu_facts(1), 1, "0"),
        (gpu_facts(0), 1, ""),
        (gpu_facts(16), 8, "0,1,2,3,4,5,6,7"),
        (gpu_facts(4, {"2-3": "NV18"}), 2, "2,3"),
        (gpu_facts(4, {"0-3": "NV2", "1-2": "NV4"}), 2, "1,2"),
        (gpu_facts(4, {"0-1": "PHB", "2-3": "PIX"}), 2, "2,3"),
        (gpu_facts(4, {"0-1": "NODE"}), 2, "0,1"),
        # The weakest link decides, and of equally weak groups the sum of all.
        (gpu_facts(4, {"0-1": "NV18", "1-2": "NV18", "1-3": "PHB", "2-3": "PHB"}), 3, "1,2,3"),
        (gpu_facts(4, {"0-1": "PHB", "0-2": "PHB", "1-2": "PHB", "1-3": "NV18", "2-3": "NV18"}), 3, "1,2,3"),
        (gpu_facts(4, {"0-1": "XYZ"}), 2, "0,2"),
        (gpu_facts(4, used={0: 70_000}), 2, "1,2"),
        (gpu_facts(4, used={1: 100}), 2, "0,1"),
        (gpu_facts(3, {"0-1": "NV18"}, used={1: 40_000}), 2, "0,2"),
        (gpu_facts(3, mig={0: 7, 2: 0}), 1, "1"),
        (gpu_facts(3, trouble={0: ["sram"], 1: ["lost"]}), 1, "2"),
        (gpu_facts(3, processes=[Process(0, 9, None)]), 2, "1,2"),
        (gpu_facts(2, processes=[Process(0, 9, 60_000)], services={9: "code2sql"}), 2, "0,1"),
        (gpu_facts(2, processes=[Process(0, 9, 60_000)], services={9: "other"}), 2, ""),
    ],
)
def test_the_choice_is_whole_well_free_and_best_linked(facts: GpuFacts, count: int, chosen: str) -> None:
    assert choose(facts, count) == chosen
    assert choose(facts, count) == chosen, "a second run chooses alike"


def test_one_product_is_chosen_before_better_links() -> None:
    facts = gpu_facts(4, {"0-1": "NV18"})
    mixed = tuple(
        dataclasses.replace(gpu, product="NVIDIA A10" if gpu.index == 0 else gpu.product) for gpu in facts.gpus
    )
    assert choose(dataclasses.replace(facts, gpus=mixed)) == "1,2"


@pytest.mark.parametrize(
    ("taken", "kept", "chosen"),
    [
        (["0"], [], "1,2"),
        ([uuid_of("host", 0), "2"], [], "1,3"),
        (["0", "1", "2"], [], ""),
        ([], ["3", "1"], "3,1"),
        ([], [uuid_of("host", 3), "1"], f"{uuid_of('host', 3)},1"),
        (["3"], ["3", "1"], "3,1"),
        ([], ["1"], "0,1"),
        ([], ["1", "9"], "0,1"),
    ],
)
def test_a_deployed_service_keeps_its_gpus_while_they_are_there(taken: list[str], kept: list[str], chosen: str) -> None:
    assert choose(gpu_facts(4), 2, taken, kept) == chosen


def test_a_stranger_on_a_gpu_is_found_and_not_evaded_by_moving_the_service() -> None:
    strangers = gpu_facts(4, processes=[Process(3, 9, 1000)], users={9: "alice"})
    assert choose(strangers, kept=["2", "3"]) == "2,3"
    assert choose(strangers, kept=[]) == "0,1"


def test_an_idle_pair_is_better_than_a_linked_one_that_something_unseen_fills() -> None:
    filled = gpu_facts(4, {"0-1": "NV18"}, used={0: 60_000, 1: 60_000})
    assert choose(filled) == "2,3"


def test_memory_of_own_processes_counts_as_free() -> None:
    facts = gpu_facts(1, processes=[Process(0, 8, 1000), Process(0, 9, 500)], services={8: "a", 9: "b"})
    gpu = facts.gpus[0]
    assert [free_for(gpu, own) - gpu.memory_free for own in ((), ("a",), ("a", "b"))] == [0, 1000 << 20, 1500 << 20]


def found(names: Sequence[str], facts: GpuFacts) -> dict[str, tuple[str, str, str]]:
    findings = list(gpu_findings("x", names, facts, ("code2sql",)))
    assert len({one.id for one in findings}) == len(findings)
    return {one.id: (one.subject, one.message, one.fix) for one in findings}


@pytest.mark.parametrize(
    ("names", "facts", "identifier", "expected"),
    [
        (["0", "8"], gpu_facts(), "gpu-absent", "GPU 8 is not there: choose among 0, 1, 2, 3, 4, 5, 6, 7"),
        (
            ["GPU-00000000"],
            dataclasses.replace(gpu_facts(2), problem="2 of 8 attached GPUs"),
            "gpu-absent",
            "GPU GPU-00000000 is not there: choose among 0, 1; nvidia-smi also says: 2 of 8 attached GPUs",
        ),
        (["MIG-1111-2222"], gpu_facts(2), "gpu-absent", "GPU MIG-1111-2222 is not there"),
        (["0", uuid_of("host", 0)], gpu_facts(2), "gpu-repeated", "is GPU 0, which is listed by its index too"),
        ([uuid_of("host", 0), "0"], gpu_facts(2), "gpu-repeated", "GPU 0 is listed by its UUID too"),
        (["1"], gpu_facts(2, mig={1: 7}), "gpu-mig", "GPU 1 is in MIG mode: it is split into 7 parts"),
        (["1"], gpu_facts(2, mig={1: 0}), "gpu-mig", "it has no parts yet: nvidia-smi -i 1 -mig 0"),
        (
            ["7"],
            gpu_facts(processes=[NOHUP], users={4242: "alice"}),
            "gpu-busy",
            "GPU 7 is used by pid 4242 of alice: /opt/conda/envs/lf/bin/python -m llamafactory.cli, 30.0 GiB",
        ),
        (
            ["7"],
            gpu_facts(processes=[NOHUP], services={4242: "other"}),
            "gpu-busy",
            "pid 4242 of service other, 30.0 GiB",
        ),
        (["7"], gpu_facts(processes=[UNKNOWN]), "gpu-busy", "GPU 7 is used by pid 4242 of somebody: end that process"),
        (["0", "1"], gpu_facts(2, used={1: 40_000}), "gpu-memory-uneven", "GPU 1 has 40.1 GiB free and GPU 0 has 79.2"),
        (["0", "1"], gpu_facts(2, "SYS"), "gpu-link-slow", "across the host's CPU (SYS in nvidia-smi topo -m)"),
        (["0", "1", "2"], gpu_facts(3, {"0-1": "NV18", "0-2": "NODE"}), "gpu-link-slow", "(NODE, SYS in"),
    ],
)
def test_what_is_wrong_with_a_named_gpu_is_said(
    names: list[str], facts: GpuFacts, identifier: str, expected: str
) -> None:
    ((one, (subject, message, fix)),) = found(names, facts).items()
    assert one == identifier
    assert expected in f"{subject} {message}: {fix}"


def test_gpus_of_two_kinds_are_named() -> None:
    facts = gpu_facts(2)
    other = dataclasses.replace(facts.gpus[1], product="NVIDIA H200")
    findings = found(["0", "1"], dataclasses.replace(facts, gpus=(facts.gpus[0], other)))
    assert findings["gpu-mixed"][1] == "NVIDIA H100 80GB HBM3 and NVIDIA H200 in one group"


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (["6", "7"], gpu_facts()),
        ([], gpu_facts(0)),
        (["0"], gpu_facts(0)),
        (["0", "1"], gpu_facts(2, "PIX")),
        (["0", "1"], dataclasses.replace(gpu_facts(2), links={})),
        (["0", "1"], gpu_facts(2, used={1: 7_000})),
        (["7"], gpu_facts(processes=[NOHUP], services={4242: "code2sql"})),
        (["MIG-1111-2222"], gpu_facts(2, mig={1: 7})),
    ],
)
def test_nothing_is_said_of_gpus_that_will_do(names: list[str], facts: Any) -> None:
    assert found(names, facts) == {}
