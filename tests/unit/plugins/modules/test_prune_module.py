"""What the module documents is what it returns."""

from __future__ import annotations

from pathlib import Path

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.pruning import rules
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.prune import prune
from ansible_collections.deployer.sglang.plugins.modules.prune import DOCUMENTATION, RETURN, difference
from tests.doubles.pruned_host import NOW, PrunedHost


def test_every_field_is_documented(tmp_path: Path) -> None:
    host = PrunedHost(tmp_path)
    host.model("m")
    result = prune(str(tmp_path), rules.Rules(), now=NOW, check=True)
    documented = yaml.safe_load(RETURN)
    assert set(result) == {"changed", *documented}
    (row,) = result["removed"]
    types = {name: value["type"] for name, value in documented["removed"]["contains"].items()}
    assert {name: type(value).__name__ for name, value in row.items()} == types
    constants = [value for name, value in vars(rules).items() if name.isupper() and isinstance(value, str)]
    kinds = [value for value in constants if value != rules.RELEASE_VARIABLE]
    described = str(documented["removed"]["contains"]["kind"]["description"])
    assert [kind for kind in kinds if f"V({kind})" not in described] == []


def test_defaults_are_those_of_the_rules() -> None:
    options = yaml.safe_load(DOCUMENTATION)["options"]
    assert (options["keep"]["default"], options["min_age"]["default"]) == (rules.Rules().keep, rules.Rules().min_age)


def test_the_difference_names_what_goes() -> None:
    cache = {"path": "/r/cache/wheels"}
    result = {"removed": [{"path": "/r/a"}, cache], "kept": [{"path": "/r/b"}, cache]}
    assert difference(result) == {
        "before": "/r/a\n/r/b\n/r/cache/wheels\n/r/cache/wheels (unused wheels)\n",
        "after": "/r/b\n/r/cache/wheels\n",
    }
