"""Whether the new release may start beside the old one, and the reason that the plan gives."""

from __future__ import annotations

import dataclasses

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.plan.strategy import strategy_of
from ansible_collections.deployer.sglang.plugins.module_utils.service import Model, Service
from tests.doubles.hosts import gpu_facts, host_facts
from tests.doubles.nvidia_smi import Process

SERVICE = Service("code2sql", 8001, Model("code2sql", "/m"), "sglang", "sglang", gpus=("6", "7"))
RUNNING = Running("0123456789ab", "sglang", "code2sql", "m-0123456789ab", 8001, ("7",), True)
BUSY = gpu_facts(processes=[Process(7, 42, 31_000, "python")], users={42: "me"})


def test_where_nothing_serves_there_is_nothing_to_stop() -> None:
    host = host_facts(gpu_facts())
    assert strategy_of(SERVICE, host.gpus.gpus[6:8], host).kind == "start"
    stopped = host_facts(gpu_facts(), services={"code2sql": dataclasses.replace(RUNNING, runs=False)})
    assert strategy_of(SERVICE, stopped.gpus.gpus[6:8], stopped).kind == "start"


def test_one_port_and_one_gpu_mean_stop_first() -> None:
    host = host_facts(BUSY, services={"code2sql": RUNNING})
    found = strategy_of(SERVICE, host.gpus.gpus[6:8], host)
    assert (found.kind, found.reason) == (
        "stop-first",
        "no gateway owns port 8001, which old and new share; GPU 7 is in use by release 0123456789ab",
    )


def test_what_will_be_adopted_is_stopped_first_too() -> None:
    listener = Listener(8001, "llamafactory, pid 9 of ops", pids=(9,), adopts="llamafactory")
    host = host_facts(gpu_facts(), listeners=(listener,))
    assert strategy_of(SERVICE, host.gpus.gpus[6:8], host).kind == "stop-first"


def test_a_gateway_and_free_gpus_allow_to_start_first() -> None:
    host = host_facts(gpu_facts(), services={"code2sql": RUNNING})
    found = strategy_of(SERVICE, host.gpus.gpus[6:8], host, port_owner="the gateway")
    assert (found.kind, found.reason) == (
        "start-first",
        "the gateway owns the public port, and the GPUs are free beside release 0123456789ab",
    )
    busy = host_facts(BUSY, services={"code2sql": RUNNING})
    assert strategy_of(SERVICE, busy.gpus.gpus[6:8], busy, port_owner="the gateway").kind == "stop-first"
