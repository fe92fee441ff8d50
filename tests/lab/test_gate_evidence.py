"""A new release has to answer as what served before it, and fast enough: by the real engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from demo.inputs import default_cache, make_inputs
from tests.lab.fleet import FOLDER, SGLANG_ON_CPU, Finished, Fleet

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOST = "gpu1"
TEMPLATE = "/etc/qwen.jinja"
# What LLaMA-Factory's template qwen does: ChatML, and a system prompt where a client sends none.
QWEN = """\
{%- if messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
GATE = {"ready_timeout": 400, "min_healthy_time": 3}
LOAD = {"rates": [2, "max"], "requests": 4, "max_tokens": 8}


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Fleet:
    """LLaMA-Factory serves on gpu1, and SGLang is staged."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path)
    fleet.serve_predecessor(HOST)
    return fleet


def ended(fleet: Fleet) -> dict[str, Any]:
    """The end of the last cut-over, as the host's journal has it."""
    entries = [json.loads(line) for line in fleet.root(HOST, f"cat {FOLDER}/journal.jsonl").splitlines()]
    found: dict[str, Any] = next(one for one in reversed(entries) if one["event"] == "ended")
    return found


def rolled_out(fleet: Fleet, gate: dict[str, Any], **options: Any) -> Finished:
    """A rollout with this gate."""
    fleet.describe(gate={**GATE, **gate}, options={**SGLANG_ON_CPU, **options})
    return fleet.deployer("rollout", HOST)


def test_what_answers_otherwise_or_is_too_slow_is_taken_back(fleet: Fleet) -> None:
    refused = rolled_out(fleet, {"parity": "rendering"})
    assert refused.status == 1, refused.output
    assert not fleet.is_sglang(HOST), "LLaMA-Factory serves again"
    entry = ended(fleet)
    assert (entry["outcome"], entry["failure"]["kind"]) == ("restored", "parity")
    assert "prompts are rendered otherwise" in entry["reason"] and ": prompt tokens " in entry["reason"]
    assert "prompts are rendered otherwise" in refused.output
    kept = f"{FOLDER}/releases/{entry['to']}/measured.json"
    assert fleet.root(HOST, f"stat -c %a {kept}") == "600"
    old, new = (json.loads(fleet.root(HOST, f"cat {kept}"))[who]["answers"]["replies"] for who in ("old", "new"))
    assert old[0]["prompt_tokens"] > new[0]["prompt_tokens"]

    fleet.root(HOST, f"cat > {TEMPLATE} <<'END'\n{QWEN}END\nchmod 644 {TEMPLATE}")
    gate = {"parity": "rendering", "load": {**LOAD, "max_latency": 300, "no_worse": 100}}
    passed = rolled_out(fleet, gate, chat_template=TEMPLATE)
    assert passed.status == 0 and fleet.is_sglang(HOST), passed.output
    said = ended(fleet)["measured"]
    assert said.startswith("parity: 8 prompts rendered alike; load: p99 ") and said.endswith(" times")
    assert said in passed.output
    assert rolled_out(fleet, gate, chat_template=TEMPLATE).status == 0
    assert ended(fleet)["measured"] == said, "what serves is not judged again"

    slow = rolled_out(fleet, {"load": {**LOAD, "max_latency": 0.0001}}, chat_template=TEMPLATE, max_running_requests=4)
    assert slow.status == 1 and fleet.is_sglang(HOST), slow.output
    entry = ended(fleet)
    assert (entry["outcome"], entry["failure"]["kind"]) == ("restored", "load")
    assert "s, max_latency is 0.0001" in entry["reason"]
    left = fleet.root(
        HOST, "pgrep -fc 'sglang.benchmark.servin[g]' || true; ls -d /tmp/deployer-load-* 2> /dev/null || true"
    )
    assert left == "0", "nothing of a load is left on the host"
