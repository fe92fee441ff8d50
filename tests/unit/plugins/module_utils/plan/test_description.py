"""What a description alone gives away."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.plan.description import description_findings
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import ERROR, WARNING, Finding
from tests.doubles.hosts import MODEL, described

LLAMAFACTORY: dict[str, Any] = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [5]}
BEFORE = {**LLAMAFACTORY, "port": 8000, "model": {"name": "code2sql", "source": MODEL}}
UNNAMED = {"source": MODEL}


def found(**changes: Any) -> dict[str, Finding]:
    """The findings of a service, by id; of each id one."""
    findings = description_findings(described(changes)[0])
    assert len({one.id for one in findings}) == len(findings)
    return {one.id: one for one in findings}


def test_a_plain_service_has_nothing_to_be_found() -> None:
    assert found() == {}
    assert found(predecessor=BEFORE) == {}, "one with a port and a GPU of its own neither"


@pytest.mark.parametrize(
    ("options", "severity", "message", "fix"),
    [
        ({"tensor_parallel_size": 2, "tp_size": 2}, WARNING, "2 spellings", "remove tp_size"),
        ({"tp": "2", "tp_size": 2}, WARNING, "2 spellings", "remove tp, tp_size"),
        ({"tp-size": 2, "tp": 4}, ERROR, "tp_size: 2 and tp: 4 are one option in 2 spellings, with different", "tp"),
        ({"tensor_parallel_size": 2, "tp": 2, "tp_size": 2}, WARNING, "3 spellings", "remove tp, tp_size"),
        ({"tp_size": 2, "nccl_init_addr": "a:1", "dist_init_addr": "b:2"}, ERROR, "a:1", "remove nccl_init_addr"),
    ],
)
def test_an_option_in_two_spellings_is_kept_in_one(
    options: dict[str, Any], severity: str, message: str, fix: str
) -> None:
    (one,) = found(options=options).values()
    assert (one.id, one.severity, one.subject) == (
        "parallelism-repeated",
        severity,
        "inference_services[code2sql].options",
    )
    assert message in one.message
    assert fix in one.fix


@pytest.mark.parametrize(
    ("changes", "identifiers", "message"),
    [
        ({"gpus": [6, 7, 6]}, {"gpu-repeated"}, "GPU 6 is listed twice"),
        ({"gpus": [5, 6, 7]}, {"gpu-count"}, "3 GPUs are given and the parallelism needs 2"),
        ({"gpus": [5]}, {"gpu-count"}, "1 GPU is given and the parallelism needs 2"),
        ({"gpus": {"auto": 4}}, {"gpu-count"}, "4 GPUs are given"),
        ({"options": {"tp": 4, "nnodes": 2}}, {"gate-impossible"}, "hosts are switched one after another"),
        ({"options": {"tp": 4, "nnodes": 4}}, {"gpu-count", "gate-impossible"}, ""),
        ({"gpus": []}, {"gpu-count"}, "0 GPUs are given and the parallelism needs 2"),
        ({"gpus": [], "options": {"device": "cpu"}}, set(), ""),
        ({"options": {"tp": 2, "ep": 4}}, {"parallelism-impossible"}, "no multiple of expert parallelism 4"),
        ({"options": {"tp": 2, "moe_a2a_backend": "deepep"}}, set(), ""),
        ({"options": {"tp": 2, "attn_dp_size": 3}}, {"parallelism-impossible"}, "no multiple of 3 attention groups"),
        ({"options": {"tp": 2, "disaggregation_mode": "prefill"}}, {"gate-impossible"}, "without its router"),
        ({"options": {"tp": 2, "ssl_certfile": "/c"}}, {"gate-impossible"}, "speaks TLS"),
        ({"options": {"tp": 2, "dp": 2, "enable_dp_attention": True}}, set(), ""),
        ({"options": {"tp": 2, "dp": 2}}, {"gpu-count"}, "needs 4"),
        ({**LLAMAFACTORY, "gpus": [1, 2, 3], "options": {}, "environment_variables": {"API_VERBOSE": 0}}, set(), ""),
    ],
)
def test_the_number_of_gpus_is_what_the_parallelism_needs(
    changes: dict[str, Any], identifiers: set[str], message: str
) -> None:
    findings = found(**changes)
    assert set(findings) == identifiers
    assert all(message in one.message for one in findings.values())


def test_a_predecessor_is_looked_at_too() -> None:
    before = {
        "engine": "sglang",
        "environment": "sglang",
        "gpus": [1, 1],
        "port": 8000,
        "options": {"tp": 1, "tp_size": 2, "api_key": "x"},
    }
    findings = found(predecessor=before)
    assert set(findings) == {"gpu-repeated", "parallelism-repeated", "api-key-in-argv"}
    assert all(one.subject.startswith("inference_services[code2sql].predecessor.") for one in findings.values())


def test_a_secret_is_named_and_not_shown() -> None:
    findings = found(options={"tp": 2, "api-key": "hunter2"})
    assert findings["api-key-in-argv"].subject == "inference_services[code2sql].options.api_key"
    assert "hunter2" not in str(findings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_port_is_named(host: str) -> None:
    (one,) = found(host=host).values()
    assert (one.id, one.subject) == ("open-without-key", "inference_services[code2sql].host")


@pytest.mark.parametrize(("port", "privileged"), [(1, True), (1023, True), (1024, False), (65535, False)])
def test_a_port_below_1024_takes_root(port: int, privileged: bool) -> None:
    assert ("port-privileged" in found(port=port)) == privileged


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        ({}, False),
        ({"log_requests": False}, False),
        ({"log_requests": True}, True),
        ({"log_requests": True, "log_requests_level": 1}, False),
        ({"log_requests": True, "log_requests_level": "0"}, False),
        ({"log_requests": True, "log_requests_level": 2}, True),
        ({"log_requests": True, "log_requests_level": "3"}, True),
        ({"log_requests_level": 3}, False),
    ],
)
def test_prompts_are_logged_from_level_two_and_where_no_level_is_given(options: dict[str, Any], logged: bool) -> None:
    findings = found(options={"tp": 2, **options})
    assert set(findings) == ({"prompts-logged"} if logged else set())
    assert all("log_requests_level: 1" in one.fix for one in findings.values())


@pytest.mark.parametrize(
    ("variables", "logged"), [({}, True), ({"API_VERBOSE": "1"}, True), ({"API_VERBOSE": 0}, False)]
)
def test_llamafactory_logs_prompts_unless_it_is_told_not_to(variables: dict[str, Any], logged: bool) -> None:
    assert ("prompts-logged" in found(**LLAMAFACTORY, options={}, environment_variables=variables)) == logged


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "All_Proxy"])
def test_a_proxy_is_named_in_whatever_case(name: str) -> None:
    (one,) = found(environment_variables={name: "http://proxy:3128"}).values()
    assert (one.id, one.subject) == ("proxy-variables", f"inference_services[code2sql].environment_variables.{name}")


@pytest.mark.parametrize(
    ("changes", "identifier", "severity", "says"),
    [
        ({"model": UNNAMED}, "served-name-lost", WARNING, "without a name the model would be served as 'qwen3-14b-ft"),
        ({"model": UNNAMED, "predecessor": BEFORE}, "served-name-lost", ERROR, "set model.name: code2sql"),
        ({"model": {"name": "", "source": MODEL}}, "served-name-lost", WARNING, "set model.name to what clients send"),
        ({"model": {"name": "a", "source": MODEL}, "predecessor": BEFORE}, "served-name-differs", ERROR, "'code2sql'"),
        ({"predecessor": {**BEFORE, "model": UNNAMED}}, "", "", ""),
    ],
)
def test_the_name_that_clients_send_goes_on_meaning_the_model(
    changes: dict[str, Any], identifier: str, severity: str, says: str
) -> None:
    findings = found(**changes)
    assert set(findings) == {identifier} - {""}
    for one in findings.values():
        assert (one.severity, one.subject) == (severity, "inference_services[code2sql].model.name")
        assert says in str(one)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ({}, "the predecessor has port 8001 too"),
        ({"gpus": [7]}, "the predecessor has port 8001 and GPU 7 too"),
        ({"gpus": [7, 6], "port": 8000}, "the predecessor has GPU 6 and GPU 7 too"),
        ({"gpus": [7, 6]}, "the predecessor has port 8001, GPU 6 and GPU 7 too"),
    ],
)
def test_what_old_and_new_both_need_is_said(before: dict[str, Any], message: str) -> None:
    (one,) = found(predecessor={**LLAMAFACTORY, **before}).values()
    assert one.id == "predecessor-overlap"
    assert one.message.startswith(message)
