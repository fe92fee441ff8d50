#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""What services answer, and how fast."""

from __future__ import annotations

DOCUMENTATION = r"""
module: measure
short_description: Measure what services answer, and how fast they are under load
version_added: "0.1.0"
description:
  - Asks what serves each service's port now, on the host itself, whatever started it, for its answers at temperature 0
    and for what tells how it renders prompts; and, where asked, puts it under a load.
  - The load is made by SGLang's own C(sglang.benchmark.serving), in the environment of a release of SGLang that is
    staged for the service, as the user who runs the service and never as root. It is bounded in count and time, and
    nothing of it stays.
  - Services are measured one after the other. Changes nothing; a server that is asked works for it.
options:
  address:
    description: The host's own address, as people know it.
    type: str
    default: localhost
  prompts:
    description: A prompt a line, text or JSON with C(messages); empty for a small set of questions about SQL.
    type: str
    default: ""
  prompts_name:
    description: How the prompts are called.
    type: str
    default: prompts
  max_tokens:
    description: That each answer may have.
    type: int
    default: 64
  ask:
    description: Ask for answers.
    type: bool
    default: true
  load:
    description: The load; none where it is left out.
    type: dict
    suboptions:
      rates:
        description: Requests in a second, one step each; V(max) for all at once.
        type: list
        elements: str
        default: ["1", "2", "4"]
      requests:
        description: Requests of each step.
        type: int
        default: 40
      max_tokens:
        description: That each answer may have.
        type: int
        default: 128
      timeout:
        description: Seconds after which a request has failed.
        type: float
        default: 60
      seed:
        description: Of the choice of prompts and of the times between requests.
        type: int
        default: 1
  api_key:
    description: The key that servers want; empty for none. It goes into headers and to the benchmark's input alone.
    type: str
    default: ""
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
  - deployer.sglang.host.services
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ask code2sql the built-in questions, and put it under a load of four requests a second
  deployer.sglang.measure:
    root: /opt/inference
    address: gpu1
    services:
      - {name: code2sql, port: 8001}
    load: {rates: [4], requests: 200}
"""

RETURN = r"""
measured:
  description: One entry a service.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Its name.
      type: str
    measurement:
      description:
        - What C(deployer compare --record) keeps in a file, C(server), C(time), C(answers) (null where nothing was
          asked), C(load) (null where it was put under none); null where it could not be measured.
      type: dict
    problem:
      description: Why it could not be measured; empty where it was.
      type: str
    fix:
      description: What to do about that.
      type: str
"""

import math
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.on_host import Order, measure_services
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import built_in, parse_prompts

LOAD: dict[str, Any] = {
    "rates": {"type": "list", "elements": "str", "default": ["1", "2", "4"]},
    "requests": {"type": "int", "default": LoadSettings.requests},
    "max_tokens": {"type": "int", "default": LoadSettings.max_tokens},
    "timeout": {"type": "float", "default": LoadSettings.timeout},
    "seed": {"type": "int", "default": LoadSettings.seed},
}


def rate_of(text: str) -> float:
    """Requests in a second; infinity for `max`.

    Raises:
        DeployError: it is none.
    """
    try:
        return math.inf if text == "max" else float(text)
    except ValueError:
        raise DeployError(f"load.rates holds {text!r}", "give numbers above 0, and max") from None


def order_of(given: dict[str, Any]) -> Order:
    """What is to be measured.

    Raises:
        DeployError: a prompt or a rate is none.
    """
    prompts = parse_prompts(given["prompts_name"], given["prompts"]) if given["prompts"] else built_in()
    load = given["load"]
    if load is not None:
        load = LoadSettings(**{**load, "rates": tuple(map(rate_of, load["rates"]))})
    return Order(prompts, given["max_tokens"], given["ask"], load, given["api_key"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": SERVICES,
            "address": {"type": "str", "default": "localhost"},
            "prompts": {"type": "str", "default": ""},
            "prompts_name": {"type": "str", "default": "prompts"},
            "max_tokens": {"type": "int", "default": 64},
            "ask": {"type": "bool", "default": True},
            "load": {"type": "dict", "options": LOAD},
            "api_key": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        found = measure_services(given["root"], given["services"], given["address"], order_of(given))
    except DeployError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, measured=found)


if __name__ == "__main__":
    main()
