"""What the module documents is what it returns."""

from __future__ import annotations

from pathlib import Path

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.weights.verify import check_model
from ansible_collections.deployer.sglang.plugins.modules.model_verify import RETURN


def test_every_field_is_documented_with_its_type(tmp_path: Path) -> None:
    contains = yaml.safe_load(RETURN)["models"]["contains"]
    value = check_model(str(tmp_path), deep=False).as_dict()
    assert types_of(value) == types(contains)
    assert types_of(value["problems"][0]) == types(contains["problems"]["contains"])


def types(documented: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: value["type"] for name, value in documented.items()}


def types_of(value: dict[str, object]) -> dict[str, str]:
    return {name: type(one).__name__ for name, one in value.items()}
