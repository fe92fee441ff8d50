"""Asks hosts that no inventory describes yet what they are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import HostSurvey
from deployer.first_inventory.targets import Target
from deployer.runs.problems import of_host, of_run, short
from deployer.runs.results import Step, parse_event
from deployer.runs.runner import Event, Invocation, run_playbook

MODULE = "deployer.sglang.host_survey"
GROUP = "gpu-nodes"
UNKNOWN_KEY = ("host-key-unknown", "host-key")


@dataclass(frozen=True)
class Seen:
    """A host, and what it said of itself.

    Attributes:
        target: the host.
        survey: what it said; None where it was not seen.
        trouble: why it was not; for one that was, why not as root.
    """

    target: Target
    survey: HostSurvey | None = None
    trouble: DeployError | None = None


def look_at(
    targets: Sequence[Target], ssh: Mapping[str, str], invocation: Callable[[Path], Invocation]
) -> tuple[Seen, ...]:
    """Ask all hosts at once; nothing on them is changed.

    Args:
        targets: the hosts.
        ssh: variables for all of them.
        invocation: what a playbook is to be run with, for an inventory.
    Raises:
        DeployError: Ansible failed before it met any host.
    """
    steps: dict[str, list[Step]] = {}

    def on_event(event: Event) -> None:
        step = parse_event(event)
        if step is not None and step.kind != "started" and not step.item:
            steps.setdefault(step.host, []).append(step)

    with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as folder:
        hosts = {one.name: one.variables for one in targets}
        inventory = Path(folder, "hosts.json")
        inventory.write_text(json.dumps({GROUP: {"hosts": hosts, "vars": dict(ssh)}}))
        run = run_playbook("survey", invocation(inventory), on_event)
    if not steps:
        raise of_run(run.output, run.status).error()
    return tuple(_seen(one, steps.get(one.name, [])) for one in targets)


def _seen(target: Target, steps: Sequence[Step]) -> Seen:
    for step in reversed(steps):
        if step.kind == "ok" and step.action == MODULE and isinstance(step.result.get("survey"), Mapping):
            try:
                survey = HostSurvey.from_dict(step.result["survey"])
            except DeployError as error:
                return Seen(target, trouble=error)
            before = next((one for one in steps if one.kind == "failed"), None)
            return Seen(target, survey, DeployError(short(_said(before))) if before else None)
    return Seen(target, trouble=trouble_of(target, _said(steps[-1]) if steps else "it was not asked"))


def trouble_of(target: Target, said: str) -> DeployError:
    """What keeps a host from being seen, and what to do about it.

    Args:
        target: the host.
        said: by ssh, by Ansible, or by the module.
    """
    found = of_host(said, target.name)
    if found is None:
        problem, _, fix = short(said, target.name).partition(". Fix: ")
        return DeployError(
            problem, fix or f"see that ssh {target.login} answers, and that Python 3.9 or newer runs there"
        )
    if found.kind in UNKNOWN_KEY:
        by_scan = f"ssh-keyscan{target.port_words} {target.reached_at} >> ~/.ssh/known_hosts"
        fix = f"log in once and compare the fingerprint: ssh {target.login}; or {by_scan}, and compare it afterwards"
        return DeployError(found.what, fix)
    return DeployError(found.what, found.fix)


def _said(step: Step) -> str:
    """What ssh or the module said: of a module that did not run, its interpreter's own words, too."""
    words = (str(step.result.get(key) or "").strip() for key in ("msg", "module_stderr"))
    return "\n".join(filter(None, words)) or step.message
