"""What the module documents is what it returns."""

from __future__ import annotations

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.prefixes import PrefixFacts
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sizes import Size
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.survey import Environment, read_environments
from ansible_collections.deployer.sglang.plugins.modules.conda_env_info import RETURN


def test_every_field_is_documented_with_its_type() -> None:
    documented = yaml.safe_load(RETURN)
    result = read_environments("/nowhere", everyone=False, budget=5)
    assert types_of(result) == types(documented)
    one = Environment("/x", facts=PrefixFacts(), size=Size(1)).as_dict()
    contains = documented["environments"]["contains"]
    assert types_of(one) == types(contains)
    assert types_of(one["used_by"]) == types(contains["used_by"]["contains"])


def types(documented: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: value["type"] for name, value in documented.items()}


def types_of(value: dict[str, object]) -> dict[str, str]:
    return {name: type(one).__name__ for name, one in value.items()}
