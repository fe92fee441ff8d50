"""That GPUs are nobody's, from what a recorded host would say one look after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gpu_proof import foreign_use, prove_free
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import parse_query
from tests.doubles.nvidia_smi import RECORDINGS

GIB = 2**30


def gpu(index: int, *pids: int, used: int = 0) -> Gpu:
    processes = tuple(GpuProcess(pid, "me", "python", 30 * GIB) for pid in pids)
    uuid = f"GPU-{index:08x}-0000-0000-0000-000000000000"
    return Gpu(index, uuid, "H100", 80 * GIB, 0, used, 0, "9.0", False, 0, (), processes, f"0000:0{index}:00.0", index)


class Looks:
    """What each look at the GPUs shows; the last one again and again."""

    def __init__(self, *looks: Sequence[Gpu]) -> None:
        self.looks = list(looks)
        self.ended: list[int] = []

    def __call__(self) -> Sequence[Gpu]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def end(self, pids: Collection[int]) -> None:
        self.ended += pids


def prove(looks: Looks, others: Collection[int] = ()) -> None:
    prove_free(["6", "7"], others, looks.end, looks, patience=0.05)


def test_whoever_computes_there_and_is_not_ours_is_named() -> None:
    looks = Looks([gpu(6, 10), gpu(7, 10, 11), gpu(0, 12)])
    assert foreign_use(["6", "7"], {10}, looks) == "GPU 7: pid 11 of me (python), 30.0 GiB"
    assert foreign_use([gpu(7).uuid], {10, 11}, looks) == ""
    assert foreign_use([], (), looks) == ""


def recorded(state: str) -> Sequence[Gpu]:
    """The H200 that SGLang was served from, while it was and afterwards."""
    return parse_query((RECORDINGS / f"h200-driver580-{state}.xml").read_text()).gpus


def test_the_gpu_of_a_real_server_is_free_once_it_has_stopped() -> None:
    looks = Looks(recorded("sglang"), recorded("stopped"))
    prove_free(["0"], (), looks.end, looks, patience=0.05)
    assert looks.ended == [6317]


def test_the_gpu_of_a_real_server_that_stays_is_not_free() -> None:
    looks = Looks(recorded("sglang"))
    with pytest.raises(DeployError, match="GPU 0 is still computed on by pid 6317 of another user: sglang::scheduler"):
        prove_free(["0"], (), looks.end, looks, patience=0.05)


def test_a_service_without_gpus_asks_nobody() -> None:
    def never() -> Sequence[Gpu]:
        raise AssertionError

    prove_free([], (), lambda pids: None, never)


def test_free_gpus_pass_and_leftovers_are_waited_for() -> None:
    prove(Looks([gpu(6), gpu(7)]))
    looks = Looks([gpu(6, 10), gpu(7)], [gpu(6), gpu(7, used=20 * GIB)], [gpu(6), gpu(7)])
    prove_free(["6", "7"], (), looks.end, looks, patience=0.2)
    assert looks.ended == [10]


def test_a_process_that_stays_is_named() -> None:
    looks = Looks([gpu(6), gpu(7, 10)])
    with pytest.raises(DeployError, match="GPU 7 is still computed on by pid 10 of me: python"):
        prove(looks)


def test_memory_that_nobody_shows_is_named() -> None:
    with pytest.raises(DeployError, match=r"GPU 6 has 20\.0 GiB in use, and no process shows whose it is"):
        prove(Looks([gpu(6, used=20 * GIB), gpu(7)]))


def test_the_driver_s_own_memory_is_no_reason() -> None:
    prove(Looks([gpu(6, used=GIB // 2), gpu(7, used=GIB // 2)]))


def test_another_service_that_shares_a_gpu_on_purpose_is_left_alone() -> None:
    looks = Looks([gpu(6, 50, used=40 * GIB), gpu(7)])
    prove(looks, others={50})
    assert looks.ended == []
