"""Plans that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener
from tests.documented.printed.terminal import plan
from tests.doubles.hosts import GIB, MODEL, environment, gpu_facts, host_facts, model, planned
from tests.doubles.nvidia_smi import Process

if TYPE_CHECKING:
    from tests.documented.printed.scenarios import Stage

_BY_HAND = "pid 26120 of me: uv run python"


def memory_does_not_fit(stage: Stage) -> str:
    large = {MODEL: model("meta-llama/Llama-3.1-70B-Instruct")}
    return plan(planned({"options": {"tensor_parallel_size": 1}, "gpus": [7]}, models=large))


def kv_pool_shared(stage: Stage) -> str:
    options = {"tensor_parallel_size": 2, "max_running_requests": 100, "max_total_tokens": 8192}
    return plan(planned({"options": options}))


def gpus_taken(stage: Stage) -> str:
    used = [Process(gpu, 4242, 30 * 1024, "/opt/conda/envs/train/bin/python train.py") for gpu in (6, 7)]
    facts = host_facts(gpu_facts(processes=used, users={4242: "alice"}))
    return plan(planned(host=facts), facts)


def port_held(stage: Stage) -> str:
    facts = host_facts(listeners=(Listener(8001, "pid 4711 of alice: nginx"),))
    return plan(planned(host=facts), facts)


def driver_and_glibc_too_old(stage: Stage) -> str:
    facts = host_facts(gpu_facts(driver="535.183.01"), glibc="2.31")
    report = environment(cuda="13.0", glibc="2.34")
    return plan(planned(host=facts, environments=[report]), facts)


def disk_too_small(stage: Stage) -> str:
    facts = host_facts(disk_free=20 * GIB)
    return plan(planned(host=facts, needed=45 * GIB), facts)


def served_name_lost(stage: Stage) -> str:
    before = {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "gpus": [7],
        "model": {"name": "code2sql", "source": MODEL},
        "options": {"template": "default"},
    }
    accepted = {"sampling-differs": "accepted", "predecessor-overlap": "accepted"}
    return plan(planned({"model": {"source": MODEL}, "predecessor": before, "findings": accepted}))


def log_unrotated(stage: Stage) -> str:
    log = "/home/me/code2sql_8001.log"
    facts = host_facts(listeners=(Listener(8001, _BY_HAND, pids=(26120,), adopts="llamafactory", log=log),))
    return plan(planned(host=facts), facts)


def answers_may_differ(stage: Stage) -> str:
    before = {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "gpus": [7],
        "options": {"template": "qwen"},
    }
    return plan(planned({"predecessor": before}))
