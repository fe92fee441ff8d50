"""The ports that an engine derives, and who has them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.ports import (
    DP_ATTENTION_NAMES,
    derived_ports,
    held_by,
)
from tests.doubles.hosts import described as services
from tests.doubles.hosts import host_facts, planned

ATTENTION = {"tensor_parallel_size": 2, "data_parallel_size": 2, "enable_dp_attention": True}


def derived(port: int = 8001, options: dict[str, Any] | None = None, **changes: Any) -> dict[int, str]:
    service = services({"port": port, "gpus": [], "options": options or {}, **changes})[0]
    canonical = engine_named(service.engine).canonical(service.options)
    return derived_ports(service, parallelism_of(service.engine, canonical), canonical)


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        ({}, []),
        ({"tensor_parallel_size": 8}, []),
        ({"nccl_port": 29500}, [29500]),
        ({"nccl_port": "29500"}, [29500]),
        ({"nccl_port": "any"}, []),
        ({"dist_init_addr": "10.0.0.5:5000"}, [5000]),
        ({"nccl_init_addr": "[::1]:5000"}, [5000]),
        ({"dist_init_addr": "10.0.0.5"}, []),
        ({"dist_init_addr": ["10.0.0.5:5000"]}, []),
        (ATTENTION, list(range(8234, 8241))),
        ({"tensor_parallel_size": 2, "attn_dp_size": 2}, list(range(8234, 8241))),
        ({**ATTENTION, "dist_init_addr": "10.0.0.5:5000"}, list(range(5000, 5007))),
        ({"disaggregation_mode": "prefill"}, [8998]),
        ({"disaggregation_mode": "prefill", "disaggregation_bootstrap_port": 9000}, [9000]),
        ({"disaggregation_mode": "decode", "disaggregation_bootstrap_port": 9000}, []),
        ({"smg_http_sidecar_port": 1, "engine_info_bootstrap_port": 2, "gated_launch_port": 3}, [1, 2, 3]),
    ],
)
def test_ports_beside_the_services_own_come_from_its_options(options: dict[str, Any], ports: list[int]) -> None:
    found = derived(options=options)
    assert list(found) == ports
    assert all(found.values())


def test_llamafactory_has_no_port_but_its_own() -> None:
    assert derived(engine="llamafactory", environment="llamafactory", options=ATTENTION) == {}


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        (65296, range(65529, 65536)),
        # PortArgs.init_new: from here on six ports do not fit above the first, and lie below it.
        (65297, (*range(65523, 65529), 65530)),
        (65302, (*range(65528, 65534), 65535)),
        (65303, range(65070, 65077)),
        (65535, range(65302, 65309)),
    ],
)
def test_derived_ports_stay_below_the_end_of_all_ports(port: int, ports: Any) -> None:
    found = derived(port, ATTENTION)
    assert tuple(found) == tuple(ports)
    assert len(found) == 1 + len(DP_ATTENTION_NAMES)


def test_a_listener_of_the_service_itself_holds_nothing() -> None:
    listeners = (
        Listener(8001, "service code2sql", "code2sql"),
        Listener(8001, "pid 9 of alice: nc"),
        Listener(80, "x"),
    )
    host = host_facts(listeners=listeners)
    assert held_by(8001, "code2sql", host) == ["pid 9 of alice: nc"]
    assert held_by(8001, "other", host) == ["service code2sql", "pid 9 of alice: nc"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nccl_port": 80}, "port 80: is used by the engine for NCCL (nccl_port), and is held by pid 9 of alice: nc"),
        (
            {"nccl_port": 8002},
            "port 8002: is used by the engine for NCCL (nccl_port), and is the port of service other",
        ),
        ({"nccl_port": 8001}, "port 8001: is used by the engine for NCCL (nccl_port), and is the service's own port"),
        ({"nccl_port": 8236}, "port 8236: is used by the engine for NCCL (nccl_port), and by that of service other"),
        (
            {"nccl_port": 70000},
            "port 70000: is used by the engine for NCCL (nccl_port), and is none: they end at 65535",
        ),
        ({"nccl_port": -1}, "port -1: is used by the engine for NCCL (nccl_port), and is none"),
        ({"dist_init_addr": "a:99999999999999999999"}, "port 99999999999999999999: is used by the engine for torch"),
        ({"nccl_port": 8003}, ""),
    ],
)
def test_a_derived_port_that_someone_has_is_named(options: dict[str, Any], said: str) -> None:
    host = host_facts(listeners=(Listener(80, "pid 9 of alice: nc"), Listener(8003, "service code2sql", "code2sql")))
    other = {"name": "other", "port": 8002, "gpus": [0, 1], "options": ATTENTION}
    plan = planned({"options": {"tp": 2, **options}}, other, host=host)
    found = [str(one) for one in plan.findings if one.id == "port-derived-taken"]
    assert bool(found) == bool(said)
    assert any(one.startswith(said) for one in found) or not said


def test_two_services_with_neighbouring_ports_collide_where_both_derive_more() -> None:
    both = {"options": ATTENTION}
    plan = planned(both, {"name": "other", "port": 8002, "gpus": [0, 1], **both})
    found = [one.subject for one in plan.findings if one.id == "port-derived-taken"]
    assert sorted(set(found)) == [f"port {port}" for port in range(8235, 8241)]
    apart = planned(both, {"name": "other", "port": 8010, "gpus": [0, 1], **both})
    assert not [one for one in apart.findings if one.id == "port-derived-taken"]


@pytest.mark.parametrize(
    ("port", "options", "subjects"),
    [
        (32767, {}, []),
        (32768, {}, ["port 32768"]),
        (60999, {}, ["port 60999"]),
        (61000, {}, []),
        (8001, {"nccl_port": 40000}, ["port 40000"]),
    ],
)
def test_a_port_that_the_kernel_hands_out_is_named(port: int, options: dict[str, Any], subjects: list[str]) -> None:
    plan = planned({"port": port, "options": {"tp": 2, **options}})
    assert [one.subject for one in plan.findings if one.id == "port-ephemeral"] == subjects
