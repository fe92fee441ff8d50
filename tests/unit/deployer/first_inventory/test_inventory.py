"""The inventory of hosts in the shapes that teams have: it reads back to what was found, and can be deployed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from yamllint import config, linter

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import Disk, FoundServer, HostSurvey
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    parse_services,
    placement_problems,
    unknown_settings,
)
from deployer.first_inventory.inventory import FirstInventory
from deployer.first_inventory.survey import Seen
from deployer.first_inventory.targets import Target
from tests.unit.deployer.first_inventory.surveys import (
    DAY,
    FACTORY,
    GIB,
    MODEL,
    SGLANG,
    factory,
    facts,
    gpus,
    inventory_of,
    sglang,
    survey,
)

LINT = config.YamlLintConfig("extends: default")


def variables_of(inventory: FirstInventory, host: str) -> dict[str, Any]:
    """What Ansible would make of the files for a host."""
    hosts = yaml.safe_load(inventory.files["hosts.yml"])["all"]["children"]["gpu-nodes"]["hosts"]
    group = yaml.safe_load(inventory.files["group_vars/gpu-nodes.yml"])
    own = yaml.safe_load(inventory.files.get(f"host_vars/{host}.yml", "{}"))
    return {**group, **(hosts[host] or {}), **own}


def assert_sound(inventory: FirstInventory) -> None:
    """The files pass yamllint as it comes, and the description has no mistake."""
    for name, text in inventory.files.items():
        assert list(linter.run(text, LINT, name)) == [], name
    for one in inventory.described:
        values = variables_of(inventory, one.name)
        parse_services(values["inference_services"], values["inference_environments"])
        supervisor = values.get("inference_supervisor", "systemd")
        assert placement_problems(values["inference_root"], "inference", supervisor) == []
        assert unknown_settings([name for name in values if name.startswith("inference_")]) == []


def only_service(inventory: FirstInventory, host: str = "gpu1") -> dict[str, Any]:
    (service,) = variables_of(inventory, host)["inference_services"]
    return dict(service)


def test_two_equal_hosts_with_llamafactory_are_one_group_and_say_what_was_found_where() -> None:
    inventory = inventory_of(gpu1=survey(factory()), gpu2=survey(factory(who="pid 99 of me: uv run python")))
    assert_sound(inventory)
    assert sorted(inventory.files) == ["group_vars/gpu-nodes.yml", "hosts.yml"]
    assert only_service(inventory) == {
        "name": "code2sql",
        "port": 8001,
        "model": {"name": "code2sql", "source": f"hosts:{MODEL}"},
        "gpus": [7],
        "engine": "sglang",
        "environment": "sglang",
        "options": {"enable_metrics": True},
        "predecessor": {
            "engine": "llamafactory", "gpus": [7], "environment": "llamafactory", "options": {"template": "qwen"},
        },
    }  # fmt: skip
    assert variables_of(inventory, "gpu2")["inference_environments"] == {
        "sglang": {"prefix": SGLANG.path},
        "llamafactory": {"prefix": FACTORY.path},
    }
    said = " ".join(inventory.files["group_vars/gpu-nodes.yml"].replace("#", "").split())
    for words in ("pid 26120 of me", "pid 99 of me", "since 2026-11-28T09:12:44Z", "by hand", "deploy becomes root"):
        assert words in said
    assert (inventory.complete, inventory.fill_in, inventory.needs_lock) == (["gpu1", "gpu2"], {}, False)


def test_sglang_by_hand_keeps_its_options_and_its_environment() -> None:
    other = dataclasses.replace(SGLANG, path="/home/me/envs/new", versions={"sglang": "0.5.3"})
    inventory = inventory_of(gpu1=survey(sglang(), environments=(SGLANG, other)))
    assert_sound(inventory)
    service = only_service(inventory)
    assert service["options"] == {
        "tensor_parallel_size": 2, "max_running_requests": 100, "enable_metrics": True, "log_requests": True,
        "log_requests_level": 1, "mem_fraction_static": 0.85,
    }  # fmt: skip
    assert service["gpus"] == [6, 7]
    assert variables_of(inventory, "gpu1")["inference_environments"] == {"sglang": {"prefix": SGLANG.path}}
    assert "/home/me/envs/new" in inventory.files["group_vars/gpu-nodes.yml"]  # said, not used


def test_a_host_that_differs_has_only_what_differs_of_its_own() -> None:
    inventory = inventory_of(gpu1=survey(factory()), gpu2=survey(factory()), gpu3=survey(factory(port=8002)))
    assert_sound(inventory)
    assert list(yaml.safe_load(inventory.files["host_vars/gpu3.yml"])) == ["inference_services"]
    assert only_service(inventory, "gpu3")["port"] == 8002
    assert only_service(inventory, "gpu2")["port"] == 8001


def test_where_nothing_serves_a_template_says_what_is_to_be_filled_in_and_cannot_be_planned() -> None:
    bare = survey(environments=(), host=facts(gpus=gpus(0)))
    inventory = inventory_of(gpu1=bare)
    assert_sound(inventory)
    assert only_service(inventory)["model"]["source"] == "FILL-IN"
    assert only_service(inventory)["options"]["device"] == "cpu"
    assert inventory.complete == []
    assert "inference_services[llm].model.source" in inventory.fill_in["gpu1"][0]
    assert inventory.needs_lock
    assert variables_of(inventory, "gpu1")["inference_environments"] == {"sglang": {"lock": "environments/sglang"}}
    assert only_service(inventory_of(gpu1=survey()))["gpus"] == "auto"
    held = facts(listeners=(Listener(8001, "pid 3 of web: nginx"),))
    assert only_service(inventory_of(gpu1=survey(host=held)))["port"] == 8002


def test_an_idle_host_is_no_reason_to_leave_the_others_without_their_service() -> None:
    inventory = inventory_of(idle1=survey(), idle2=survey(), gpu1=survey(factory()))
    assert_sound(inventory)
    assert yaml.safe_load(inventory.files["group_vars/gpu-nodes.yml"])["inference_services"][0]["name"] == "code2sql"
    assert only_service(inventory, "idle1")["name"] == "llm"
    assert inventory.complete == ["gpu1"]


def test_without_sudo_services_are_processes_below_the_users_home_and_the_reason_is_said() -> None:
    host = survey(by_sudo=False, host=facts(uid=1000), unseen_ports=(8001,))
    inventory = inventory_of(gpu1=Seen(Target("gpu1"), host, DeployError("sudo asks for a password there")))
    assert_sound(inventory)
    values = variables_of(inventory, "gpu1")
    assert values["inference_root"] == "/home/deploy/inference"
    assert values["inference_supervisor"] == "process"
    assert "ansible_become" not in values
    said = " ".join(inventory.files["group_vars/gpu-nodes.yml"].replace("#", "").split())
    assert "deploy cannot become root without a password" in said
    assert "--become-password-file" in said
    assert "8001" in said


def test_a_host_that_was_not_seen_stands_in_the_inventory_with_the_reason() -> None:
    unseen = Seen(Target("gpu2", user="me"), None, DeployError("its SSH host key is not known yet", "log in once"))
    inventory = inventory_of(gpu1=survey(factory()), gpu2=unseen)
    assert_sound(inventory)
    assert variables_of(inventory, "gpu2")["ansible_user"] == "me"
    assert "NOT SEEN on 2026-11-29: its SSH host key is not known yet. Fix: log in once" in " ".join(
        inventory.files["hosts.yml"].replace("#", "").split()
    )
    assert [one.target.name for one in inventory.unseen] == ["gpu2"]


def test_the_freest_disk_is_taken_where_opt_is_small() -> None:
    def root(*disks: Disk) -> str:
        return str(variables_of(inventory_of(gpu1=survey(disks=disks)), "gpu1")["inference_root"])

    data, small = Disk("/data", 7000 * GIB, True), Disk("/", 20 * GIB, True)
    assert root(data, small) == "/data/inference"
    assert root(data, Disk("/", 900 * GIB, True)) == "/opt/inference"
    assert root(data, Disk("/opt", 300 * GIB, True), small) == "/opt/inference"
    assert root(dataclasses.replace(data, writable=False), small) == "/opt/inference"
    assert root(Disk("/mnt/a b", 7000 * GIB, True), small) == "/opt/inference"


def test_a_model_that_only_its_owner_can_read_is_copied_and_the_same_for_all_hosts() -> None:
    closed = factory(model_open=False)
    inventory = inventory_of(gpu1=survey(closed), gpu2=survey(closed))
    assert_sound(inventory)
    assert only_service(inventory, "gpu2")["model"]["source"] == f"gpu1:{MODEL}"
    as_user = inventory_of(gpu1=survey(closed, by_sudo=False, host=facts(uid=1000)))
    assert only_service(as_user)["model"]["source"] == f"hosts:{MODEL}"


def test_an_adapter_is_never_dropped_in_silence() -> None:
    server = factory(options={"template": ("qwen",), "adapter_name_or_path": ("/data/lora",)})
    inventory = inventory_of(gpu1=survey(server))
    assert_sound(inventory)
    assert "merge" in inventory.fill_in["gpu1"][0]
    assert inventory.complete == []


def test_a_key_that_clients_send_is_left_out_and_where_it_belongs_is_said() -> None:
    inventory = inventory_of(gpu1=survey(sglang(withheld=("api_key",), asks_for_key=True)))
    assert_sound(inventory)
    (line,) = inventory.described[0].plan.look_at
    assert "gateway" in line
    assert "api_key" in inventory.files["group_vars/gpu-nodes.yml"]
    assert "api_key" not in only_service(inventory)["options"]


def test_what_shares_a_gpu_today_does_not_make_two_owners_of_it() -> None:
    inventory = inventory_of(gpu1=survey(factory(), factory(port=8002, served_name="other")))
    assert_sound(inventory)
    first, second = variables_of(inventory, "gpu1")["inference_services"]
    assert (first["gpus"], second["gpus"]) == ([7], "auto")


@pytest.mark.parametrize(
    ("server", "source"),
    [
        (factory(model="Qwen/Qwen3-8B", model_is_folder=False), "hf://Qwen/Qwen3-8B"),
        (factory(model="qwen3", model_is_folder=False), "FILL-IN"),
        (factory(model="/data/{{ lookup('pipe', 'id') }}"), "FILL-IN"),
        (factory(model="/"), "FILL-IN"),
        (factory(model="/data/a b"), "hosts:/data/a b"),
    ],
)
def test_the_source_is_what_is_served_or_is_asked_for(server: FoundServer, source: str) -> None:
    inventory = inventory_of(gpu1=survey(server))
    assert_sound(inventory)
    assert only_service(inventory)["model"]["source"] == source


@pytest.mark.parametrize("name", ["/data/x", "a:b", "", "{{ 7*7 }}", "x\ny"])
def test_a_served_name_that_cannot_be_one_is_left_out_and_said(name: str) -> None:
    inventory = inventory_of(gpu1=survey(factory(served_name=name)))
    assert_sound(inventory)
    assert "name" not in only_service(inventory)["model"]
    assert "name is left out" in inventory.files["group_vars/gpu-nodes.yml"]


def test_a_deployment_that_is_there_keeps_its_root_folder_and_a_lost_one_is_said() -> None:
    there = survey(factory(deployed="sql", release="r1"), root="/data/inference")
    inventory = inventory_of(gpu1=there)
    assert_sound(inventory)
    assert variables_of(inventory, "gpu1")["inference_root"] == "/data/inference"
    assert only_service(inventory)["name"] == "sql"
    assert "predecessor" not in only_service(inventory)
    marked = sglang(deployed="sql", release="r1", options={"weight_version": ("r1",), "tp_size": ("2",)})
    options = only_service(inventory_of(gpu1=survey(marked, root="/data/inference")))["options"]
    assert options == {"tensor_parallel_size": 2, "enable_metrics": True}
    lost = inventory_of(gpu1=survey(factory(release="r1")))
    assert "root folder" in lost.described[0].plan.look_at[0]


def test_sglang_from_a_python_that_cannot_be_named_is_a_guess() -> None:
    inventory = inventory_of(gpu1=survey(sglang(prefix="/home/me/{{x}}")))
    assert_sound(inventory)
    assert only_service(inventory)["environment"] == "sglang"
    assert "a guess: what serves now runs from a Python" in inventory.files["group_vars/gpu-nodes.yml"]


def test_two_environments_that_serve_are_both_named() -> None:
    other = dataclasses.replace(SGLANG, path="/opt/conda/envs/new", versions={"sglang": "0.5.3"})
    second = sglang(port=8002, served_name="other", gpus=("0", "1"), prefix=other.path)
    inventory = inventory_of(gpu1=survey(sglang(), second, environments=(SGLANG, other)))
    assert_sound(inventory)
    environments = variables_of(inventory, "gpu1")["inference_environments"]
    services = variables_of(inventory, "gpu1")["inference_services"]
    assert [environments[one["environment"]]["prefix"] for one in services] == [SGLANG.path, other.path]


def test_an_environment_that_the_services_user_cannot_read_is_to_be_looked_at() -> None:
    closed = dataclasses.replace(SGLANG, path="/home/me/envs/sglang", owner="me", open_to_all=False)
    inventory = inventory_of(gpu1=survey(environments=(closed,)))
    assert_sound(inventory)
    assert "closed to others than me" in inventory.described[0].plan.look_at[0]
    assert inventory_of(gpu1=survey(environments=(closed, SGLANG))).described[0].plan.look_at == []


def test_what_is_no_engine_is_said_and_not_described() -> None:
    stranger = factory(engine="unknown", who="pid 5 of x: python app.py", port=9000)
    inventory = inventory_of(gpu1=survey(stranger, factory()))
    assert_sound(inventory)
    assert only_service(inventory)["port"] == 8001
    assert "port 9000" in inventory.described[0].plan.look_at[0]


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        ["{{ lookup('pipe','id') }}", "a: b", "- x", "# c", "'\"", "\n---\nx: y", "\x1b[31m", "!!python/object:x", "%",
         "&a *a", "\u2028x: y", "|", "\ud800"]
    ),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(HOSTILE, min_size=12, max_size=12), st.dictionaries(HOSTILE, st.lists(HOSTILE, max_size=3).map(tuple)))
def test_whatever_a_process_calls_itself_the_files_read_back_and_hold_no_template(
    words: list[str], options: Mapping[str, tuple[str, ...]]
) -> None:
    who, started, model, served, gpu, address, problem, fix, prefix, login, why, supervision = words
    server = factory(
        who=who, started=started, model=model, served_name=served, gpus=(gpu,), address=address, problem=problem,
        fix=fix, prefix=prefix, options=options, supervision=supervision, withheld=(who,),
    )  # fmt: skip
    seen = Seen(Target("gpu1"), survey(server, login=login, home=why, left_out=(why,)), DeployError(why or "no", fix))
    inventory = inventory_of(gpu1=seen, gpu2=Seen(Target("gpu2"), None, DeployError(why or "no", fix)))
    for text in inventory.files.values():
        for line in text.splitlines():
            assert line.lstrip().startswith("#") or not {"{{", "{%", "{#"} & {
                line[at : at + 2] for at in range(len(line))
            }
    values = variables_of(inventory, "gpu1")
    parse_services(values["inference_services"], values["inference_environments"])


def test_a_survey_travels_as_json_and_a_damaged_one_is_refused() -> None:
    value = json.loads(json.dumps(survey(factory(), sglang(port=8002)).as_dict()))
    assert HostSurvey.from_dict(value) == survey(factory(), sglang(port=8002))
    for broken in ({**value, "login": 3}, {**value, "servers": [{"port": "x"}]}, {**value, "more": 1}, {"host": {}}):
        with pytest.raises(DeployError, match="of a host"):
            HostSurvey.from_dict(broken)


def test_the_values_do_not_hang_on_the_order_of_hosts() -> None:
    one = inventory_of(gpu1=survey(factory()), gpu2=survey(sglang()))
    other = inventory_of(gpu2=survey(sglang()), gpu1=survey(factory()))
    for host in ("gpu1", "gpu2"):
        assert variables_of(one, host) == variables_of(other, host)
    assert DAY in one.files["hosts.yml"]
