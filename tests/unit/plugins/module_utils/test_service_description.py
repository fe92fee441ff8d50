"""The service description: what is accepted, and how each mistake is named."""

from __future__ import annotations

import copy
import dataclasses
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    Gate,
    Generation,
    Handover,
    LoadGate,
    ParityGate,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    parse_services,
    placement_problems,
)

ENVIRONMENTS = {"sglang": {"lock": "environments/sglang"}, "llamafactory": {"prefix": "/opt/conda/envs/lf"}}
SERVICE: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"name": "code2sql", "source": "/data/saves/qwen3"},
    "gpus": [6, 7],
    "engine": "sglang",
    "environment": "sglang",
    "options": {"tensor-parallel-size": 2, "enable_metrics": True},
    "predecessor": {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "gpus": [7],
        "options": {"template": "qwen"},
    },
}


def problems(*changes: tuple[str, Any], environments: Any = ENVIRONMENTS) -> str:
    service = copy.deepcopy(SERVICE)
    for path, value in changes:
        *parents, key = path.split(".")
        where = service
        for parent in parents:
            where = where[parent]
        where[key] = value
    with pytest.raises(DeployError) as raised:
        parse_services([service], environments)
    return raised.value.detail


def test_a_description_becomes_data() -> None:
    (service,), environments = parse_services([SERVICE], ENVIRONMENTS)
    assert service.gpus == ("6", "7")
    assert service.options == {"tensor_parallel_size": 2, "enable_metrics": True}
    assert environments["llamafactory"].prefix == "/opt/conda/envs/lf"


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "KEYBOARD", "PASSES", "AUTHOR", "NCCL_DEBUG"])
def test_a_harmless_variable_is_no_secret(name: str) -> None:
    (service,), _ = parse_services([{**SERVICE, "environment_variables": {name: "x"}}], ENVIRONMENTS)
    assert service.environment_variables == {name: "x"}


def test_a_prefix_has_one_spelling() -> None:
    _, environments = parse_services([SERVICE], {**ENVIRONMENTS, "sglang": {"prefix": "/opt/conda/envs/sglang/"}})
    assert environments["sglang"].prefix == "/opt/conda/envs/sglang"


def test_gpus_can_be_left_to_the_plan() -> None:
    for gpus, count in (("auto", 2), ({"auto": 4}, 4), ([], 0), (None, 0)):
        (service,), _ = parse_services([{**SERVICE, "gpus": gpus}], ENVIRONMENTS)
        assert (service.gpus, service.auto_gpus) == ((), count)


def test_the_value_of_an_option_that_would_show_a_secret_is_kept_nowhere() -> None:
    for value in ("hush-hush", 123456):
        (service,), _ = parse_services([{**SERVICE, "options": {"api-key": value}}], ENVIRONMENTS)
        assert service.exposed == ("api_key",)
        assert str(value) not in repr(service)


def test_a_model_without_a_name_has_its_folder_s() -> None:
    (service,), _ = parse_services([{**SERVICE, "model": {"source": "/data/saves/qwen3/"}}], ENVIRONMENTS)
    assert (service.model.name, service.model.named) == ("qwen3", False)


def test_a_gate_and_a_gateway_become_data() -> None:
    generations = [{"prompt": "1+1?", "pattern": r"\b2\b", "max_latency": "2.5", "max_tokens": 4}, {"prompt": "Hi"}]
    gateway = {"drain": ["lb", "drain", 8001], "restore": ["lb", "restore"], "timeout": 5}
    compared = {"parity": "text", "load": {"rates": ["1", "max"], "no_worse": "1.2"}}
    raw = {**SERVICE, "gate": {"ready_timeout": "900", "generations": generations, **compared}, "gateway": gateway}
    (service,), _ = parse_services([raw], ENVIRONMENTS)
    assert service.gate == Gate(
        ready_timeout=900,
        generations=(Generation("1+1?", r"\b2\b", 2.5, 4), Generation("Hi", "", 0, 64)),
        parity=ParityGate("text"),
        load=LoadGate((1.0, "max"), no_worse=1.2),
    )
    assert service.handover == Handover(30, ("lb", "drain", "8001"), ("lb", "restore"), 5)
    assert service.predecessor is not None
    # What is asked of the new one must not close the way back; what a predecessor says of itself counts.
    assert service.predecessor.gate == dataclasses.replace(service.gate, generations=(), parity=None, load=None)
    assert service.predecessor.handover == service.handover
    own = {**SERVICE["predecessor"], "gate": {"generations": generations}}
    (service,), _ = parse_services([{**raw, "predecessor": own}], ENVIRONMENTS)
    assert service.predecessor is not None and len(service.predecessor.gate.generations) == 2


def test_a_gate_and_a_handover_survive_json() -> None:
    gate = Gate(ready_timeout=7, generations=(Generation("1+1?", "2", 2.5, 4),))
    assert Gate.from_dict({**json.loads(json.dumps(dataclasses.asdict(gate))), "later": 1}) == gate
    handover = Handover(5, ("a", "b"), ("c",), 9)
    assert Handover.from_dict(json.loads(json.dumps(dataclasses.asdict(handover)))) == handover
    assert (Gate.from_dict({}), Handover.from_dict({})) == (Gate(), Handover())


