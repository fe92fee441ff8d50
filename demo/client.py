"""A client of the demo's service: what a first user would type, with the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.probes import base_url

NEXT_STEPS = """
What to try next:
  .venv/bin/python -m deployer status   -i inventory/local/hosts.yml     what serves, since when
  .venv/bin/python -m deployer rollback -i inventory/local/hosts.yml     LLaMA-Factory, on the same port
  .venv/bin/python -m deployer rollout  -i inventory/local/hosts.yml     SGLang again; a second time: no change
  cat {folder}/current/launch.sh                           exactly what runs
  inventory/group_vars/gpu-nodes.yml                                     the file to copy for your own hosts
  make demo-clean                                                        end it and remove it"""


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
        yield f"$ curl -i {url}/health"
        yield f"{http.get(f'{url}/health').status_code}"
        yield f"$ curl {url}/v1/models"
        yield json.dumps([entry["id"] for entry in http.get(f"{url}/v1/models").json()["data"]])
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
