"""Kits: what they say is what the release and its description fix, and names in them stay names."""

from __future__ import annotations

import ast
import dataclasses
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import (
    API_TEST,
    CURL_TEST,
    GUIDE,
    GUIDE_IN_CHINESE,
    KIT_FILES,
    LARGEST,
    PYTHON_ACCESS,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, Placement, plan_release
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services
from ansible_collections.deployer.sglang.plugins.plugin_utils.client_kit import KitFacts, kit_facts, render_kit

ENVIRONMENT = Artifact("sglang", "e" * 64, "/opt/inference/artifacts/environments/sglang-eeeeeeeeeeee")
MODEL = Artifact("code2sql", "d" * 64, "/opt/inference/artifacts/models/code2sql-dddddddddddd")
H100 = {"product": "NVIDIA H100 80GB HBM3", "memory_total": 80 * 2**30}
PLANNED = {"gpus": [H100, H100], "context": 40960, "kv_tokens": 123}
SERVICE: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"name": "code2sql", "source": "/data/qwen3"},
    "gpus": [6, 7],
    "engine": "sglang",
    "environment": "sglang",
    "options": {"tp_size": 2, "max_running_requests": 100, "max_total_tokens": 8192, "enable_metrics": True},
}
GUIDES = (GUIDE, GUIDE_IN_CHINESE)
# What a description could hold at worst; names are checked before, and this does not rely on it.
NAMES = st.one_of(
    st.text(alphabet="`'\"\\$|<>[]()!*_#&{}%- ;\n\x1b例x", min_size=1, max_size=24),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=24),
)


def facts(planned: dict[str, Any] | None = None, supervisor: str = "systemd", **changes: Any) -> KitFacts:
    """Of the service with some changes."""
    (service,), _ = parse_services([{**SERVICE, **changes}], {"sglang": {"lock": "x"}})
    placement = Placement("/opt/inference", supervisor, "inference", "10.0.0.5")
    release = plan_release(service, ENVIRONMENT, MODEL, placement, {"sglang": "0.5.23"})
    version = "0.5.23" if service.engine == "sglang" else "0.9.5"
    return kit_facts(release, "0123456789ab", service, version, "10.0.0.5", PLANNED if planned is None else planned)


def guides(**changes: Any) -> list[str]:
    kit = render_kit(facts(**changes))
    return [kit[name] for name in GUIDES]


def tokens_of(text: str) -> Iterator[Token]:
    for token in MarkdownIt().enable("table").parse(text):
        yield token
        yield from token.children or ()


def constants_of(source: str) -> dict[str, Any]:
    """The values that a program gives to names in capitals, where they are literals."""
    found = {}
    for node in ast.parse(source, feature_version=(3, 9)).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            found[node.targets[0].id] = node.value.value
    return found


