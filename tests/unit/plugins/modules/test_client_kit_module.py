"""The module `client_kit`, run as Ansible runs it: a process with its arguments on standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import KIT_FILES

REPOSITORY = Path(__file__).parents[4]


def test_it_reads_every_service_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "services" / "a" / "releases" / "r1"
    (folder / "client").mkdir(parents=True)
    (folder / "release.json").write_text('{"id": "r1", "engine": "sglang"}')
    for name in KIT_FILES:
        (folder / "client" / name).write_text("text\n")
    (tmp_path / "services" / "a" / "current").symlink_to("releases/r1")
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.deployer.sglang.plugins.modules.client_kit"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"root": str(tmp_path), "services": ["a", "b"]}}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    result = json.loads(done.stdout)
    assert not result["changed"]
    first, second = result["kits"]
    assert (first["service"], first["release"], set(first["files"])) == ("a", "r1", set(KIT_FILES))
    assert (second["service"], second["files"]) == ("b", {}) and second["problem"]
