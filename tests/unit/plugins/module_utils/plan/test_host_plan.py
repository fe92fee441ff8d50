"""The plan of a host, end to end: the command that a team had written down, and what it takes to mend it."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.plan.assumed import assumed_host
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import (
    ACCEPTED,
    ERROR,
    INFO,
    WARNING,
    exit_code,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan
from tests.doubles.hosts import (
    GIB,
    MODEL,
    SGLANG_OPTIONS,
    described,
    environment,
    gpu_facts,
    host_facts,
    model,
    planned,
)
from tests.doubles.nvidia_smi import Process, uuid_of

# The two commands of the team's document: LLaMA-Factory as it runs, SGLang as they would have started it.
TEAM: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "host": "0.0.0.0",
    "model": {"source": MODEL},
    "gpus": [6, 7],
    "options": {
        "tensor_parallel_size": 2,
        "tp_size": 2,
        "max_running_requests": 100,
        "max_total_tokens": 8192,
        "enable_metrics": True,
        "log_requests": True,
        "log_requests_level": 1,
    },
    "predecessor": {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "model": {"name": "code2sql", "source": MODEL},
        "gpus": [7],
        "options": {"template": "qwen"},
    },
}
KEY = "inference_services[code2sql]"
TOO_LARGE = "meta-llama/Llama-3.1-70B-Instruct"


def ids(plan: HostPlan, *severities: str) -> list[str]:
    return sorted({one.id for one in plan.findings if one.severity in severities or not severities})


def test_the_teams_own_command_is_told_what_is_wrong_with_it() -> None:
    plan = planned(TEAM, supervisor="process")
    found = {one.id: one for one in plan.findings}
    expected = {
        "served-name-lost": (ERROR, f"{KEY}.model.name", "set model.name: code2sql"),
        "kv-pool-shared": (WARNING, f"{KEY}.options.max_running_requests", "remove max_total_tokens"),
        "kv-pool-capped": (WARNING, f"{KEY}.options.max_total_tokens", "remove it"),
        "parallelism-repeated": (WARNING, f"{KEY}.options", "keep tensor_parallel_size and remove tp_size"),
        "open-without-key": (WARNING, f"{KEY}.host", "listen on an internal address (host:)"),
        "predecessor-overlap": (INFO, f"{KEY}.predecessor", "a port and GPUs of its own"),
        "chat-template-differs": (WARNING, f"{KEY}.predecessor.options.template", "options.chat_template"),
        "sampling-differs": (WARNING, f"{KEY}.predecessor", "generation_config.json"),
    }
    assert set(found) == set(expected)
    for identifier, (severity, subject, fix) in expected.items():
        assert (found[identifier].severity, found[identifier].subject) == (severity, subject)
        assert fix in found[identifier].fix
    assert "8,192 tokens of KV cache for 100 requests at once are 81 each" in found["kv-pool-shared"].message
    assert "port 8001 and GPU 7" in found["predecessor-overlap"].message
    assert exit_code(one.severity for one in plan.findings) == 2
    service, before = plan.services
    assert (service.tokens, service.requests, service.context) == (8192, 100, 40960)
    assert [gpu.index for gpu in service.gpus] == [6, 7]
    assert (before.role, before.version, [gpu.index for gpu in before.gpus]) == ("predecessor", "0.9.3", [7])
    assert service.weights is not None and before.weights is not None
    assert service.weights < 16 * GIB < 27 * GIB < before.weights


def test_mended_step_by_step_nothing_is_left_but_what_was_accepted() -> None:
    service = copy.deepcopy(TEAM)
    supervisor = "process"
    left = set(ids(planned(service, supervisor=supervisor), ERROR, WARNING))

    def mended(*identifiers: str) -> None:
        nonlocal left
        now = set(ids(planned(service, supervisor=supervisor), ERROR, WARNING))
        assert now == left - set(identifiers), "a mend removes its own findings and brings no other"
        left = now

    service["model"]["name"] = "code2sql"
    mended("served-name-lost")
    del service["options"]["tp_size"]
    mended("parallelism-repeated")
    service["options"]["max_running_requests"] = 8
    mended("kv-pool-shared")
    del service["options"]["max_total_tokens"]
    mended("kv-pool-capped")
    service["options"]["max_running_requests"] = 100
    mended()
    supervisor = "systemd"
    mended()
    service["host"] = "10.0.0.5"
    mended("open-without-key")
    assert left == {"chat-template-differs", "sampling-differs"}
    service["findings"] = dict.fromkeys(left, ACCEPTED)
    mended(*left)
    plan = planned(service, supervisor=supervisor)
    assert ids(plan, INFO, ACCEPTED) == ["chat-template-differs", "predecessor-overlap", "sampling-differs"]
    assert exit_code(one.severity for one in plan.findings) == 0
    assert plan.services[0].tokens is not None and plan.services[0].tokens > 500_000


@pytest.mark.parametrize(
    ("options", "ways", "change"),
    [
        ({"tensor_parallel_size": 1}, "tensor_parallel_size: 4 would do", {"tensor_parallel_size": 4}),
        ({"tp": 2, "mem_fraction_static": 0.7}, "4 or quantization: fp8 would do", {"tp": 2, "quantization": "fp8"}),
        ({"tp": 4, "mem_fraction_static": 0.4}, "8 or quantization: fp8 or no mem_fraction_static", {"tp": 4}),
    ],
)
def test_what_does_not_fit_is_told_what_would(options: dict[str, Any], ways: str, change: dict[str, Any]) -> None:
    models = {MODEL: model(TOO_LARGE)}

    def plan(options: dict[str, Any]) -> HostPlan:
        gpus = list(range(options.get("tp") or options["tensor_parallel_size"]))
        return planned({"options": options, "gpus": gpus}, models=models)

    (one,) = [one for one in plan(options).findings if one.id == "does-not-fit"]
    assert (one.severity, one.subject) == (ERROR, f"{KEY}.gpus")
    assert ways in one.fix
    assert "GiB are missing" in one.message
    assert ids(plan(change)) == []


def test_what_fits_on_nothing_is_told_to_take_more() -> None:
    models = {MODEL: model("deepseek-ai/DeepSeek-V3")}
    host = host_facts(assumed_host("L4x8").gpus)
    plan = planned({"options": {"tp": 8}, "gpus": list(range(8))}, models=models, host=host)
    assert {one.id: one.fix for one in plan.findings}["does-not-fit"] == "take GPUs with more memory"


def test_a_predecessor_that_does_not_fit_on_its_gpus_is_named() -> None:
    busy = gpu_facts(processes=[Process(7, 9, 60 * 1024)], services={9: "other"})
    plan = planned(TEAM, host=host_facts(busy))
    (one,) = [one for one in plan.findings if one.id == "does-not-fit"]
    assert one.subject == f"{KEY}.predecessor.gpus"
    assert "the weights take 27.5 GiB and 18.6 GiB are free" in one.message


@pytest.mark.parametrize("tokens", [0, -1, "0"])
def test_a_pool_that_is_set_to_nothing_is_not_blamed_on_the_weights(tokens: Any) -> None:
    plan = planned({"options": {"tp": 2, "max_total_tokens": tokens}})
    (one,) = [one for one in plan.findings if one.severity == ERROR]
    assert (one.id, one.subject) == ("option-value", f"{KEY}.options.max_total_tokens")


def test_gpus_are_chosen_for_a_service_and_its_way_back() -> None:
    links = {"0-1": "NV18", "2-5": "NV18"}
    strangers = gpu_facts(8, links, processes=[Process(0, 9, 10)], users={9: "alice"})
    before = {**TEAM["predecessor"], "gpus": "auto"}
    plan = planned({**TEAM, "gpus": "auto", "predecessor": before}, host=host_facts(strangers))
    assert plan.gpus == {"code2sql": ("2", "5"), "code2sql.predecessor": ("2",)}
    assert [[gpu.index for gpu in one.gpus] for one in plan.services] == [[2, 5], [2]]
    running = Running("0123456789ab", "sglang", "code2sql", "qwen3", 8001, ("3", "4"), True)
    kept = planned({**TEAM, "gpus": "auto"}, host=host_facts(gpu_facts(8, links), services={"code2sql": running}))
    assert kept.gpus == {"code2sql": ("3", "4"), "code2sql.predecessor": ("7",)}


def test_two_services_share_a_host_and_no_gpu() -> None:
    one = {"name": "one", "gpus": "auto"}
    two = {"name": "two", "port": 8002, "gpus": [0, uuid_of("host", 1)]}
    three = {"name": "three", "port": 8003, "gpus": {"auto": 2}}
    plan = planned(one, two, three)
    assert plan.gpus == {"one": ("2", "3"), "two": ("0", uuid_of("host", 1)), "three": ("4", "5")}
    assert ids(plan) == []
    short = planned(one, two, three, host=host_facts(4))
    assert [(one.id, one.subject) for one in short.findings] == [("gpu-unavailable", "inference_services[three].gpus")]
    clash = planned(two, {"name": "four", "port": 8004, "gpus": [1, uuid_of("host", 0)]})
    assert {(one.id, one.subject) for one in clash.findings} == {
        ("gpu-repeated", "inference_services[two].gpus"),
        ("gpu-repeated", "inference_services[four].gpus"),
    }


def test_a_gpu_that_someone_uses_is_named_with_who_and_how() -> None:
    nohup = Process(7, 4242, 30 * 1024, "/opt/conda/envs/lf/bin/python -m llamafactory.cli api")
    busy = host_facts(gpu_facts(processes=[nohup], users={4242: "alice"}))
    found = [one for one in planned(TEAM, host=busy).findings if one.id.startswith("gpu-")]
    assert [(one.id, one.severity, one.subject) for one in found] == [
        ("gpu-busy", ERROR, "GPU 7"),
        ("gpu-memory-uneven", ERROR, f"{KEY}.gpus"),
    ], "once, though service and predecessor both name it"
    assert "pid 4242 of alice: /opt/conda/envs/lf/bin/python -m llamafactory.cli, 30.0 GiB" in found[0].message
    many = planned(
        {**TEAM, "gpus": {"auto": 2}}, host=host_facts(gpu_facts(2, processes=[dataclasses.replace(nohup, gpu=0)]))
    )
    (one,) = [one for one in many.findings if one.id == "gpu-unavailable"]
    assert "GPU 0: pid 4242 of somebody" in one.message


def test_a_services_own_processes_are_in_nobodys_way() -> None:
    own = gpu_facts(processes=[Process(6, 9, 70_000), Process(7, 9, 60_000)], services={9: "code2sql"})
    assert planned({}, host=host_facts(own)).findings == ()
    assert ids(planned({"name": "other", "port": 8002}, host=host_facts(own)), ERROR) == [
        "does-not-fit",
        "gpu-busy",
        "gpu-memory-uneven",
    ]


def test_a_host_that_nobody_asked_has_no_checks() -> None:
    plan = planned(TEAM, host=assumed_host("H100x8"), reachable=False)
    assert plan.checks == ()
    assert ids(plan, ERROR) == ["served-name-lost"]
    assert [gpu.product for gpu in plan.services[0].gpus] == ["H100", "H100"]


def test_an_environment_is_there_and_holds_the_engine() -> None:
    gone = environment(problem=("/opt/conda/envs/sglang has no bin/python", "name the folder of a conda environment"))
    bare = environment(versions={"torch": "2.9.1"})
    unknown = environment(versions={}, options=None)
    for report, expected in ((gone, "environment-missing"), (bare, "engine-missing"), (unknown, "options-unread")):
        assert ids(planned({}, environments=[report])) == [expected]
    assert ids(planned({}, environments=[])) == ["options-unread"]


def test_a_model_of_which_only_the_files_are_known_is_estimated() -> None:
    pickles = dataclasses.replace(model(), parts={}, parameters={}, allocations=(), pickles=("pytorch_model.bin",))
    plan = planned({}, models={MODEL: pickles})
    assert ids(plan) == ["memory-estimate-rough", "weights-pickle"]
    assert plan.services[0].weights == math.ceil(pickles.weight_bytes / 2)
    assert plan.services[0].pool is not None


def test_a_model_that_cannot_be_read_leaves_the_rest_of_the_plan() -> None:
    plan = planned({"host": "0.0.0.0"}, models={MODEL: DeployError("config.json: heads is 'x'")})
    assert ids(plan) == ["model-unreadable", "open-without-key"]
    assert plan.services[0].weights is None
    assert ids(planned({}, models={})) == [], "a check of the host alone brings no models"


@pytest.mark.parametrize("port", [1, 8001, 65302, 65303, 65535])
@pytest.mark.parametrize("predecessor", [None, {"engine": "llamafactory", "environment": "llamafactory"}])
@pytest.mark.parametrize("gpus", [0, 1, 16])
def test_whatever_is_lacking_there_is_a_plan(port: int, predecessor: dict[str, Any] | None, gpus: int) -> None:
    attention = {"tp": 2, "dp": 2, "enable_dp_attention": True}
    service: dict[str, Any] = {"port": port, "predecessor": predecessor, "options": attention, "gpus": []}
    plan = planned(service, host=host_facts(gpus), environments=[], models={})
    assert all(1 <= number <= 65535 for one in plan.services for number in one.ports)
    assert [one.role for one in plan.services] == ["service"] + ["predecessor"] * bool(predecessor)


words = st.sampled_from(
    ["two", "", "128k", "-1", "1.5", "0", "9" * 15, "1Ti", "nan", "inf", "a\nb", "auto", "fp8", "²"]
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | words | st.text()
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
counts = (
    st.integers(-10, 10**6) | st.sampled_from(["two", "", "128k", "-1", "1.5", "0", "1M"]) | st.lists(st.integers())
)
names = [option.flags[0][2:].replace("-", "_") for option in SGLANG_OPTIONS]
more = ["tp", "dp", "swa_full_tokens_ratio", "speculative_algorithm", "disaggregation_mode", "zzz"]
sized = ["chunked_prefill_size", "max_prefill_tokens", "max_running_requests"]  # CUDA graphs are counted up to these
keys = {**dict.fromkeys([*names, *more], values), **dict.fromkeys(sized, counts)}


@given(
    options=st.lists(st.sampled_from(sorted(keys)), max_size=6).flatmap(
        lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen})
    ),
    before=st.dictionaries(
        st.sampled_from(["template", "default_system", "temperature", "top_k", "x"]), values, max_size=3
    ),
    port=st.integers(1, 65535) | st.integers(65295, 65535),
    gpus=st.sampled_from(["auto", {"auto": 2}, [0], [6, 7], [0, 99], []]),
    count=st.sampled_from([0, 1, 8]),
)
def test_any_options_come_to_a_plan_or_to_named_mistakes(
    options: dict[str, Any], before: dict[str, Any], port: int, gpus: Any, count: int
) -> None:
    predecessor = {"engine": "llamafactory", "environment": "llamafactory", "gpus": "auto", "options": before}
    service = {"options": options, "port": port, "gpus": gpus, "predecessor": predecessor}
    try:
        described(service)
    except DeployError as error:
        assert error.detail
        return
    for one in planned(service, host=host_facts(count)).findings:
        assert one.message
        assert one.fix
        assert "\n" not in str(one)


def test_a_predecessor_that_finds_no_gpu_for_it_is_found_before_anyone_needs_it() -> None:
    before = {"engine": "llamafactory", "environment": "llamafactory", "gpus": {"auto": 2}}
    plan = planned({"predecessor": before, "gpus": [0, 1]})
    assert plan.gpus["code2sql.predecessor"] == ("0", "1")
    plan = planned({"predecessor": {**before, "gpus": {"auto": 9}}})
    subjects = {one.subject for one in plan.findings if one.id == "gpu-unavailable"}
    assert subjects == {"inference_services[code2sql].predecessor.gpus"}


def test_a_rollback_that_would_find_its_gpu_taken_is_warned_of() -> None:
    before = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [0]}
    other = {"name": "other", "port": 8002, "gpus": [0], "options": {}}
    plan = planned({"predecessor": before}, other)
    (one,) = [one for one in plan.findings if one.id == "gpu-repeated"]
    assert (one.severity, one.subject) == ("warning", "inference_services[code2sql].predecessor.gpus")


def test_a_predecessor_that_was_started_by_hand_counts_as_ended() -> None:
    facts = gpu_facts(processes=[Process(7, 42, 31_000, "python")], users={42: "me"})
    listener = Listener(8001, "pid 42 of me: python -m llamafactory.cli", pids=(41, 42))
    before = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [7], "options": {"template": "qwen"}}
    free = planned({"predecessor": before}).services[0].pool
    plan = planned({"predecessor": before}, host=host_facts(facts, listeners=(listener,)))
    assert plan.services[0].pool == free
    found = {one.id for one in plan.findings}
    assert "predecessor-by-hand" in found
    assert not found & {"gpu-busy", "port-taken", "gpu-memory-uneven", "predecessor-overlap"}
    # On the port alone, or on the GPU alone, it is a stranger.
    elsewhere = dataclasses.replace(listener, pids=(9,))
    strange = {
        one.id for one in planned({"predecessor": before}, host=host_facts(facts, listeners=(elsewhere,))).findings
    }
    assert strange >= {"gpu-busy", "port-taken", "predecessor-overlap"}


def test_what_a_rollout_adopts_counts_as_ended_whatever_the_description_says_of_it() -> None:
    facts = gpu_facts(processes=[Process(7, 42, 31_000, "python")], users={42: "me"})
    listener = Listener(8001, "LLaMA-Factory, pid 42 of me", pids=(41, 42), adopts="llamafactory")
    plan = planned(host=host_facts(facts, listeners=(listener,)))
    assert plan.services[0].pool == planned().services[0].pool
    (said,) = [one for one in plan.findings if one.id == "service-adopted"]
    assert (said.severity, said.message.partition(" serves")[0]) == (INFO, "LLaMA-Factory, pid 42 of me")
    assert not {one.id for one in plan.findings} & {"gpu-busy", "port-taken", "predecessor-by-hand"}


def test_a_log_that_nothing_rotates_is_told_of_what_was_started_by_hand_and_of_nothing_else() -> None:
    listener = Listener(8001, "LLaMA-Factory, pid 42 of me", pids=(42,), adopts="llamafactory", log="/home/me/a.log")
    (said,) = [one for one in planned(host=host_facts(listeners=(listener,))).findings if one.id == "log-unrotated"]
    assert (said.severity, said.subject) == (INFO, f"{KEY}.port")
    assert said.message == "LLaMA-Factory, pid 42 of me writes to /home/me/a.log, which nothing rotates"
    rotated = dataclasses.replace(listener, log="")
    for host in (host_facts(listeners=(rotated,)), host_facts()):
        for supervisor in ("process", "systemd"):
            assert "log-unrotated" not in ids(planned(host=host, supervisor=supervisor))


def test_memory_that_no_process_shows_is_the_service_s_that_runs_there() -> None:
    facts = gpu_facts(used={6: 60_000, 7: 60_000})
    running = Running("0123456789ab", "sglang", "code2sql", "m-0123456789ab", 8001, ("6", "7"), True)
    assert "does-not-fit" not in {
        one.id for one in planned(host=host_facts(facts, services={"code2sql": running})).findings
    }
    alone = planned(host=host_facts(facts)).services[0].pool
    own = planned(host=host_facts(facts, services={"code2sql": running})).services[0].pool
    assert alone is not None and own is not None
    assert own.available == alone.available + 60_000 * 2**20


def test_what_a_service_says_of_a_finding_counts_for_its_port_and_gpus_too() -> None:
    facts = host_facts(
        gpu_facts(trouble={7: ["parity"], 0: ["sram"]}), listeners=(Listener(8001, "pid 9 of alice: nc"),)
    )
    plan = planned({"findings": {"gpu-trouble": "accepted", "port-taken": "accepted"}}, host=facts)
    severities = {(one.id, one.subject): one.severity for one in plan.findings}
    assert severities[("gpu-trouble", "GPU 7")] == severities[("port-taken", "port 8001")] == "accepted"
    assert severities[("gpu-trouble", "GPU 0")] == "warning"  # no service uses it
    assert len(severities) == len(plan.findings)


def test_gpus_of_deployed_services_are_nobody_else_s_choice() -> None:
    running = Running("0123456789ab", "sglang", "old", "m-0123456789ab", 8002, ("0", "1"), False)
    new = {"gpus": "auto"}
    old = {"name": "old", "port": 8002, "gpus": "auto"}
    for described_as in ((new, old), (old, new)):
        plan = planned(*described_as, host=host_facts(services={"old": running}))
        assert plan.gpus["old"] == ("0", "1")
        assert plan.gpus["code2sql"] == ("2", "3")
