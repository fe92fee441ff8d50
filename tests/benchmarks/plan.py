"""How long the controller takes to plan a hundred hosts, from the JSON that they answer with to the JSON of the plan.

Facts and model are doubles (tests/doubles); everything that is timed is what a rollout runs.
"""

from __future__ import annotations

import json
import sys
import time

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import Option
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import plan_host
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import plan_report
from ansible_collections.deployer.sglang.plugins.module_utils.plan.service_plan import Surroundings
from tests.doubles.hosts import MODEL, ROOT, described, environment, gpu_facts, host_facts, model
from tests.doubles.nvidia_smi import Process

HOSTS = 100
LIMIT = 2.0  # seconds
OPTIONS = 531  # that SGLang 0.5.23 has: every host with an environment of its own answers with all of them
SERVICE = {
    "gpus": "auto",
    "options": {"tensor_parallel_size": 2, "max_running_requests": 100, "enable_metrics": True, "log_requests": True},
    "predecessor": {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "gpus": [7],
        "options": {"template": "qwen"},
    },
}


def answer(number: int) -> str:
    """What one host answers: eight GPUs, one of them in use by somebody."""
    gpus = gpu_facts(processes=[Process(number % 8, 4000 + number, 30_000, "python")], users={4000 + number: "me"})
    table = [Option((f"--option-{index}",), "str") for index in range(OPTIONS)]
    environments = {one.name: one for one in (environment("sglang", table), environment("llamafactory"))}
    return json.dumps(host_facts(gpus, environments=environments).as_dict())


def planned(text: str) -> str:
    """What the controller makes of a host's answer."""
    host = HostFacts.from_dict(json.loads(text))
    around = Surroundings(host, host.environments, {MODEL: model()})
    plan = plan_host(described(SERVICE), around, ROOT, "systemd", 0, {})
    return json.dumps(plan_report(plan, host, {}))


def main() -> int:
    answers = [answer(number) for number in range(HOSTS)]
    planned(answers[0])  # imports, and the model's facts
    print(f"{'hosts':>6} {'seconds':>8} {'ms a host':>10}")
    seconds = 0.0
    for count in (1, 10, HOSTS):
        start = time.perf_counter()
        for text in answers[:count]:
            planned(text)
        seconds = time.perf_counter() - start
        print(f"{count:6} {seconds:8.3f} {seconds / count * 1000:10.2f}")
    ratio = seconds / LIMIT
    print(f"bench-plan: ratio {ratio:.2f}, limit 1.00")
    return int(ratio > 1)


if __name__ == "__main__":
    sys.exit(main())