def test_a_predecessor_inherits_what_it_does_not_say() -> None:
    (service,), _ = parse_services([SERVICE], ENVIRONMENTS)
    assert service.predecessor is not None
    assert (service.predecessor.name, service.predecessor.port) == ("code2sql", 8001)
    assert service.predecessor.model == service.model
    assert service.predecessor.gpus == ("7",)
    assert service.predecessor.predecessor is None


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("port", 70000, "code2sql].port: is 70000. Fix: give a whole number from 1 to 65535"),
        ("port", True, "code2sql].port: is True"),
        ("prot", 1, "code2sql].prot: unknown key. Fix: did you mean port?"),
        ("engine", "sglan", "code2sql].engine: is 'sglan'"),
        ("environment", "sgl", "code2sql].environment: 'sgl' is not described"),
        ("gpus", "every", "or auto, or {auto: 2}"),
        ("gpus", {"auto": 0}, "gpus.auto: is 0. Fix: give a whole number from 1 to 64"),
        ("gpus", ["GPU 6"], "'GPU 6' is neither a GPU index nor a UUID"),
        ("options.port", 9, "options.port: is set by the deployment. Fix: use port of the service instead"),
        ("environment_variables", {"HF_TOKEN": "x"}, "world-readable"),
        ("environment_variables", {"A-B": "x"}, "is no name of an environment variable"),
        ("model.source", "", "code2sql].model.source: is missing"),
        ("gate", {"redy_timeout": 3}, "did you mean ready_timeout?"),
        ("gate", {"progress_timeout": 0}, "gate.progress_timeout: is 0. Fix: give a whole number from 1 to 86400"),
        ("gate", {"generations": "1+1"}, "gate.generations: is str, and no list"),
        ("gate", {"generations": [{"pattern": "2"}]}, "gate.generations[0].prompt: is missing"),
        ("gate", {"generations": [{"prompt": "1+1?", "patern": "2"}]}, "generations[0].patern: unknown key"),
        ("gate", {"generations": [{"prompt": "1+1?", "pattern": "(2"}]}, "pattern: '(2' is no regular expression"),
        ("gate", {"generations": [{"prompt": "1+1?", "pattern": 2}]}, "quote it: it is a regular expression"),
        ("gate", {"generations": [{"prompt": "1+1?", "max_latency": "soon"}]}, "max_latency: is 'soon'"),
        ("gate", {"generations": [{"prompt": "1+1?", "max_latency": float("nan")}]}, "max_latency: is nan"),
        ("gate", {"parity": "texts"}, "gate.parity: is 'texts'. Fix: use rendering"),
        ("gate", {"parity": True}, "gate.parity: is bool, and no mapping"),
        ("gate", {"parity": {"compare": "all"}}, "gate.parity.compare: is 'all'"),
        ("gate", {"parity": {"prompt": ["a"]}}, "gate.parity.prompt: unknown key. Fix: did you mean prompts?"),
        ("gate", {"parity": {"prompts": "a"}}, "gate.parity.prompts: is str, and no list"),
        ("gate", {"parity": {"prompts": ["a", [{"role": "me"}]]}}, "gate.parity.prompts[1]: is no prompt"),
        ("gate", {"load": {"rates": 4}}, "gate.load.rates: is 4. Fix: list requests in a second"),
        ("gate", {"load": {"rates": [0]}}, "gate.load.rates[0]: is 0. Fix: give a number from 0.001 to 1000"),
        ("gate", {"load": {"rates": [1, 2], "requests": 6000}}, "gate.load.requests: are over 10,000 in all"),
        ("gate", {"parity": {"prompts": ["a"] * 1001}}, "gate.parity.prompts: are 1,001. Fix: give 1,000 at most"),
        ("gate", {"parity": {"prompts": [[{"role": "user", "content": date.min}]]}}, "prompts[0]: is no prompt"),
        ("gate", {"load": {"requests": 4000, "rates": ["max", 1]}}, "take 4,000 s to be sent at these rates"),
        ("gate", {"load": {"rates": [1] * 21, "requests": 1}}, "gate.load.rates: are 21. Fix: give 20 at most"),
        ("gate", {"load": {"no_worse": "soon"}}, "gate.load.no_worse: is 'soon'"),
        ("gate", {"load": {"max_failures": -1}}, "gate.load.max_failures: is -1"),
        ("predecessor.gate", {"load": {}}, "predecessor.gate.load: is not allowed: no way back is judged"),
        ("drain_timeout", -1, "drain_timeout: is -1. Fix: give a whole number from 0 to 3600"),
        (
            "gateway",
            {"drain": "drain.sh 8001"},
            "gateway.drain: is str, and no list. Fix: give the words of the command",
        ),
        ("gateway", {"drain": ["drain.sh"]}, "gateway.restore: is missing"),
        (
            "gateway",
            {"drain": ["curl", "-H", "Authorization: Bearer hush"]},
            "gateway.drain: would stand in a world-readable",
        ),
        ("gateway", {"restore": ["x", None]}, "None is no word of a command"),
        ("gateway", {"drian": ["x"]}, "did you mean drain?"),
        ("predecessor.engine", "vllm", "predecessor.engine: is 'vllm'"),
        ("name", "Code 2 SQL", "name: is 'Code 2 SQL'"),
        ("name", "code2sql\n", "name: is 'code2sql\\n'"),
        ("model.name", "x\ny", "model.name: is 'x\\ny'"),
        ("host", "0.0.0.0 --trust-remote-code", "host: is '0.0.0.0 --trust-remote-code'"),
        ("port", float("inf"), "port: is inf"),
        ("port", 8001.9, "port: is 8001.9"),
        ("options.no flag", 1, "is no name of a flag"),
        ("options.tensor_parallel_size", 2, "is given twice, with - and with _"),
        ("options.pp_size", "two", "options.pipeline_parallel_size is 'two'"),
        ("findings", {"gpu-bussy": "accepted"}, "findings.gpu-bussy: is no finding. Fix: did you mean gpu-busy?"),
        ("findings", {"gpu-busy": "fine"}, "use one of error, warning, info, accepted"),
        ("findings", {"api-key-in-argv": "accepted"}, "findings.api-key-in-argv: cannot be accepted"),
        ("predecessor.findings", {}, "predecessor.findings: is not allowed"),
        ("environment_variables", {"AWS_SECRET_ACCESS_KEY": "x"}, "world-readable"),
        ("environment_variables", {"HF_TOKEN_2": "x"}, "world-readable"),
        ("environment_variables", {"DB_PASS": "x"}, "world-readable"),
        ("environment_variables", {"HTTPS_PROXY": "http://bob:hush@proxy:3128"}, "world-readable"),
        ("options", "--api-key hush", "options: is str, and no mapping. Fix: write a mapping of key: value"),
        ("options.base_gpu_id", 4, "is set by the deployment. Fix: use gpus of the service instead"),
        ("model.name", "team:code2sql", "leave out the colon, which SGLang refuses in a served name"),
        ("environment_variables", {"CUDA_VISIBLE_DEVICES": "0"}, "is set by the deployment"),
        ("environment_variables", {"INFERENCE_RELEASE": "0"}, "is set by the deployment"),
        ("environment_variables", {"A": "x\0y"}, "is one line of text"),
        ("model.source", ["a"], "give one of PATH, HOST:/PATH"),
        ("model.source", "gpu1:saves", "gpu1:/"),
        ("model.source", "hf://Qwen3", "organisation"),
        ("model.exclude", "*.bin", "give a list of patterns"),
        ("model.include", ["a/../b"], "is no pattern"),
        ("model.fetch_on", "gpu1", "which nobody fetches"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_a_fix(path: str, value: Any, expected: str) -> None:
    found = problems((path, value))
    assert expected in found
    assert "Fix: " in found
    assert "hush" not in found


@pytest.mark.parametrize("root", ["inference", "~/inference", "/opt/in ference", "/opt/100%", "/opt/x\n", "", None])
def test_a_root_that_would_break_paths_or_units_is_named(root: Any) -> None:
    assert placement_problems("/opt/inference", "inference") == []
    assert "inference_root: is" in placement_problems(root, "inference")[0]


def test_all_mistakes_are_named_at_once() -> None:
    found = problems(("port", 0), ("engine", "x"))
    assert ".port" in found
    assert ".engine" in found


def test_an_environment_needs_a_lock_or_a_prefix() -> None:
    found = problems(("port", 8001), environments={**ENVIRONMENTS, "sglang": {}})
    assert "inference_environments.sglang: needs exactly one of lock and prefix" in found


def test_services_share_neither_port_nor_gpu() -> None:
    other = {**copy.deepcopy(SERVICE), "name": "other"}
    with pytest.raises(DeployError) as raised:
        parse_services([SERVICE, other], ENVIRONMENTS)
    assert "inference_services[other].port: 8001 is used by code2sql too" in raised.value.detail
    assert "inference_services[other].gpus: 6 is used by code2sql too" in raised.value.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from([*sorted(SERVICE), "gate", "gateway", "drain_timeout"]), value=json_values)
def test_any_value_of_any_key_is_accepted_or_explained(key: str, value: Any) -> None:
    try:
        parse_services([{**SERVICE, key: value}], ENVIRONMENTS)
    except DeployError as error:
        assert error.detail


@given(value=json_values)
def test_any_value_within_a_gate_or_a_gateway_is_accepted_or_explained(value: Any) -> None:
    gate = {"generations": [{"prompt": value, "pattern": value, "max_latency": value}]}
    for key, nested in (("gate", gate), ("gateway", {"drain": value, "restore": value, "timeout": value})):
        try:
            parse_services([{**SERVICE, key: nested}], ENVIRONMENTS)
        except DeployError as error:
            assert error.detail
