"""Every finding of the catalogue, each brought about once, through the plan of a host."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ModelConfig, ShapeUnknown
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import CATALOGUE
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import ModelUnseen
from tests.doubles.hosts import MODEL, environment, gpu_facts, host_facts, model, planned
from tests.doubles.nvidia_smi import Process

BEFORE = {
    "engine": "llamafactory",
    "environment": "llamafactory",
    "gpus": [5],
    "port": 8000,
    "model": {"name": "code2sql", "source": MODEL},
    "options": {"template": "qwen"},
}
STRANGER = Listener(8001, "pid 9 of alice: nc")


def service(**changes: Any) -> dict[str, Any]:
    return {"services": [changes]}


def options(**given: Any) -> dict[str, Any]:
    return service(options={"tensor_parallel_size": 2, **given})


def host(**facts: Any) -> dict[str, Any]:
    return {"services": [{}], "host": host_facts(**facts)}


def gpus(**facts: Any) -> dict[str, Any]:
    return host(gpus=gpu_facts(**facts))


def folder(name: str = "Qwen/Qwen3-14B", **changes: Any) -> dict[str, Any]:
    return {"services": [{}], "models": {MODEL: dataclasses.replace(model(name), **changes)}}


def shape(tensor: int, name: str = "Qwen/Qwen3-14B", expert: int = 1, **changes: Any) -> dict[str, Any]:
    config: ModelConfig = dataclasses.replace(model(name).config, **changes)
    split = {"tensor_parallel_size": tensor, "expert_parallel_size": expert}
    return {**folder(name, config=config), "services": [{"gpus": list(range(tensor)), "options": split}]}


def report(**changes: Any) -> dict[str, Any]:
    return {"services": [{}], "environments": [environment(**changes), environment("llamafactory")]}


SCENARIOS: dict[str, dict[str, Any]] = {
    "parallelism-repeated": options(tp_size=2),
    "gpu-repeated": service(gpus=[6, 7, 7]),
    "gpu-count": service(gpus=[7]),
    "api-key-in-argv": options(api_key="x"),
    "open-without-key": service(host="0.0.0.0"),
    "port-privileged": service(port=80),
    "prompts-logged": options(log_requests=True, log_requests_level=2),
    "log-unrotated": host(
        listeners=(
            Listener(8001, "LLaMA-Factory, pid 9 of me", pids=(9,), adopts="llamafactory", log="/home/me/a.log"),
        )
    ),
    "proxy-variables": service(environment_variables={"HTTP_PROXY": "http://proxy:3128"}),
    "option-unknown": options(max_runing_requests=1),
    "option-value": options(max_running_requests="two"),
    "option-deprecated": options(disable_radix=True),
    "options-unread": report(options=None),
    "model-unreadable": {"services": [{}], "models": {MODEL: DeployError(f"{MODEL} has no config.json")}},
    "weights-incomplete": folder(problems=((f"{MODEL}/model-00001-of-00006.safetensors", "is missing", "copy it"),)),
    "weights-pickle": folder(pickles=("pytorch_model.bin",)),
    "heads-not-divisible": shape(3, heads=40),
    "kv-heads-not-divisible": shape(5),
    "vocabulary-not-divisible": shape(6),
    "vision-heads-not-divisible": shape(7, "Qwen/Qwen2.5-VL-7B-Instruct"),
    "experts-not-divisible": shape(3, "Qwen/Qwen3-30B-A3B", expert=3),
    "width-not-divisible": shape(4, intermediate=17410),
    "context-too-long": options(context_length="128k"),
    "does-not-fit": folder("meta-llama/Llama-3.1-70B-Instruct", weight_bytes=0) | options(mem_fraction_static=0.5),
    "kv-pool-small": options(mem_fraction_static=0.2),
    "kv-pool-capped": options(max_total_tokens=50_000),
    "kv-pool-shared": options(max_total_tokens=8192, max_running_requests=100),
    "memory-estimate-rough": shape(2, stateless_layers=10),
    "gpu-driver": host(gpus=0),
    "gpu-absent": service(gpus=[7, 8]),
    "gpu-unavailable": host(gpus=1) | service(gpus="auto"),
    "gpu-mig": gpus(mig={7: 7}),
    "gpu-busy": gpus(processes=[Process(7, 9, 100)]),
    "gpu-trouble": gpus(trouble={7: ["sram"]}),
    "gpu-memory-uneven": gpus(used={7: 20_000}),
    "gpu-mixed": host(
        gpus=dataclasses.replace(
            gpu_facts(),
            gpus=(*gpu_facts().gpus[:7], dataclasses.replace(gpu_facts().gpus[7], product="NVIDIA H100 PCIe")),
        )
    ),
    "gpu-link-slow": gpus(link="NODE"),
    "port-taken": host(listeners=(STRANGER,)),
    "port-derived-taken": host(listeners=(dataclasses.replace(STRANGER, port=29500),)) | options(nccl_port=29500),
    "port-ephemeral": service(port=40000),
    "host-python": host(python="3.8.20"),
    "host-platform": host(system="Darwin"),
    "host-supervisor": host(systemd=False),
    "host-root": host(root_writable=False),
    "host-disk": {"services": [{}], "needed": 2**50},
    "host-name": host(address=""),
    "host-nofile": host(nr_open=1024),
    "host-memlock": host(memlock=65536) | {"supervisor": "process"},
    "host-shm": host(shm=2**26),
    "environment-missing": report(problem=("/opt/conda/envs/sglang has no bin/python", "")),
    "engine-missing": report(versions={"torch": "2.9.1"}),
    "backend-missing": report(backend="mamba"),
    "glibc-too-old": host(glibc="2.17"),
    "driver-too-old": gpus(driver="515.105.01"),
    "served-name-lost": service(model={"source": MODEL}, predecessor=BEFORE),
    "served-name-differs": service(model={"name": "text2sql", "source": MODEL}, predecessor=BEFORE),
    "predecessor-overlap": service(predecessor={**BEFORE, "port": 8001}),
    "chat-template-missing": folder(chat_template=""),
    "chat-template-differs": folder(chat_template="{{ messages }}") | service(predecessor=BEFORE),
    "predecessor-by-hand": host(
        gpus=gpu_facts(processes=[Process(7, 9, 30_000)], users={9: "me"}),
        listeners=(Listener(8001, "pid 9 of me: python -m llamafactory.cli", pids=(9,)),),
    )
    | service(predecessor={**BEFORE, "port": 8001, "gpus": [7]}),
    "service-adopted": host(
        listeners=(Listener(8001, "LLaMA-Factory, pid 9 of me", pids=(9,), adopts="llamafactory"),)
    ),
    "tokenizer-missing": folder(tokenizer=False),
    "model-unseen": {"services": [{}], "models": {MODEL: ModelUnseen(f"gpu9:{MODEL} was not looked at")}},
    "model-shape-unknown": {"services": [{}], "models": {MODEL: ShapeUnknown(f"{MODEL}/config.json has no x", "wait")}},
    "memory-fraction-high": options(mem_fraction_static=0.99),
    "parallelism-impossible": options(expert_parallel_size=4),
    "gate-impossible": options(is_embedding=True),
    "gate-load-unproved": report(versions={"sglang": "0.5.12"}) | service(gate={"load": {"max_latency": 10}}),
    "sampling-differs": service(predecessor=BEFORE),
}
# A key of the inventory, a part of the host, or an absolute path.
SUBJECT = re.compile(
    r"inference_(services\[code2sql\]|environments\.\w+|supervisor)[\w.]*"
    r"|GPUs?( \d+)?|port \d+|Python|platform|supervisor|host name|nofile|fs\.nr_open|memlock|/.+"
)


def test_every_finding_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(CATALOGUE)


@pytest.mark.parametrize("identifier", SCENARIOS)
def test_a_scenario_brings_about_its_finding(identifier: str) -> None:
    scenario = dict(SCENARIOS[identifier])
    plan = planned(*scenario.pop("services"), **scenario)
    found = [one for one in plan.findings if one.id == identifier]
    assert found
    for one in found:
        assert one.severity == CATALOGUE[identifier]
        assert SUBJECT.fullmatch(one.subject)
        for line in (one.message, one.fix):
            assert line
            assert line == " ".join(line.split())
            assert len(line) < 300


@pytest.mark.parametrize("identifier", [one for one in SCENARIOS if one != "api-key-in-argv"])
def test_a_policy_reaches_every_finding_but_the_secret(identifier: str) -> None:
    scenario = dict(SCENARIOS[identifier])
    plan = planned(*scenario.pop("services"), **scenario, policy={identifier: "accepted"})
    assert {one.severity for one in plan.findings if one.id == identifier} == {"accepted"}


def test_without_a_scenario_nothing_is_found() -> None:
    assert planned({}).findings == ()
