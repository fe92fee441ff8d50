"""The file that is no YAML is found where Ansible does not name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.runs.problems import of_run
from deployer.runs.yaml_faults import with_origin

SAID = "[ERROR]: YAML parsing failed: While parsing a block collection, did not find expected '-' indicator.\n"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("secret: !vault |\n  $ANSIBLE_VAULT;1.1\n")
    (tmp_path / "hosts.yml").write_text("all: {}\n")
    return tmp_path / "hosts.yml"


def test_the_file_and_line_that_it_means_are_named(inventory: Path) -> None:
    broken = inventory.parent / "group_vars" / "gpu-nodes.yml"
    broken.write_text("inference_services:\n  - name: a\n  port: 8001\n")
    problem = of_run(with_origin(SAID, [str(inventory)]), 1)
    assert problem.where == f"{broken}:3:3"
    assert "While parsing a block collection" in problem.what and problem.fix == "mend that line"


def test_where_none_is_found_or_it_is_said_already_nothing_changes(inventory: Path) -> None:
    assert with_origin(SAID, [str(inventory), "nowhere/hosts.yml"]) == SAID
    said = SAID + "Origin: /fleet/hosts.yml:3:1\n"
    assert with_origin(said, [str(inventory)]) == said
    assert with_origin("all is well", [str(inventory)]) == "all is well"
