"""What has to be true of a host: every check, just well enough and just not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, Listener
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import CATALOGUE, WARNING
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_checks import (
    Check,
    check_host,
    failed,
    version_of,
)
from tests.doubles.hosts import GIB, ROOT, described, environment, gpu_facts, host_facts
from tests.doubles.nvidia_smi import Process

CPU: dict[str, Any] = {"gpus": [], "options": {}}


def checks(
    facts: dict[str, Any],
    supervisor: str = "systemd",
    needed: int = 0,
    service: dict[str, Any] | None = None,
    **changes: Any,
) -> list[Check]:
    host = host_facts(**facts)
    return check_host(host, ROOT, supervisor, needed, described(service or {}), [environment(**changes)])


@pytest.mark.parametrize(("transfer", "found"), [(0, []), (1, ["host-platform"])])
def test_another_processor_will_do_where_no_environment_is_built(transfer: int, found: list[str]) -> None:
    assert [one.id for one in failed(checks({"machine": "aarch64"}, transfer=transfer))] == found


def test_a_host_that_is_well_passes_every_check_and_says_what_was_seen() -> None:
    found = checks({"listeners": (Listener(8001, "service code2sql", "code2sql"),)})
    assert list(failed(found)) == []
    assert all(check.name and check.detail for check in found)
    assert len({check.name for check in found}) == len(found)
    assert {check.name: check.detail for check in found}["port 8001"] == "held by service code2sql"


@pytest.mark.parametrize(
    ("identifier", "well", "ill", "said"),
    [
        ("host-python", {"python": "3.9.0"}, {"python": "3.8.20"}, "3.8.20 is older than 3.9"),
        ("host-python", {"python": "3.14.0rc1"}, {"python": ""}, "older than 3.9"),
        ("host-platform", {}, {"system": "Darwin"}, "is Darwin x86_64"),
        ("host-platform", {"glibc": ""}, {"system": "Darwin"}, "is Darwin x86_64"),
        ("host-supervisor", {}, {"systemd": False}, "inference_supervisor: process"),
        ("host-supervisor", {}, {"uid": 1000}, "ansible_become: true"),
        ("host-root", {}, {"root_writable": False}, "/opt/inference: /opt cannot be written to by uid 0"),
        ("host-name", {}, {"address": ""}, "add '127.0.1.1 gpu-1' to /etc/hosts"),
        ("host-nofile", {"nr_open": 65536}, {"nr_open": 65535}, "sysctl -w fs.nr_open=1048576"),
        ("host-nofile", {"nofile": 1024}, {"nr_open": 1024}, "1024 open files are allowed and 65536"),
        ("host-shm", {"shm": 2 * GIB}, {"shm": 64 << 20}, "0.1 GiB for 2 GPU(s)"),
        ("gpu-driver", {"gpus": 8}, {"gpus": 0}, "GPUs: nvidia-smi is not installed"),
        (
            "port-taken",
            {},
            {"listeners": (Listener(8001, "pid 9 of alice: nc"),)},
            "8001: is held by pid 9 of alice: nc",
        ),
        ("port-taken", {"listeners": (Listener(8002, "x"),)}, {"listeners": (Listener(8001, "service b", "b"),)}, "b"),
        ("glibc-too-old", {"glibc": "2.28"}, {"glibc": "2.17"}, "need glibc 2.28 and this host has 2.17"),
        ("glibc-too-old", {"glibc": ""}, {"glibc": "2.9"}, "sglang"),
        (
            "driver-too-old",
            {"gpus": gpu_facts(driver="525.60.13")},
            {"gpus": gpu_facts(driver="515.105.01")},
            "CUDA 12.8, which needs driver 525.60.13; this host has 515.105.01",
        ),
    ],
)
def test_a_check_fails_with_its_finding_and_only_then(
    identifier: str, well: dict[str, Any], ill: dict[str, Any], said: str
) -> None:
    assert list(failed(checks(well))) == []
    (one,) = failed(checks(ill))
    assert (one.id, one.severity) == (identifier, CATALOGUE[identifier])
    assert said in str(one)


@pytest.mark.parametrize(
    ("facts", "supervisor", "identifiers"),
    [
        ({"nofile": 1024, "memlock": 65536}, "systemd", []),
        ({"nofile": 1024, "memlock": 65536}, "process", ["host-nofile", "host-memlock"]),
        ({"nofile": UNLIMITED, "nr_open": UNLIMITED}, "process", []),
        ({"systemd": False, "uid": 1000, "nr_open": 1}, "process", []),
    ],
)
def test_limits_are_those_that_count_for_the_supervisor(
    facts: dict[str, Any], supervisor: str, identifiers: list[str]
) -> None:
    assert [one.id for one in failed(checks(facts, supervisor))] == identifiers


def test_the_disk_holds_what_is_needed_to_the_byte() -> None:
    assert list(failed(checks({"disk_free": 5 * GIB}, needed=5 * GIB))) == []
    (one,) = failed(checks({"disk_free": 5 * GIB - 1}, needed=5 * GIB))
    assert (one.id, one.subject) == ("host-disk", "/opt")


def test_a_service_without_gpus_asks_nothing_of_them() -> None:
    assert list(failed(checks({"gpus": 0, "shm": 0, "memlock": 0}, "process", service=CPU))) == []
    (one,) = failed(checks({"gpus": gpu_facts(trouble={0: ["lost"]}), "shm": 0}, service=CPU))
    assert one.id == "gpu-trouble", "of those that are there one still wants to know"


def test_auto_counts_as_the_gpus_that_it_will_come_to() -> None:
    (one,) = failed(checks({"gpus": 0}, service={"gpus": "auto"}))
    assert one.id == "gpu-driver"


def test_a_driver_that_complains_beside_its_gpus_is_a_warning() -> None:
    facts = dataclasses.replace(gpu_facts(), problem="nvidia-smi topo -m: exit status 1")
    (one,) = failed(checks({"gpus": facts}))
    assert (one.id, one.severity) == ("gpu-driver", WARNING)


def test_a_gpus_line_says_who_uses_it_and_what_ails_it() -> None:
    facts = gpu_facts(
        2, processes=[Process(0, 8, 1024), Process(0, 9, 1024)], users={8: "alice"}, trouble={1: ["sram"]}
    )
    details = {check.name: check.detail for check in checks({"gpus": facts}, service=CPU)}
    assert details["GPU 0"] == "NVIDIA H100 80GB HBM3, 77.2 of 79.6 GiB free, used by alice, somebody"
    assert details["GPU 1"].endswith("uncorrectable ECC errors since the driver was loaded: 1 (SRAM SECDED)")


@pytest.mark.parametrize(
    ("cuda", "compared"),
    [
        *((known, True) for known in ("13", "13.0", "12.8", "11.8")),
        *((other, False) for other in ("", "10.2", "14.0", "12.8rc1.0", "x", ".")),
    ],
)
def test_any_cuda_version_is_compared_or_left_alone(cuda: str, compared: bool) -> None:
    old = {"gpus": gpu_facts(driver="418.40.04")}
    assert [one.id for one in failed(checks(old, cuda=cuda))] == ["driver-too-old"] * compared


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("580.159.04", (580, 159, 4)), ("2.36", (2, 36)), ("", ()), ("2.x", ()), ("²", ()), ("1..2", ()), ("-1", ())],
)
def test_a_version_is_numbers_or_nothing(text: str, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers
