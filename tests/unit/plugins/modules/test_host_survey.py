"""The module `host_survey`, run as Ansible runs it, against a server that somebody started by hand."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import look
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import FoundServer, HostSurvey
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.probe import (
    deployment_among,
    found_server,
    open_to_all,
)
from tests.unit.deployer.first_inventory.surveys import gpus
from tests.unit.plugins.module_utils.adoption.conftest import SERVICE, Bench, bench

__all__ = ["bench"]
REPOSITORY = Path(__file__).parents[4]
SECRET = "correct-horse-battery"


def survey_of(bench: Bench) -> tuple[HostSurvey, str]:
    """What the module says, and its words."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.deployer.sglang.plugins.modules.host_survey"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"root": bench.root}}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["changed"] is False
    assert not os.path.exists(bench.root)
    return HostSurvey.from_dict(result["survey"]), done.stdout


def served(bench: Bench, survey: HostSurvey) -> FoundServer:
    """The server of this test, among whatever else serves on this machine."""
    (found,) = (one for one in survey.servers if one.port == bench.port)
    return found


def test_a_server_is_seen_with_what_it_serves_and_no_secret_leaves_the_host(bench: Bench) -> None:
    model = bench.path / "models" / "qwen3"
    model.mkdir(parents=True)
    model.chmod(0o755)
    model.parent.chmod(0o755)
    script = bench.path / "sglang" / "launch_server.py"  # the double does not know all of SGLang's options
    script.write_text(script.read_text().replace("parser.parse_args()", "parser.parse_known_args()[0]"))
    server = bench.start(
        bench.command("--model-path", "models/qwen3", "--tp-size", "2", "--api-key", SECRET, "--log-requests"),
        {"CUDA_VISIBLE_DEVICES": "6,7", "WANDB_API_KEY": SECRET, "SOME_SETTING": "harmless-setting"},
    )
    survey, said = survey_of(bench)
    found = served(bench, survey)
    assert (found.engine, found.served_name, found.supervision) == ("sglang", SERVICE, "hand")
    assert str(server.top_pid) in found.who
    assert found.started == server.started
    assert found.model == str(model)
    assert found.model_is_folder and found.model_open
    assert (found.gpus, found.gpus_from) == (("6", "7"), "CUDA_VISIBLE_DEVICES")
    assert found.options["tp_size"] == ("2",)
    assert found.options["log_requests"] == ()
    assert found.withheld == ("api_key",)
    assert found.asks_for_key
    assert SECRET not in said
    assert "harmless-setting" not in said  # nothing else of its environment, either


def test_the_gpus_are_those_that_it_computes_on_whatever_it_was_given(bench: Bench) -> None:
    server = bench.start(bench.command(), {"CUDA_VISIBLE_DEVICES": "0"})
    adoptable = look(bench.port, ())
    assert adoptable is not None
    for facts, found in (
        (gpus(8, busy=7, pid=server.engine_pid), (("7",), "nvidia-smi")),
        (gpus(8, busy=7, pid=1), (("0",), "CUDA_VISIBLE_DEVICES")),
    ):
        one = found_server(server, adoptable, facts, {server.top_pid: "/opt/env"}, "")
        assert (one.gpus, one.gpus_from) == found
        assert one.prefix == "/opt/env"


def test_a_deployment_is_found_wherever_its_root_folder_lies(tmp_path: Path) -> None:
    (tmp_path / "data" / "inference" / "services" / "code2sql").mkdir(parents=True)
    roots = [str(tmp_path / name / "inference") for name in ("opt", "data")]
    assert deployment_among(roots) == roots[1]
    assert deployment_among(roots[:1]) == ""


def test_what_is_no_engine_is_not_looked_at(bench: Bench) -> None:
    bench.start(bench.command(engine=False))
    survey, _ = survey_of(bench)
    assert bench.port not in [one.port for one in survey.servers]


def test_only_the_port_that_clients_know_is_asked_where_a_server_has_several(bench: Bench) -> None:
    script = bench.path / "sglang" / "launch_server.py"
    asked = bench.path / "asked"  # made once somebody connects to the other port, which never answers
    second = (
        "import socket, threading; other = socket.create_server(('127.0.0.1', 0))\n"
        f"threading.Thread(target=lambda: open({str(asked)!r}, 'w').write(str(other.accept())), daemon=True).start()\n"
    )
    script.write_text(script.read_text().replace("import argparse\n", f"import argparse\n{second}", 1))
    bench.start(bench.command())
    survey, _ = survey_of(bench)
    assert len([one for one in survey.servers if str(bench.started[0].pid) in one.who]) == 1
    assert served(bench, survey).engine == "sglang"
    assert asked.read_text() == ""


def test_a_name_of_a_hub_is_no_folder(bench: Bench) -> None:
    bench.start(bench.command("--model-path", "Qwen/Qwen3-8B"))
    found = served(bench, survey_of(bench)[0])
    assert (found.model, found.model_is_folder) == ("Qwen/Qwen3-8B", False)


def test_a_folder_is_open_when_every_user_can_get_there_and_read_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for path in (folder, folder.parent):
        path.chmod(0o755)
    (folder / "config.json").chmod(0o644)
    reachable = all(one.stat().st_mode & 0o001 for one in folder.parents)
    assert open_to_all(str(folder)) == reachable
    (folder / "config.json").chmod(0o600)
    assert not open_to_all(str(folder))
    assert not open_to_all(str(tmp_path / "nowhere"))


def test_the_host_is_described_beside_its_servers(bench: Bench) -> None:
    survey, _ = survey_of(bench)
    assert survey.login == pwd.getpwuid(int(os.environ.get("SUDO_UID") or os.geteuid())).pw_name
    assert survey.host.python
    assert survey.disks == tuple(sorted(survey.disks, key=lambda one: (-one.free, one.mount)))
    assert all("sglang" in one.suits or "llamafactory" in one.suits for one in survey.environments)
