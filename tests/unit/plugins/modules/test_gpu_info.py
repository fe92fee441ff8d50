"""What the module documents is what it returns."""

from __future__ import annotations

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import parse_query
from ansible_collections.deployer.sglang.plugins.modules.gpu_info import RETURN
from tests.doubles import nvidia_smi


def test_every_field_is_documented_with_its_type() -> None:
    facts = parse_query(nvidia_smi.host(count=2)).as_dict()
    documented = yaml.safe_load(RETURN)
    assert {name: type(value).__name__ for name, value in facts.items()} == types(documented)
    gpu = facts["gpus"][0]
    assert {name: type(value).__name__ for name, value in gpu.items()} == types(documented["gpus"]["contains"])


def types(documented: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: value["type"] for name, value in documented.items()}
