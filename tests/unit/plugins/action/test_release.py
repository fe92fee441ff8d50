"""Releases as the controller computes them: same inputs, same id; and the texts that run them."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.action.release import package_versions, with_gpus
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    Artifact,
    Placement,
    Release,
    plan_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import Environment
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import (
    flag_lines,
    release_templates,
    render,
    rendered,
)

LAUNCH, UNIT = release_templates()
PLACEMENT = Placement("/opt/inference", "systemd", "inference", "10.0.0.5")
ENVIRONMENT = Artifact("sglang", "e" * 64, "/opt/inference/artifacts/environments/sglang-eeeeeeeeeeee")
MODEL = Artifact("code2sql", "d" * 64, "/opt/inference/artifacts/models/code2sql-dddddddddddd")

SERVICE: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"name": "code2sql", "source": "/data/qwen3"},
    "gpus": [6, 7],
    "engine": "sglang",
    "environment": "sglang",
    "options": {"tensor_parallel_size": 2, "enable_metrics": True, "log_requests": False},
}


def planned(placement: Placement = PLACEMENT, version: str = "0.4.9.post2", **changes: Any) -> Release:
    (parsed,), _ = parse_services([{**SERVICE, **changes}], {"sglang": {"lock": "x"}})
    return plan_release(parsed, ENVIRONMENT, MODEL, placement, {"sglang": version})


def test_sglang_gets_its_flags_and_the_promised_name() -> None:
    assert planned().argv == (
        f"{ENVIRONMENT.path}/bin/python",
        *("-m", "sglang.launch_server"),
        *("--model-path", MODEL.path),
        *("--served-model-name", "code2sql"),
        *("--host", "0.0.0.0"),
        *("--port", "8001"),
        *("--tensor-parallel-size", "2"),
        "--enable-metrics",
    )


def test_llamafactory_gets_words_for_booleans_and_its_address_in_variables() -> None:
    release = planned(engine="llamafactory", gpus=[7], options={"template": "qwen", "trust_remote_code": True})
    assert release.argv[1:6] == ("-m", "llamafactory.cli", "api", "--model_name_or_path", MODEL.path)
    assert release.argv[6:] == ("--template", "qwen", "--trust_remote_code", "true")
    assert release.option_argv[0] == "--model_name_or_path"
    assert release.variables["API_MODEL_NAME"] == "code2sql"
    assert release.variables["CUDA_VISIBLE_DEVICES"] == "7"


def test_every_release_reaches_itself_without_a_proxy_and_names_gpus_as_nvidia_smi_does() -> None:
    variables = planned().variables
    assert variables["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1,0.0.0.0,::1,10.0.0.5"


def test_the_id_follows_from_everything_that_runs_and_from_nothing_else() -> None:
    first = rendered(planned(), LAUNCH, UNIT)["id"]
    assert rendered(planned(), LAUNCH, UNIT)["id"] == first
    assert rendered(planned(gate={"min_healthy_time": 99}), LAUNCH, UNIT)["id"] == first
    changed = [
        rendered(planned(port=8002), LAUNCH, UNIT)["id"],
        rendered(planned(options={"tensor_parallel_size": 2}), LAUNCH, UNIT)["id"],
        rendered(dataclasses.replace(planned(), model=Artifact("m", "f" * 64, MODEL.path)), LAUNCH, UNIT)["id"],
        rendered(planned(), LAUNCH, UNIT + "\n")["id"],
        rendered(planned(), LAUNCH + "\n", UNIT)["id"],
    ]
    assert len({first, *changed}) == 6


@pytest.mark.parametrize(
    ("version", "has"),
    [("0.5.3", True), ("0.5.23", True), ("1.0", True), ("0.5.2", False), ("0.4.9.post2", False), ("", False)],
)
def test_an_sglang_that_can_is_told_its_release(version: str, has: bool) -> None:
    release = planned(version=version)
    found = rendered(release, LAUNCH, UNIT)
    assert ("identity_option" in release.as_dict()) == has
    assert (f"--weight-version {found['id']}" in found["launch"]) == has
    assert "--weight-version" not in release.argv
    assert Release.from_dict(release.as_dict()) == release
    assert (found["id"] != rendered(planned(), LAUNCH, UNIT)["id"]) == has


def test_a_weight_version_of_the_service_s_own_stays() -> None:
    release = planned(version="0.5.23", options={"weight-version": "v7"})
    assert release.identity_option == ""
    assert release.argv[-2:] == ("--weight-version", "v7")


def test_llamafactory_is_told_nothing() -> None:
    assert planned(version="0.5.23", engine="llamafactory", options={}).identity_option == ""


def test_versions_are_those_of_the_environment_or_of_the_lock_that_it_will_be_built_from(tmp_path: Path) -> None:
    (tmp_path / "conda-linux-64.lock").write_text("@EXPLICIT\n")
    (tmp_path / "requirements.lock").write_text(f"sglang==0.5.23 --hash=sha256:{'0' * 64}\n")
    locked = Environment("sglang", lock=tmp_path.name)
    assert package_versions({"packages": {"sglang": "0.5.9"}}, locked, None) == {"sglang": "0.5.9"}
    assert package_versions({}, locked, str(tmp_path.parent)) == {"sglang": "0.5.23"}
    assert package_versions({}, Environment("x", prefix="/opt/x"), None) == {}


def test_one_option_in_two_spellings_is_one_flag_by_its_long_name() -> None:
    argv = planned(options={"tp-size": 2, "tensor_parallel_size": 2, "nccl-init-addr": "a:1"}).argv
    assert argv[-4:] == ("--tensor-parallel-size", "2", "--dist-init-addr", "a:1")


def test_gpus_that_are_left_to_the_plan_are_those_that_it_chose() -> None:
    predecessor = {"engine": "llamafactory", "environment": "sglang", "gpus": "auto"}
    raw = {**SERVICE, "gpus": "auto", "predecessor": predecessor}
    services, _ = parse_services([raw], {"sglang": {"lock": "x"}})
    (service,) = with_gpus(services, {"code2sql": ["2", "3"], "code2sql.predecessor": ["2"]})
    assert service.gpus == ("2", "3")
    assert service.predecessor is not None
    assert service.predecessor.gpus == ("2",)
    with pytest.raises(DeployError, match=r"gpus is auto and no plan has chosen. Fix: do not skip preflight"):
        with_gpus(services, {})


def test_an_option_that_would_show_a_secret_is_never_staged() -> None:
    services, _ = parse_services([{**SERVICE, "options": {"api-key": "hush"}}], {"sglang": {"lock": "x"}})
    with pytest.raises(DeployError, match="api_key would stand in argv") as raised:
        with_gpus(services, {})
    assert "hush" not in str(raised.value)


def test_a_release_survives_json() -> None:
    release = planned()
    assert Release.from_dict(release.as_dict()) == release
    with pytest.raises(DeployError, match="not a release"):
        Release.from_dict({"service": "x"})


def test_the_launch_script_is_valid_shell_with_one_flag_a_line() -> None:
    release = planned(environment_variables={"AWKWARD": "it's $HOME; `x`"})
    text = rendered(release, LAUNCH, UNIT)["launch"]
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    lines = [line.strip().rstrip(" \\") for line in text.splitlines()]
    assert "--tensor-parallel-size 2" in lines
    assert "--enable-metrics" in lines
    assert "CUDA_VISIBLE_DEVICES=6,7" in lines
    assert f"AWKWARD={shlex.quote(release.variables['AWKWARD'])}" in lines


def test_without_gpus_none_are_visible() -> None:
    release = planned(gpus=[], options={})
    assert "CUDA_VISIBLE_DEVICES='' \\" in rendered(release, LAUNCH, UNIT)["launch"]


def test_the_unit_runs_the_committed_release_as_a_user_without_privileges() -> None:
    unit = rendered(planned(), LAUNCH, UNIT)["unit"]
    for line in (
        "User=inference",
        "ExecStart=/opt/inference/services/code2sql/current/launch.sh",
        "Restart=always",
        "KillMode=mixed",
        "NoNewPrivileges=yes",
        "LimitMEMLOCK=infinity",
    ):
        assert line in unit.splitlines()


def test_a_template_with_a_mistake_is_an_error() -> None:
    with pytest.raises(DeployError, match="cannot be rendered"):
        render("{{ nobody }}", release=planned())


def test_flag_lines_keep_values_with_their_flag() -> None:
    assert flag_lines(["python", "-m", "x", "--a", "1 2", "3", "--b"]) == ["python -m x", "--a '1 2' 3", "--b"]
