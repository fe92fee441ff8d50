"""What serves a port, measured on its own host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import on_host
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts, built_in
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact
from tests.doubles.chat_server import Behaviour, chat_server
from tests.doubles.released_host import REPOSITORY, SERVICE, ReleasedHost, free_port
from tests.unit.plugins.module_utils.measuring.benchmark import prefix

__all__ = ["prefix"]
PROMPTS = Prompts("mine", (({"role": "user", "content": "how many orders"},),))


def described(port: int) -> list[dict[str, Any]]:
    return [{"name": SERVICE, "port": port}]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_what_serves_is_asked_here_and_known_by_the_address_of_the_host(tmp_path: Path) -> None:
    with chat_server(Behaviour(key="k1")) as (url, bodies):
        order = on_host.Order(PROMPTS, 7, key="k1")
        (found,) = on_host.measure_services(str(tmp_path), described(port_of(url)), "gpu1", order)
    assert (found["service"], found["problem"]) == (SERVICE, "")
    server, answers = found["measurement"]["server"], found["measurement"]["answers"]
    assert server["url"] == f"http://gpu1:{port_of(url)}" and server["about"].startswith("CPU, ")
    assert [one["prompt_tokens"] for one in answers["replies"]] == [12] and found["measurement"]["load"] is None
    assert bodies[0]["max_tokens"] == 7
    assert "k1" not in json.dumps(found) and "k1" not in repr(order)


def test_a_service_that_cannot_be_measured_is_named_and_the_others_are(tmp_path: Path) -> None:
    with chat_server(Behaviour()) as (url, _), chat_server(Behaviour(key="k1")) as (locked, _):
        services = [
            {"name": "gone", "port": free_port()},
            {"name": "locked", "port": port_of(locked)},
            {"name": "serving", "port": port_of(url)},
        ]
        found = on_host.measure_services(str(tmp_path), services, "gpu1", on_host.Order(PROMPTS, 7))
    assert "nothing listens on port" in found[0]["problem"] and "deployer status" in found[0]["fix"]
    assert "wants another API key" in found[1]["problem"]
    assert [one["measurement"] is None for one in found] == [True, True, False]


def test_a_model_is_asked_for_by_the_name_of_the_release_that_serves(tmp_path: Path) -> None:
    host = ReleasedHost(tmp_path)
    host.stage("r1", served_name="lora")
    (Path(host.folder.path) / "current").symlink_to("releases/r1")
    behaviour = Behaviour(model="lora")
    with chat_server(behaviour) as (url, _):
        found = on_host.measure_service(host.root, SERVICE, port_of(url), "::1", on_host.Order(PROMPTS, 7))
    assert (found.server.model, found.server.url) == ("lora", f"http://[::1]:{port_of(url)}")


def test_a_load_is_made_by_what_serves_or_else_by_what_was_staged_last(tmp_path: Path) -> None:
    host = ReleasedHost(tmp_path)
    with pytest.raises(DeployError, match="no release of SGLang is staged"):
        on_host.maker_of(host.folder)
    for number, (name, engine) in enumerate((("old", "sglang"), ("new", "sglang"), ("way-back", "llamafactory"))):
        host.stage(name, engine=engine, environment=Artifact(name, "e" * 64, f"/{name}"))
        os.utime(Path(host.folder.release(name)) / "release.json", (number, number))
    assert on_host.maker_of(host.folder).environment.name == "new"
    link = Path(host.folder.path) / "current"
    for current, maker in (("old", "old"), ("way-back", "new")):
        link.unlink(missing_ok=True)
        link.symlink_to(f"releases/{current}")
        assert on_host.maker_of(host.folder).environment.name == maker


def test_a_load_is_measured_with_the_models_folder_as_tokenizer(
    tmp_path: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # nobody may not pass the folders of a test
    host = ReleasedHost(tmp_path / "root")
    host.stage("r1", environment=Artifact("x", "e" * 64, str(prefix)))
    with chat_server(Behaviour()) as (url, _):
        order = on_host.Order(built_in(), 7, ask=False, load=LoadSettings((1.0,), 3))
        found = on_host.measure_service(host.root, SERVICE, port_of(url), "gpu1", order)
    assert found.load is not None and found.answers is None
    assert (len(found.load.steps[0].requests), found.load.tokenizer) == (3, f"{host.root}/model")


def test_the_module_is_told_by_its_arguments_and_says_nothing_of_a_key(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"root": str(tmp_path), "services": described(0), "api_key": "k1-secret"}
    with chat_server(Behaviour(key="k1-secret")) as (url, bodies):
        arguments |= {"services": described(port_of(url)), "prompts": "one\n[]\n"}
        wrong = run(arguments)
        assert "prompts:2 has no messages" in wrong["msg"] and "Fix: give a line a prompt" in wrong["msg"]
        arguments |= {"prompts": "one\ntwo\n", "prompts_name": "mine", "max_tokens": 5}
        done = run(arguments)
    assert not done["changed"] and "k1-secret" not in json.dumps(done)
    measurement = done["measured"][0]["measurement"]
    assert (len(measurement["answers"]["replies"]), measurement["answers"]["prompts"]["name"]) == (2, "mine")
    assert bodies[0]["max_tokens"] == 5
    refused = run({**arguments, "load": {"rates": ["1", "fast"]}})
    assert "load.rates holds 'fast'" in refused["msg"]


def run(arguments: dict[str, Any]) -> dict[str, Any]:
    """The module, as Ansible runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.deployer.sglang.plugins.modules.measure"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    value: dict[str, Any] = json.loads(done.stdout)
    return value
