"""A client of the demo's service: what a first user would type, with the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.probes import base_url

DEFAULT_PORT = 8001
NEXT_STEPS = """
What to try next:
  # what serves, since when
  {deployer} status -i inventory/local/hosts.yml
  # LLaMA-Factory, on the same port
  {deployer} rollback -i inventory/local/hosts.yml
  # SGLang again; a second time: no change
  {deployer} rollout -i inventory/local/hosts.yml
  # exactly what runs
  cat .demo/services/{service}/current/launch.sh
  # the file to copy for your own hosts
  less inventory/group_vars/gpu-nodes.yml
  # end it and remove it
  make demo-clean"""


def next_steps(release: dict[str, Any]) -> str:
    """Lines to type; they carry the port where it is not the one that the inventory takes by itself."""
    port = "" if release["port"] == DEFAULT_PORT else f"DEMO_PORT={release['port']} "
    return NEXT_STEPS.format(deployer=f"{port}.venv/bin/python -m deployer", service=release["service"])


def current_release(root: Path) -> dict[str, Any]:
    """release.json of the one service below `root`.

    Raises:
        DeployError: nothing is deployed there.
    """
    for path in sorted(root.glob("services/*/current/release.json")):
        value: dict[str, Any] = json.loads(path.read_text())
        return value
    raise DeployError("the demo is not deployed", "make demo")


def conversation(release: dict[str, Any]) -> Iterator[str]:
    """Each request as a line to type, and what came back."""
    url = base_url(release["host"], release["port"])
    with httpx.Client(timeout=120, trust_env=False) as http:
        yield f"GET {url}/health: status {http.get(f'{url}/health').status_code}"
        names = [entry["id"] for entry in http.get(f"{url}/v1/models").json()["data"]]
        yield f"GET {url}/v1/models: {', '.join(names)}"
        body = {
            "model": release["served_name"],
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 16,
        }
        yield f"$ curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
        answer = http.post(f"{url}/v1/chat/completions", json=body).raise_for_status().json()
        yield json.dumps(answer["choices"][0]["message"], ensure_ascii=False)
        tokens = answer["usage"]["completion_tokens"]
        yield f"({tokens} tokens of a tiny model with random weights: no sense, but served)"