def test_a_kit_has_its_files_and_none_is_too_large_to_be_read_back() -> None:
    kit = render_kit(facts())
    assert tuple(kit) == KIT_FILES
    assert all(len(text.encode()) < LARGEST // 2 for text in kit.values())


def test_facts_are_those_of_the_description_the_release_and_the_plan() -> None:
    found = facts()
    assert (found.url, found.model, found.release) == ("http://10.0.0.5:8001", "code2sql", "0123456789ab")
    assert (found.gpus, found.product, found.tensor_parallel) == (("6", "7"), "NVIDIA H100 80GB HBM3, 80 GiB", 2)
    assert (found.context, found.max_running_requests, found.max_total_tokens) == (40960, 100, 8192)
    assert found.metrics and not found.log_requests and found.tells_release
    assert found.longest == 8192
    assert (facts(planned={}).context, facts(planned={}, options={"tp_size": 2}).longest) == (None, None)


@pytest.mark.parametrize(
    ("host", "url", "local"),
    [
        ("0.0.0.0", "http://10.0.0.5:8001", False),
        ("::", "http://10.0.0.5:8001", False),
        ("192.168.1.7", "http://192.168.1.7:8001", False),
        ("127.0.0.1", "http://127.0.0.1:8001", True),
        ("::1", "http://[::1]:8001", True),
        ("localhost", "http://localhost:8001", True),
    ],
)
def test_clients_are_told_the_address_that_reaches_the_service(host: str, url: str, local: bool) -> None:
    found = facts(host=host)
    assert (found.url, found.local) == (url, local)
    assert ("ssh -L 8001:localhost:8001" in guides(host=host)[0]) == local


def test_guides_in_both_languages_have_this_service_s_own_figures() -> None:
    for text in guides():
        for said in ("`http://10.0.0.5:8001`", "`0123456789ab`", "SGLang `0.5.23`", "`6,7`", "40,960", "8,192", "100"):
            assert said in text, said
        assert "NVIDIA H100 80GB HBM3" in text
        assert "81" in text  # tokens of the pool for each of 100 requests
        assert "/metrics" in text
        assert "journalctl -u inference-code2sql.service" in text
        assert "{{" not in text and "None" not in text
    english, chinese = guides()
    assert [line for line in english.splitlines() if line.startswith("curl")] == [
        line for line in chinese.splitlines() if line.startswith("curl")
    ]
    assert english.count("\n## ") == chinese.count("\n## ")


def test_guides_say_only_what_is_true_of_the_options() -> None:
    for text in guides(options={"disable_radix_cache": True, "log_requests": True, "log_requests_level": 1}, gpus=[7]):
        assert "disable_radix_cache" in text
        assert "8,192" not in text
        assert "/metrics`" not in text.partition("##")[0]
        assert "enable_metrics: true" in text
    for text in guides(supervisor="process"):
        assert "/opt/inference/services/code2sql/logs/service.log" in text
        assert "64 MiB" in text and "`.1`" in text
        assert "systemctl" not in text


def test_a_kit_for_llamafactory_has_that_engine_s_facts() -> None:
    options = {"template": "qwen", "temperature": 0.1}
    changes: dict[str, Any] = {"engine": "llamafactory", "gpus": [7], "options": options}
    changes["environment_variables"] = {"API_VERBOSE": "0", "MAX_CONCURRENT": "3"}
    for text in guides(**changes):
        assert "LLaMA-Factory `0.9.5`" in text
        assert "MAX_CONCURRENT" in text and "3" in text
        assert "temperature 0.1, top_p 0.7" in text
        assert "max_model_len" not in text
    assert constants_of(render_kit(facts(**changes))[PYTHON_ACCESS])["ENGINE"] == "llamafactory"


def test_programs_run_on_python_3_9_and_are_in_good_style() -> None:
    kit = render_kit(facts())
    for name in (API_TEST, PYTHON_ACCESS):
        ast.parse(kit[name], feature_version=(3, 9))
        words = ["-m", "ruff", "check", "--isolated", "--line-length", "120", "--target-version", "py39", "-"]
        rules = ["--select", "E,F,W,I,UP,B,SIM,C4,PIE,RET,RUF"]
        done = subprocess.run([sys.executable, *words, *rules], input=kit[name], text=True, capture_output=True)
        assert done.returncode == 0, done.stdout
    assert subprocess.run(["bash", "-n"], input=kit[CURL_TEST], text=True).returncode == 0


def test_no_template_is_left_out() -> None:
    folder = Path(__file__).parents[4] / "roles" / "release" / "templates" / "client"
    assert {path.name.removesuffix(".j2") for path in folder.iterdir()} == set(KIT_FILES)


@given(name=NAMES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_a_name_stays_a_name_in_every_file(name: str) -> None:
    found = dataclasses.replace(facts(), service=name, model=name, product=name, url=f"http://h/{name}", version=name)
    kit = render_kit(dataclasses.replace(found, unit=name, folder=name, host=name, release=name))

    for program in (API_TEST, PYTHON_ACCESS):
        constants = constants_of(kit[program])
        assert (constants["MODEL"], constants["URL"]) == (name, f"http://h/{name}")
    assert constants_of(kit[API_TEST])["RELEASE"] == name
    beginning = kit[CURL_TEST].partition("context=")[0]
    said = subprocess.run(["bash", "-c", f'{beginning}\nprintf %s "$model"'], capture_output=True, check=True)
    assert said.stdout == name.encode()
    for guide in GUIDES:
        check_guide(kit[guide], name)


def check_guide(text: str, name: str) -> None:
    """A guide has the blocks of any other, and of the name only code."""
    plain = list(tokens_of(render_kit(facts())[GUIDE]))
    tokens = list(tokens_of(text))
    kinds = {token.type for token in plain}
    assert {token.type for token in tokens} <= kinds
    for kind in ("fence", "heading_open", "tr_open"):
        assert sum(one.type == kind for one in tokens) == sum(one.type == kind for one in plain)
    blocks = [token.content for token in tokens if token.type == "fence"]
    line = next(line for block in blocks for line in block.splitlines() if "-N" in line)
    if name.isprintable():
        body = json.loads(shlex.split(line)[-1])
        assert body["model"] == name
    python = next(token.content for token in tokens if token.type == "fence" and "OpenAI(" in token.content)
    called = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.keyword) and node.arg == "model"]
    assert [node.value.value for node in called if isinstance(node.value, ast.Constant)] == [name, name]
