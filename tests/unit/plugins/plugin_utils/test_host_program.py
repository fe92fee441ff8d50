"""Programs that are sent to a host with what they are to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import log_reader, service_log
from ansible_collections.deployer.sglang.plugins.module_utils.log_reader import Source
from ansible_collections.deployer.sglang.plugins.plugin_utils.host_program import (
    HOME,
    answer_of,
    call,
    command,
    sources,
)


def run(data: bytes) -> Any:
    """As on a host: its Python has nothing of this package."""
    done = subprocess.run(command(sys.executable), shell=True, input=data, capture_output=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return answer_of(done.stdout.decode())


def test_what_is_asked_every_second_is_small() -> None:
    assert set(sources(log_reader.__name__)) == {f"{HOME}.log_reader", f"{HOME}.log_lines"}
    assert len(call(log_reader, "follow", {})) < 64 * 1024


def test_a_log_is_followed_without_a_module(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("one\n")
    order = {"source": asdict(Source("s", str(tmp_path), files={str(log): 0})), "cursor": {}, "wanted": {}}
    (found,) = run(call(log_reader, "follow", {"orders": [order], "patience": 0}))
    assert [line["text"] for line in found["lines"]] == ["one"]


def test_secrets_are_hidden_by_the_program_that_knows_them(tmp_path: Path) -> None:
    private = tmp_path / "releases" / "aaa" / "private.json"
    private.parent.mkdir(parents=True)
    private.write_text(json.dumps({"argv": {}, "variables": {"KEY": "hunter22-long"}}))
    log = tmp_path / "x.log"
    log.write_text("key hunter22-long\n")
    order = {"source": asdict(Source("s", str(tmp_path), files={str(log): 0})), "cursor": {}, "wanted": {}}
    (found,) = run(call(service_log, "follow_hiding", {"orders": [order], "patience": 0}))
    assert [line["text"] for line in found["lines"]] == ["key ***"]


def test_an_answer_is_found_between_other_words() -> None:
    assert answer_of('Welcome!\n{"answer": [1]}\nbye\n') == [1]
    assert answer_of("Killed\n") is None
    assert answer_of('{"other": 1}\n') is None
